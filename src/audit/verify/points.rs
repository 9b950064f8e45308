//! The checkpoints that a trail is held against: those beside its segments, the newest, and those of witnesses.

use std::io;
use std::path::Path;

use super::super::checkpoint::{Checkpoint, MAX_CHECKPOINT, notes};
use super::super::files::read_bounded;
use super::files::TrailFiles;
use super::{Fault, Finding, Point, TrailWitness, Walk, name_of};

/// Largest file of checkpoints that is read: about 700 000 of them, a segment that was open for 80 days.
const MAX_CHECKPOINTS: u64 = 256 * 1024 * 1024;

impl Walk<'_> {
    /// Reads the checkpoints that stand beside the segments.
    pub(super) fn read_checkpoints(&mut self, files: &TrailFiles) {
        let ends: Vec<u64> = files.segments.keys().skip(1).copied().collect();
        for (i, (first, segment)) in files.segments.iter().enumerate() {
            let end = ends.get(i).copied();
            let Some(path) = &segment.checkpoints else {
                // The open segment has its first checkpoint a little after its first entry.
                if end.is_some() {
                    self.tell(*first, format!("trail-{first:020}.checkpoints"), Fault::FileMissing);
                }
                continue;
            };
            let name = name_of(path);
            let text = match read_bounded(path, MAX_CHECKPOINTS) {
                Ok(text) => text,
                Err(error) => {
                    self.tell(*first, name, Fault::Unreadable(error.to_string()));
                    continue;
                }
            };
            let (all, whole) = notes(&text);
            let mut size = *first;
            for (number, note) in all.iter().enumerate() {
                if number > 0 && all.get(number - 1) == Some(note) {
                    self.tell(size, name.clone(), Fault::CheckpointOutOfPlace { size });
                    continue;
                }
                match self.key.verify(note) {
                    Err(invalid) => self.tell(size, name.clone(), invalid.into()),
                    Ok(signed) if signed.size < size || end.is_some_and(|end| signed.size > end) => {
                        self.tell(size, name.clone(), Fault::CheckpointOutOfPlace { size: signed.size });
                    }
                    Ok(signed) => {
                        size = signed.size;
                        self.add_own(&signed, &name);
                    }
                }
            }
            if whole < text.len() {
                let torn = Finding {
                    seq: size,
                    file: name,
                    fault: Fault::CheckpointTorn,
                };
                match end {
                    Some(_) => self.tell(torn.seq, torn.file, torn.fault),
                    // A crash leaves it so.
                    None => self.torn_checkpoint = Some(torn),
                }
            } else if end.is_some_and(|end| size < end) {
                self.tell(size, name, Fault::TooShort);
            }
        }
    }

    fn add_own(&mut self, signed: &Checkpoint, source: &str) {
        if signed.size >= self.newest_own {
            self.newest_own = signed.size;
            self.signed_at = signed.time;
        }
        self.points.push_back(Point {
            size: signed.size,
            root: signed.root,
            source: format!("the checkpoint of {} entries in {source}", signed.size),
            own: true,
            time: signed.time,
        });
    }

    /// Judges the file `checkpoint` by the checkpoints beside the segments.
    pub(super) fn read_newest(&mut self, text: Option<&str>, files: &TrailFiles) {
        const NAME: &str = "checkpoint";
        let (newest, previous) = self.newest_sizes();
        let Some(text) = text else {
            match newest {
                0 => self.notes.push("no checkpoint was signed yet: nothing is proven".into()),
                // A gateway makes it after it has added the first checkpoint to the segment.
                _ if previous == 0 => self.behind = Some(Fault::FileMissing),
                _ => self.tell(previous, NAME, Fault::FileMissing),
            }
            return;
        };
        let signed = match self.key.verify(text) {
            Ok(signed) => signed,
            Err(invalid) => return self.tell(previous, NAME, invalid.into()),
        };
        if signed.size < newest {
            let old = Fault::CheckpointOld { size: signed.size, newest };
            // A gateway replaces it after it has added the checkpoint to the segment.
            if signed.size == previous {
                self.behind = Some(old);
            } else {
                self.tell(signed.size, NAME, old);
            }
        } else if signed.size > newest {
            // It is signed, and the list beside the segment has each checkpoint first: so the list was cut.
            let list = files
                .segments
                .keys()
                .next_back()
                .map(|first| format!("trail-{first:020}.checkpoints"));
            self.tell(newest, list.as_deref().unwrap_or(NAME), Fault::TooShort);
        }
        self.add_own(&signed, NAME);
    }

    /// The sizes of the newest and of the second newest checkpoint of the trail.
    fn newest_sizes(&self) -> (u64, u64) {
        let mut sizes = self.points.iter().rev().map(|point| point.size);
        (sizes.next().unwrap_or(0), sizes.next().unwrap_or(0))
    }

    pub(super) fn read_witnesses(&mut self, witnesses: &[TrailWitness]) {
        for witness in witnesses {
            let origin = Checkpoint::parse_unverified(&witness.note).map(|said| said.origin);
            match self.key.verify(&witness.note) {
                Ok(signed) => self.points.push_back(Point {
                    size: signed.size,
                    root: signed.root,
                    source: format!("the checkpoint of {} entries in {}", signed.size, witness.source),
                    own: false,
                    time: signed.time,
                }),
                Err(_) if origin.is_ok_and(|origin| origin != self.key.origin()) => {}
                Err(invalid) => self.tell(0, witness.source.clone(), invalid.into()),
            }
        }
    }
}

/// Reads a witness from a file: one signed note, or a file of several.
///
/// # Errors
/// When the file cannot be read or has no signed note.
pub fn read_witnesses(path: &Path) -> io::Result<Vec<TrailWitness>> {
    let text = read_bounded(path, MAX_CHECKPOINTS)?;
    let one = text.len() <= MAX_CHECKPOINT && Checkpoint::parse_unverified(&text).is_ok();
    let all = if one { vec![text.as_str()] } else { notes(&text).0 };
    if all.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "there is no checkpoint in it"));
    }
    Ok(all
        .into_iter()
        .map(|note| TrailWitness {
            source: format!("`{}`", path.display()),
            note: note.to_owned(),
        })
        .collect())
}
