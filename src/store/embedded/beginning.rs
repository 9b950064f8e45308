//! Whether an empty store may be made: one that vanished must not be replaced without a word, or every caller is told that
//! its key is invalid.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// What stands beside a store that may be begun; empty. Made together with the first pepper and by `durward new-store`, and
/// taken away once the store is there.
#[must_use]
pub fn permission(store: &Path) -> PathBuf {
    let mut name = OsString::from(store.file_name().unwrap_or_default());
    name.push(".new");
    store.with_file_name(name)
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

/// Why a store must not be opened: it is not there, and nobody said that an empty one may be made. Answers whether one will be.
///
/// # Errors
/// The reason, with what to do.
pub fn check(store: &Path) -> Result<bool, String> {
    let path = store.display();
    let found = found(store).map_err(|error| format!("{path}: {error}"))?;
    let permitted = permission(store).exists();
    if found == Found::Store {
        if permitted {
            forget_half(store).map_err(|error| format!("{path}: {error}"))?;
        }
        return Ok(false);
    }
    if permitted {
        return Ok(true);
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

/// The store is there now, so that none may be made any more.
///
/// # Errors
/// When the permission cannot be taken away.
pub fn done(store: &Path) -> io::Result<()> {
    match std::fs::remove_file(permission(store)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
