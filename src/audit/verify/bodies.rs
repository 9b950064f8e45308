//! Compares the bodies that are kept with what their entries say of them.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::PathBuf;

use aws_lc_rs::digest::{Context, SHA256};
use serde::Deserialize;

use crate::audit::closed;

use super::fault::{Fault, Finding};
use super::files::TrailFiles;
use super::lines::{LineEnd, LineReader, MAX_BODY};

/// Most erased bodies whose entries are looked for.
const MAX_ERASED: usize = 1_000_000;

/// What an entry says of its bodies.
#[derive(Debug, Deserialize)]
struct EntryBodies {
    request_id: Option<String>,
    body: Option<BodyMember>,
    answer: Option<BodyMember>,
}

#[derive(Debug, Deserialize)]
struct BodyMember {
    #[serde(rename = "type")]
    media_type: Option<String>,
    size: Option<u64>,
    sha256: Option<String>,
    #[serde(default)]
    stored: bool,
}

/// A line of a file of bodies.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyLine {
    seq: u64,
    request_id: Option<String>,
    part: String,
    #[serde(rename = "type")]
    media_type: Option<String>,
    salt: Option<String>,
    size: Option<u64>,
    masked: Option<String>,
    erased: Option<bool>,
}

/// What became of the bodies of a trail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct BodyFigures {
    /// Those that are what their entry says.
    pub whole: u64,
    /// Those that were erased.
    pub erased: u64,
    /// Those that are gone with their time of retention.
    pub expired: u64,
}

/// The files of bodies, read in step with the entries.
pub(super) struct BodyWalk {
    files: VecDeque<BodyFile>,
    /// The names of all files.
    names: BTreeMap<u64, String>,
    oldest: u64,
    /// The oldest entry that is kept. Of older ones nothing can be said.
    first: u64,
    reader: Option<LineReader>,
    name: String,
    next: Option<BodyLine>,
    figures: BodyFigures,
    erased: Vec<Erased>,
    erased_requests: HashSet<String>,
    last_expired: Option<u64>,
    first_expired: u64,
}

struct BodyFile {
    first: u64,
    path: PathBuf,
    has_index: bool,
}

/// An erased body, whose entry comes later.
struct Erased {
    seq: u64,
    request_id: String,
    file: String,
}

impl BodyWalk {
    pub(super) fn new(files: &TrailFiles) -> Self {
        let files: VecDeque<BodyFile> = files
            .bodies
            .iter()
            .filter_map(|(first, files)| {
                // Where both are there, the plain one was made last: the compressed one is made of it again.
                let path = files.plain.clone().or_else(|| files.zipped.clone())?;
                Some(BodyFile {
                    first: *first,
                    path,
                    has_index: files.index.is_some(),
                })
            })
            .collect();
        Self {
            oldest: files.front().map_or(u64::MAX, |file| file.first),
            names: files.iter().map(|file| (file.first, super::name_of(&file.path))).collect(),
            files,
            first: 0,
            reader: None,
            name: String::new(),
            next: None,
            figures: BodyFigures::default(),
            erased: Vec::new(),
            erased_requests: HashSet::new(),
            last_expired: None,
            first_expired: 0,
        }
    }

    /// Says what the oldest entry is that is kept.
    pub(super) const fn begin(&mut self, first: u64) {
        self.first = first;
    }

    /// Compares the bodies of an entry.
    pub(super) fn entry(&mut self, seq: u64, line: &[u8], findings: &mut Vec<Finding>) {
        // The words stand in no text of an entry: quotes are escaped there.
        if memchr::memmem::find(line, b"\"stored\":true").is_none() {
            return;
        }
        let Ok(said) = serde_json::from_slice::<EntryBodies>(line) else {
            return;
        };
        for (part, member) in [("body", &said.body), ("answer", &said.answer)] {
            let Some(member) = member.as_ref().filter(|member| member.stored) else {
                continue;
            };
            if seq < self.oldest {
                if self.last_expired.is_none() {
                    self.first_expired = seq;
                }
                self.last_expired = Some(seq);
                self.figures.expired += 1;
                continue;
            }
            self.pass_over(seq, findings);
            match self.take(seq, part, findings) {
                None => {
                    let belongs = self.names.range(..=seq).next_back().map(|(_, name)| name.clone());
                    findings.push(Finding {
                        seq,
                        file: belongs.unwrap_or_else(|| "bodies".into()),
                        fault: Fault::BodyMissing,
                    });
                }
                Some(line) if line.request_id != said.request_id => self.tell(seq, Fault::BodyChanged, findings),
                Some(line) if line.erased.is_some() => self.erased(line, findings),
                Some(line) if is_the_recorded(&line, member) => self.figures.whole += 1,
                Some(_) => self.tell(seq, Fault::BodyChanged, findings),
            }
        }
    }

    fn erased(&mut self, line: BodyLine, findings: &mut Vec<Finding>) {
        if line.erased != Some(true) || line.masked.is_some() || line.salt.is_some() {
            self.tell(line.seq, Fault::BodyChanged, findings);
            return;
        }
        self.figures.erased += 1;
        if self.erased.len() < MAX_ERASED {
            self.erased.push(Erased {
                seq: line.seq,
                request_id: line.request_id.unwrap_or_default(),
                file: self.name.clone(),
            });
        }
    }

    /// Notes that an entry tells of the erasure of a request's bodies.
    pub(super) fn erasure(&mut self, request_id: String) {
        self.erased_requests.insert(request_id);
    }

    /// Judges what can be judged only at the end of the trail. Bodies before `retained` are gone with an entry that says so;
    /// lines of entries from `end` on are what a crash leaves, where `torn`.
    pub(super) fn finish(mut self, retained: u64, end: u64, torn: bool, findings: &mut Vec<Finding>) -> BodyFigures {
        while self.peek(findings) {
            let Some(line) = self.next.take() else { break };
            if line.seq >= self.first && !(torn && line.seq >= end) {
                self.tell(line.seq, Fault::BodyUnknown, findings);
            }
        }
        for erased in self.erased.iter().filter(|e| !self.erased_requests.contains(&e.request_id)) {
            findings.push(Finding {
                seq: erased.seq,
                file: erased.file.clone(),
                fault: Fault::BodyErased,
            });
        }
        if let Some(last) = self.last_expired.filter(|last| *last >= retained) {
            findings.push(Finding {
                seq: self.first_expired.max(retained).min(last),
                file: "bodies".into(),
                fault: Fault::BodyMissing,
            });
        }
        self.figures
    }

    fn tell(&self, seq: u64, fault: Fault, findings: &mut Vec<Finding>) {
        findings.push(Finding {
            seq,
            file: if self.name.is_empty() { "bodies".into() } else { self.name.clone() },
            fault,
        });
    }

    /// Passes over lines of earlier entries: no entry told of them.
    fn pass_over(&mut self, seq: u64, findings: &mut Vec<Finding>) {
        while self.peek(findings) && self.next.as_ref().is_some_and(|line| line.seq < seq) {
            if let Some(line) = self.next.take().filter(|line| line.seq >= self.first) {
                self.tell(line.seq, Fault::BodyUnknown, findings);
            }
        }
    }

    fn take(&mut self, seq: u64, part: &str, findings: &mut Vec<Finding>) -> Option<BodyLine> {
        if self.peek(findings) && self.next.as_ref().is_some_and(|line| line.seq == seq && line.part == part) {
            self.next.take()
        } else {
            None
        }
    }

    /// Whether there is another line; it is in `next` then.
    fn peek(&mut self, findings: &mut Vec<Finding>) -> bool {
        while self.next.is_none() {
            let Some(reader) = &mut self.reader else {
                if !self.open_next(findings) {
                    return false;
                }
                continue;
            };
            match reader.next() {
                Ok(LineEnd::Whole) => match parse(&reader.line) {
                    Some(line) => self.next = Some(line),
                    None => self.tell_here(Fault::NotABody, findings),
                },
                Ok(LineEnd::TooLong) => self.tell_here(Fault::NotABody, findings),
                // A torn line is cut by the next start; where its entry is there, the body is missing.
                Ok(LineEnd::Torn | LineEnd::Nothing) => self.reader = None,
                Err(error) => {
                    self.reader = None;
                    self.tell_here(Fault::Unreadable(error.to_string()), findings);
                }
            }
        }
        true
    }

    fn tell_here(&self, fault: Fault, findings: &mut Vec<Finding>) {
        let first = self
            .name
            .split(['-', '.'])
            .find_map(|part| part.parse().ok())
            .unwrap_or(self.oldest);
        self.tell(first, fault, findings);
    }

    fn open_next(&mut self, findings: &mut Vec<Finding>) -> bool {
        let Some(file) = self.files.pop_front() else {
            return false;
        };
        self.name = super::name_of(&file.path);
        if file.path.extension().is_some_and(|ending| ending == "gz") {
            self.check_form(&file, findings);
        }
        match LineReader::open(&file.path, MAX_BODY) {
            Ok(reader) => self.reader = Some(reader),
            Err(error) => self.tell(file.first, Fault::Unreadable(error.to_string()), findings),
        }
        true
    }

    /// Judges the form of a compressed file, and its index.
    fn check_form(&self, file: &BodyFile, findings: &mut Vec<Finding>) {
        let index = format!("bodies-{:020}.index", file.first);
        let fault = if file.has_index {
            closed::check(&file.path).err().map(|error| Fault::Unreadable(error.to_string()))
        } else {
            Some(Fault::FileMissing)
        };
        findings.extend(fault.map(|fault| {
            let is_index = matches!(&fault, Fault::FileMissing) || matches!(&fault, Fault::Unreadable(why) if why.contains(&index));
            Finding {
                seq: file.first,
                file: if is_index { index } else { self.name.clone() },
                fault,
            }
        }));
    }
}

/// A line as durward writes it. JSON has other ways to write the same text; a file that uses them was touched.
fn parse(line: &[u8]) -> Option<BodyLine> {
    let plain = line.is_ascii()
        && memchr::memmem::find_iter(line, b"\\u").all(|at| {
            // An escaped backslash before a `u` is no escape of a character; its digits may be anything.
            let backslashes = line[..at].iter().rev().take_while(|b| **b == b'\\').count();
            backslashes % 2 == 1 || line[at + 2..].iter().take(4).all(|b| !b.is_ascii_uppercase())
        });
    plain.then(|| serde_json::from_slice(line).ok()).flatten()
}

fn is_the_recorded(line: &BodyLine, member: &BodyMember) -> bool {
    let (Some(salt), Some(masked), Some(sha256)) = (&line.salt, &line.masked, &member.sha256) else {
        return false;
    };
    let Some(salt) = unhex(salt) else { return false };
    let mut context = Context::new(&SHA256);
    context.update(&salt);
    context.update(masked.as_bytes());
    unhex(sha256).as_deref() == Some(context.finish().as_ref()) && line.media_type == member.media_type && line.size == member.size
}

/// Hexadecimal digits in lower case.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.last()?)?)).collect()
}
