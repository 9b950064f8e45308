//! The newest checkpoints of other gateways, which this one keeps beside its own trail (`<directory>/others`): so none of them
//! can write its trail anew alone.
//!
//! A file has the signed note, an empty line, and the verifier key that the first checkpoint of this gateway came with. What
//! has another key, or takes something back, never replaces it.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, CheckpointVerifier, InvalidCheckpoint, gateway_of, notes};
use super::verify::read_bounded;
use crate::base::ids::GatewayId;

/// Most gateways whose checkpoints are kept: more than one store has.
const MAX_OTHERS: usize = 2_000;

/// Longest file of another gateway.
const MAX_FILE: u64 = 16 * 1024;

/// What became of a checkpoint of another gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherKept {
    /// It is newer, and replaced the one before.
    Newer,
    /// It is the one that is kept, or says the same.
    Same,
    /// It is older than the one that is kept: it was on its way, or that gateway went back.
    Older,
}

/// Why a checkpoint of another gateway is not kept. What was kept before stays.
#[derive(Debug, thiserror::Error)]
pub enum OtherRefused {
    #[error("what was published is not a checkpoint with its verifier key")]
    NotACheckpoint,
    #[error("the checkpoint does not hold: {0}")]
    Invalid(#[from] InvalidCheckpoint),
    #[error("the verifier key is not the one that this gateway had before: it signs with another key, or somebody else does")]
    OtherKey,
    #[error("it has another root for the {0} entries of which this gateway showed one before: the trail was written anew")]
    WrittenAnew(u64),
    #[error("what was kept in `{0}` is damaged; it is left as it is, for `durward audit verify`")]
    Damaged(PathBuf),
    #[error("checkpoints of {MAX_OTHERS} gateways are kept already; remove those of gateways that are gone")]
    TooMany,
    #[error("it cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// What a gateway publishes: its newest checkpoint and its verifier key.
#[must_use]
pub fn published(note: &str, key: &CheckpointVerifier) -> String {
    format!("{note}\n{key}\n")
}

/// A published checkpoint whose signature holds.
struct Signed {
    note: String,
    checkpoint: Checkpoint,
    key: CheckpointVerifier,
}

impl Signed {
    fn read(text: &str) -> Result<Self, OtherRefused> {
        let (all, end) = notes(text);
        let ([note], Some(key)) = (all.as_slice(), text.get(end..)) else {
            return Err(OtherRefused::NotACheckpoint);
        };
        let key = CheckpointVerifier::parse_key(key).ok_or(OtherRefused::NotACheckpoint)?;
        Ok(Self {
            checkpoint: key.verify(note)?,
            note: (*note).to_owned(),
            key,
        })
    }
}

/// Keeps what another gateway published, if it is newer than what is kept.
///
/// # Errors
/// When it is no checkpoint, contradicts the one that is kept, or cannot be written.
pub fn keep_other(directory: &Path, text: &str) -> Result<OtherKept, OtherRefused> {
    let new = Signed::read(text)?;
    let gateway = gateway_of(new.key.origin())
        .filter(is_file_name)
        .ok_or(OtherRefused::NotACheckpoint)?;
    let others = directory.join("others");
    let path = others.join(gateway.as_str());
    match read_bounded(&path, MAX_FILE) {
        Ok(kept) => {
            let kept = Signed::read(&kept).map_err(|_| OtherRefused::Damaged(path.clone()))?;
            if kept.key != new.key {
                return Err(OtherRefused::OtherKey);
            }
            let (was, is) = (&kept.checkpoint, &new.checkpoint);
            if is.size < was.size {
                return Ok(OtherKept::Older);
            }
            if is.size == was.size {
                let same = is.root == was.root;
                return if same {
                    Ok(OtherKept::Same)
                } else {
                    Err(OtherRefused::WrittenAnew(is.size))
                };
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&others)?;
            if std::fs::read_dir(&others)?.take(MAX_OTHERS).count() >= MAX_OTHERS {
                return Err(OtherRefused::TooMany);
            }
        }
        Err(error) => return Err(error.into()),
    }
    let draft = others.join(format!("{gateway}.new"));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(published(&new.note, &new.key).as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, &path)?;
    std::fs::File::open(&others)?.sync_all()?;
    Ok(OtherKept::Newer)
}

/// An id may be `.` or `..`, and drafts end with `.new`.
fn is_file_name(gateway: &GatewayId) -> bool {
    let id = gateway.as_str();
    !id.starts_with('.') && Path::new(id).extension().is_none_or(|ending| ending != "new")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::checkpoint::CheckpointSigner;
    use crate::base::clock::UnixMillis;

    fn signer(folder: &Path, name: &str, gateway: &str) -> CheckpointSigner {
        CheckpointSigner::open_or_create(&folder.join(name), &format!("durward.audit/{gateway}")).unwrap()
    }

    fn text(signer: &CheckpointSigner, size: u64, root: u8) -> String {
        published(&signer.sign(size, &[root; 32], UnixMillis(0)), signer.verifier())
    }

    #[test]
    fn the_newest_checkpoint_is_kept_and_nothing_takes_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let signer = signer(folder.path(), "audit.key", "edge-2");
        let keep = |text: &str| keep_other(folder.path(), text);
        assert_eq!(keep(&text(&signer, 10, 1)).unwrap(), OtherKept::Newer);
        assert_eq!(keep(&text(&signer, 10, 1)).unwrap(), OtherKept::Same);
        assert_eq!(keep(&text(&signer, 9, 1)).unwrap(), OtherKept::Older);
        assert!(matches!(keep(&text(&signer, 10, 2)), Err(OtherRefused::WrittenAnew(10))));
        let kept = std::fs::read_to_string(folder.path().join("others/edge-2")).unwrap();
        assert_eq!(kept, text(&signer, 10, 1));
        assert_eq!(keep(&text(&signer, 11, 3)).unwrap(), OtherKept::Newer);
    }

    #[test]
    fn another_key_and_what_is_no_checkpoint_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let keep = |text: &str| keep_other(folder.path(), text);
        let first = signer(folder.path(), "a.key", "edge-2");
        keep(&text(&first, 10, 1)).unwrap();
        let second = signer(folder.path(), "b.key", "edge-2");
        assert!(matches!(keep(&text(&second, 20, 1)), Err(OtherRefused::OtherKey)));
        // The note of one key with the other key beside it.
        let mixed = published(&first.sign(30, &[1; 32], UnixMillis(0)), second.verifier());
        assert!(matches!(keep(&mixed), Err(OtherRefused::Invalid(InvalidCheckpoint::NotSigned))));
        for gateway in ["..", ".", ".x", "x.new"] {
            let odd = signer(folder.path(), &format!("odd{}.key", gateway.len()), gateway);
            assert!(matches!(keep(&text(&odd, 1, 1)), Err(OtherRefused::NotACheckpoint)), "{gateway}");
            std::fs::remove_file(folder.path().join(format!("odd{}.key", gateway.len()))).unwrap();
            std::fs::remove_file(folder.path().join(format!("odd{}.pub", gateway.len()))).unwrap();
        }
        let good = text(&first, 40, 1);
        for cut in 0..good.len() - 1 {
            if let Some(cut) = good.get(..cut) {
                assert!(keep(cut).is_err(), "{cut:?}");
            }
        }
        assert_eq!(keep(&good).unwrap(), OtherKept::Newer);
        assert_eq!(std::fs::read_dir(folder.path().join("others")).unwrap().count(), 1);
    }
}
