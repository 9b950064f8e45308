//! Stands between a client and the HTTP/2 library, for heads that the library cannot refuse as we want.
//!
//! It ends a whole connection for one malformed field, answers a head over its limit with a bare 431, cuts trailers off
//! there, and a target at `#`. So header blocks are read here first, beside the library. Nearly all are passed on
//! untouched. In the place of others stands a block that leaves the library's table as the client thinks it is, and that
//! is refused: by us, with [`REFUSED`] among its fields, or by the library, which resets the stream.

pub use self::replay::tables_agree;

use self::block::Judge;
use self::hpack::Decoder;
use crate::base::denial::Denial;

mod block;
mod hpack;
mod huffman;
mod replay;
#[cfg(test)]
mod tests;

/// The field that says why a request is refused. From a client it means the same.
pub(super) const REFUSED: &str = "durward-refused";

/// Most bytes of a header block that are held until its end: two heads of the largest size that is served. A larger
/// one is left to the library, which ends the connection.
const MAX_HELD: usize = 64 * 1024;
/// Largest frame that the library takes (RFC 9113, section 6.5.2).
const MAX_FRAME: usize = 16 * 1024;
/// Length of a frame's head.
const FRAME_HEAD: usize = 9;
/// Length of the client's connection preface (RFC 9113, section 3.4).
const PREFACE: usize = 24;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// What a value of [`REFUSED`] stands for.
pub(super) fn denial_of(value: &[u8]) -> Denial {
    match value {
        block::TARGET => Denial::MalformedTarget,
        _ => Denial::HeadTooLarge,
    }
}

/// What becomes of bytes that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// They pass as they are.
    Unchanged,
    /// What [`Front::take_ready`] gives passes instead; it may be nothing yet.
    Instead,
}

/// Follows the frames of one connection.
#[derive(Debug)]
pub(super) struct Front {
    decoder: Decoder,
    judge: Judge,
    /// Bytes of the frame at hand that pass without a look.
    skip: usize,
    /// The beginning of a frame or header block whose end has not come.
    held: Vec<u8>,
    /// What passes instead of what came, and how much of it has been taken.
    ready: Vec<u8>,
    taken: usize,
    last_stream: u32,
    /// Whether the client broke the rules of the connection: the library is to say so, and sees everything.
    broken: bool,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frame {
    fn at(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, w, x, y, z] = *bytes.first_chunk::<FRAME_HEAD>()?;
        Some(Self {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes([w & 0x7f, x, y, z]),
        })
    }
}

/// What stands at the beginning of some bytes.
enum Found {
    /// A frame of another kind, with so many bytes.
    Other(usize),
    /// A header block, or a frame's head, without its end.
    Partial,
    /// What the library ends the connection for.
    Broken,
    /// A header block in frames of so many bytes.
    Block(usize),
}

/// How much of some bytes was dealt with.
struct Walked {
    passed: Passed,
    /// Where those begin that have to wait for more.
    held_from: usize,
}

impl Front {
    pub(super) fn new() -> Self {
        Self {
            decoder: Decoder::default(),
            judge: Judge::default(),
            skip: PREFACE,
            held: Vec::new(),
            ready: Vec::new(),
            taken: 0,
            last_stream: 0,
            broken: false,
        }
    }

    /// Takes what passes instead of what came, at most so much.
    pub(super) fn take_ready(&mut self, most: usize) -> Option<&[u8]> {
        if self.taken == self.ready.len() {
            self.ready.clear();
            self.taken = 0;
            return None;
        }
        let from = self.taken;
        self.taken = self.ready.len().min(from + most);
        self.ready.get(from..self.taken)
    }

    /// Looks at what came.
    pub(super) fn look(&mut self, new: &[u8]) -> Passed {
        if self.held.is_empty() {
            let walked = self.walk(new);
            self.held.extend_from_slice(new.get(walked.held_from..).unwrap_or_default());
            return walked.passed;
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(new);
        let walked = self.walk(&held);
        if walked.passed == Passed::Unchanged {
            self.ready.extend_from_slice(&held);
        }
        held.drain(..walked.held_from);
        self.held = held;
        Passed::Instead
    }

    fn walk(&mut self, bytes: &[u8]) -> Walked {
        let (mut at, mut copied, mut changed) = (0, 0, false);
        while at < bytes.len() && !self.broken {
            let rest = bytes.get(at..).unwrap_or_default();
            let skipped = self.skip.min(rest.len());
            if skipped > 0 {
                self.skip -= skipped;
                at += skipped;
                continue;
            }
            match find(rest) {
                Found::Other(length) => self.skip = length,
                Found::Broken => self.broken = true,
                Found::Partial => {
                    self.ready.extend_from_slice(bytes.get(copied..at).unwrap_or_default());
                    return Walked {
                        passed: Passed::Instead,
                        held_from: at,
                    };
                }
                Found::Block(length) => {
                    let frames = rest.get(..length).unwrap_or_default();
                    let before = bytes.get(copied..at).unwrap_or_default();
                    if self.judge(frames, before) == Passed::Instead {
                        (copied, changed) = (at + length, true);
                    }
                    at += length;
                }
            }
        }
        if changed {
            self.ready.extend_from_slice(bytes.get(copied..).unwrap_or_default());
        }
        Walked {
            passed: if changed { Passed::Instead } else { Passed::Unchanged },
            held_from: bytes.len(),
        }
    }

    /// Judges a whole block. If it cannot pass, what stands `before` it and another block are made ready.
    fn judge(&mut self, frames: &[u8], before: &[u8]) -> Passed {
        let Some(parts) = Parts::of(frames) else {
            self.broken = true;
            return Passed::Unchanged;
        };
        let is_request = parts.frame.stream > self.last_stream;
        self.last_stream = self.last_stream.max(parts.frame.stream);
        self.judge.begin();
        let decoded = match parts.rest {
            [] => self.judge.read(&mut self.decoder, parts.fragment),
            rest => self.judge.read(&mut self.decoder, &join(parts.fragment, rest)),
        };
        if decoded.is_err() {
            self.broken = true;
            return Passed::Unchanged;
        }
        let Some(instead) = self.judge.instead(is_request, &self.decoder) else {
            return Passed::Unchanged;
        };
        let priority = parts.priority.unwrap_or_default();
        let length = u32::try_from(priority.len() + instead.len()).unwrap_or(0).to_be_bytes();
        let kept = parts.frame.flags & (END_STREAM | PRIORITY);
        self.ready.extend_from_slice(before);
        self.ready.extend_from_slice(length.get(1..).unwrap_or_default());
        self.ready.extend_from_slice(&[HEADERS, kept | END_HEADERS]);
        self.ready.extend_from_slice(&parts.frame.stream.to_be_bytes());
        self.ready.extend_from_slice(priority);
        self.ready.extend_from_slice(&instead);
        Passed::Instead
    }
}

/// Finds the end of a header block by the heads of its frames alone: bytes that come one by one cost no more than that.
fn find(bytes: &[u8]) -> Found {
    let Some(first) = Frame::at(bytes) else { return Found::Partial };
    if first.kind != HEADERS {
        return Found::Other(FRAME_HEAD + first.length);
    }
    let (mut at, mut frame) = (0, first);
    loop {
        if frame.length > MAX_FRAME || frame.stream != first.stream || frame.stream == 0 || at > MAX_HELD {
            return Found::Broken;
        }
        at += FRAME_HEAD + frame.length;
        if at > bytes.len() {
            return Found::Partial;
        }
        if frame.flags & END_HEADERS != 0 {
            return Found::Block(at);
        }
        let Some(next) = bytes.get(at..).and_then(Frame::at) else {
            return Found::Partial;
        };
        if next.kind != CONTINUATION {
            return Found::Broken;
        }
        frame = next;
    }
}

/// The parts of a header block's first frame, and the frames behind it.
struct Parts<'b> {
    frame: Frame,
    priority: Option<&'b [u8]>,
    fragment: &'b [u8],
    rest: &'b [u8],
}

impl<'b> Parts<'b> {
    /// `None` if padding or priority are longer than the frame.
    fn of(frames: &'b [u8]) -> Option<Self> {
        let frame = Frame::at(frames)?;
        let (payload, rest) = frames.get(FRAME_HEAD..)?.split_at_checked(frame.length)?;
        let (padding, payload) = match payload {
            [padding, payload @ ..] if frame.flags & PADDED != 0 => (usize::from(*padding), payload),
            _ if frame.flags & PADDED != 0 => return None,
            _ => (0, payload),
        };
        let (priority, payload) = if frame.flags & PRIORITY != 0 {
            let (priority, payload) = payload.split_at_checked(5)?;
            (Some(priority), payload)
        } else {
            (None, payload)
        };
        Some(Self {
            frame,
            priority,
            fragment: payload.get(..payload.len().checked_sub(padding)?)?,
            rest,
        })
    }
}

/// A block of several frames in one piece. Rare: heads of more than one frame, and clients that cut smaller ones.
fn join(first: &[u8], mut rest: &[u8]) -> Vec<u8> {
    let mut block = first.to_vec();
    while let Some(frame) = Frame::at(rest) {
        let (fragment, after) = rest
            .get(FRAME_HEAD..)
            .and_then(|rest| rest.split_at_checked(frame.length))
            .unwrap_or_default();
        block.extend_from_slice(fragment);
        rest = after;
    }
    block
}
