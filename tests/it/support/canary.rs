//! Planted secrets, and the search for them in every byte a run left behind.

use std::path::Path;

/// Secrets planted so far; each is searched for in output and state.
#[derive(Debug, Default, Clone)]
pub(crate) struct Canaries(Vec<String>);

impl Canaries {
    /// Remembers a secret that must never be seen again.
    pub(crate) fn plant(&mut self, secret: &str) {
        assert!(secret.len() >= 8, "too short to be searched for: {secret}");
        self.0.push(secret.to_owned());
    }

    /// How many were planted.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Where planted secrets stand in `bytes`, by name of the place.
    pub(crate) fn found_in(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        self.0
            .iter()
            .filter(|secret| contains(bytes, secret.as_bytes()))
            .map(|secret| format!("{place} holds a planted secret that begins with {:.8}", secret))
            .collect()
    }

    /// Where planted secrets stand in files below `folder`, except in those named.
    pub(crate) fn found_below(&self, folder: &Path, except: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        let Ok(entries) = std::fs::read_dir(folder) else { return found };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                found.extend(self.found_below(&path, except));
            } else if !except.contains(&name.as_str())
                && let Ok(bytes) = std::fs::read(&path)
            {
                found.extend(self.found_in(&name, &bytes));
            }
        }
        found
    }
}

/// Whether `needle` stands in `bytes`.
pub(crate) fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(bytes, needle).is_some()
}

#[test]
fn a_planted_secret_is_found_and_its_absence_too() {
    let mut canaries = Canaries::default();
    canaries.plant("canary-0001");
    assert_eq!(canaries.len(), 1);
    assert_eq!(canaries.found_in("log", b"..canary-0001..").len(), 1);
    assert!(canaries.found_in("log", b"..canary-0002..").is_empty());
}
