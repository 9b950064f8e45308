//! How long a message body is (RFC 9112, section 6), decided strictly or not at all.

/// The length of a body as its head declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// Exactly this many bytes (may be 0 when declared so).
    Length(u64),
    /// `Transfer-Encoding: chunked`; on HTTP/2 a body without a declared length.
    Chunked,
    /// Until the connection closes; responses only.
    UntilClose,
}
