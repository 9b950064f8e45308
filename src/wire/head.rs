//! Request and response heads: tokenised by `httparse`, then checked so that there is only one way to read them.

use std::mem::MaybeUninit;
use std::sync::LazyLock;

use httparse::{Error, Header, Status};
use memchr::memmem;

use super::fields::{FieldSpan, Fields, MAX_FIELDS};
use super::framing::{Declared, Framing, FramingError, Speaker, is_token};
use crate::base::denial::Denial;

/// Largest head in bytes. nginx allows 33 KB, HAProxy 15 KB. 16 KiB hold any usual set of cookies and fields, and
/// another 16 KiB the largest token that is accepted.
pub const MAX_HEAD: usize = 32 * 1024;
/// Largest single field, name and value together. The largest token that is accepted has 16 KiB, and 1 KiB is left for
/// its scheme and the field's name.
pub const MAX_FIELD: usize = 17 * 1024;
pub const MAX_TARGET: usize = 8 * 1024;
/// Longest method token. The longest registered one (`UPDATEREDIRECTREF`) has 17 characters.
pub const MAX_METHOD: usize = 24;
/// Largest response head. Services set more and longer cookies and policies than clients send, and they are the
/// operator's own. Four times the size of a request head still bounds a worker's memory.
pub const MAX_RESPONSE_HEAD: usize = 64 * 1024;
/// Most fields of a response head: twice those of a request, for the same reason.
pub const MAX_RESPONSE_FIELDS: usize = 2 * MAX_FIELDS;
/// Largest value of [`ResponseLimits::fields`]: 1,000 fields take 32 KiB of the stack while they are parsed.
pub const MOST_RESPONSE_FIELDS: usize = 1_000;

/// How large the head of a response may be. A single field may be as large as the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseLimits {
    /// Bytes of the whole head.
    pub head: usize,
    /// Fields, at most [`MOST_RESPONSE_FIELDS`].
    pub fields: usize,
}

impl Default for ResponseLimits {
    fn default() -> Self {
        Self {
            head: MAX_RESPONSE_HEAD,
            fields: MAX_RESPONSE_FIELDS,
        }
    }
}

/// The empty line that may stand before a request line, since some clients send one after a body (RFC 9112, section
/// 2.2). Only one is accepted: no client sends more, and empty lines must not keep a connection open.
pub const EMPTY_LINE: [u8; 2] = *b"\r\n";

/// The end of a head. The searcher is prepared once, since preparing it costs more than most searches.
static HEAD_END: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\r\n\r\n"));

/// HTTP version a message came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no keep-alive unless asked for, no chunked.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

/// How much of a head has arrived.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseStatus {
    /// A part of it. Parse again with more bytes.
    Partial,
    /// All of it. The head took this many bytes of the buffer, and the body begins after them.
    Complete(usize),
}

/// A request head as received. The connection reuses it for each request.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method token as received, at most [`MAX_METHOD`] bytes.
    pub method: Vec<u8>,
    /// The request-target as received (HTTP/2: `:path`).
    pub target: Vec<u8>,
    /// HTTP/2 `:authority`, if it was sent.
    pub authority: Option<Vec<u8>>,
    pub version: Version,
    pub fields: Fields,
    /// How long the body is.
    pub framing: Framing,
    /// Whether the client lets the connection carry another request (`Connection`, version).
    pub keep_alive: bool,
}

impl Default for RequestHead {
    fn default() -> Self {
        Self {
            method: Vec::new(),
            target: Vec::new(),
            authority: None,
            version: Version::Http11,
            fields: Fields::default(),
            framing: Framing::None,
            keep_alive: true,
        }
    }
}

impl RequestHead {
    /// Empties the head, so that nothing of its request is left for another one. Its room is kept.
    pub fn clear(&mut self) {
        self.method.clear();
        self.target.clear();
        self.authority = None;
        self.version = Version::Http11;
        self.fields.clear();
        self.framing = Framing::None;
        self.keep_alive = true;
    }

    /// Reads a head from the beginning of `buf`, replacing the previous head.
    ///
    /// It may be called again with the same bytes and more until the head is complete: a head that arrives byte by byte
    /// costs one vectorised search for its end each time and one parse for each line.
    ///
    /// # Errors
    /// Each error closes the connection, since nothing after an unread head can be trusted:
    /// [`Denial::MalformedRequest`] (bare LF or CR, leading white space, folding, NUL, no colon, …),
    /// [`Denial::UnsupportedVersion`], [`Denial::TargetTooLong`], [`Denial::HeadTooLarge`],
    /// [`Denial::MalformedFraming`], [`Denial::UnsupportedCoding`]. The limits hold for a partial head too.
    pub fn parse(&mut self, buf: &[u8]) -> Result<ParseStatus, Denial> {
        match buf.first() {
            None => return Ok(ParseStatus::Partial),
            Some(b) if !is_token(*b) => return Err(Denial::MalformedRequest),
            Some(_) => {}
        }
        let window = buf.get(..MAX_HEAD).unwrap_or(buf);
        let Some(end) = HEAD_END.find(window) else {
            return refuse_hopeless(window, buf.len()).map(|()| ParseStatus::Partial);
        };
        let head = window.get(..end + 4).unwrap_or(window);
        self.read(head).map_err(|denial| {
            if denial == Denial::TargetTooLong {
                denial
            } else {
                too_long(head).unwrap_or(denial)
            }
        })?;
        Ok(ParseStatus::Complete(head.len()))
    }

    fn read(&mut self, head: &[u8]) -> Result<(), Denial> {
        let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        let status = request
            .parse_with_uninit_headers(head, &mut slots)
            .map_err(|error| denial_of(error, head))?;
        let (Status::Complete(used), Some(method), Some(target), Some(version)) = (status, request.method, request.path, request.version)
        else {
            return Err(Denial::MalformedRequest);
        };
        // httparse also ends a line at a bare LF. A head that ends elsewhere than at the first empty line, and a line
        // that does not end in CRLF, can be read in two ways.
        let line_end = target.as_ptr().addr() - head.as_ptr().addr() + target.len() + " HTTP/1.1".len();
        if used != head.len() || head.get(line_end) != Some(&b'\r') || method.len() > MAX_METHOD {
            return Err(Denial::MalformedRequest);
        }
        if target.len() > MAX_TARGET {
            return Err(Denial::TargetTooLong);
        }
        load_fields(&mut self.fields, head, request.headers, MAX_FIELD).map_err(|fault| match fault {
            FieldFault::BareLineFeed => Denial::MalformedRequest,
            FieldFault::FieldTooLarge => Denial::HeadTooLarge,
        })?;
        self.method.clear();
        self.method.extend_from_slice(method.as_bytes());
        self.target.clear();
        self.target.extend_from_slice(target.as_bytes());
        self.authority = None;
        self.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        let declared = Declared::read(&self.fields, self.version, Speaker::Client).map_err(FramingError::denial)?;
        self.framing = declared.request();
        self.keep_alive = declared.keep_alive(self.version);
        Ok(())
    }
}

impl FramingError {
    /// The denial of a request with this framing.
    pub const fn denial(self) -> Denial {
        match self {
            Self::Malformed => Denial::MalformedFraming,
            Self::UnsupportedCoding => Denial::UnsupportedCoding,
        }
    }
}

/// The value of `Origin` in a head that is malformed or incomplete. `None` unless there is exactly one. It only serves
/// to let a page of a listed origin read the refusal.
#[must_use]
pub fn origin_of_unread(buf: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"origin:";
    let window = buf.get(..MAX_HEAD).unwrap_or(buf);
    let head = HEAD_END.find(window).and_then(|end| window.get(..end + 2)).unwrap_or(window);
    let lines = memchr::memmem::find_iter(head, b"\r\n").filter_map(|end| {
        let start = memchr::memrchr(b'\n', head.get(..end)?).map_or(0, |at| at + 1);
        head.get(start..end)
    });
    let mut values = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then(|| value.trim_ascii())
    });
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// Refuses a partial head that no further bytes can make valid, so that the gateway does not wait for its end.
fn refuse_hopeless(window: &[u8], received: usize) -> Result<(), Denial> {
    if let Some(denial) = too_long(window) {
        return Err(denial);
    }
    if received >= MAX_HEAD {
        return Err(Denial::HeadTooLarge);
    }
    let bare_line_feed = memchr::memchr_iter(b'\n', window).any(|at| at == 0 || window.get(at - 1) != Some(&b'\r'));
    if bare_line_feed {
        return Err(Denial::MalformedRequest);
    }
    // Parsed only when a line has just ended, so that each line is parsed once in whatever pieces the bytes arrive.
    if window.ends_with(b"\r\n") {
        let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
        httparse::Request::new(&mut [])
            .parse_with_uninit_headers(window, &mut slots)
            .map_err(|error| denial_of(error, window))?;
    }
    Ok(())
}

/// Returns the 414 for a request-target over its limit, whatever else is wrong or still to come.
fn too_long(head: &[u8]) -> Option<Denial> {
    if head.len() <= MAX_TARGET {
        return None;
    }
    let target = memchr::memchr(b' ', head.get(..=MAX_METHOD)?).and_then(|at| head.get(at + 1..))?;
    let end = memchr::memchr2(b' ', b'\r', target).unwrap_or(target.len());
    (end > MAX_TARGET).then_some(Denial::TargetTooLong)
}

/// The denial of a head that `httparse` refuses.
fn denial_of(error: Error, head: &[u8]) -> Denial {
    match error {
        Error::TooManyHeaders => Denial::HeadTooLarge,
        Error::Version if names_other_version(head) => Denial::UnsupportedVersion,
        _ => Denial::MalformedRequest,
    }
}

/// Whether the request line ends in a well-formed version that this gateway does not support (RFC 9112, section 2.3).
/// HTTP/0.9 has no version in its request line, so `HTTP/0.x` is malformed.
fn names_other_version(head: &[u8]) -> bool {
    let line = memmem::find(head, b"\r\n").and_then(|end| head.get(..end)).unwrap_or(head);
    let mut parts = line.splitn(3, |b| *b == b' ');
    let (Some([_, ..]), Some([_, ..]), Some(version)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    matches!(version, [b'H', b'T', b'T', b'P', b'/', b'1'..=b'9', b'.', b'0'..=b'9']) && !matches!(version, b"HTTP/1.0" | b"HTTP/1.1")
}

/// Why the fields of a tokenised head are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldFault {
    BareLineFeed,
    FieldTooLarge,
}

/// Copies the head once and notes where its fields are.
fn load_fields(fields: &mut Fields, head: &[u8], headers: &[Header<'_>], largest: usize) -> Result<(), FieldFault> {
    fields.load_block(head);
    let base = head.as_ptr().addr();
    for header in headers {
        if header.name.len() + header.value.len() > largest {
            return Err(FieldFault::FieldTooLarge);
        }
        // Both are slices of `head`, so the differences are offsets into it.
        let name_start = header.name.as_ptr().addr().wrapping_sub(base);
        let value_start = header.value.as_ptr().addr().wrapping_sub(base);
        let after = head.get(value_start + header.value.len()..).unwrap_or_default();
        if after.iter().find(|b| !matches!(b, b' ' | b'\t')) != Some(&b'\r') {
            return Err(FieldFault::BareLineFeed);
        }
        let (Ok(name_start), Ok(name_len), Ok(value_start), Ok(value_len)) = (
            u32::try_from(name_start),
            u32::try_from(header.name.len()),
            u32::try_from(value_start),
            u32::try_from(header.value.len()),
        ) else {
            return Err(FieldFault::FieldTooLarge);
        };
        fields.push_span(FieldSpan {
            name_start,
            name_len,
            value_start,
            value_len,
        });
    }
    Ok(())
}

#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// Status code, 100 to 599 when received.
    pub status: u16,
    pub fields: Fields,
    /// Whether the upstream lets the connection carry another request. It has no meaning on responses of the gateway.
    pub keep_alive: bool,
    /// How a body is framed, if there is one ([`Self::framing`]). It has no meaning on responses of the gateway.
    pub declared: Framing,
}

impl Default for ResponseHead {
    fn default() -> Self {
        Self {
            status: 0,
            fields: Fields::default(),
            keep_alive: false,
            declared: Framing::UntilClose,
        }
    }
}

/// Why a response head is not used: the upstream is broken, or somebody made it send another one's response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// Not HTTP/1.0 or HTTP/1.1.
    #[error("the response head is malformed")]
    Malformed,
    /// Over a limit of [`ResponseLimits`].
    #[error("the response head is too large")]
    TooLarge,
    /// Its framing is in doubt.
    #[error("the response framing is malformed or ambiguous")]
    Framing,
}

/// The part of the request that decides whether its response has a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// `HEAD`: the response has no body, whatever its head declares.
    Head,
    Other,
}

impl ResponseHead {
    /// Calls [`Self::parse_within`] with the default limits.
    ///
    /// # Errors
    /// As [`Self::parse_within`].
    #[cfg(any(test, feature = "internals"))]
    pub fn parse(&mut self, buf: &[u8]) -> Result<ParseStatus, ResponseError> {
        self.parse_within(buf, ResponseLimits::default())
    }

    /// Reads a head from the beginning of `buf`, replacing the previous head. It is as strict as for requests (no bare
    /// LF, no folding): the next hop would read a lenient response in another way.
    ///
    /// # Errors
    /// [`ResponseError::Malformed`] and [`ResponseError::TooLarge`], for a partial head too.
    pub fn parse_within(&mut self, buf: &[u8], limits: ResponseLimits) -> Result<ParseStatus, ResponseError> {
        if buf.first().is_some_and(|b| *b != b'H') {
            return Err(ResponseError::Malformed);
        }
        let window = buf.get(..limits.head).unwrap_or(buf);
        let Some(end) = HEAD_END.find(window) else {
            if buf.len() >= limits.head {
                return Err(ResponseError::TooLarge);
            }
            let bare_line_feed = memchr::memchr_iter(b'\n', window).any(|at| at == 0 || window.get(at - 1) != Some(&b'\r'));
            return if bare_line_feed {
                Err(ResponseError::Malformed)
            } else {
                Ok(ParseStatus::Partial)
            };
        };
        let head = window.get(..end + 4).unwrap_or(window);
        if limits.fields <= MAX_RESPONSE_FIELDS {
            self.read::<MAX_RESPONSE_FIELDS>(head)?;
        } else {
            self.read::<MOST_RESPONSE_FIELDS>(head)?;
        }
        if self.fields.len() > limits.fields {
            return Err(ResponseError::TooLarge);
        }
        Ok(ParseStatus::Complete(head.len()))
    }

    fn read<const MOST: usize>(&mut self, head: &[u8]) -> Result<(), ResponseError> {
        let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; MOST];
        let mut response = httparse::Response::new(&mut []);
        let status = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut response, head, &mut slots)
            .map_err(|error| match error {
                Error::TooManyHeaders => ResponseError::TooLarge,
                _ => ResponseError::Malformed,
            })?;
        let (Status::Complete(used), Some(code), Some(version)) = (status, response.code, response.version) else {
            return Err(ResponseError::Malformed);
        };
        // The status line is the only line whose end `load_fields` does not check.
        let line_feed = memchr::memchr(b'\n', head).unwrap_or(0);
        if used != head.len() || head.get(line_feed.wrapping_sub(1)) != Some(&b'\r') || !(100..=599).contains(&code) {
            return Err(ResponseError::Malformed);
        }
        load_fields(&mut self.fields, head, response.headers, head.len()).map_err(|fault| match fault {
            FieldFault::BareLineFeed => ResponseError::Malformed,
            FieldFault::FieldTooLarge => ResponseError::TooLarge,
        })?;
        self.status = code;
        let version = if version == 0 { Version::Http10 } else { Version::Http11 };
        let declared = Declared::read(&self.fields, version, Speaker::Upstream).map_err(|_| ResponseError::Framing)?;
        // 1xx and 204 have no body (RFC 9112, section 6.3). An upstream that declares one may also send it, and then
        // its bytes would be taken for the next response.
        let stray = (code < 200 || code == 204) && declared.has_content();
        self.keep_alive = declared.keep_alive(version) && !stray;
        self.declared = declared.response();
        Ok(())
    }

    /// How the body of this response is framed (RFC 9112, section 6.3).
    #[must_use]
    pub const fn framing(&self, request: RequestKind) -> Framing {
        match (request, self.status) {
            (RequestKind::Head, _) | (_, ..200 | 204 | 304) => Framing::None,
            _ => self.declared,
        }
    }
}

#[cfg(test)]
mod tests;
