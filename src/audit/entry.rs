//! The entry of one request: which of the request's fields it may show, and how its members are written.

use std::sync::Arc;

use crate::base::ids::{CredentialId, Subject, SurfaceName, TenantId};
use crate::base::scope::Mode;
use crate::decide::audit::{AuditPolicy, AuditedUrl};
use crate::decide::surface::Surface;
use crate::telemetry::AccessLine;
use crate::telemetry::members::{AddressText, EscapeFor, Timestamp, escape, number, text, word};
use crate::wire::fields::Fields;
use crate::wire::head::RequestHead;

use super::mask::{MASK, Shapes, has_long_segment, mask_text, redact_path, redact_query};

/// Fields that no entry shows, whatever is listed. The fields that carry credentials of a surface are not shown either.
const NEVER_SHOWN: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "set-cookie"];

/// Most bytes of one field's value that an entry shows.
const MAX_VALUE: usize = 1024;

/// No further field is shown when the members of the fields have more bytes than this. With the longest path and query an
/// entry stays below its limit of 64 KiB, although an escape makes three bytes of a character six.
const MAX_HEADERS: usize = 8 * 1024;

/// Most bytes of a path or a query that an entry shows.
const MAX_URL: usize = 8 * 1024;

/// Stands at the end of a text that was cut.
const CUT: &[u8] = b"...";

/// What entries show of requests, prepared for one configuration.
#[derive(Debug)]
pub struct EntryRules {
    url: AuditedUrl,
    shapes: Arc<Shapes>,
    headers: Vec<ShownHeader>,
}

/// A field that entries show.
#[derive(Debug)]
struct ShownHeader {
    /// In lower case.
    name: String,
    /// `,"name":`
    member: Vec<u8>,
}

impl ShownHeader {
    fn new(name: &str) -> Self {
        let mut member = b",\"".to_vec();
        escape(&mut member, name, EscapeFor::Json);
        member.extend_from_slice(b"\":");
        Self {
            name: name.to_ascii_lowercase(),
            member,
        }
    }
}

impl EntryRules {
    #[must_use]
    pub fn new(policy: &AuditPolicy, surfaces: &[Surface]) -> Self {
        let shapes = Shapes::of(surfaces);
        let shown = policy.headers.iter().filter(|name| !is_never_shown(name, surfaces, &shapes));
        Self {
            url: policy.url.clone(),
            headers: shown.map(|name| ShownHeader::new(name)).collect(),
            shapes: Arc::new(shapes),
        }
    }

    /// What secrets look like in this configuration.
    #[must_use]
    pub const fn shapes(&self) -> &Arc<Shapes> {
        &self.shapes
    }

    /// The path as access lines show it: masked in `buffer`, if one of its segments is long enough for a credential.
    pub fn mask_path<'p>(&self, path: &'p str, buffer: &'p mut Vec<u8>) -> &'p str {
        if !has_long_segment(path) {
            return path;
        }
        buffer.clear();
        redact_path(path, &self.shapes, buffer);
        // What is masked is text as the path was.
        std::str::from_utf8(buffer).unwrap_or(MASK)
    }

    /// Collects what entries show of a request head.
    pub fn collect(&self, head: &RequestHead, shown: &mut ShownHead) {
        self.write_headers(&head.fields, &mut shown.headers);
        if let Some(at) = memchr::memchr(b'?', &head.target) {
            let query = head.target.get(at + 1..).unwrap_or_default();
            redact_query(&String::from_utf8_lossy(query), &self.url, &self.shapes, &mut shown.query);
        }
    }

    /// Writes `,"accept":"*/*","user-agent":"curl"`. A field that was sent several times has a list.
    fn write_headers(&self, fields: &Fields, out: &mut Vec<u8>) {
        for shown in &self.headers {
            let mut values = fields.all(&shown.name);
            let Some(first) = values.next() else { continue };
            if out.len() > MAX_HEADERS {
                return;
            }
            out.extend_from_slice(&shown.member);
            let Some(second) = values.next() else {
                self.write_value(first, out);
                continue;
            };
            out.push(b'[');
            self.write_value(first, out);
            for value in std::iter::once(second).chain(values) {
                if out.len() > MAX_HEADERS {
                    break;
                }
                out.push(b',');
                self.write_value(value, out);
            }
            out.push(b']');
        }
    }

    fn write_value(&self, value: &[u8], out: &mut Vec<u8>) {
        let value = String::from_utf8_lossy(value);
        out.push(b'"');
        // Masked before it is cut: half a key is not recognised as one.
        escape_start(&mask_text(&value, &self.shapes), MAX_VALUE, out);
        out.push(b'"');
    }
}

/// Whether no entry shows a field of this name, whatever is listed, since it carries credentials.
#[must_use]
pub fn is_never_shown(name: &str, surfaces: &[Surface], shapes: &Shapes) -> bool {
    NEVER_SHOWN.iter().any(|never| never.eq_ignore_ascii_case(name))
        || surfaces.iter().any(|surface| surface.uses_header(name.as_bytes()))
        || shapes.is_secret_name(name)
}

/// Escapes at most `most` bytes of a text.
fn escape_start(text: &str, most: usize, out: &mut Vec<u8>) {
    if text.len() <= most {
        return escape(out, text, EscapeFor::Json);
    }
    let start = text.get(..text.floor_char_boundary(most)).unwrap_or_default();
    escape(out, start, EscapeFor::Json);
    out.extend_from_slice(CUT);
}

/// Writes the member of a path or a query.
fn write_start(url: &[u8], before: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(before);
    escape_start(&String::from_utf8_lossy(url), MAX_URL, out);
    out.push(b'"');
}

/// What an entry shows of a request's head. It is collected while the head is there, and its buffers are reused.
#[derive(Debug, Default)]
pub struct ShownHead {
    headers: Vec<u8>,
    query: Vec<u8>,
}

impl ShownHead {
    /// Removes everything and keeps the allocations.
    pub fn clear(&mut self) {
        self.headers.clear();
        self.query.clear();
    }
}

/// One request as its entry shows it.
#[derive(Debug)]
pub struct RequestEntry<'a> {
    /// What the entry has in common with the access line.
    pub line: &'a AccessLine<'a>,
    pub head: &'a ShownHead,
    pub rules: &'a EntryRules,
    /// The trace id of `traceparent` of a trusted proxy.
    pub trace_id: Option<&'a str>,
    /// The version of TLS: `1.2` or `1.3`.
    pub tls: Option<&'static str>,
    /// The mode of the caller's record.
    pub mode: Option<Mode>,
    /// The scopes that the route needs, joined by spaces.
    pub scopes_needed: Option<&'a str>,
    /// The version of the configuration by which the request was judged.
    pub snapshot: u64,
}

/// How far the request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestStage {
    /// Its response is about to be sent (`audit.durable = "each"`).
    Answered,
    Ended,
}

/// Writes the members of request entries, without an allocation.
#[derive(Debug, Default)]
pub struct EntryFormatter {
    timestamp: Timestamp,
    client: AddressText,
    path: Vec<u8>,
}

impl EntryFormatter {
    /// Appends the members of an entry after `gateway`.
    pub fn write(&mut self, stage: RequestStage, entry: &RequestEntry<'_>, out: &mut Vec<u8>) {
        let line = entry.line;
        out.extend_from_slice(b",\"time\":\"");
        self.timestamp.write(line.at, out);
        out.extend_from_slice(match stage {
            RequestStage::Answered => b"\",\"kind\":\"answered\"",
            RequestStage::Ended => b"\",\"kind\":\"request\"",
        });
        word(out, b",\"request_id\":\"", Some(line.request_id));
        word(out, b",\"trace_id\":\"", entry.trace_id);
        out.extend_from_slice(b",\"client\":\"");
        out.extend_from_slice(self.client.of(line.client));
        out.push(b'"');
        word(out, b",\"tls\":\"", entry.tls);
        word(out, b",\"version\":\"", Some(line.version));
        word(out, b",\"method\":\"", line.method);
        let shapes = &entry.rules.shapes;
        if let Some(host) = line.host {
            text(out, b",\"host\":\"", Some(&mask_text(host, shapes)));
        }
        if let Some(path) = line.path {
            self.path.clear();
            redact_path(path, shapes, &mut self.path);
            write_start(&self.path, b",\"path\":\"", out);
        }
        if !entry.head.query.is_empty() {
            write_start(&entry.head.query, b",\"query\":\"", out);
        }
        text(out, b",\"route\":\"", line.route);
        word(out, b",\"surface\":\"", line.surface.map(SurfaceName::as_str));
        word(out, b",\"credential\":\"", line.credential.map(CredentialId::as_str));
        word(out, b",\"tenant\":\"", line.tenant.map(TenantId::as_str));
        text(out, b",\"subject\":\"", line.principal.map(Subject::as_str));
        word(out, b",\"mode\":\"", entry.mode.map(Mode::as_str));
        text(out, b",\"scopes_needed\":\"", entry.scopes_needed);
        number(out, b",\"status\":", u64::from(line.status));
        word(out, b",\"denial\":\"", line.denial.or(line.reported).map(|denial| denial.label()));
        if line.reported.is_some() {
            out.extend_from_slice(b",\"report_only\":true");
        }
        word(out, b",\"cause\":\"", line.cause);
        number(out, b",\"took_us\":", u64::try_from(line.took.as_micros()).unwrap_or(u64::MAX));
        if let Some(age) = line.facts_age {
            number(out, b",\"facts_age_ms\":", u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        }
        text(out, b",\"upstream\":\"", line.upstream);
        text(out, b",\"endpoint\":\"", line.endpoint);
        if line.attempts > 0 {
            number(out, b",\"attempts\":", u64::from(line.attempts));
        }
        word(out, b",\"failure\":\"", line.failure);
        if stage == RequestStage::Ended {
            if let Some(bytes) = line.bytes_in {
                number(out, b",\"bytes_in\":", bytes);
            }
            number(out, b",\"bytes_out\":", line.bytes_out);
            word(out, b",\"ended\":\"", line.ended.map(|(_, end)| end.as_str()));
            out.extend_from_slice(if line.completed {
                b",\"completed\":true"
            } else {
                b",\"completed\":false"
            });
        }
        text(out, b",\"done\":\"", line.done);
        // The first byte of the members is the comma before the first field.
        if let Some(headers) = entry.head.headers.get(1..) {
            out.extend_from_slice(b",\"headers\":{");
            out.extend_from_slice(headers);
            out.push(b'}');
        }
        number(out, b",\"snapshot\":", entry.snapshot);
    }
}

#[cfg(test)]
mod tests;
