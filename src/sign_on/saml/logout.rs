//! Single logout as its receiver: the provider says that a session there has ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uppsala::NodeId;

use crate::base::clock::UnixMillis;

use super::assertion::{NameId, read_name_id, read_time};
use super::fault::{SamlFault, excerpt};
use super::request::{MessageId, escape, utc};
use super::xml::{ASSERTION, PROTOCOL, XmlTree};

/// How long a logout request without `NotOnOrAfter` is taken after it was made.
const MAX_AGE: Duration = Duration::from_secs(300);

/// Sessions that one request may end.
const MAX_SESSIONS: usize = 64;

/// A verified logout request. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogoutClaims {
    pub id: String,
    pub issuer: String,
    pub issued_at: i64,
    pub not_on_or_after: Option<i64>,
    pub destination: Option<String>,
    pub name_id: NameId,
    /// The sessions that ended; none: all of this person.
    pub session_indexes: Vec<String>,
}

/// What a logout request must fit.
#[derive(Debug, Clone, Copy)]
pub struct LogoutRules<'r> {
    /// The provider's entity ID.
    pub entity_id: &'r str,
    /// Where the request arrived.
    pub url: &'r str,
    pub skew: Duration,
}

/// Which sessions end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedAtProvider {
    /// The request, for the answer.
    pub request_id: String,
    pub name_id: NameId,
    /// The sessions that ended; none: all of this person.
    pub session_indexes: Vec<String>,
    /// Until when the request could be sent again: it is kept as used that long.
    pub used_until: UnixMillis,
}

/// Reads a logout request. `request` is a node that a signature covers.
pub(super) fn read_logout_request(tree: &XmlTree<'_>, request: NodeId) -> Result<LogoutClaims, SamlFault> {
    let indexes: Result<Vec<String>, SamlFault> = tree
        .named(request, PROTOCOL, "SessionIndex")
        .map(|index| tree.text_of(index))
        .collect();
    let session_indexes = indexes?;
    if session_indexes.len() > MAX_SESSIONS {
        return Err(SamlFault::TooMany(format!("{MAX_SESSIONS} sessions")));
    }
    // An index without text would name no session, and so mean all of them.
    if session_indexes.iter().any(String::is_empty) {
        return Err(SamlFault::Malformed("`SessionIndex`".to_owned()));
    }
    Ok(LogoutClaims {
        id: tree.needed_attribute(request, "ID")?.to_owned(),
        issuer: tree.text_of(tree.needed(request, ASSERTION, "Issuer")?)?,
        issued_at: read_time(tree, request, "IssueInstant")?.ok_or_else(|| SamlFault::Missing("`IssueInstant`".to_owned()))?,
        not_on_or_after: read_time(tree, request, "NotOnOrAfter")?,
        destination: tree.attribute(request, "Destination").map(str::to_owned),
        name_id: read_name_id(tree, request)?,
        session_indexes,
    })
}

/// Judges a verified logout request. The caller must take its id as used ([`EndedAtProvider::used_until`]) before it acts.
///
/// # Errors
/// The first rule that it does not fit.
pub fn judge_logout(claims: &LogoutClaims, rules: &LogoutRules<'_>, now: UnixMillis) -> Result<EndedAtProvider, SamlFault> {
    if claims.issuer != rules.entity_id {
        return Err(SamlFault::WrongIssuer(excerpt(&claims.issuer)));
    }
    // A signed message must say where it goes (SAML bindings, sections 3.4.5.2 and 3.5.5.2).
    match claims.destination.as_deref() {
        Some(destination) if destination == rules.url => {}
        Some(other) => return Err(SamlFault::WrongDestination(excerpt(other))),
        None => return Err(SamlFault::Missing("`Destination`".to_owned())),
    }
    let issued_at = UnixMillis(claims.issued_at);
    if issued_at > now.plus(rules.skew) {
        return Err(SamlFault::NotYetValid(format!(
            "it was made at {}, and here it is {}",
            utc(issued_at),
            utc(now)
        )));
    }
    let ends_at = claims.not_on_or_after.map_or_else(|| issued_at.plus(MAX_AGE), UnixMillis);
    // However long the provider would have it count, it is kept as used for a bounded time only.
    let ends_at = ends_at.min(issued_at.plus(MAX_AGE));
    let used_until = ends_at.plus(rules.skew);
    if used_until <= now {
        return Err(SamlFault::Expired(format!(
            "it ended at {}, and here it is {}",
            utc(ends_at),
            utc(now)
        )));
    }
    Ok(EndedAtProvider {
        request_id: claims.id.clone(),
        name_id: claims.name_id.clone(),
        session_indexes: claims.session_indexes.clone(),
        used_until,
    })
}

/// The XML text of a logout response that says that every session ended, to be sent to `destination`.
#[must_use]
pub fn logout_response(id: &MessageId, sp_entity_id: &str, destination: &str, request_id: &str, now: UnixMillis) -> String {
    format!(
        r#"<samlp:LogoutResponse xmlns:samlp="{PROTOCOL}" xmlns:saml="{ASSERTION}" ID="{id}" Version="2.0" IssueInstant="{}" Destination="{}" InResponseTo="{}"><saml:Issuer>{}</saml:Issuer><samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status></samlp:LogoutResponse>"#,
        utc(now),
        escape(destination),
        escape(request_id),
        escape(sp_entity_id),
    )
}
