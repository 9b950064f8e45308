//! How refusals are written: a table from denial to status, headers and body, built at load time.

use bytes::Bytes;

use crate::base::denial::Denial;

/// A dialect: every denial's answer, prepared up to the request id.
#[derive(Debug)]
pub struct Dialect {
    /// Its name.
    pub name: String,
    #[expect(dead_code, reason = "skeleton")]
    refusals: Vec<Prepared>,
}

/// One denial's prepared answer.
#[derive(Debug)]
struct Prepared {}

/// A refusal ready to be sent.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Status code.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Bytes,
    /// Further fields (`WWW-Authenticate`, `Retry-After`, `Cache-Control`, configured ones).
    pub fields: Vec<(Bytes, Bytes)>,
    /// The body.
    pub body: Bytes,
}

impl Dialect {
    /// Writes the refusal of this request.
    #[must_use]
    pub fn render(&self, denial: Denial, request_id: &str) -> Refusal {
        let _ = (denial, request_id);
        Refusal {
            status: 500,
            content_type: Bytes::new(),
            fields: Vec::new(),
            body: Bytes::new(),
        }
    }
}
