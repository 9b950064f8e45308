//! HTTP/2 by hand: frames written byte for byte, so that what no library would send can be sent.

use std::io;

use super::raw::Client;

/// Sent first on every HTTP/2 connection, with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// Frame types this client knows (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An answer with this status, and its body.
    Answer(u16, Vec<u8>),
    /// The stream was reset, or the connection was ended before an answer.
    Reset,
}

/// One request, as written on the wire.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// Pseudo-fields and fields in order, exactly as they go into the header block.
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body; `None` ends the stream with the head.
    pub(crate) body: Option<Vec<u8>>,
    /// Trailing fields.
    pub(crate) trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// More of the body is to come: the stream stays open.
    pub(crate) goes_on: bool,
}

impl Request {
    /// A GET of this path on this host.
    pub(crate) fn get(path: &[u8], authority: &[u8]) -> Self {
        let mut request = Self::default();
        for (name, value) in [
            (":method", b"GET".as_slice()),
            (":scheme", b"https"),
            (":authority", authority),
            (":path", path),
        ] {
            request.push(name.as_bytes(), value);
        }
        request
    }

    /// Appends a field.
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        self.fields.push((name.to_vec(), value.to_vec()));
    }
}

/// Sends one request as stream 1 of a fresh connection and reads how it ends.
pub(crate) fn exchange(client: &mut Client, request: &Request) -> Outcome {
    match open(client, request).and_then(|()| read_ending(client, |_| ())) {
        Ok(Ending {
            answer: Some((status, body)),
            ..
        }) => Outcome::Answer(status, body),
        Ok(_) | Err(_) => Outcome::Reset,
    }
}

/// Sends one request as stream 1 of a fresh connection.
pub(crate) fn open(client: &mut Client, request: &Request) -> io::Result<()> {
    client.try_send(PREFACE)?;
    open_on(client, 1, request)
}

/// Sends one request as this stream of a connection that has begun.
pub(crate) fn open_on(client: &mut Client, stream: u32, request: &Request) -> io::Result<()> {
    let mut bytes = Vec::new();
    let ends = request.body.is_none() && request.trailers.is_empty();
    head(&mut bytes, stream, if ends { END_STREAM } else { 0 }, &block(&request.fields));
    if let Some(body) = &request.body {
        let last = request.trailers.is_empty() && !request.goes_on;
        frame_on(&mut bytes, DATA, if last { END_STREAM } else { 0 }, stream, body);
    }
    if !request.trailers.is_empty() {
        head(&mut bytes, stream, END_STREAM, &block(&request.trailers));
    }
    client.try_send(&bytes)
}

/// A header block in frames of at most 16 KiB.
fn head(out: &mut Vec<u8>, stream: u32, flags: u8, block: &[u8]) {
    const CONTINUATION: u8 = 9;
    let mut pieces = block.chunks(16 * 1024).peekable();
    let (mut kind, mut flags) = (HEADERS, flags);
    while let Some(piece) = pieces.next() {
        let end = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        frame_on(out, kind, flags | end, stream, piece);
        (kind, flags) = (CONTINUATION, 0);
    }
}

/// Sends the same request, which has no body, as so many streams of a fresh connection that takes nothing: its
/// window is zero.
pub(crate) fn open_without_window(client: &mut Client, request: &Request, streams: u32) -> io::Result<()> {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let mut bytes = PREFACE[..24].to_vec();
    let setting = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &0_u32.to_be_bytes()].concat();
    frame_on(&mut bytes, SETTINGS, 0, 0, &setting);
    for n in 0..streams {
        frame_on(&mut bytes, HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block(&request.fields));
    }
    client.try_send(&bytes)
}

/// Lets stream 1 and the connection have so many bytes more.
pub(crate) fn widen(client: &mut Client, bytes: u32) -> io::Result<()> {
    const WINDOW_UPDATE: u8 = 8;
    let mut out = Vec::new();
    for stream in [0, 1] {
        frame_on(&mut out, WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    }
    client.try_send(&out)
}

/// How stream 1 came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Status and body, as far as they came.
    pub(crate) answer: Option<(u16, Vec<u8>)>,
    /// The error code the stream was reset with, if it was.
    pub(crate) reset: Option<u32>,
}

/// Reads until stream 1 has ended; `told` is called with each piece of its body.
pub(crate) fn read_ending(client: &mut Client, told: impl FnMut(&[u8])) -> io::Result<Ending> {
    read_ending_of(client, 1, told)
}

/// Reads until this stream has ended; what others say meanwhile is forgotten.
pub(crate) fn read_ending_of(client: &mut Client, wanted: u32, mut told: impl FnMut(&[u8])) -> io::Result<Ending> {
    let mut buffer = Vec::new();
    let mut answer: Option<(u16, Vec<u8>)> = None;
    loop {
        let (kind, flags, stream, payload) = read_frame(client, &mut buffer)?;
        match kind {
            HEADERS if stream == wanted && answer.is_none() => {
                let status = status(&payload).ok_or_else(|| io::Error::other("no :status first"))?;
                if status >= 200 {
                    answer = Some((status, Vec::new()));
                }
            }
            DATA if stream == wanted => {
                if let Some((_, body)) = &mut answer {
                    told(&payload);
                    body.extend_from_slice(&payload);
                }
            }
            RST_STREAM if stream == wanted => {
                let code = payload.first_chunk().map(|code| u32::from_be_bytes(*code));
                return Ok(Ending { answer, reset: code });
            }
            GOAWAY if answer.is_none() => return Ok(Ending { answer, reset: None }),
            SETTINGS if flags & ACK == 0 => {
                let mut ack = Vec::new();
                frame_on(&mut ack, SETTINGS, ACK, 0, &[]);
                client.try_send(&ack)?;
            }
            PING if flags & ACK == 0 => {
                let mut ack = Vec::new();
                frame_on(&mut ack, PING, ACK, 0, &payload);
                client.try_send(&ack)?;
            }
            _ => {}
        }
        if stream == wanted && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 && answer.is_some() {
            return Ok(Ending { answer, reset: None });
        }
    }
}

fn read_frame(client: &mut Client, buffer: &mut Vec<u8>) -> io::Result<(u8, u8, u32, Vec<u8>)> {
    loop {
        if let Some((head, rest)) = buffer.split_at_checked(9) {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            if rest.len() >= length {
                let (kind, flags) = (head[3], head[4]);
                let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
                let payload = rest[..length].to_vec();
                buffer.drain(..9 + length);
                return Ok((kind, flags, stream, payload));
            }
        }
        let more = client.read_some()?;
        if more.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.extend_from_slice(&more);
    }
}

fn frame_on(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A header block of literal fields without indexing and without Huffman coding (RFC 7541, 6.2.2).
fn block(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            length(&mut out, text.len());
            out.extend_from_slice(text);
        }
    }
    out
}

/// An integer with a seven-bit prefix (RFC 7541, 5.1).
fn length(out: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        out.push(u8::try_from(value).unwrap());
        return;
    }
    out.push(127);
    value -= 127;
    while value >= 128 {
        out.push(u8::try_from(value % 128).unwrap() | 128);
        value /= 128;
    }
    out.push(u8::try_from(value).unwrap());
}

/// The status in front of a header block: an entry of the static table, or a literal with that name.
fn status(block: &[u8]) -> Option<u16> {
    let skip = block.iter().take_while(|b| **b & 0xe0 == 0x20).count();
    let block = &block[skip..];
    match *block.first()? {
        first @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500].get(usize::from(first - 0x88)).copied(),
        0x48 | 0x08 | 0x18 => {
            let (huffman, len) = (block.get(1)? & 0x80 != 0, usize::from(block.get(1)? & 0x7f));
            let text = block.get(2..2 + len)?;
            if huffman {
                huffman_digits(text)
            } else {
                std::str::from_utf8(text).ok()?.parse().ok()
            }
        }
        _ => None,
    }
}

/// Three digits in the Huffman code of RFC 7541, appendix B: 0 to 2 take five bits, the others six.
fn huffman_digits(text: &[u8]) -> Option<u16> {
    let bits: String = text.iter().map(|b| format!("{b:08b}")).collect();
    let mut at = 0;
    let mut value = 0;
    for _ in 0..3 {
        let five = u16::from_str_radix(bits.get(at..at + 5)?, 2).ok()?;
        let digit = if five <= 2 {
            at += 5;
            five
        } else {
            let six = u16::from_str_radix(bits.get(at..at + 6)?, 2).ok()?;
            at += 6;
            six.checked_sub(0b01_1001)? + 3
        };
        value = value * 10 + digit;
    }
    Some(value)
}

#[test]
fn statuses_are_read_in_every_coding() {
    assert_eq!(status(&[0x8c]), Some(400));
    assert_eq!(status(&[0x20, 0x88]), Some(200));
    assert_eq!(status(b"\x08\x03401"), Some(401));
    // "302" of RFC 7541, C.6.1.
    assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
}
