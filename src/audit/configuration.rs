//! What the configuration said when the trail last told of it, so that a start can tell which keys have changed since. No value can be
//! read from it, or guessed, without the pepper.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::read_bounded;
use super::files::replace;

/// Longest file: a hundred times the configuration of a large gateway.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// A mark of the value of each key, made with a pepper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptConfiguration {
    /// The check value of the pepper. Marks of two peppers cannot be compared.
    pub pepper: String,
    pub keys: BTreeMap<String, String>,
}

impl KeptConfiguration {
    /// The file of a trail: beside its directory, as its key.
    #[must_use]
    pub fn path(directory: &Path) -> PathBuf {
        let mut path = directory.as_os_str().to_owned();
        path.push(".configuration");
        path.into()
    }

    /// Reads the file of a trail; `None` where there is none yet.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn read(directory: &Path) -> io::Result<Option<Self>> {
        match read_bounded(&Self::path(directory), MAX_FILE) {
            Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file of a trail.
    ///
    /// # Errors
    /// When it cannot be written; then the old one stays.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        replace(&Self::path(directory), &serde_json::to_vec(self)?)
    }

    /// The keys that are not as they were in `earlier`: changed, new or gone, in the order of the alphabet. `None` when that was made
    /// with another pepper.
    #[must_use]
    pub fn changed_since(&self, earlier: &Self) -> Option<Vec<String>> {
        let differs = |key: &&String| earlier.keys.get(*key) != self.keys.get(*key);
        (self.pepper == earlier.pepper).then(|| {
            let gone = earlier.keys.keys().filter(|key| !self.keys.contains_key(*key));
            let mut changed: Vec<String> = self.keys.keys().filter(differs).chain(gone).cloned().collect();
            changed.sort_unstable();
            changed
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(pepper: &str, keys: &[(&str, &str)]) -> KeptConfiguration {
        KeptConfiguration {
            pepper: pepper.into(),
            keys: keys.iter().map(|(key, mark)| ((*key).to_owned(), (*mark).to_owned())).collect(),
        }
    }

    #[test]
    fn what_was_kept_is_compared_under_the_same_pepper_only() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("audit");
        assert_eq!(KeptConfiguration::read(&directory).unwrap(), None);
        let old = kept("p", &[("a", "1"), ("b", "1"), ("c", "1")]);
        old.write(&directory).unwrap();
        assert_eq!(KeptConfiguration::read(&directory).unwrap().as_ref(), Some(&old));
        let new = kept("p", &[("a", "1"), ("b", "2"), ("d", "1")]);
        assert_eq!(new.changed_since(&old).unwrap(), ["b", "c", "d"]);
        assert_eq!(old.changed_since(&old).unwrap(), Vec::<String>::new());
        assert_eq!(kept("q", &[]).changed_since(&old), None);
        std::fs::write(KeptConfiguration::path(&directory), "{\"pepper\":").unwrap();
        assert!(KeptConfiguration::read(&directory).is_err());
    }
}
