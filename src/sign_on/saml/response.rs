//! Judges what a verified response says: for us, here, now, once, and as the answer to what this browser began.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::base::clock::UnixMillis;

use super::assertion::{Attribute, NameId, SubjectConfirmation};
use super::fault::{SamlFault, excerpt};
use super::request::utc;
use super::verifier::ResponseClaims;
use super::xml::MAX_MESSAGE;

/// Largest tolerated difference of clocks. More than this is a clock to be mended.
const MAX_SKEW: Duration = Duration::from_secs(300);

/// How long an assertion counts after it was made, whatever it says itself. It bounds how long its id is kept as used.
const MAX_AGE: Duration = Duration::from_secs(12 * 3600);

/// What a response must fit.
#[derive(Debug, Clone, Copy)]
pub struct ResponseRules<'r> {
    /// The provider's entity ID.
    pub entity_id: &'r str,
    /// Our entity ID for this provider.
    pub sp_entity_id: &'r str,
    /// Where the response arrived, as the provider knows the address.
    pub acs_url: &'r str,
    pub solicitation: Solicitation<'r>,
    /// At most [`MAX_SKEW`] counts.
    pub skew: Duration,
}

/// What the response must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Solicitation<'r> {
    /// The request of the log-in record that this browser has.
    Request(&'r str),
    /// The browser has no log-in record, and the provider may begin sign-ons.
    ProviderMayBegin,
    /// The browser has no log-in record, and that is refused.
    Needed,
}

/// What a provider has proven by an assertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenAssertion {
    pub name_id: NameId,
    pub attributes: Vec<Attribute>,
    /// The session at the provider.
    pub session_index: Option<String>,
    /// When it ends there.
    pub session_ends_at: Option<UnixMillis>,
    pub authenticated_at: UnixMillis,
    pub context_class: Option<String>,
    /// The assertion's id, which must be taken as used before anything is made of it.
    pub assertion_id: String,
    /// Until when it must be kept as used.
    pub used_until: UnixMillis,
}

impl NameId {
    /// Whether the name is another one at each sign-on, so that it identifies nobody.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.format.as_deref() == Some("urn:oasis:names:tc:SAML:2.0:nameid-format:transient")
    }
}

impl ProvenAssertion {
    /// The values of an attribute, by its name or else by its friendly name; `None` if there is no such attribute.
    #[must_use]
    pub fn values(&self, name: &str) -> Option<&[String]> {
        let by_name = self.attributes.iter().find(|attribute| attribute.name == name);
        let by_friendly_name = || {
            let mut all = self
                .attributes
                .iter()
                .filter(|attribute| attribute.friendly_name.as_deref() == Some(name));
            // Two attributes may share a friendly name; then it names neither.
            match (all.next(), all.next()) {
                (Some(one), None) => Some(one),
                _ => None,
            }
        };
        by_name.or_else(by_friendly_name).map(|attribute| attribute.values.as_slice())
    }
}

/// The XML text of the form field of the POST binding.
///
/// # Errors
/// It is too large, no base64, or no UTF-8.
pub fn decode_post(field: &str) -> Result<String, SamlFault> {
    // Base64 in lines has at most a twentieth of white space.
    if field.len() > MAX_MESSAGE * 3 / 2 {
        return Err(SamlFault::TooLarge(MAX_MESSAGE));
    }
    let plain: String = field.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let decoded = STANDARD
        .decode(plain)
        .map_err(|_| SamlFault::Encoding("the message is not base64".to_owned()))?;
    if decoded.len() > MAX_MESSAGE {
        return Err(SamlFault::TooLarge(MAX_MESSAGE));
    }
    String::from_utf8(decoded).map_err(|_| SamlFault::Encoding("the message is not UTF-8".to_owned()))
}

/// Judges a verified response.
///
/// # Errors
/// The first rule that it does not fit.
pub fn judge_response(claims: &ResponseClaims, rules: &ResponseRules<'_>, now: UnixMillis) -> Result<ProvenAssertion, SamlFault> {
    let skew = rules.skew.min(MAX_SKEW);
    let assertion = &claims.assertion;
    for issuer in claims.issuer.iter().chain([&assertion.issuer]) {
        if issuer != rules.entity_id {
            return Err(SamlFault::WrongIssuer(excerpt(issuer)));
        }
    }
    check_destination(claims, rules)?;
    check_request(claims, rules)?;
    let issued_at = UnixMillis(assertion.issued_at);
    if issued_at > now.plus(skew) {
        return Err(not_yet(issued_at, now));
    }
    if let Some(begins_at) = assertion.not_before.map(UnixMillis).filter(|begins_at| *begins_at > now.plus(skew)) {
        return Err(not_yet(begins_at, now));
    }
    let mut ends_at = issued_at.plus(MAX_AGE);
    if let Some(stated) = assertion.not_on_or_after {
        ends_at = ends_at.min(UnixMillis(stated));
    }
    if ends_at.plus(skew) <= now {
        return Err(expired(ends_at, now));
    }
    check_audience(&assertion.audiences, rules.sp_entity_id)?;
    check_confirmations(&assertion.confirmations, rules, skew, now)?;
    let authentication = assertion.authentication.as_ref().ok_or(SamlFault::NoAuthentication)?;
    let session_ends_at = authentication.session_not_on_or_after.map(UnixMillis);
    if session_ends_at.is_some_and(|ends_at| ends_at.plus(skew) <= now) {
        return Err(SamlFault::SessionOver);
    }
    Ok(ProvenAssertion {
        name_id: assertion.name_id.clone(),
        attributes: assertion.attributes.clone(),
        session_index: authentication.session_index.clone(),
        session_ends_at,
        authenticated_at: UnixMillis(authentication.instant),
        context_class: authentication.context_class.clone(),
        assertion_id: assertion.id.clone(),
        // Not until the confirmation ends: another confirmation may end later.
        used_until: ends_at.plus(skew),
    })
}

/// A signed response must say where it goes (SAML bindings, section 3.5.5.2); another one may, and then rightly.
fn check_destination(claims: &ResponseClaims, rules: &ResponseRules<'_>) -> Result<(), SamlFault> {
    match claims.destination.as_deref().filter(|destination| !destination.is_empty()) {
        Some(destination) if destination == rules.acs_url => Ok(()),
        Some(other) => Err(SamlFault::WrongDestination(excerpt(other))),
        None if claims.response_signed => Err(SamlFault::Missing("`Destination` of a signed response".to_owned())),
        None => Ok(()),
    }
}

/// What the response says itself about the request. It may be unsigned, so the confirmation is asked too.
fn check_request(claims: &ResponseClaims, rules: &ResponseRules<'_>) -> Result<(), SamlFault> {
    let confirmed = claims.assertion.confirmations.iter();
    let mut answers = confirmed
        .filter_map(|one| one.in_response_to.as_ref())
        .chain(&claims.in_response_to);
    match rules.solicitation {
        Solicitation::Request(id) if answers.all(|answered| answered == id) => Ok(()),
        Solicitation::Request(_) => Err(SamlFault::WrongRequest),
        Solicitation::ProviderMayBegin if answers.next().is_none() => Ok(()),
        // It answers somebody's request, but not one of this browser.
        Solicitation::ProviderMayBegin => Err(SamlFault::WrongRequest),
        Solicitation::Needed => Err(SamlFault::Unsolicited),
    }
}

fn check_audience(restrictions: &[Vec<String>], own: &str) -> Result<(), SamlFault> {
    if restrictions.is_empty() {
        return Err(SamlFault::Missing("`AudienceRestriction`".to_owned()));
    }
    for audiences in restrictions {
        if !audiences.iter().any(|audience| audience == own) {
            return Err(SamlFault::WrongAudience(excerpt(&audiences.join(" "))));
        }
    }
    Ok(())
}

/// One bearer confirmation must fit (SAML profiles, section 4.1.4.3).
fn check_confirmations(
    confirmations: &[SubjectConfirmation],
    rules: &ResponseRules<'_>,
    skew: Duration,
    now: UnixMillis,
) -> Result<(), SamlFault> {
    let mut first = None;
    for confirmation in confirmations {
        match check_confirmation(confirmation, rules, skew, now) {
            Ok(()) => return Ok(()),
            Err(fault) => {
                first.get_or_insert(fault);
            }
        }
    }
    Err(first.unwrap_or_else(|| SamlFault::NoConfirmation("there is none".to_owned())))
}

fn check_confirmation(
    confirmation: &SubjectConfirmation,
    rules: &ResponseRules<'_>,
    skew: Duration,
    now: UnixMillis,
) -> Result<(), SamlFault> {
    match confirmation.recipient.as_deref() {
        Some(recipient) if recipient == rules.acs_url => {}
        Some(other) => return Err(SamlFault::WrongRecipient(excerpt(other))),
        None => return Err(SamlFault::NoConfirmation("it names no `Recipient`".to_owned())),
    }
    let ends_at = confirmation
        .not_on_or_after
        .map(UnixMillis)
        .ok_or_else(|| SamlFault::NoConfirmation("it has no `NotOnOrAfter`".to_owned()))?;
    if ends_at.plus(skew) <= now {
        return Err(expired(ends_at, now));
    }
    if let Some(begins_at) = confirmation
        .not_before
        .map(UnixMillis)
        .filter(|begins_at| *begins_at > now.plus(skew))
    {
        return Err(not_yet(begins_at, now));
    }
    match (rules.solicitation, confirmation.in_response_to.as_deref()) {
        (Solicitation::Request(id), Some(answered)) if answered == id => Ok(()),
        (Solicitation::Request(_), _) => Err(SamlFault::WrongRequest),
        (Solicitation::ProviderMayBegin, None) => Ok(()),
        (Solicitation::ProviderMayBegin | Solicitation::Needed, _) => Err(SamlFault::Unsolicited),
    }
}

fn not_yet(begins_at: UnixMillis, now: UnixMillis) -> SamlFault {
    SamlFault::NotYetValid(format!("it begins at {}, and here it is {}", utc(begins_at), utc(now)))
}

fn expired(ends_at: UnixMillis, now: UnixMillis) -> SamlFault {
    SamlFault::Expired(format!("it ended at {}, and here it is {}", utc(ends_at), utc(now)))
}
