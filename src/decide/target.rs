//! The request-target: parsed once, canonical, matched *and* forwarded (hardening 1.1).

use std::borrow::Cow;

use crate::base::denial::Denial;
use crate::wire::head::RequestHead;

use super::method::Method;

/// What a request is for. Borrowed from the head whenever that was canonical already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestTarget<'h> {
    /// The canonical path; begins with `/` (or is `*` for `OPTIONS *`).
    pub path: Cow<'h, str>,
    /// The query as received, without `?`; never part of a match.
    pub query: Option<&'h str>,
    /// The host, lower case, without port.
    pub host: Cow<'h, str>,
    /// Host and port as validated, to be forwarded.
    pub authority: Cow<'h, str>,
    /// Whether a segment holds `%2F`: only routes that opt in may take it.
    pub encoded_slash: bool,
}

impl<'h> RequestTarget<'h> {
    /// Reads target and host of a head.
    ///
    /// # Errors
    /// [`Denial::MalformedTarget`], [`Denial::TargetTooLong`] or [`Denial::MalformedHost`].
    pub fn parse(head: &'h RequestHead, method: Method) -> Result<Self, Denial> {
        let _ = (head, method);
        Err(Denial::MalformedTarget)
    }
}
