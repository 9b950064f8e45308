//! Writes response heads: status line, the gateway's fields, `Date`, framing, `Connection`.

use crate::base::text::push_decimal;
use crate::gateway::Persistence;
use crate::wire::framing::Framing;
use crate::wire::head::{RequestHead, ResponseHead, Version};

/// How the body of a response is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SentFraming {
    /// The body is not sent. The head declares this framing, if any.
    Nothing(Option<Framing>),
    /// The head declares this many bytes.
    Length(u64),
    Chunked,
    /// The body ends with the connection.
    UntilClose,
}

/// What the request decides about the framing of its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FramingRules {
    version: Version,
    head_only: HeadOnly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadOnly {
    Yes,
    No,
}

impl FramingRules {
    pub(super) fn of(head: &RequestHead) -> Self {
        Self {
            version: head.version,
            head_only: if head.method == b"HEAD" { HeadOnly::Yes } else { HeadOnly::No },
        }
    }

    /// For a request that could not be read: HTTP/1.1, any method.
    pub(super) const UNREAD: Self = Self {
        version: Version::Http11,
        head_only: HeadOnly::No,
    };

    /// How a response with this status and declared framing is sent (RFC 9112, section 6.3).
    pub(super) fn framing_of(self, status: u16, declared: Framing) -> SentFraming {
        let chunks = self.version != Version::Http10;
        let bodiless = status < 200 || matches!(status, 204 | 304);
        if self.head_only == HeadOnly::Yes || bodiless {
            return SentFraming::Nothing(match declared {
                Framing::Length(_) if status == 304 || !bodiless => Some(declared),
                Framing::Chunked if chunks && !bodiless => Some(declared),
                _ => None,
            });
        }
        match declared {
            Framing::None => SentFraming::Length(0),
            Framing::Length(length) => SentFraming::Length(length),
            Framing::Chunked | Framing::UntilClose if chunks => SentFraming::Chunked,
            Framing::Chunked | Framing::UntilClose => SentFraming::UntilClose,
        }
    }

    pub(super) fn write_head(self, head: &ResponseHead, sent: SentFraming, persistence: Persistence, date: &[u8], out: &mut Vec<u8>) {
        write_status_line(head.status, out);
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(date);
        out.extend_from_slice(b"\r\n");
        for (field, h1_control) in head.fields.lines() {
            if let Some(h1_control) = h1_control {
                out.extend_from_slice(h1_control);
                continue;
            }
            out.extend_from_slice(field.name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(field.value);
            out.extend_from_slice(b"\r\n");
        }
        match sent {
            SentFraming::Length(length) | SentFraming::Nothing(Some(Framing::Length(length))) => write_length(length, out),
            SentFraming::Chunked | SentFraming::Nothing(Some(Framing::Chunked)) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            SentFraming::UntilClose | SentFraming::Nothing(_) => {}
        }
        match (persistence, self.version) {
            (Persistence::Close, _) => out.extend_from_slice(b"Connection: close\r\n"),
            (Persistence::KeepAlive, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (Persistence::KeepAlive, _) => {}
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn write_status_line(status: u16, out: &mut Vec<u8>) {
    match status {
        200 => out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
        _ => {
            out.extend_from_slice(b"HTTP/1.1 ");
            push_decimal(out, u64::from(status));
            out.push(b' ');
            // The reason phrase may be empty; the space before it may not (RFC 9112, section 4).
            let reason = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
            out.extend_from_slice(reason.unwrap_or_default().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn write_length(length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(version: Version, method: &str) -> FramingRules {
        FramingRules::of(&RequestHead {
            version,
            method: method.into(),
            ..RequestHead::default()
        })
    }

    #[test]
    fn an_answer_is_framed_by_version_method_and_status() {
        use Framing::{Chunked, Length, None as NoBody, UntilClose};
        let (new, old) = (Version::Http11, Version::Http10);
        let table = [
            (new, "GET", 200, Length(5), SentFraming::Length(5)),
            (new, "GET", 200, NoBody, SentFraming::Length(0)),
            (new, "GET", 200, Chunked, SentFraming::Chunked),
            (new, "GET", 200, UntilClose, SentFraming::Chunked),
            (old, "GET", 200, Length(5), SentFraming::Length(5)),
            (old, "GET", 200, Chunked, SentFraming::UntilClose),
            (old, "GET", 200, UntilClose, SentFraming::UntilClose),
            (new, "HEAD", 200, Length(5), SentFraming::Nothing(Some(Length(5)))),
            (new, "HEAD", 200, Chunked, SentFraming::Nothing(Some(Chunked))),
            (old, "HEAD", 200, Chunked, SentFraming::Nothing(None)),
            (new, "HEAD", 200, NoBody, SentFraming::Nothing(None)),
            (new, "GET", 204, Length(0), SentFraming::Nothing(None)),
            (new, "GET", 204, Chunked, SentFraming::Nothing(None)),
            (new, "GET", 304, Length(5), SentFraming::Nothing(Some(Length(5)))),
            (new, "GET", 304, Chunked, SentFraming::Nothing(None)),
            (new, "GET", 304, UntilClose, SentFraming::Nothing(None)),
        ];
        for (version, method, status, declared, sent) in table {
            let found = rules(version, method).framing_of(status, declared);
            assert_eq!(found, sent, "{version:?} {method} {status} {declared:?}");
        }
    }

    fn head(rules: FramingRules, status: u16, sent: SentFraming, persistence: Persistence) -> String {
        let mut head = ResponseHead {
            status,
            ..ResponseHead::default()
        };
        head.fields.push(b"X-A", b"1");
        let mut out = Vec::new();
        rules.write_head(&head, sent, persistence, b"now", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn heads_hold_date_framing_and_connection() {
        assert_eq!(
            head(
                rules(Version::Http11, "GET"),
                200,
                SentFraming::Length(1_020),
                Persistence::KeepAlive
            ),
            "HTTP/1.1 200 OK\r\nDate: now\r\nX-A: 1\r\nContent-Length: 1020\r\n\r\n"
        );
        assert_eq!(
            head(rules(Version::Http11, "GET"), 404, SentFraming::Chunked, Persistence::Close),
            "HTTP/1.1 404 Not Found\r\nDate: now\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            head(rules(Version::Http10, "GET"), 299, SentFraming::Length(0), Persistence::KeepAlive),
            "HTTP/1.1 299 \r\nDate: now\r\nX-A: 1\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
        );
        assert_eq!(
            head(FramingRules::UNREAD, 204, SentFraming::Nothing(None), Persistence::KeepAlive),
            "HTTP/1.1 204 No Content\r\nDate: now\r\nX-A: 1\r\n\r\n"
        );
    }
}
