//! Bounds the size of replies from Redis: the client library reads replies of any size into memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Largest single string of a reply: twice the largest record.
const MAX_BULK: u64 = 64 * 1024;

/// Largest reply. A page of 25 records of the largest size is 800 KiB; 256 events are 100 KiB.
const MAX_REPLY: u64 = 1024 * 1024;

/// Most elements of one array of a reply; ours have a few hundred.
const MAX_ELEMENTS: u64 = 4_096;

/// Deepest nesting: a stream's entries are five levels deep.
const MAX_DEPTH: usize = 8;

/// Longest type line. Errors are the longest lines; Redis cuts its own at about 1 KiB.
const MAX_LINE: usize = 4_096;

/// A byte stream that fails as soon as a reply announces more than the bounds allow, before the reply is read
/// (docs/threats.md F10). It also refuses every type of reply that RESP2 does not have.
pub(crate) struct GuardedStream<S> {
    inner: S,
    scan: ReplyScan,
}

impl<S> GuardedStream<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner,
            scan: ReplyScan::default(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let fresh = buf.filled().get(before..).unwrap_or_default();
        Poll::Ready(
            self.scan
                .admit(fresh)
                .map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason)),
        )
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Checks bytes as a connection does.
#[cfg(any(test, feature = "internals"))]
pub(crate) fn check(bytes: &[u8]) -> Result<(), &'static str> {
    ReplyScan::default().admit(bytes)
}

/// Follows the structure of replies, and keeps none of their content.
#[derive(Default)]
struct ReplyScan {
    /// The type line that is being read, without its line end.
    line: Vec<u8>,
    /// Bytes of a string (and its line end) still to come.
    bulk: u64,
    /// Elements still to come, by level.
    open: Vec<u64>,
    /// Bytes of the reply so far.
    reply: u64,
}

impl ReplyScan {
    fn admit(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.bulk > 0 {
                let taken = usize::try_from(self.bulk).unwrap_or(usize::MAX).min(bytes.len());
                bytes = bytes.get(taken..).unwrap_or_default();
                self.count(taken)?;
                self.bulk -= taken as u64;
                if self.bulk == 0 {
                    self.end_value();
                }
                continue;
            }
            bytes = rest;
            self.count(1)?;
            if *first != b'\n' {
                self.line.push(*first);
                if self.line.len() > MAX_LINE {
                    return Err("a line of the reply is too long");
                }
                continue;
            }
            self.end_line()?;
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), &'static str> {
        self.reply += bytes as u64;
        if self.reply > MAX_REPLY {
            return Err("the reply is too large");
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), &'static str> {
        let line = std::mem::take(&mut self.line);
        let (kind, text) = line.split_first().ok_or("the reply has an empty line")?;
        let text = text.strip_suffix(b"\r").ok_or("the reply has a bare line feed")?;
        match kind {
            b'+' | b'-' | b':' => self.end_value(),
            b'$' => match length(text)? {
                Some(length) if length > MAX_BULK => return Err("a string of the reply is too large"),
                Some(length) => self.bulk = length + 2,
                None => self.end_value(),
            },
            b'*' => match length(text)? {
                Some(0) | None => self.end_value(),
                Some(elements) if elements > MAX_ELEMENTS => return Err("an array of the reply is too large"),
                Some(_) if self.open.len() >= MAX_DEPTH => return Err("the reply is nested too deep"),
                Some(elements) => self.open.push(elements),
            },
            _ => return Err("the reply is not RESP2"),
        }
        Ok(())
    }

    fn end_value(&mut self) {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.open.pop();
        }
        self.reply = 0;
    }
}

/// A length line: digits, or `-1` for nothing.
fn length(text: &[u8]) -> Result<Option<u64>, &'static str> {
    if text == b"-1" {
        return Ok(None);
    }
    let digits = std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
    digits
        .and_then(|d| d.parse().ok())
        .map(Some)
        .ok_or("the reply has a malformed length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(bytes: &[u8]) -> Result<(), &'static str> {
        let mut whole = ReplyScan::default();
        let outcome = whole.admit(bytes);
        let mut split = ReplyScan::default();
        let bytewise = bytes.chunks(1).try_for_each(|b| split.admit(b));
        assert_eq!(outcome, bytewise, "the outcome must not depend on how bytes arrive");
        outcome
    }

    #[test]
    fn ordinary_replies_pass_and_leave_nothing_behind() {
        let replies: &[u8] = b"+OK\r\n:12\r\n$5\r\na\r\nbc\r\n$-1\r\n$0\r\n\r\n*0\r\n*-1\r\n*2\r\n*1\r\n:1\r\n$1\r\nx\r\n-ERR no\r\n";
        assert_eq!(admit(replies), Ok(()));
        let mut scan = ReplyScan::default();
        scan.admit(replies).unwrap();
        assert_eq!((scan.reply, scan.bulk, scan.open.len(), scan.line.len()), (0, 0, 0, 0));
    }

    #[test]
    fn f10_what_announces_too_much_is_refused_before_it_arrives() {
        for hostile in [
            b"$536870912\r\n".as_slice(),
            b"*1000000000\r\n",
            b"*2\r\n$99999999999999999999\r\n",
            b"$-2\r\n",
            b"$+5\r\n",
            b"%1\r\n",
            b">2\r\n",
            b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b":1\n",
        ] {
            assert!(admit(hostile).is_err(), "{}", String::from_utf8_lossy(hostile));
        }
        assert!(admit(&b"*1\r\n".repeat(MAX_DEPTH)).is_ok());
        assert!(admit(&b"*1\r\n".repeat(MAX_DEPTH + 1)).is_err());
        assert!(admit(&vec![b'+'; MAX_LINE + 2]).is_err());
    }

    #[test]
    fn f10_many_small_strings_are_bounded_together() {
        let element = [b"$60000\r\n".as_slice(), &vec![b'x'; 60_000], b"\r\n"].concat();
        let reply = |n: usize| [format!("*{n}\r\n").into_bytes(), element.repeat(n)].concat();
        assert!(admit(&reply(17)).is_ok());
        assert!(admit(&reply(18)).is_err());
        assert!(admit(&element.repeat(40)).is_ok(), "separate replies are counted apart");
    }
}
