//! How long a message body is (RFC 9112, section 6). A message whose length is in doubt is refused.

use super::fields::{Field, Fields};
use super::head::Version;

/// Most digits of a `Content-Length`: 19 digits always fit into 64 bits, and no body needs the 20th.
const MAX_LENGTH_DIGITS: usize = 19;

/// The length of a body as its head declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    /// Exactly this many bytes (may be 0 when declared so).
    Length(u64),
    /// `Transfer-Encoding: chunked`; on HTTP/2 a body without a declared length.
    Chunked,
    /// Ends with the connection; responses only.
    UntilClose,
}

/// Why the framing is refused. It is never repaired, since two readings of one message are how requests are smuggled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    #[error("the message framing is malformed or ambiguous")]
    Malformed,
    /// A well-formed transfer coding that this gateway does not support.
    #[error("the transfer coding is not supported")]
    UnsupportedCoding,
}

/// What a head declares about its body and its connection, read in one pass over the fields.
#[derive(Debug, Clone, Copy)]
pub struct Declared {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

/// Who sends the message. Requests and responses differ in what may be repeated (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// Every repeated `Content-Length` is refused.
    Client,
    /// Identical `Content-Length` lines count as one.
    Upstream,
}

impl Declared {
    /// Reads `Content-Length`, `Transfer-Encoding` and `Connection`.
    ///
    /// # Errors
    /// [`FramingError`]: both lengths, a length that is not one canonical number (`02`, `+2`,
    /// `2, 2`, empty), a coding that is not exactly one `chunked`, any coding on HTTP/1.0.
    pub fn read(fields: &Fields, version: Version, speaker: Speaker) -> Result<Self, FramingError> {
        let mut declared = Self {
            length: None,
            chunked: false,
            close: false,
            keep_alive: false,
        };
        for field in fields.iter() {
            declared.take(field, speaker)?;
        }
        if declared.chunked && (declared.length.is_some() || version == Version::Http10) {
            return Err(FramingError::Malformed);
        }
        Ok(declared)
    }

    /// Reads one field. The length of its name is compared first, since almost every field is none of these.
    fn take(&mut self, field: Field<'_>, speaker: Speaker) -> Result<(), FramingError> {
        match field.name.len() {
            10 if field.is("connection") => {
                for option in list(field.value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if field.is("content-length") => {
                let length = parse_length(field.value).ok_or(FramingError::Malformed)?;
                let before = self.length.replace(length);
                if before.is_some_and(|before| speaker == Speaker::Client || before != length) {
                    return Err(FramingError::Malformed);
                }
            }
            17 if field.is("transfer-encoding") => {
                parse_coding(field.value)?;
                if std::mem::replace(&mut self.chunked, true) {
                    return Err(FramingError::Malformed);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The framing of a request. Without a declaration it has no body.
    #[must_use]
    pub const fn request(&self) -> Framing {
        match (self.chunked, self.length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::None,
        }
    }

    /// The framing of a response that has a body. Without a declaration the body ends with the connection.
    #[must_use]
    pub const fn response(&self) -> Framing {
        match self.request() {
            Framing::None => Framing::UntilClose,
            declared => declared,
        }
    }

    /// Whether the connection may carry another message after this one (RFC 9112, section 9.3).
    #[must_use]
    pub fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version != Version::Http10 || self.keep_alive)
    }

    /// Whether a body of at least one byte may be declared.
    #[must_use]
    pub fn has_content(&self) -> bool {
        self.chunked || self.length.is_some_and(|length| length > 0)
    }
}

/// A `Content-Length` in its one canonical spelling: `0`, or digits that do not begin with 0.
#[must_use]
pub fn parse_length(value: &[u8]) -> Option<u64> {
    match value {
        b"0" => Some(0),
        [b'1'..=b'9', ..] if value.len() <= MAX_LENGTH_DIGITS => value
            .iter()
            .try_fold(0_u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0'))),
        _ => None,
    }
}

/// The members of a comma-separated list without their white space. Empty members are left out (RFC 9110, section
/// 5.6.1.2).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|m| !m.is_empty())
}

/// Accepts exactly one `chunked`. A list of well-formed codings is "not supported"; `chunked` twice and everything else
/// is malformed.
fn parse_coding(value: &[u8]) -> Result<(), FramingError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut chunked = 0;
    for coding in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
        if coding.is_empty() || !coding.iter().all(|b| is_token(*b)) {
            return Err(FramingError::Malformed);
        }
        chunked += usize::from(coding.eq_ignore_ascii_case(b"chunked"));
    }
    Err(if chunked > 1 {
        FramingError::Malformed
    } else {
        FramingError::UnsupportedCoding
    })
}

/// A token character (RFC 9110, section 5.6.2).
#[must_use]
pub const fn is_token(b: u8) -> bool {
    TOKEN[b as usize]
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0_u8;
    while b < 128 {
        table[b as usize] = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        b += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(version: Version, fields: &[(&str, &str)]) -> Result<Framing, FramingError> {
        let mut list = Fields::default();
        for (name, value) in fields {
            list.push(name.as_bytes(), value.as_bytes());
        }
        Declared::read(&list, version, Speaker::Client).map(|declared| declared.request())
    }

    fn http11(fields: &[(&str, &str)]) -> Result<Framing, FramingError> {
        framing(Version::Http11, fields)
    }

    const CHUNKED: (&str, &str) = ("Transfer-Encoding", "chunked");

    #[test]
    fn s1_both_lengths_are_refused_and_one_is_taken() {
        let length = ("Content-Length", "5");
        assert_eq!(http11(&[length, CHUNKED]), Err(FramingError::Malformed));
        assert_eq!(http11(&[CHUNKED, length]), Err(FramingError::Malformed));
        assert_eq!(http11(&[CHUNKED, ("content-length", "0")]), Err(FramingError::Malformed));
        assert_eq!(http11(&[length]), Ok(Framing::Length(5)));
        assert_eq!(http11(&[CHUNKED]), Ok(Framing::Chunked));
        assert_eq!(http11(&[("Host", "a")]), Ok(Framing::None));
    }

    #[test]
    fn s2_chunked_twice_is_refused() {
        assert_eq!(http11(&[CHUNKED, CHUNKED]), Err(FramingError::Malformed));
        assert_eq!(http11(&[("Transfer-Encoding", "chunked, chunked")]), Err(FramingError::Malformed));
        assert_eq!(http11(&[("transfer-encoding", "CHUNKED")]), Ok(Framing::Chunked));
    }

    #[test]
    fn s3_only_exactly_chunked_is_taken() {
        for other in [
            "gzip, chunked",
            "identity, chunked",
            "chunked, identity",
            "xchunked",
            "identity",
            "chunked, gzip",
            "x",
        ] {
            assert_eq!(
                http11(&[("Transfer-Encoding", other)]),
                Err(FramingError::UnsupportedCoding),
                "{other}"
            );
        }
        for broken in [
            "",
            ",",
            "chunked,",
            ",chunked",
            "\u{b}chunked",
            "chunked;q=1",
            "\"chunked\"",
            "chunked chunked",
            "chun\tked",
            "chunked\0",
            "chünked",
        ] {
            assert_eq!(http11(&[("Transfer-Encoding", broken)]), Err(FramingError::Malformed), "{broken:?}");
        }
        assert_eq!(
            http11(&[("Transfer-Encoding", "gzip"), CHUNKED]),
            Err(FramingError::UnsupportedCoding)
        );
        assert_eq!(
            http11(&[("X-Transfer-Encoding", "gzip"), ("TransferrEncoding", "chunked")]),
            Ok(Framing::None)
        );
    }

    #[test]
    fn s4_a_coding_is_refused_in_http_1_0() {
        assert_eq!(framing(Version::Http10, &[CHUNKED]), Err(FramingError::Malformed));
        assert_eq!(framing(Version::Http10, &[("Content-Length", "3")]), Ok(Framing::Length(3)));
    }

    #[test]
    fn s5_a_length_is_one_canonical_number() {
        for bad in [
            "+2",
            "-1",
            "2, 2",
            "2,2",
            "0x2",
            "",
            " ",
            "2 3",
            "1e1",
            "02",
            "00",
            "2_0",
            "2;x",
            "\u{b}2",
            "２",
            "2.0",
            "99999999999999999999",
            "18446744073709551616",
            "10000000000000000000",
        ] {
            assert_eq!(http11(&[("Content-Length", bad)]), Err(FramingError::Malformed), "{bad:?}");
        }
        assert_eq!(
            http11(&[("Content-Length", "2"), ("Content-Length", "3")]),
            Err(FramingError::Malformed)
        );
        assert_eq!(
            http11(&[("Content-Length", "2"), ("content-length", "2")]),
            Err(FramingError::Malformed)
        );
        for (good, n) in [("0", 0), ("2", 2), ("10", 10), ("9999999999999999999", 9_999_999_999_999_999_999)] {
            assert_eq!(http11(&[("Content-Length", good)]), Ok(Framing::Length(n)), "{good}");
        }
    }
}
