//! Reads and writes bodies as bytes: the chunked coding (RFC 9112, section 7), read strictly, and the simpler framings.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

use super::body::BodyError;
use super::fields::Fields;
use super::framing::Framing;

/// Longest chunk extension. Extensions are ignored; 256 bytes let the signatures of a known kind pass.
const MAX_EXTENSION: u32 = 256;
/// All extensions of one body together. Without this limit a body of one-byte chunks could cost a hundred times what it
/// carries (hyper and Go have the same limit).
const MAX_EXTENSIONS: u32 = 16 * 1024;
/// Largest trailer section in bytes: half a head is plenty for checksums and a gRPC status.
const MAX_TRAILERS: usize = 8 * 1024;
const MAX_TRAILER_FIELDS: usize = 32;
/// Most hexadecimal digits of a chunk size: 16 fill 64 bits exactly, so no sum can overflow.
const MAX_SIZE_DIGITS: u8 = 16;

#[derive(Debug)]
pub enum Decoded {
    /// Some bytes of the body, never empty, not copied.
    Data(Bytes),
    /// The trailer section of a chunked body, always the last thing before the end.
    Trailers(Box<Fields>),
    /// The body is complete. The bytes that are left in the buffer do not belong to it.
    End,
    /// The buffer holds nothing that can be decoded: read more.
    NeedMore,
}

/// Takes a body out of a connection's buffer.
#[derive(Debug)]
pub enum BodyDecoder {
    /// This many bytes are still to come.
    Length(u64),
    Chunked(ChunkDecoder),
    /// Whatever comes until the connection closes.
    UntilClose,
    Done,
}

impl BodyDecoder {
    /// The decoder for a framing.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(ChunkDecoder::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Whether the body is complete.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Takes the next piece out of `buf`. After an error the connection is unusable.
    ///
    /// # Errors
    /// [`BodyError::Framing`] for broken chunks.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Decoded, BodyError> {
        match self {
            Self::Done => Ok(Decoded::End),
            _ if buf.is_empty() => Ok(Decoded::NeedMore),
            Self::UntilClose => Ok(Decoded::Data(buf.split().freeze())),
            Self::Length(left) => {
                let data = take(left, buf);
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(Decoded::Data(data))
            }
            Self::Chunked(chunks) => {
                let decoded = chunks.decode(buf)?;
                if matches!(decoded, Decoded::End | Decoded::Trailers(_)) {
                    *self = Self::Done;
                }
                Ok(decoded)
            }
        }
    }

    /// Tells the decoder that the connection has ended.
    ///
    /// # Errors
    /// [`BodyError::Aborted`] unless the body is complete. A body that ends with the connection is complete; a body
    /// without its whole length or its last chunk is not.
    pub fn finish(&mut self) -> Result<(), BodyError> {
        match self {
            Self::Done | Self::UntilClose => {
                *self = Self::Done;
                Ok(())
            }
            Self::Length(_) | Self::Chunked(_) => Err(BodyError::Aborted),
        }
    }
}

/// Reads chunks: CRLF only, plain hexadecimal sizes, extensions dropped, trailers bounded.
#[derive(Debug, Default)]
pub struct ChunkDecoder {
    state: ChunkState,
    extensions: u32,
}

#[derive(Debug, Clone, Copy)]
enum ChunkState {
    /// In the digits of a size.
    Size {
        value: u64,
        digits: u8,
    },
    /// After the `;` of a size line; this many bytes of it were read.
    Extension {
        value: u64,
        seen: u32,
    },
    /// Before the LF of a size line.
    SizeEnd {
        value: u64,
    },
    Data {
        left: u64,
    },
    /// Before the CR after the data.
    DataCr,
    /// Before the LF after the data.
    DataLf,
    Trailers,
}

impl Default for ChunkState {
    fn default() -> Self {
        Self::Size { value: 0, digits: 0 }
    }
}

impl ChunkDecoder {
    fn decode(&mut self, buf: &mut BytesMut) -> Result<Decoded, BodyError> {
        loop {
            match &mut self.state {
                ChunkState::Trailers => return decode_trailers(buf),
                ChunkState::Data { left } => {
                    if buf.is_empty() {
                        return Ok(Decoded::NeedMore);
                    }
                    let data = take(left, buf);
                    if *left == 0 {
                        self.state = ChunkState::DataCr;
                    }
                    return Ok(Decoded::Data(data));
                }
                _ => {}
            }
            let Some(byte) = buf.first().copied() else {
                return Ok(Decoded::NeedMore);
            };
            self.state = self.step(byte)?;
            buf.advance(1);
        }
    }

    /// Reads one byte outside data and trailers.
    fn step(&mut self, byte: u8) -> Result<ChunkState, BodyError> {
        Ok(match (self.state, byte) {
            (ChunkState::Size { value, digits }, _) if byte.is_ascii_hexdigit() && digits < MAX_SIZE_DIGITS => ChunkState::Size {
                value: (value << 4) | u64::from(hex_value(byte)),
                digits: digits + 1,
            },
            (ChunkState::Size { value, digits: 1.. }, b'\r') => ChunkState::SizeEnd { value },
            (ChunkState::Size { value, digits: 1.. }, b';') => ChunkState::Extension { value, seen: 0 },
            (ChunkState::Extension { value, .. }, b'\r') => ChunkState::SizeEnd { value },
            // A bare LF in an extension ends the line for some readers and not for others (the TERM.EXT and EXT.TERM
            // smuggling classes), so every control character except the tab is an error.
            (ChunkState::Extension { value, seen }, b'\t' | b' '..=b'~' | 0x80..)
                if seen < MAX_EXTENSION && self.extensions < MAX_EXTENSIONS =>
            {
                self.extensions += 1;
                ChunkState::Extension { value, seen: seen + 1 }
            }
            (ChunkState::SizeEnd { value: 0 }, b'\n') => ChunkState::Trailers,
            (ChunkState::SizeEnd { value }, b'\n') => ChunkState::Data { left: value },
            (ChunkState::DataCr, b'\r') => ChunkState::DataLf,
            (ChunkState::DataLf, b'\n') => ChunkState::default(),
            _ => return Err(BodyError::Framing),
        })
    }
}

/// Reads the trailer section in one piece. Until it is complete it stays in the buffer.
fn decode_trailers(buf: &mut BytesMut) -> Result<Decoded, BodyError> {
    match buf.get(..2) {
        Some(b"\r\n") => {
            buf.advance(2);
            return Ok(Decoded::End);
        }
        None if matches!(buf.first(), None | Some(b'\r')) => return Ok(Decoded::NeedMore),
        _ => {}
    }
    let window = buf.get(..MAX_TRAILERS).unwrap_or(buf);
    let end = memmem::find(window, b"\r\n\r\n").map(|at| at + 4);
    let section = window.get(..end.unwrap_or(window.len())).unwrap_or_default();
    if memchr::memchr_iter(b'\n', section).any(|at| at == 0 || section.get(at - 1) != Some(&b'\r')) {
        return Err(BodyError::Framing);
    }
    let Some(end) = end else {
        return if buf.len() >= MAX_TRAILERS {
            Err(BodyError::Framing)
        } else {
            Ok(Decoded::NeedMore)
        };
    };
    let mut slots = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let Ok(httparse::Status::Complete((used, headers))) = httparse::parse_headers(section, &mut slots) else {
        return Err(BodyError::Framing);
    };
    if used != section.len() {
        return Err(BodyError::Framing);
    }
    let mut fields = Fields::default();
    for header in headers {
        fields.push(header.name.as_bytes(), header.value);
    }
    buf.advance(end);
    Ok(Decoded::Trailers(Box::new(fields)))
}

/// Splits off the available part of `left` bytes.
fn take(left: &mut u64, buf: &mut BytesMut) -> Bytes {
    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
    *left -= n as u64;
    buf.split_to(n).freeze()
}

const fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// What follows the data of each chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// The size line of a chunk, written without an allocation.
#[derive(Debug, Clone, Copy)]
pub struct SizeLine {
    bytes: [u8; 18],
    start: usize,
}

impl SizeLine {
    /// The line for a chunk of this many bytes. A chunk of 0 bytes would end the body, so its line is empty.
    #[must_use]
    pub fn new(len: usize) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut bytes = [0; 18];
        let mut start = bytes.len();
        if len > 0 {
            bytes[16..].copy_from_slice(b"\r\n");
            start = 16;
        }
        let mut rest = len;
        while rest > 0 && start > 0 {
            start -= 1;
            bytes[start] = DIGITS[rest & 0xf];
            rest >>= 4;
        }
        Self { bytes, start }
    }

    /// The line with its CRLF.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

/// Appends the end of a chunked body with these trailers.
pub fn write_trailers(trailers: &Fields, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for field in trailers.iter() {
        out.extend_from_slice(field.name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(field.value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
