//! Whether an empty store may be made at the first start. If an empty store silently replaced one that is lost, every caller would
//! hear that its key is invalid.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The path of an empty file beside the store. The file permits to make an empty store. It is made together with the first pepper and by
/// `durward new-store`, and removed once the store is there.
#[must_use]
pub fn permission_marker(store: &Path) -> PathBuf {
    beside(store, ".new")
}

/// The path of an empty file beside a store that was made without such a permission. The file stays until an operator makes a
/// tenant.
#[must_use]
pub fn unconfirmed_marker(store: &Path) -> PathBuf {
    beside(store, ".unconfirmed")
}

fn beside(store: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(store.file_name().unwrap_or_default());
    name.push(ending);
    store.with_file_name(name)
}

/// Makes an empty file (mode 0600, its directory 0700), or leaves the one that is there.
///
/// # Errors
/// When it cannot be made.
pub fn create_marker(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.sync_all()
}

/// Where the pepper is. This tells whether a missing store has existed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PepperLocation {
    /// In a file of the store's directory. The first start makes both, so the store has existed.
    Beside,
    /// In a variable, or in a file of another directory. It may exist before the first start, so it proves nothing.
    Elsewhere,
}

/// How a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreStart {
    Existing,
    /// The store is empty, and the permission for that is there.
    Permitted,
    /// The store is empty, and there is no permission for that. It may be the first store, or it may replace one that is lost. So
    /// look-ups fail until an operator makes a tenant.
    Unconfirmed,
}

/// What is at the path of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFileState {
    /// A file that is not empty.
    Store,
    Empty,
    Nothing,
}

/// What is at the path of a store.
///
/// # Errors
/// When the system does not tell.
pub fn inspect(store: &Path) -> io::Result<StoreFileState> {
    match std::fs::metadata(store) {
        Ok(about) if about.len() == 0 => Ok(StoreFileState::Empty),
        Ok(_) => Ok(StoreFileState::Store),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(StoreFileState::Nothing),
        Err(error) => Err(error),
    }
}

/// Decides how a store is opened.
///
/// # Errors
/// Why the store must not be opened, and what to do: it is missing, and nothing permits to make an empty one.
pub fn check(store: &Path, pepper: PepperLocation) -> Result<StoreStart, String> {
    let path = store.display();
    let failed = |error: io::Error| format!("{path}: {error}");
    let found = inspect(store).map_err(failed)?;
    let permitted = permission_marker(store).exists();
    if found == StoreFileState::Store {
        if permitted {
            truncate_unfinished(store).map_err(failed)?;
        }
        let is_confirmed = permitted || !unconfirmed_marker(store).exists();
        return Ok(if is_confirmed {
            StoreStart::Existing
        } else {
            StoreStart::Unconfirmed
        });
    }
    if permitted {
        return Ok(StoreStart::Permitted);
    }
    if found == StoreFileState::Nothing && pepper == PepperLocation::Elsewhere {
        create_marker(&unconfirmed_marker(store)).map_err(failed)?;
        return Ok(StoreStart::Unconfirmed);
    }
    let what = if found == StoreFileState::Empty {
        "is empty"
    } else {
        "is not there"
    };
    Err(format!(
        "the store {path} {what}, though its pepper is there; if its volume is not mounted, mount it, and if the file was lost, bring back \
         a copy: with an empty store every key would be invalid. To begin with an empty store on purpose, run `durward new-store` first"
    ))
}

/// Empties a file that redb was making when the machine stopped. redb writes the first bytes of a file last, so an unfinished
/// file begins with zeros.
fn truncate_unfinished(store: &Path) -> io::Result<()> {
    let mut first = [0; 8];
    let mut file = File::options().read(true).write(true).open(store)?;
    if file.read_exact(&mut first).is_ok() && first != [0; 8] {
        return Ok(());
    }
    file.set_len(0)
}

/// Removes a marker file, if it is there.
///
/// # Errors
/// When it cannot be removed.
pub fn remove_marker(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
