//! Frames of HTTP/2 (RFC 9113, sections 3.4, 4.1 and 6), as far as this gateway reads them beside the library.

/// Length of the client's connection preface (RFC 9113, section 3.4).
pub(super) const PREFACE: usize = 24;
/// Length of a frame's head.
pub(super) const FRAME_HEAD: usize = 9;
/// Largest frame that the library takes (RFC 9113, section 6.5.2).
pub(super) const MAX_FRAME: usize = 16 * 1024;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const PRIORITY: u8 = 0x20;

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Frame {
    /// Reads the head of the frame that begins here. `None` if it is not complete.
    pub(super) fn at(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(|head| Self::read(*head))
    }

    fn read([a, b, c, kind, flags, w, x, y, z]: [u8; FRAME_HEAD]) -> Self {
        Self {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes([w & 0x7f, x, y, z]),
        }
    }
}

/// Follows frame boundaries through bytes that arrive in any pieces. It does not keep the bytes.
#[derive(Debug)]
pub(super) struct FrameScanner {
    /// Bytes to skip before the head of the next frame.
    skip: usize,
    head: [u8; FRAME_HEAD],
    have: usize,
    /// The first four bytes of the payload of a RST_STREAM: its error code.
    code: [u8; 4],
    code_have: usize,
    in_reset: bool,
}

pub(super) enum FrameEvent {
    Frame(Frame),
    /// The error code of the RST_STREAM that began before.
    Reset(u32),
}

impl FrameScanner {
    pub(super) const fn new(skip: usize) -> Self {
        Self {
            skip,
            head: [0; FRAME_HEAD],
            have: 0,
            code: [0; 4],
            code_have: 0,
            in_reset: false,
        }
    }

    /// Whether the bytes so far end with a whole frame.
    pub(super) const fn is_between_frames(&self) -> bool {
        self.skip == 0 && self.have == 0 && !self.in_reset
    }

    pub(super) fn scan(&mut self, mut bytes: &[u8], mut event: impl FnMut(FrameEvent)) {
        while !bytes.is_empty() {
            if self.in_reset {
                self.code_have += take(&mut bytes, &mut self.code[self.code_have..]);
                if self.code_have == self.code.len() {
                    self.in_reset = false;
                    event(FrameEvent::Reset(u32::from_be_bytes(self.code)));
                }
                continue;
            }
            let skipped = self.skip.min(bytes.len());
            bytes = bytes.get(skipped..).unwrap_or_default();
            self.skip -= skipped;
            if self.skip > 0 {
                return;
            }
            self.have += take(&mut bytes, &mut self.head[self.have..]);
            if self.have == self.head.len() {
                self.have = 0;
                event(FrameEvent::Frame(self.begin_frame()));
            }
        }
    }

    fn begin_frame(&mut self) -> Frame {
        let frame = Frame::read(self.head);
        self.skip = frame.length;
        if frame.kind == RST_STREAM && frame.length == self.code.len() {
            (self.skip, self.in_reset, self.code_have) = (0, true, 0);
        }
        frame
    }
}

/// Moves bytes until one side is full or empty. Returns how many.
fn take(from: &mut &[u8], to: &mut [u8]) -> usize {
    let n = from.len().min(to.len());
    let (now, later) = from.split_at(n);
    to[..n].copy_from_slice(now);
    *from = later;
    n
}
