//! Header names in the configuration: which may be chosen, and that no two meanings share one.

use crate::base::ids::is_valid_id;
use crate::config::declare::Member;
use crate::config::reader::shorten;
use crate::config::source::{Located, Span};
use crate::decide::headers::IdentityNames;
use crate::wire::framing::is_token;

use super::Builder;
use super::gateway::GatewayTable;
use super::surfaces::SurfaceTable;

/// Longest header name: real ones have at most 40 characters.
const MAX_NAME: usize = 64;

/// Names that mean something to HTTP or to the gateway itself: to set or read them as something else
/// would break framing, routing or the trust in forwarded addresses.
const TAKEN: &[&str] = &[
    "accept-encoding",
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "location",
    "max-forwards",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "sec-fetch-site",
    "set-cookie",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// Names a dialect may not set: they belong to framing or to the gateway.
const NOT_IN_ANSWERS: &[&str] = &[
    "allow",
    "connection",
    "content-length",
    "content-type",
    "date",
    "keep-alive",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// What two names have in common when some upstream cannot tell them apart: many map every
/// character but letters and digits to `_` (docs/threats.md H2).
pub(super) fn folded(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect()
}

impl Builder<'_> {
    /// Whether a name may be given to a request header that the gateway reads or sets.
    pub(super) fn check_request_name(&self, name: &Located<String>) -> bool {
        if !self.check_token(name) {
            return false;
        }
        if name.value.contains(['_', '.']) {
            self.report.error(
                &name.at,
                format!("`{}` cannot be used: headers with `_` or `.` are dropped", shorten(&name.value)),
                Some(format!(
                    "many services cannot tell it from `{}`; use that",
                    name.value.replace(['_', '.'], "-")
                )),
            );
            return false;
        }
        if TAKEN.contains(&name.value.to_ascii_lowercase().as_str()) {
            self.report.error(
                &name.at,
                format!("`{}` has a meaning of its own", shorten(&name.value)),
                Some(
                    "choose a name of your own, for example one that begins with `X-`; for `Authorization: Bearer` write `bearer`"
                        .to_owned(),
                ),
            );
            return false;
        }
        true
    }

    /// Whether a header may be set by a dialect, with this value.
    pub(super) fn check_answer_header(&self, name: &Located<String>, value: &Located<String>) -> bool {
        if NOT_IN_ANSWERS.contains(&name.value.to_ascii_lowercase().as_str()) {
            self.report.error(
                &name.at,
                format!("a dialect cannot set `{}`", shorten(&name.value)),
                Some("it belongs to framing, to `content_type` or to the gateway".to_owned()),
            );
            return false;
        }
        self.check_token(name) && self.check_value(value)
    }

    /// Whether a text that is sent as it stands has no template, whose author would expect it to be filled in.
    pub(super) fn check_literal(&self, value: &Located<String>) -> bool {
        let template = ["{{", "{%", "{#"].iter().find(|mark| value.value.contains(**mark));
        if let Some(mark) = template {
            self.report.error(
                &value.at,
                format!("this is sent as written, with `{mark}`: only `body` is a template"),
                Some("write the text itself, or put the value into the body".to_owned()),
            );
        }
        template.is_none()
    }

    /// Whether a text may be a header's value (RFC 9110, section 5.5).
    pub(super) fn check_value(&self, value: &Located<String>) -> bool {
        let fits = value.value.len() <= 1024 && value.value.bytes().all(|b| (0x20..0x7f).contains(&b)) && value.value.trim() == value.value;
        if !fits {
            self.report.error(
                &value.at,
                "this cannot be the value of a header",
                Some("at most 1,024 visible ASCII characters and spaces, none at either end".to_owned()),
            );
        }
        fits && self.check_literal(value)
    }

    pub(super) fn check_token(&self, name: &Located<String>) -> bool {
        let fits = (1..=MAX_NAME).contains(&name.value.len()) && name.value.bytes().all(is_token);
        if !fits {
            self.report.error(
                &name.at,
                format!("`{}` is not a header name", shorten(&name.value)),
                Some("1 to 64 letters, digits and `-`, for example `X-Api-Key`".to_owned()),
            );
        }
        fits
    }

    /// Reports a name that could not go into logs, metrics and headers as it is.
    pub(super) fn check_name(&self, name: &Located<String>, what: &str) -> bool {
        let valid = is_valid_id(&name.value);
        if !valid {
            self.report.error(
                &name.at,
                format!("`{}` cannot be the name of {what}", shorten(&name.value)),
                Some("1 to 128 of A-Z a-z 0-9 . _ : -".to_owned()),
            );
        }
        valid
    }

    /// Reports a name that is taken.
    pub(super) fn twice(&self, name: &Located<String>, what: &str) {
        self.report
            .error(&name.at, format!("there is a {what} `{}` already", shorten(&name.value)), None);
    }
}

/// Longest name or path of a claim: providers ask for names that are URLs.
const MAX_CLAIM: usize = 255;

impl Builder<'_> {
    /// Claim headers must be names of their own: one that meets an identity header or the header of
    /// a credential would let a claim speak as something else.
    pub(super) fn claim_names(&self, gateway: &GatewayTable, identity: &IdentityNames) {
        let reserved: Vec<String> = [
            &identity.tenant,
            &identity.scopes,
            &identity.surface,
            &identity.mode,
            &identity.subject,
            &identity.credential_id,
        ]
        .iter()
        .map(|n| folded(n))
        .chain(gateway.surfaces.iter().flat_map(credential_headers))
        .collect();
        for surface in &gateway.surfaces {
            let mut seen: Vec<String> = Vec::new();
            for (claim, header) in surface.kind.claim_headers() {
                if claim.value.is_empty() || claim.value.len() > MAX_CLAIM {
                    self.report.error(&claim.at, "a claim's name has 1 to 255 bytes", None);
                }
                if !self.check_request_name(header) {
                    continue;
                }
                let fold = folded(&header.value);
                if reserved.contains(&fold) || seen.contains(&fold) {
                    let message = format!(
                        "`{}` is taken: it carries an identity, a credential or another claim",
                        shorten(&header.value)
                    );
                    self.report.error(&header.at, message, Some("choose a name of its own".to_owned()));
                }
                seen.push(fold);
            }
        }
        for surface in &gateway.surfaces {
            for (header, at) in credential_header_places(surface) {
                if reserved.iter().take(6).any(|r| *r == header) {
                    self.report
                        .error(&at, "this header carries an identity and cannot carry a credential", None);
                }
            }
        }
    }
}

fn credential_headers(surface: &Member<SurfaceTable>) -> impl Iterator<Item = String> {
    credential_header_places(surface).into_iter().map(|(name, _)| name)
}

fn credential_header_places(surface: &Member<SurfaceTable>) -> Vec<(String, Span)> {
    let all = surface.kind.headers().into_iter();
    all.map(|(name, at)| (folded(name), at.clone())).collect()
}
