//! WebSockets by hand, both sides: a client that writes what it is told, and a service that echoes.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};

use super::raw::{Client, Response};
use super::upstream::{Recorded, Then, Upstream, When};

/// The key of RFC 6455, section 1.3, and what it is accepted by.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The four fields of a handshake.
pub(crate) const HANDSHAKE: [(&str, &str); 4] = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", KEY),
];

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;

/// A head that asks for a WebSocket, with further fields.
pub(crate) fn request(target: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let lines: String = HANDSHAKE.iter().chain(more).map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").into_bytes()
}

/// A masked frame, as clients send them.
pub(crate) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [7, 33, 250, 91];
    let mut out = head(opcode, 0x80, payload.len());
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// A frame as services send them.
pub(crate) fn bare(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = head(opcode, 0, payload.len());
    out.extend(payload);
    out
}

fn head(opcode: u8, mask: u8, len: usize) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match len {
        0..=125 => out.push(mask | u8::try_from(len).unwrap()),
        126..=0xffff => {
            out.push(mask | 126);
            out.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        _ => {
            out.push(mask | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out
}

/// Takes a whole frame off the front: opcode and unmasked payload.
fn take(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (first, second) = (*buffer.first()?, *buffer.get(1)?);
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let masked = if second & 0x80 == 0 { 0 } else { 4 };
    let head = 2 + extended + masked;
    let number = buffer.get(2..2 + extended)?;
    let len = number.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    let len = if extended == 0 { usize::from(second & 0x7f) } else { len };
    let mask = buffer.get(2 + extended..head)?.to_vec();
    let payload = buffer.get(head..head + len)?;
    let payload = match mask.as_slice() {
        [] => payload.to_vec(),
        mask => payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect(),
    };
    buffer.drain(..head + len);
    Some((first & 0x0f, payload))
}

/// The code of a Close frame's payload.
pub(crate) fn code(payload: &[u8]) -> Option<u16> {
    payload.first_chunk().map(|code| u16::from_be_bytes(*code))
}

/// An open WebSocket, seen from the client.
pub(crate) struct WebSocket {
    pub(crate) client: Client,
    buffer: Vec<u8>,
}

impl WebSocket {
    /// Opens one; the answer tells when it was not.
    pub(crate) fn open(mut client: Client, target: &str, more: &[(&str, &str)]) -> Result<(Self, Response), Response> {
        client.send(&request(target, more));
        Self::opened(client)
    }

    /// Reads the answer to a handshake that was sent.
    pub(crate) fn opened(mut client: Client) -> Result<(Self, Response), Response> {
        let response = client.final_response_to("GET").expect("an answer");
        if response.status == 101 {
            let buffer = Vec::new();
            Ok((Self { client, buffer }, response))
        } else {
            Err(response)
        }
    }

    pub(crate) fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.client.send(&masked(opcode, payload));
    }

    /// The next frame; `None` when the connection ended instead.
    pub(crate) fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = take(&mut self.buffer) {
                return Some(frame);
            }
            match self.client.read_some() {
                Ok(bytes) if bytes.is_empty() => return None,
                Ok(bytes) => self.buffer.extend(bytes),
                Err(error) => panic!("no frame and no end: {error}"),
            }
        }
    }

    /// Whether what is said comes back.
    pub(crate) fn echoes(&mut self, text: &str) -> bool {
        self.send(TEXT, text.as_bytes());
        self.read() == Some((TEXT, text.as_bytes().to_vec()))
    }

    /// The code it is closed with, and that nothing comes before or after that.
    pub(crate) fn closing(&mut self) -> u16 {
        let (opcode, payload) = self.read().expect("a frame before the end");
        assert_eq!(opcode, CLOSE, "{}", payload.escape_ascii());
        assert_eq!(self.read(), None, "nothing behind the Close");
        code(&payload).expect("a code")
    }
}

/// What services of a test were sent through tunnels: opcode and payload, `None` for the end.
pub(crate) type Seen = Arc<Mutex<Vec<Option<(u8, Vec<u8>)>>>>;

/// Writes a good 101.
pub(crate) fn accept(stream: &mut TcpStream) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )
}

/// Sends back every message until the other side ends, and says what it saw.
pub(crate) fn echo(stream: &mut TcpStream, seen: &Seen) -> io::Result<Then> {
    accept(stream)?;
    let note = |what| seen.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    let (mut buffer, mut bytes) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        while let Some((opcode, payload)) = take(&mut buffer) {
            note(Some((opcode, payload.clone())));
            stream.write_all(&bare(opcode, &payload))?;
            if opcode == CLOSE {
                return Ok(Then::Close);
            }
        }
        match stream.read(&mut bytes) {
            Ok(n @ 1..) => buffer.extend_from_slice(&bytes[..n]),
            Ok(0) | Err(_) => {
                note(None);
                return Ok(Then::Close);
            }
        }
    }
}

/// A service that opens every WebSocket it is asked for and echoes, and answers everything else with 200.
pub(crate) fn echoing() -> (Upstream, Seen) {
    let seen = Seen::default();
    let shared = seen.clone();
    let upstream = Upstream::scripted(When::Head, move |asked, stream| {
        if is_handshake(asked) {
            return echo(stream, &shared);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        Ok(Then::Keep)
    });
    (upstream, seen)
}

/// Whether a service would switch for this request.
pub(crate) fn is_handshake(asked: &Recorded) -> bool {
    !asked.all("upgrade").is_empty()
}

/// The last thing that was seen.
pub(crate) fn last(seen: &Seen) -> Option<Option<(u8, Vec<u8>)>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
}
