//! Remembers what a configuration was read from, so that a change of any of it can be noticed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::base::fingerprint::sha256;

use super::environment::Environment;

/// Hashes of everything that was read; equal when nothing changed. Symlink swaps, missing files
/// that appear and files added to a directory all count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watch {
    files: BTreeMap<PathBuf, Option<[u8; 32]>>,
    directories: BTreeMap<PathBuf, Option<Vec<PathBuf>>>,
}

impl Watch {
    /// Looks at everything again: whether it is still as it was.
    #[must_use]
    pub fn is_current(&self, environment: &dyn Environment) -> bool {
        self.again(environment) == *self
    }

    /// What the same files hold now.
    #[must_use]
    pub fn again(&self, environment: &dyn Environment) -> Self {
        let hash = |path: &PathBuf| environment.read(path).ok().map(|bytes| sha256(&bytes));
        let list = |path: &PathBuf| environment.list_toml(path).ok();
        Self {
            files: self.files.keys().map(|path| (path.clone(), hash(path))).collect(),
            directories: self.directories.keys().map(|path| (path.clone(), list(path))).collect(),
        }
    }

    /// One hash over all of it, lower-case hexadecimal.
    #[must_use]
    pub fn content_hash(&self) -> String {
        crate::base::fingerprint::Fingerprint::from_bytes(sha256(format!("{self:?}").as_bytes())).to_hex()
    }
}

/// An environment that remembers what was read from it.
pub(super) struct Recording<'s> {
    inner: &'s dyn Environment,
    seen: RefCell<Watch>,
}

impl<'s> Recording<'s> {
    #[must_use]
    pub(super) fn new(inner: &'s dyn Environment) -> Self {
        Self {
            inner,
            seen: RefCell::default(),
        }
    }

    #[must_use]
    pub(super) fn into_watch(self) -> Watch {
        self.seen.into_inner()
    }
}

impl Environment for Recording<'_> {
    fn read(&self, path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
        let result = self.inner.read(path);
        let hash = result.as_ref().ok().map(|bytes| sha256(bytes));
        self.seen.borrow_mut().files.insert(path.to_owned(), hash);
        result
    }

    fn list_toml(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let result = self.inner.list_toml(directory);
        self.seen
            .borrow_mut()
            .directories
            .insert(directory.to_owned(), result.as_ref().ok().cloned());
        result
    }

    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        self.inner.variable(name)
    }

    fn holds_something(&self, path: &Path) -> bool {
        self.inner.holds_something(path)
    }

    fn system_authorities(&self) -> Vec<Vec<u8>> {
        self.inner.system_authorities()
    }
}
