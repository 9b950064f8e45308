//! WebSocket frames as far as a tunnel needs them (RFC 6455, section 5): where a frame ends, so that a Close can be
//! sent between two frames, and that nothing but frames passes.

/// Longest head of a frame: two bytes, a length of eight, a mask of four.
const MAX_HEAD: usize = 14;
/// Longest payload of a control frame (RFC 6455, section 5.5).
const MAX_CONTROL: u64 = 125;
/// The opcode of a Close frame.
const CLOSE: u8 = 8;

/// The sender violates a policy (RFC 6455, section 7.4.1). It is sent when a credential is no longer valid.
pub const POLICY_VIOLATION: u16 = 1008;
pub const GOING_AWAY: u16 = 1001;
/// The bytes are no frame.
pub const PROTOCOL_ERROR: u16 = 1002;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameSender {
    Client,
    Server,
}

/// Whether the handshake agreed on extensions, which give the reserved bits a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extensions {
    None,
    Agreed,
}

/// What comes next in a stream of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    FrameHead,
    /// This many bytes of a frame.
    Payload(u64),
    /// Nothing, since the sender has sent Close.
    Nothing,
}

/// Whether a message is in the middle of its fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MessageState {
    Whole,
    Fragmented,
}

/// The state of one direction. It holds no byte of the frames.
#[derive(Debug, Clone, Copy)]
pub struct Frames {
    sender: FrameSender,
    extensions: Extensions,
    expected: Expected,
    message: MessageState,
    /// Whether the current frame is a Close.
    close_sent: CloseSent,
    /// The part of a head that has passed, when a write ended within a head ...
    partial_head: [u8; MAX_HEAD],
    partial_len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CloseSent {
    No,
    Yes,
}

/// What some bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameCheck {
    /// Frames, as far as they are complete.
    Frames,
    /// Frames, followed by something that is no frame.
    Garbage,
}

/// The head of a frame.
struct FrameHead {
    len: usize,
    payload: u64,
    opcode: u8,
    message: MessageState,
}

impl Frames {
    #[must_use]
    pub const fn new(sender: FrameSender, extensions: Extensions) -> Self {
        Self {
            sender,
            extensions,
            expected: Expected::FrameHead,
            message: MessageState::Whole,
            close_sent: CloseSent::No,
            partial_head: [0; MAX_HEAD],
            partial_len: 0,
        }
    }

    /// How many of the bytes may pass, and what follows them. The head of a frame passes only when it is complete, so
    /// that no part of an invalid frame is sent.
    #[must_use]
    pub fn check(self, bytes: &[u8]) -> (usize, FrameCheck) {
        let mut probe = self;
        probe.run(bytes)
    }

    /// Notes that these bytes have passed. They are a beginning, however short, of what [`check`](Self::check) allows.
    pub fn pass(&mut self, bytes: &[u8]) {
        let (whole, _) = self.run(bytes);
        for (place, byte) in self.partial_head.iter_mut().skip(self.partial_len).zip(bytes.iter().skip(whole)) {
            *place = *byte;
            self.partial_len += 1;
        }
    }

    /// Whether a frame of the gateway may be put in here.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.expected == Expected::FrameHead && self.partial_len == 0
    }

    /// Whether the sender has sent Close.
    #[must_use]
    pub fn has_closed(&self) -> bool {
        self.expected == Expected::Nothing
    }

    /// Goes through complete heads and payloads. Returns how many bytes they have.
    fn run(&mut self, bytes: &[u8]) -> (usize, FrameCheck) {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.expected {
                Expected::Nothing => return (at, FrameCheck::Garbage),
                Expected::Payload(left) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    at += n;
                    self.count(left - n as u64);
                }
                Expected::FrameHead => match self.read_on(rest) {
                    Err(InvalidFrame) => return (at, FrameCheck::Garbage),
                    Ok(None) => return (at, FrameCheck::Frames),
                    Ok(Some(head)) => {
                        at += head.len.saturating_sub(self.partial_len);
                        self.partial_len = 0;
                        self.message = head.message;
                        self.close_sent = if head.opcode == CLOSE { CloseSent::Yes } else { CloseSent::No };
                        self.count(head.payload);
                    }
                },
            }
        }
        (at, FrameCheck::Frames)
    }

    const fn count(&mut self, left: u64) {
        self.expected = match (left, self.close_sent) {
            (1.., _) => Expected::Payload(left),
            (0, CloseSent::Yes) => Expected::Nothing,
            (0, CloseSent::No) => Expected::FrameHead,
        };
    }

    /// The head that these bytes begin or continue.
    fn read_on(&self, bytes: &[u8]) -> Result<Option<FrameHead>, InvalidFrame> {
        let mut head = self.partial_head;
        let mut len = self.partial_len;
        for (place, byte) in head.iter_mut().skip(self.partial_len).zip(bytes) {
            *place = *byte;
            len += 1;
        }
        self.read_head(head.get(..len).unwrap_or_default())
    }

    /// The head at the beginning. `None` when it is not complete.
    fn read_head(&self, bytes: &[u8]) -> Result<Option<FrameHead>, InvalidFrame> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let (last, reserved, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0f);
        if reserved != 0 && self.extensions == Extensions::None {
            return Err(InvalidFrame);
        }
        let message = match (opcode, self.message, last) {
            // Control frames may come between fragments and do not belong to the message.
            (8..=10, message, true) => message,
            (0, MessageState::Fragmented, true) | (1 | 2, MessageState::Whole, true) => MessageState::Whole,
            (0, MessageState::Fragmented, false) | (1 | 2, MessageState::Whole, false) => MessageState::Fragmented,
            _ => return Err(InvalidFrame),
        };
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        let masked = second & 0x80 != 0;
        if masked != (self.sender == FrameSender::Client) {
            return Err(InvalidFrame);
        }
        let (short, extended) = match second & 0x7f {
            126 => (0, 2),
            127 => (0, 8),
            short => (u64::from(short), 0),
        };
        let len = 2 + extended + if masked { 4 } else { 0 };
        let Some(number) = bytes.get(2..2 + extended).filter(|_| bytes.len() >= len) else {
            return Ok(None);
        };
        let payload = number.iter().fold(short, |sum, byte| sum << 8 | u64::from(*byte));
        // Only the shortest form of a length is valid, and the highest bit is not used.
        let shortest = match extended {
            0 => true,
            2 => payload > 125,
            _ => payload > 0xffff && payload >> 63 == 0,
        };
        if !shortest || (opcode >= CLOSE && payload > MAX_CONTROL) {
            return Err(InvalidFrame);
        }
        Ok(Some(FrameHead {
            len,
            payload,
            opcode,
            message,
        }))
    }
}

/// The head of a frame is invalid, or may not come here.
struct InvalidFrame;

/// A Close frame of this sender with this code and a reason of at most 100 bytes.
#[must_use]
pub fn close_frame(sender: FrameSender, code: u16, reason: &'static str) -> Vec<u8> {
    let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
    let length = u8::try_from(payload.len()).unwrap_or(0);
    let mut frame = vec![0x80 | CLOSE];
    match sender {
        FrameSender::Server => frame.push(length),
        // The mask keeps scripts from choosing the bytes on the wire. No script is involved here, and a mask of zeros
        // leaves the payload as it is.
        FrameSender::Client => frame.extend_from_slice(&[0x80 | length, 0, 0, 0, 0]),
    }
    frame.extend_from_slice(&payload);
    frame
}

#[cfg(test)]
mod tests;
