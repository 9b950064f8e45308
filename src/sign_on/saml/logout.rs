//! Single logout. The provider says that a session there has ended, or answers our word that one here has.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uppsala::NodeId;

use crate::base::clock::UnixMillis;
use crate::sign_on::sign_on_secrets::SamlName;

use super::assertion::{NameId, read_name_id, read_time};
use super::fault::{SamlFault, excerpt};
use super::request::{MessageId, escape, utc};
use super::verifier::SUCCESS;
use super::xml::{ASSERTION, PROTOCOL, XmlTree};

/// How long a message of single logout is taken after it was made, whatever it says itself.
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

/// A verified answer to a logout request of ours. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogoutAnswerClaims {
    pub issuer: String,
    pub issued_at: i64,
    pub destination: Option<String>,
    pub in_response_to: Option<String>,
    /// The last word of the status that says that not everything has ended; `None`: everything has.
    pub failure: Option<String>,
}

/// What a logout request must fit, or an answer to ours.
#[derive(Debug, Clone, Copy)]
pub struct LogoutRules<'r> {
    /// The provider's entity ID.
    pub entity_id: &'r str,
    /// Where the message arrived.
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

/// Reads the answer to a logout request. `response` is a node that a signature covers.
pub(super) fn read_logout_answer(tree: &XmlTree<'_>, response: NodeId) -> Result<LogoutAnswerClaims, SamlFault> {
    Ok(LogoutAnswerClaims {
        issuer: tree.text_of(tree.needed(response, ASSERTION, "Issuer")?)?,
        issued_at: read_time(tree, response, "IssueInstant")?.ok_or_else(|| SamlFault::Missing("`IssueInstant`".to_owned()))?,
        destination: tree.attribute(response, "Destination").map(str::to_owned),
        in_response_to: tree.attribute(response, "InResponseTo").map(str::to_owned),
        failure: read_failure(tree, response)?,
    })
}

/// What the status says besides success. `PartialLogout` may stand below a code that says success (SAML core, section 3.7.3.2).
fn read_failure(tree: &XmlTree<'_>, response: NodeId) -> Result<Option<String>, SamlFault> {
    let code = tree.needed(tree.needed(response, PROTOCOL, "Status")?, PROTOCOL, "StatusCode")?;
    let second = tree.only(code, PROTOCOL, "StatusCode")?;
    let value = tree.needed_attribute(second.unwrap_or(code), "Value")?;
    let last = excerpt(value.rsplit(':').next().unwrap_or(value));
    Ok((second.is_some() || value != SUCCESS).then_some(last))
}

/// Judges a verified answer to our request of this id.
///
/// # Errors
/// The first rule that it does not fit; [`SamlFault::LogoutStatus`] if the provider has not ended everything.
pub fn judge_logout_answer(
    claims: &LogoutAnswerClaims,
    rules: &LogoutRules<'_>,
    request_id: &str,
    now: UnixMillis,
) -> Result<(), SamlFault> {
    check_sender(&claims.issuer, claims.destination.as_deref(), rules)?;
    if claims.in_response_to.as_deref() != Some(request_id) {
        return Err(SamlFault::WrongRequest);
    }
    let issued_at = UnixMillis(claims.issued_at);
    check_begin(issued_at, rules, now)?;
    check_end(issued_at.plus(MAX_AGE), rules, now)?;
    match &claims.failure {
        None => Ok(()),
        Some(code) => Err(SamlFault::LogoutStatus(code.clone())),
    }
}

/// Judges a verified logout request. The caller must take its id as used ([`EndedAtProvider::used_until`]) before it acts.
///
/// # Errors
/// The first rule that it does not fit.
pub fn judge_logout(claims: &LogoutClaims, rules: &LogoutRules<'_>, now: UnixMillis) -> Result<EndedAtProvider, SamlFault> {
    check_sender(&claims.issuer, claims.destination.as_deref(), rules)?;
    let issued_at = UnixMillis(claims.issued_at);
    check_begin(issued_at, rules, now)?;
    let ends_at = claims.not_on_or_after.map_or_else(|| issued_at.plus(MAX_AGE), UnixMillis);
    // However long the provider would have it count, it is kept as used for a bounded time only.
    let used_until = check_end(ends_at.min(issued_at.plus(MAX_AGE)), rules, now)?;
    Ok(EndedAtProvider {
        request_id: claims.id.clone(),
        name_id: claims.name_id.clone(),
        session_indexes: claims.session_indexes.clone(),
        used_until,
    })
}

/// A message is the provider's, and for us. A signed one must say where it goes (SAML bindings, sections 3.4.5.2 and 3.5.5.2).
fn check_sender(issuer: &str, destination: Option<&str>, rules: &LogoutRules<'_>) -> Result<(), SamlFault> {
    if issuer != rules.entity_id {
        return Err(SamlFault::WrongIssuer(excerpt(issuer)));
    }
    match destination {
        Some(destination) if destination == rules.url => Ok(()),
        Some(other) => Err(SamlFault::WrongDestination(excerpt(other))),
        None => Err(SamlFault::Missing("`Destination`".to_owned())),
    }
}

fn check_begin(issued_at: UnixMillis, rules: &LogoutRules<'_>, now: UnixMillis) -> Result<(), SamlFault> {
    if issued_at > now.plus(rules.skew) {
        let (made, here) = (utc(issued_at), utc(now));
        return Err(SamlFault::NotYetValid(format!("it was made at {made}, and here it is {here}")));
    }
    Ok(())
}

/// Answers when the message ends at the latest, by the provider's clock.
fn check_end(ends_at: UnixMillis, rules: &LogoutRules<'_>, now: UnixMillis) -> Result<UnixMillis, SamlFault> {
    let latest = ends_at.plus(rules.skew);
    if latest <= now {
        let (end, here) = (utc(ends_at), utc(now));
        return Err(SamlFault::Expired(format!("it ended at {end}, and here it is {here}")));
    }
    Ok(latest)
}

/// The XML text of a logout request for the session of this name, to be sent to `destination`.
#[must_use]
pub fn logout_request(id: &MessageId, sp_entity_id: &str, destination: &str, name: &SamlName, now: UnixMillis) -> String {
    let NameId {
        value,
        format,
        name_qualifier,
        sp_name_qualifier,
    } = &name.name_id;
    // The name as the provider wrote it, with all that tells it from others (SAML core, section 3.7.1).
    let attributes = [
        ("Format", format),
        ("NameQualifier", name_qualifier),
        ("SPNameQualifier", sp_name_qualifier),
    ];
    let attributes = attributes
        .into_iter()
        .filter_map(|(attribute, value)| Some(format!(r#" {attribute}="{}""#, escape(value.as_deref()?))));
    let session = name.session_index.as_ref().map_or_else(String::new, |index| {
        format!("<samlp:SessionIndex>{}</samlp:SessionIndex>", escape(index))
    });
    format!(
        r#"<samlp:LogoutRequest xmlns:samlp="{PROTOCOL}" xmlns:saml="{ASSERTION}" ID="{id}" Version="2.0" IssueInstant="{}" Destination="{}" NotOnOrAfter="{}" Reason="urn:oasis:names:tc:SAML:2.0:logout:user"><saml:Issuer>{}</saml:Issuer><saml:NameID{}>{}</saml:NameID>{session}</samlp:LogoutRequest>"#,
        utc(now),
        escape(destination),
        utc(now.plus(MAX_AGE)),
        escape(sp_entity_id),
        attributes.collect::<String>(),
        escape(value),
    )
}

/// The XML text of a logout response that says that every session ended, to be sent to `destination`.
#[must_use]
pub fn logout_response(id: &MessageId, sp_entity_id: &str, destination: &str, request_id: &str, now: UnixMillis) -> String {
    format!(
        r#"<samlp:LogoutResponse xmlns:samlp="{PROTOCOL}" xmlns:saml="{ASSERTION}" ID="{id}" Version="2.0" IssueInstant="{}" Destination="{}" InResponseTo="{}"><saml:Issuer>{}</saml:Issuer><samlp:Status><samlp:StatusCode Value="{SUCCESS}"/></samlp:Status></samlp:LogoutResponse>"#,
        utc(now),
        escape(destination),
        escape(request_id),
        escape(sp_entity_id),
    )
}
