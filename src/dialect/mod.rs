//! Writes refusals: a table from denial to status, headers and body, built when the configuration is loaded.

use bytes::Bytes;

use crate::base::denial::{DENIALS, Denial, FieldErrors};
use crate::decide::method::Method;

pub mod answer;
pub mod page;
pub mod pieces;
pub mod spec;
pub mod template;

use page::RenderedPage;
use pieces::{Detailed, Piece, splice};
use spec::DialectSpec;

/// Seconds after which a caller may try again. The store and the limits recover within a second or two, and a longer
/// wait would outlast most outages that the gateway bridges.
const RETRY_AFTER: &[u8] = b"1";

/// A dialect: the answer to every denial, prepared except for what differs between requests.
#[derive(Debug)]
pub struct Dialect {
    pub name: String,
    /// The answers, one for each row of [`DENIALS`], in that order.
    refusals: Vec<Prepared>,
}

#[derive(Debug)]
struct Prepared {
    status: u16,
    content_type: Bytes,
    fields: Vec<(Bytes, Bytes)>,
    challenge: Challenge,
    body: Vec<Piece>,
    /// The body of a refusal with details, if the template writes it differently.
    detailed: Option<Vec<Piece>>,
}

/// The header that is completed for each request.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    None,
    /// `WWW-Authenticate` up to and including `scope="`; the scopes and `"` are added.
    Scope(Bytes),
    /// `Allow` is added.
    Allow,
}

/// The facts of a request that a refusal needs.
#[derive(Debug, Clone, Copy)]
pub struct RefusalContext<'a> {
    pub request_id: &'a str,
    /// The scopes the route needs, separated by spaces; empty if none or unknown.
    pub scopes: &'a str,
    /// For [`Denial::MethodNotAllowed`]: methods that would be allowed, bit i is `Method::ALL[i]`.
    pub allowed: u8,
    /// For [`Denial::InvalidFields`]: the errors by field.
    pub details: Option<&'a FieldErrors>,
    /// Seconds for `Retry-After`, if they are known more exactly than the default of the dialect.
    pub retry_after: Option<u64>,
}

#[cfg(test)]
impl<'a> RefusalContext<'a> {
    /// A context with a request id and nothing else.
    #[must_use]
    pub const fn new(request_id: &'a str) -> Self {
        Self {
            request_id,
            scopes: "",
            allowed: 0,
            details: None,
            retry_after: None,
        }
    }
}

/// A refusal ready to be sent.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Bytes,
    /// Further fields (`WWW-Authenticate`, `Retry-After`, `Cache-Control`, configured ones).
    pub fields: Vec<(Bytes, Bytes)>,
    pub body: Bytes,
}

impl Refusal {
    /// Shows this page in the place of the body, with the same status.
    pub fn show(&mut self, page: RenderedPage) {
        self.body = page.body;
        for (name, value) in page.fields {
            if name == "Content-Type" {
                self.content_type = value.into();
            } else {
                self.fields.retain(|(own, _)| !own.eq_ignore_ascii_case(name.as_bytes()));
                self.fields.push((name.into(), value.into()));
            }
        }
    }
}

impl Dialect {
    /// Prepares every answer of a dialect.
    #[must_use]
    pub fn build(spec: &DialectSpec) -> Self {
        Self {
            name: spec.name.clone(),
            refusals: DENIALS.iter().map(|row| prepare(spec, row.denial)).collect(),
        }
    }

    /// Writes the refusal of this request. The request id appears only where the template has it;
    /// the `X-Request-Id` field is the gateway's to add.
    #[must_use]
    pub fn render(&self, denial: Denial, context: &RefusalContext<'_>) -> Refusal {
        let Some(prepared) = self.refusals.get(denial as usize) else {
            return last_resort();
        };
        let mut fields = prepared.fields.clone();
        match &prepared.challenge {
            Challenge::None => {}
            Challenge::Scope(begin) if !context.scopes.is_empty() => {
                let value = [begin, context.scopes.as_bytes(), b"\""].concat();
                fields.push((Bytes::from_static(b"WWW-Authenticate"), value.into()));
            }
            Challenge::Scope(begin) => {
                let value = begin.strip_suffix(b", scope=\"").unwrap_or(begin);
                fields.push((Bytes::from_static(b"WWW-Authenticate"), Bytes::copy_from_slice(value)));
            }
            Challenge::Allow => fields.push((Bytes::from_static(b"Allow"), allow(context.allowed))),
        }
        if let Some(seconds) = context.retry_after {
            fields.retain(|(name, _)| !name.eq_ignore_ascii_case(b"retry-after"));
            fields.push((Bytes::from_static(b"Retry-After"), seconds.to_string().into()));
        }
        let details = context.details.filter(|details| !details.is_empty());
        let body = match (details, &prepared.detailed) {
            (Some(_), Some(detailed)) => detailed,
            _ => &prepared.body,
        };
        Refusal {
            status: prepared.status,
            content_type: prepared.content_type.clone(),
            fields,
            body: splice(body, context.request_id, details),
        }
    }
}

/// Sent if a dialect has no row for a denial, which its construction rules out.
fn last_resort() -> Refusal {
    Refusal {
        status: 500,
        content_type: Bytes::from_static(b"text/plain"),
        fields: vec![(Bytes::from_static(b"Cache-Control"), Bytes::from_static(b"no-store"))],
        body: Bytes::new(),
    }
}

fn prepare(spec: &DialectSpec, denial: Denial) -> Prepared {
    let own = spec.find_override(denial);
    let answer = spec.answer(denial, &own);
    let status = answer.words.status;
    // A template that cannot be rendered was reported when the configuration was read, and serves nothing.
    let fill = |detailed| answer.template.fill(&answer.words, detailed);
    let body = fill(Detailed::No).unwrap_or_else(|_| vec![Piece::Fixed(Bytes::from_static(b"{}"))]);
    let detailed = fill(Detailed::Yes).ok().filter(|detailed| *detailed != body);
    let mut fields = vec![("Cache-Control".to_owned(), "no-store".to_owned())];
    let mut challenge = Challenge::None;
    match status {
        401 => fields.push(("WWW-Authenticate".to_owned(), bearer(spec, denial))),
        403 if denial == Denial::InsufficientScope => {
            let begin = format!("Bearer realm=\"{}\", error=\"insufficient_scope\", scope=\"", spec.realm);
            challenge = Challenge::Scope(begin.into());
        }
        // RFC 6750, section 3.1: more than one way of presenting a token is an invalid request.
        400 if denial == Denial::AmbiguousCredentials => fields.push((
            "WWW-Authenticate".to_owned(),
            format!("Bearer realm=\"{}\", error=\"invalid_request\"", spec.realm),
        )),
        405 => challenge = Challenge::Allow,
        429 | 503 => fields.push(("Retry-After".to_owned(), String::from_utf8_lossy(RETRY_AFTER).into_owned())),
        _ => {}
    }
    for (name, value) in spec.headers.iter().chain(&own.headers) {
        if name.eq_ignore_ascii_case("www-authenticate") && matches!(challenge, Challenge::Scope(_)) {
            challenge = Challenge::None;
        }
        fields.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        fields.push((name.clone(), value.clone()));
    }
    Prepared {
        status,
        content_type: spec.content_type.clone().into(),
        fields: fields.into_iter().map(|(n, v)| (n.into(), v.into())).collect(),
        challenge,
        body,
        detailed,
    }
}

/// The challenge of a 401 (RFC 6750, section 3): no error attribute when nothing was presented.
fn bearer(spec: &DialectSpec, denial: Denial) -> String {
    match denial {
        Denial::MissingCredential => format!("Bearer realm=\"{}\"", spec.realm),
        _ => format!("Bearer realm=\"{}\", error=\"invalid_token\"", spec.realm),
    }
}

/// The value of `Allow` (RFC 9110, section 10.2.1).
fn allow(allowed: u8) -> Bytes {
    let names: Vec<&str> = Method::ALL
        .iter()
        .enumerate()
        .filter(|(i, _)| allowed & (1 << i) != 0)
        .map(|(_, m)| m.as_str())
        .collect();
    names.join(", ").into()
}

#[cfg(test)]
mod tests;
