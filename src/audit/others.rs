//! The newest checkpoints of other gateways, which this one keeps beside its own trail (`<directory>/others`): so none of them
//! can write its trail anew alone.
//!
//! A file has the signed note, an empty line, and the verifier key that the first checkpoint of this gateway came with. What
//! has another key, or takes something back, never replaces it.
//!
//! Those that were replaced stay in `<gateway>.earlier`: a gateway that wrote its trail anew and went on with it would
//! otherwise replace the only checkpoint that contradicts it.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, CheckpointVerifier, InvalidCheckpoint, gateway_of, notes};
use super::files::read_bounded;
use super::files::{append_to, replace};
use crate::base::ids::GatewayId;

/// Most gateways whose checkpoints are kept: more than one store has.
const MAX_OTHERS: usize = 2_000;

/// Longest file of another gateway.
const MAX_FILE: u64 = 16 * 1024;

/// Longest file of the earlier checkpoints of another gateway: about 1,200 of them. When it is full, every second one of the
/// older half goes, so that the oldest stay and the recent ones stand closest to each other.
const MAX_EARLIER: u64 = 256 * 1024;

/// The ending of that file.
const EARLIER: &str = "earlier";

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
            keep_earlier(&others.join(format!("{gateway}.{EARLIER}")), &kept.note)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&others)?;
            // Each gateway has two files.
            if std::fs::read_dir(&others)?.take(2 * MAX_OTHERS).count() >= 2 * MAX_OTHERS {
                return Err(OtherRefused::TooMany);
            }
        }
        Err(error) => return Err(error.into()),
    }
    replace(&path, published(&new.note, &new.key).as_bytes())?;
    Ok(OtherKept::Newer)
}

/// Keeps a checkpoint that is about to be replaced.
fn keep_earlier(path: &Path, note: &str) -> Result<(), OtherRefused> {
    let mut file = append_to(path)?;
    let length = file.metadata()?.len();
    let mut end = [b'\n'; 2];
    if length > 0 {
        file.read_exact_at(&mut end, length.saturating_sub(2))?;
    }
    let added = format!("{note}\n");
    // A crash may have left a note without its end.
    if end == *b"\n\n" && length + added.len() as u64 <= MAX_EARLIER {
        file.write_all(added.as_bytes())?;
        file.sync_data()?;
        return Ok(());
    }
    let text = read_bounded(path, 2 * MAX_EARLIER)?;
    let (all, whole) = notes(&text);
    // Only the last one may be torn.
    if whole < text.len() && end == *b"\n\n" {
        return Err(OtherRefused::Damaged(path.to_owned()));
    }
    let older = all.len() / 2;
    let is_full = length + added.len() as u64 > MAX_EARLIER;
    let kept = all
        .iter()
        .enumerate()
        .filter(|(number, _)| !is_full || *number >= older || number % 2 == 0);
    let mut text = kept.fold(String::new(), |text, (_, note)| text + note + "\n");
    text.push_str(&added);
    replace(path, text.as_bytes())?;
    Ok(())
}

/// An id may be `.` or `..`, and other files have endings of their own.
fn is_file_name(gateway: &GatewayId) -> bool {
    let id = gateway.as_str();
    let ending = Path::new(id).extension();
    !id.starts_with('.') && ending.is_none_or(|ending| ending != "new" && ending != EARLIER)
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
        // What was replaced is a witness still.
        let earlier = std::fs::read_to_string(folder.path().join("others/edge-2.earlier")).unwrap();
        assert_eq!(notes(&earlier).0, [signer.sign(10, &[1; 32], UnixMillis(0))]);
    }

    #[test]
    fn earlier_checkpoints_thin_out_with_age_and_a_torn_one_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let signer = signer(folder.path(), "audit.key", "edge-2");
        let path = folder.path().join("others/edge-2.earlier");
        let sizes = || -> Vec<u64> {
            let text = std::fs::read_to_string(&path).unwrap();
            let (all, whole) = notes(&text);
            assert_eq!(whole, text.len());
            all.iter().map(|note| Checkpoint::parse_unverified(note).unwrap().size).collect()
        };
        let last = 2_500;
        for size in 1..=last {
            keep_other(folder.path(), &text(&signer, size, 1)).unwrap();
            if size == 10 {
                let mut file = append_to(&path).unwrap();
                file.write_all(b"durward.audit/edge-2\n9\n").unwrap();
            }
        }
        assert!(std::fs::metadata(&path).unwrap().len() <= MAX_EARLIER);
        let sizes = sizes();
        assert!(sizes.is_sorted() && (600..1_300).contains(&sizes.len()), "{}", sizes.len());
        assert_eq!((sizes.first(), sizes.last()), (Some(&1), Some(&(last - 1))));
        let recent = sizes.iter().filter(|size| **size > last - 200).count();
        assert!(recent > 150, "{recent} of the last 200");
        // Damage in its middle is no crash: nothing is replaced until somebody has looked at it.
        let mut bytes = std::fs::read(&path).unwrap();
        let at = notes(std::str::from_utf8(&bytes).unwrap()).0[0].find("\n\n").unwrap();
        bytes[at] = b'x';
        bytes.resize(usize::try_from(MAX_EARLIER).unwrap() - 2, b'\n');
        std::fs::write(&path, bytes).unwrap();
        let refused = keep_other(folder.path(), &text(&signer, last + 1, 1));
        assert!(matches!(refused, Err(OtherRefused::Damaged(_))), "{refused:?}");
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
        for gateway in ["..", ".", ".x", "x.new", "x.earlier"] {
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
        let mut files: Vec<_> = std::fs::read_dir(folder.path().join("others"))
            .unwrap()
            .map(|file| file.unwrap().file_name())
            .collect();
        files.sort();
        assert_eq!(files, ["edge-2", "edge-2.earlier"]);
    }
}
