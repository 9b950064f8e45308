//! Reads the header blocks of a client before the HTTP/2 library does, since the library cannot refuse some of them as
//! this gateway has to.
//!
//! The library ends the whole connection because of one malformed field. It answers a head over its limit with a 431 of
//! its own, cuts trailers at that limit, and cuts a target at `#`. So each header block is decoded here as well. Nearly
//! all blocks are passed on unchanged. Any other block is replaced by one that leaves the library's dynamic table as
//! the client expects it, and that is refused: by this gateway, which finds the reason in the field [`REFUSED`], or by
//! the library, which resets the stream.

#[cfg(any(test, feature = "internals"))]
pub use self::replay::tables_agree;

use self::block::BlockValidator;
use self::hpack::Decoder;
use super::frame::{CONTINUATION, END_HEADERS, END_STREAM, FRAME_HEAD, Frame, HEADERS, MAX_FRAME, PADDED, PREFACE, PRIORITY};
use crate::base::denial::Denial;
use crate::wire::head::MAX_HEAD;

mod block;
mod hpack;
mod huffman;
#[cfg(any(test, feature = "internals"))]
mod replay;
#[cfg(test)]
mod tests;

/// The field of a replaced block that says why its request is refused. A client that sends the field is refused too.
pub(super) const REFUSED: &str = "durward-refused";

/// Most bytes of a header block that are kept until its end: two heads of the largest size that is served. A larger
/// block is left to the library, which ends the connection.
const MAX_HELD: usize = 64 * 1024;
/// Most frames of a header block. Four of the largest size hold [`MAX_HELD`] bytes. The heads of all of them are read
/// again whenever bytes arrive, so thousands of small frames must not be kept. A block of more frames is left to the
/// library, which ends the connection.
const MAX_FRAMES: usize = 64;
// The library ends a connection whose header block has more than max(5, 5/4 of the frames that a head of MAX_HEAD bytes fills)
// frames, counted at 16 KiB for each frame. MAX_FRAMES must be above that number: this filter does not look into a longer block.
const _: () = assert!(MAX_HEAD / (16 * 1024) * 5 / 4 < MAX_FRAMES, "a longer head needs more frames here");

/// The denial that a value of [`REFUSED`] stands for.
pub(super) fn denial_of(value: &[u8]) -> Denial {
    match value {
        block::TARGET => Denial::MalformedTarget,
        _ => Denial::HeadTooLarge,
    }
}

/// What happens to bytes that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// They pass as they are.
    Unchanged,
    /// They do not pass. The library gets the bytes of [`HeaderFilter::take_ready`] instead, of which there may be none
    /// yet.
    Replaced,
}

/// Follows the frames of one connection.
#[derive(Debug)]
pub(super) struct HeaderFilter {
    decoder: Decoder,
    validator: BlockValidator,
    /// Bytes of the current frame that pass unexamined.
    skip: usize,
    /// The beginning of a frame's head, or of a header block whose end has not arrived.
    pending: Vec<u8>,
    /// Bytes for the library that differ from those that arrived.
    ready: Vec<u8>,
    /// How many of `ready` the library has taken.
    taken: usize,
    /// The highest stream that has had a header block. A block of a higher stream is a request, any other is trailers.
    last_stream: u32,
    /// Whether the client made an error that concerns the whole connection. Then everything passes unexamined, and the
    /// library ends the connection.
    broken: bool,
}

/// What a piece of the byte stream begins with.
enum FrameSearch {
    /// A frame without a header block, of this many bytes.
    Other(usize),
    /// A part of a header block or of a frame's head.
    Partial,
    /// Frames because of which the library ends the connection.
    Broken,
    /// A whole header block, whose frames have this many bytes.
    Block(usize),
}

/// What happens to a piece of the byte stream, and how much of it was examined.
struct ScannedBytes {
    passed: Passed,
    /// From here on the bytes are kept until more arrive.
    pending_from: usize,
}

impl HeaderFilter {
    pub(super) fn new() -> Self {
        Self {
            decoder: Decoder::default(),
            validator: BlockValidator::default(),
            skip: PREFACE,
            pending: Vec::new(),
            ready: Vec::new(),
            taken: 0,
            last_stream: 0,
            broken: false,
        }
    }

    /// Takes at most `most` of the bytes that replace those that arrived. `None` if there are none.
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

    /// Examines bytes that arrived.
    pub(super) fn filter(&mut self, new: &[u8]) -> Passed {
        if self.pending.is_empty() {
            let scanned = self.scan(new);
            self.pending.extend_from_slice(new.get(scanned.pending_from..).unwrap_or_default());
            return scanned.passed;
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(new);
        let scanned = self.scan(&pending);
        if scanned.passed == Passed::Unchanged {
            self.ready.extend_from_slice(&pending);
        }
        pending.drain(..scanned.pending_from);
        self.pending = pending;
        Passed::Replaced
    }

    fn scan(&mut self, bytes: &[u8]) -> ScannedBytes {
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
                FrameSearch::Other(length) => self.skip = length,
                FrameSearch::Broken => self.broken = true,
                FrameSearch::Partial => {
                    self.ready.extend_from_slice(bytes.get(copied..at).unwrap_or_default());
                    return ScannedBytes {
                        passed: Passed::Replaced,
                        pending_from: at,
                    };
                }
                FrameSearch::Block(length) => {
                    let frames = rest.get(..length).unwrap_or_default();
                    let before = bytes.get(copied..at).unwrap_or_default();
                    if self.validate_block(frames, before) == Passed::Replaced {
                        (copied, changed) = (at + length, true);
                    }
                    at += length;
                }
            }
        }
        if changed {
            self.ready.extend_from_slice(bytes.get(copied..).unwrap_or_default());
        }
        ScannedBytes {
            passed: if changed { Passed::Replaced } else { Passed::Unchanged },
            pending_from: bytes.len(),
        }
    }

    /// Validates a whole block. If it may not pass, the bytes `before` it and the block that replaces it are made
    /// ready.
    fn validate_block(&mut self, frames: &[u8], before: &[u8]) -> Passed {
        let Some(parts) = BlockParts::of(frames) else {
            self.broken = true;
            return Passed::Unchanged;
        };
        let is_request = parts.frame.stream > self.last_stream;
        self.last_stream = self.last_stream.max(parts.frame.stream);
        self.validator.begin();
        let decoded = match parts.rest {
            [] => self.validator.read(&mut self.decoder, parts.fragment),
            rest => self.validator.read(&mut self.decoder, &join(parts.fragment, rest)),
        };
        if decoded.is_err() {
            self.broken = true;
            return Passed::Unchanged;
        }
        let Some(replacement) = self.validator.replacement(is_request, &self.decoder) else {
            return Passed::Unchanged;
        };
        let priority = parts.priority.unwrap_or_default();
        let length = u32::try_from(priority.len() + replacement.len()).unwrap_or(0).to_be_bytes();
        let kept = parts.frame.flags & (END_STREAM | PRIORITY);
        self.ready.extend_from_slice(before);
        self.ready.extend_from_slice(length.get(1..).unwrap_or_default());
        self.ready.extend_from_slice(&[HEADERS, kept | END_HEADERS]);
        self.ready.extend_from_slice(&parts.frame.stream.to_be_bytes());
        self.ready.extend_from_slice(priority);
        self.ready.extend_from_slice(&replacement);
        Passed::Replaced
    }
}

/// Finds the end of a header block by the heads of its frames. Nothing is decoded before the end has arrived, so a
/// client that sends single bytes does not have a block decoded again and again.
fn find(bytes: &[u8]) -> FrameSearch {
    let Some(first) = Frame::at(bytes) else {
        return FrameSearch::Partial;
    };
    if first.kind != HEADERS {
        return FrameSearch::Other(FRAME_HEAD + first.length);
    }
    let (mut at, mut frame) = (0, first);
    for _ in 0..MAX_FRAMES {
        if frame.length > MAX_FRAME || frame.stream != first.stream || frame.stream == 0 || at > MAX_HELD {
            return FrameSearch::Broken;
        }
        at += FRAME_HEAD + frame.length;
        if at > bytes.len() {
            return FrameSearch::Partial;
        }
        if frame.flags & END_HEADERS != 0 {
            return FrameSearch::Block(at);
        }
        let Some(next) = bytes.get(at..).and_then(Frame::at) else {
            return FrameSearch::Partial;
        };
        if next.kind != CONTINUATION {
            return FrameSearch::Broken;
        }
        frame = next;
    }
    FrameSearch::Broken
}

/// The parts of a header block's first frame, and the frames after it.
struct BlockParts<'b> {
    frame: Frame,
    priority: Option<&'b [u8]>,
    fragment: &'b [u8],
    rest: &'b [u8],
}

impl<'b> BlockParts<'b> {
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

/// Joins the fragments of a block of several frames. Such a block is rare: its head is larger than one frame, or the
/// client makes small frames.
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
