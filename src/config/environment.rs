//! What loading needs of the outside: files and environment variables; and a record of what was read, so that a change
//! of any of it is noticed.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::base::fingerprint::sha256;

/// Largest file that is read: a certificate bundle has 200 KiB; anything of this size is a mistake
/// (docs/threats.md D14).
pub(super) const MAX_FILE: u64 = 4 << 20;

pub trait Environment {
    /// Reads a whole file of at most [`MAX_FILE`] bytes.
    ///
    /// # Errors
    /// As `std::fs::read`; [`io::ErrorKind::FileTooLarge`] beyond the limit.
    fn read(&self, path: &Path) -> io::Result<Zeroizing<Vec<u8>>>;

    /// The `*.toml` files of a directory, sorted by name; hidden ones are left out.
    ///
    /// # Errors
    /// As `std::fs::read_dir`.
    fn list_toml(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    fn variable(&self, name: &str) -> Option<Zeroizing<String>>;

    /// Whether a file is there and not empty; for files that are not part of the configuration.
    fn holds_something(&self, path: &Path) -> bool;

    /// The certificates of the authorities the system trusts, DER.
    fn system_authorities(&self) -> Vec<Vec<u8>>;
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Environment for Disk {
    fn read(&self, path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
        use std::io::Read as _;
        let file = std::fs::File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // A buffer that grows would leave copies of a secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len().min(MAX_FILE)).unwrap_or(0) + 1));
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    fn list_toml(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
            if !hidden && path.extension().is_some_and(|e| e == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        std::env::var(name).ok().map(Zeroizing::new)
    }

    fn holds_something(&self, path: &Path) -> bool {
        // What cannot be looked at is taken to be there: nothing is made in its place.
        std::fs::metadata(path).map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |about| about.len() > 0)
    }

    fn system_authorities(&self) -> Vec<Vec<u8>> {
        rustls_native_certs::load_native_certs().certs.iter().map(|c| c.to_vec()).collect()
    }
}

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

    /// The same, with what has been put since where a file was missing: a start makes secrets and certificates.
    pub(super) fn with_made_files(&self, environment: &dyn Environment) -> Self {
        let mut watch = self.clone();
        for (path, hash) in watch.files.iter_mut().filter(|(_, hash)| hash.is_none()) {
            *hash = environment.read(path).ok().map(|bytes| sha256(&bytes));
        }
        watch
    }

    /// The hash of what this file held, if it was read and there.
    pub(super) fn hash_of(&self, path: &Path) -> Option<[u8; 32]> {
        self.files.get(path).copied().flatten()
    }

    /// The last parts of the paths of all files that were there.
    pub(super) fn file_names(&self) -> HashSet<&OsStr> {
        let there = self.files.iter().filter(|(_, hash)| hash.is_some());
        there.filter_map(|(path, _)| path.file_name()).collect()
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

/// Files and variables in memory, for tests and fuzzing.
#[cfg(any(test, feature = "internals"))]
#[derive(Debug, Clone, Default)]
pub struct InMemory {
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    pub variables: BTreeMap<String, String>,
}

#[cfg(any(test, feature = "internals"))]
impl Environment for InMemory {
    fn read(&self, path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
        let bytes = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Zeroizing::new(bytes.clone()))
    }

    fn list_toml(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let toml = |p: &&PathBuf| p.parent() == Some(directory) && p.extension().is_some_and(|e| e == "toml");
        Ok(self.files.keys().filter(toml).cloned().collect())
    }

    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        self.variables.get(name).map(|v| Zeroizing::new(v.clone()))
    }

    fn holds_something(&self, path: &Path) -> bool {
        self.files.get(path).is_some_and(|bytes| !bytes.is_empty())
    }

    fn system_authorities(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}
