//! Path patterns. They are read strictly when the configuration is loaded, because a pattern that is no canonical
//! path could never match one.

use std::fmt;

/// Most segments of a pattern. It bounds the depth of the router's walk.
pub const MAX_SEGMENTS: usize = 64;

/// A path pattern: `/v1/orders/{id}`, `/v1/orders/**`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    segments: Vec<Segment>,
    tail: Tail,
}

/// One segment of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Exactly this text, case and all.
    Literal(Box<str>),
    /// Any one segment that is not empty. The name is for people.
    Param(Box<str>),
}

/// Whether a pattern ends in `/**`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// The path ends where the pattern ends.
    Closed,
    /// Zero or more further segments match.
    Open,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It does not begin with `/`.
    #[error("a path pattern begins with `/`")]
    NoSlash,
    /// It ends with `/`.
    #[error("a path pattern does not end with `/`: one slash at the end of a path is ignored when matching")]
    EndsWithSlash,
    /// Two slashes in a row.
    #[error("a path pattern has no empty segment")]
    EmptySegment,
    /// `.` or `..`.
    #[error("a path pattern has no `.` or `..` segment")]
    DotSegment,
    /// `**` before the end.
    #[error("`**` stands only at the end of a path pattern, as a segment of its own")]
    TailInside,
    /// A brace that is not around a whole segment, or a bad name in it.
    #[error("a parameter is a whole segment `{{name}}` with a name of a-z 0-9 _, not `{0}`")]
    Param(String),
    #[error("the parameter `{0}` occurs twice")]
    RepeatedParam(String),
    /// A character that no canonical path holds.
    #[error("`{0}` cannot occur in a canonical path, so the segment `{1}` would match nothing")]
    Character(char, String),
    /// A percent-encoding that canonical paths do not have.
    #[error(
        "`{0}` is not how a canonical path is written: letters, digits and `-._~` are not encoded, hex digits are upper case, and `%00`, `%25`, `%2F`, `%5C` do not occur"
    )]
    Encoding(String),
    /// More than 64 segments.
    #[error("a path pattern has at most 64 segments")]
    TooLong,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`], the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let body = text.strip_prefix('/').ok_or(PatternError::NoSlash)?;
        let mut pattern = Self {
            segments: Vec::new(),
            tail: Tail::Closed,
        };
        if body.is_empty() {
            return Ok(pattern);
        }
        if body.ends_with('/') {
            return Err(PatternError::EndsWithSlash);
        }
        for text in body.split('/') {
            if pattern.tail == Tail::Open {
                return Err(PatternError::TailInside);
            }
            if pattern.segments.len() == MAX_SEGMENTS {
                return Err(PatternError::TooLong);
            }
            if text == "**" {
                pattern.tail = Tail::Open;
            } else {
                let segment = parse_segment(text)?;
                if let Segment::Param(name) = &segment
                    && pattern.segments.contains(&segment)
                {
                    return Err(PatternError::RepeatedParam(name.to_string()));
                }
                pattern.segments.push(segment);
            }
        }
        Ok(pattern)
    }

    /// Its segments, without a tail.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether it ends in `/**`.
    #[must_use]
    pub const fn tail(&self) -> Tail {
        self.tail
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Param(name) => write!(f, "/{{{name}}}")?,
            }
        }
        match (self.tail, self.segments.is_empty()) {
            (Tail::Open, _) => f.write_str("/**"),
            (Tail::Closed, true) => f.write_str("/"),
            (Tail::Closed, false) => Ok(()),
        }
    }
}

fn parse_segment(text: &str) -> Result<Segment, PatternError> {
    match text {
        "" => return Err(PatternError::EmptySegment),
        "." | ".." => return Err(PatternError::DotSegment),
        _ if text.contains("**") => return Err(PatternError::TailInside),
        _ => {}
    }
    if text.contains(['{', '}']) {
        return text
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .filter(|name| is_param_name(name))
            .map(|name| Segment::Param(name.into()))
            .ok_or_else(|| PatternError::Param(text.into()));
    }
    check_literal(text).map(|()| Segment::Literal(text.into()))
}

fn is_param_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A literal has the form of a canonical segment: `pchar` of RFC 3986 without `;` (path parameters are never
/// forwarded) and without `*` (it would look like a wildcard).
fn check_literal(text: &str) -> Result<(), PatternError> {
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => {
                let code = rest.as_str().get(..2).unwrap_or(rest.as_str());
                if !is_canonical_encoding(code) {
                    return Err(PatternError::Encoding(format!("%{code}")));
                }
                rest.nth(1);
            }
            'a'..='z' | 'A'..='Z' | '0'..='9' => {}
            '-' | '.' | '_' | '~' | '!' | '$' | '&' | '\'' | '(' | ')' | '+' | ',' | '=' | ':' | '@' => {}
            _ => return Err(PatternError::Character(c, text.into())),
        }
    }
    Ok(())
}

fn is_canonical_encoding(code: &str) -> bool {
    let upper_hex = code.len() == 2 && code.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    let Ok(byte) = u8::from_str_radix(code, 16) else {
        return false;
    };
    let unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    upper_hex && !unreserved && !byte.is_ascii_control() && !matches!(byte, b'%' | b'/' | b'\\')
}
