//! Request and response heads.

use super::fields::Fields;
use super::framing::Framing;

/// Largest head in bytes (hardening 3.2): nginx allows 33 KB, HAProxy 15 KB; 16 KiB holds any
/// sane set of cookies and tokens.
pub const MAX_HEAD: usize = 16 * 1024;
/// Largest single field, name and value together.
pub const MAX_FIELD: usize = 8 * 1024;
/// Longest request-target.
pub const MAX_TARGET: usize = 8 * 1024;

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

/// A request head as received; the connection reuses it for each request.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method token as received, at most 24 bytes.
    pub method: Vec<u8>,
    /// The request-target as received (HTTP/2: `:path`).
    pub target: Vec<u8>,
    /// HTTP/2 `:authority`, if it was sent.
    pub authority: Option<Vec<u8>>,
    /// HTTP version.
    pub version: Version,
    /// The fields.
    pub fields: Fields,
    /// How long the body is.
    pub framing: Framing,
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
        }
    }
}

/// A response head.
#[derive(Debug, Clone, Default)]
pub struct ResponseHead {
    /// Status code.
    pub status: u16,
    /// The fields.
    pub fields: Fields,
}
