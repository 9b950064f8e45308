//! Where one RESP2 value ends: enough to count commands and to tamper with single replies.

use std::io::Read;

/// What the beginning of a byte stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// A whole value of so many bytes.
    Whole(usize),
    /// The beginning of one.
    Part,
    /// Something else: TLS, or garbage.
    Foreign,
}

/// Looks at the beginning of a stream.
fn frame(bytes: &[u8]) -> Frame {
    if bytes.is_empty() {
        return Frame::Part;
    }
    let mut at = 0;
    let mut left = 1_usize;
    while left > 0 {
        left -= 1;
        let Some(line) = memchr::memmem::find(bytes.get(at..).unwrap_or_default(), b"\r\n") else {
            return if b"+-:$*".contains(bytes.get(at).unwrap_or(&b'+')) {
                Frame::Part
            } else {
                Frame::Foreign
            };
        };
        let (kind, text) = (bytes[at], &bytes[at + 1..at + line]);
        let count = || std::str::from_utf8(text).ok()?.parse::<i64>().ok();
        at += line + 2;
        match (kind, count()) {
            (b'+' | b'-', _) | (b':', Some(_)) | (b'$' | b'*', Some(-1)) => {}
            (b'$', Some(length)) => at += usize::try_from(length).unwrap_or(0) + 2,
            (b'*', Some(elements)) => left += usize::try_from(elements).unwrap_or(0),
            _ => return Frame::Foreign,
        }
    }
    if at <= bytes.len() { Frame::Whole(at) } else { Frame::Part }
}

/// The words of a whole command.
pub(crate) fn words(command: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = command;
    while let Some(line) = memchr::memmem::find(rest, b"\r\n") {
        let (head, after) = (&rest[..line], &rest[line + 2..]);
        rest = after;
        if head.first() == Some(&b'$') {
            let length = std::str::from_utf8(&head[1..]).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
            words.push(rest.get(..length).unwrap_or_default().to_vec());
            rest = rest.get(length + 2..).unwrap_or_default();
        }
    }
    words
}

/// Splits a stream into RESP values; what is not RESP comes as it is read.
#[derive(Default)]
pub(crate) struct Splitter {
    bytes: Vec<u8>,
}

impl Splitter {
    /// The next value; `None` at the end.
    pub(crate) fn next(&mut self, from: &mut impl Read) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            match frame(&self.bytes) {
                Frame::Whole(length) => return Ok(Some(self.bytes.drain(..length).collect())),
                Frame::Foreign => return Ok(Some(std::mem::take(&mut self.bytes))),
                Frame::Part => {}
            }
            let mut buffer = [0; 16 * 1024];
            let count = from.read(&mut buffer)?;
            if count == 0 {
                return Ok(None);
            }
            self.bytes.extend_from_slice(&buffer[..count]);
        }
    }
}

#[test]
fn frames_end_where_they_end() {
    for whole in [
        "+OK\r\n",
        ":12\r\n",
        "$3\r\na\r\n\r\n",
        "*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
        "$-1\r\n",
        "*0\r\n",
        "*-1\r\n",
    ] {
        assert_eq!(frame(whole.as_bytes()), Frame::Whole(whole.len()));
        assert_eq!(frame(format!("{whole}+OK\r\n").as_bytes()), Frame::Whole(whole.len()));
        for cut in 0..whole.len() {
            assert_eq!(frame(&whole.as_bytes()[..cut]), Frame::Part, "{whole:?} cut at {cut}");
        }
    }
    assert_eq!(frame(b"\x16\x03\x01\x00"), Frame::Foreign);
    assert_eq!(words(b"*2\r\n$3\r\nGET\r\n$2\r\n\r\n\r\n"), [b"GET".to_vec(), b"\r\n".to_vec()]);
}
