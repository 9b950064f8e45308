//! Whether an empty store may be made: one that vanished must not be replaced without a word, or every caller is told that
//! its key is invalid.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What stands beside a store that may be begun; empty. Made together with the first pepper and by `durward new-store`, and
/// taken away once the store is there.
#[must_use]
pub fn permission(store: &Path) -> PathBuf {
    beside(store, ".new")
}

/// What stands beside a store that was begun by itself, until an operator makes a tenant in it; empty.
#[must_use]
pub fn unconfirmed(store: &Path) -> PathBuf {
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
pub fn mark(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.sync_all()
}

/// Where the pepper is, as seen from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PepperPlace {
    /// In a file of the store's directory. Made at the first start, so that it says that there was one.
    Beside,
    /// In a variable or in a file of another directory: it was there before the first start, too.
    Elsewhere,
}

/// How a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// It is there.
    Goes,
    /// An empty one is made, which is permitted.
    Permitted,
    /// Nobody can tell whether an empty one is the first or has taken the place of one that is lost, until an operator
    /// makes a tenant in it.
    Unconfirmed,
}

/// What stands where a store should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Something.
    Store,
    /// An empty file.
    Empty,
    /// No file.
    Nothing,
}

/// What stands there.
///
/// # Errors
/// When that cannot be known.
pub fn found(store: &Path) -> io::Result<Found> {
    match std::fs::metadata(store) {
        Ok(about) if about.len() == 0 => Ok(Found::Empty),
        Ok(_) => Ok(Found::Store),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}

/// How a store is to be opened.
///
/// # Errors
/// Why it must not be: it is not there, and nobody said that an empty one may be made. With what to do.
pub fn check(store: &Path, pepper: PepperPlace) -> Result<Beginning, String> {
    let path = store.display();
    let failed = |error: io::Error| format!("{path}: {error}");
    let found = found(store).map_err(failed)?;
    let permitted = permission(store).exists();
    if found == Found::Store {
        if permitted {
            forget_half(store).map_err(failed)?;
        }
        let is_confirmed = permitted || !unconfirmed(store).exists();
        return Ok(if is_confirmed { Beginning::Goes } else { Beginning::Unconfirmed });
    }
    if permitted {
        return Ok(Beginning::Permitted);
    }
    if found == Found::Nothing && pepper == PepperPlace::Elsewhere {
        mark(&unconfirmed(store)).map_err(failed)?;
        return Ok(Beginning::Unconfirmed);
    }
    let what = if found == Found::Empty { "is empty" } else { "is not there" };
    Err(format!(
        "the store {path} {what}, though its pepper is there; if its volume is not mounted, mount it, and if the file was lost, bring back \
         a copy: with an empty store every key would be invalid. To begin with an empty store on purpose, run `durward new-store` first"
    ))
}

/// Empties a file that was being made when the machine stopped: the first bytes of a store are written last.
fn forget_half(store: &Path) -> io::Result<()> {
    let mut first = [0; 8];
    let mut file = File::options().read(true).write(true).open(store)?;
    if file.read_exact(&mut first).is_ok() && first != [0; 8] {
        return Ok(());
    }
    file.set_len(0)
}

/// Takes a mark away.
///
/// # Errors
/// When it stays.
pub fn unmark(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
