//! Surfaces of signed session tokens.

use std::time::Duration;

use crate::config::reader::Section;
use crate::config::secret::Reference;
use crate::config::source::{Located, Place};
use crate::config::written::carrier::{Cookies, read_carriers};
use crate::decide::kinds::{Carrier, SameSite, SessionSurface};

use super::{demand, needs};

/// A signed token, as written.
#[derive(Debug)]
pub struct WrittenSession {
    /// Where.
    pub carriers: Vec<Located<Carrier>>,
    /// The `kind` claim.
    pub token_kind: Located<String>,
    /// Secrets: the first signs, all verify.
    pub secrets: Vec<Located<Reference>>,
    /// `iss`.
    pub issuer: Option<String>,
    /// `aud`.
    pub audience: Option<String>,
    /// Clock difference.
    pub skew: Duration,
    /// The claim with scopes.
    pub scopes_claim: Option<String>,
    /// Whose records; `None`: its own.
    pub record_surface: Option<Located<String>>,
    /// Claims and header names.
    pub claim_headers: Vec<(Located<String>, Located<String>)>,
    /// How long minted tokens live; `None`: none are minted.
    pub lifetime: Option<Located<Duration>>,
    /// The cookie.
    pub cookie: Option<WrittenCookie>,
    /// Renewal.
    pub refresh: Option<WrittenRefresh>,
}

/// The cookie of a session surface, as written.
#[derive(Debug)]
pub struct WrittenCookie {
    /// Where the table stands.
    pub at: Place,
    /// `SameSite`.
    pub same_site: SameSite,
    /// `Path`.
    pub path: Located<String>,
    /// `Max-Age`.
    pub max_age: Option<Duration>,
}

/// Renewal of tokens, as written.
#[derive(Debug)]
pub struct WrittenRefresh {
    /// Age from which a token is renewed.
    pub after: Located<Duration>,
    /// Response header.
    pub header: Option<Located<String>>,
}

pub(super) fn read(section: &Section<'_>) -> Option<WrittenSession> {
    let own_records = section.choice("record").value == "own";
    let required: &[&str] = if own_records {
        &["token_kind", "secrets"]
    } else {
        &["token_kind", "secrets", "record_surface"]
    };
    let own = demand::<SessionSurface>(section, required);
    let (token_kind, record_surface) = (section.text("token_kind"), section.text("record_surface"));
    let (carriers, secrets) = (read_carriers(section, Cookies::Allowed), Reference::read_list(section, "secrets"));
    let claim = |name| section.text(name).map(|t| t.value);
    let (issuer, audience, scopes_claim) = (claim("issuer"), claim("audience"), claim("scopes_claim"));
    let (skew, claim_headers) = (section.duration_or_default("skew").value, section.pairs("claim_headers"));
    let lifetime = section.duration("lifetime");
    let (cookie, refresh) = (section.section("cookie").map(|s| read_cookie(&s)), section.section("refresh"));
    needs(section, &["cookie", "refresh"], "lifetime");
    if let (true, Some(surface)) = (own_records, &record_surface) {
        section.report().error(
            &surface.at,
            "`record_surface` has no effect with `record = \"own\"`",
            Some("each session has a record of its own; what it hangs on is said where it is minted".to_owned()),
        );
    }
    if let (false, Some(refresh)) = (own_records, &refresh) {
        section.report().error(
            &refresh.at(),
            "`refresh` needs `record = \"own\"`",
            Some("a token without a record of its own has nothing that says how long it may be renewed".to_owned()),
        );
    }
    if !own {
        return None;
    }
    Some(WrittenSession {
        carriers,
        token_kind: token_kind?,
        secrets,
        issuer,
        audience,
        skew,
        scopes_claim,
        record_surface: if own_records { None } else { Some(record_surface?) },
        claim_headers,
        lifetime,
        cookie,
        refresh: refresh.and_then(|s| read_refresh(&s)),
    })
}

fn read_cookie(section: &Section<'_>) -> WrittenCookie {
    WrittenCookie {
        at: section.at(),
        same_site: match section.choice("same_site").value {
            "strict" => SameSite::Strict,
            "none" => SameSite::None,
            _ => SameSite::Lax,
        },
        path: section.text_or_default("path"),
        max_age: section.duration("max_age").map(|d| d.value),
    }
}

fn read_refresh(section: &Section<'_>) -> Option<WrittenRefresh> {
    let (after, header) = (section.duration("after"), section.text("header"));
    Some(WrittenRefresh { after: after?, header })
}
