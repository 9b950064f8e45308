//! Session tokens that the gateway signs, their renewal, and the cookies that carry them.

use std::time::Duration;

use serde_json::{Map, Number, Value as Json};
use zeroize::Zeroizing;

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::principal::{ClaimValue, CredentialRecord, RecordClaims};
use crate::base::scope::ScopeSet;
use crate::decide::surface::CookieSpec;
use crate::decide::token::TokenRules;

/// A signed token. It is wiped when dropped.
pub struct SignedToken {
    pub text: Zeroizing<String>,
    /// Its `exp`.
    pub expires_at: UnixMillis,
}

impl std::fmt::Debug for SignedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignedToken(..)")
    }
}

#[derive(Debug)]
pub struct TokenFacts<'t> {
    subject: &'t str,
    /// `jti`; `None` for a token without a record of its own.
    id: Option<&'t str>,
    scopes: &'t ScopeSet,
    claims: Option<&'t RecordClaims>,
    now: UnixMillis,
    expires_at: UnixMillis,
    /// Tokens that were issued before this time are dead.
    valid_after: Option<UnixMillis>,
}

impl<'t> TokenFacts<'t> {
    /// The claims of a session with a record of its own: `jti` names the record, `sub` says who acts. The token ends
    /// after `lifetime`, or with its record. The record says which log-outs end the session, so `iat` may be as early
    /// as `latest`.
    #[must_use]
    pub fn own(record: &'t CredentialRecord, parent: Option<&'t CredentialRecord>, lifetime: Duration, latest: UnixMillis) -> Self {
        let of_parent = parent.map(|p| p.subject.as_ref().map_or(p.id.as_str(), |s| s.as_str()));
        let end = whole_seconds(record.created_at).plus(lifetime);
        Self {
            subject: record
                .subject
                .as_ref()
                .map_or(of_parent.unwrap_or(record.id.as_str()), |s| s.as_str()),
            id: Some(record.id.as_str()),
            scopes: &record.scopes,
            claims: record.claims(),
            now: record.created_at.min(latest),
            expires_at: record.expires_at.map_or(end, |last| last.min(end)),
            valid_after: None,
        }
    }

    /// The claims of a token without a record of its own. It hangs on `parent` and ends when `record` says. Its `iat`
    /// is at most `latest`, unless a later `iat` is needed for the token to outlive a log-out that came before it.
    ///
    /// # Errors
    /// [`Denial::Internal`] for a token without an end.
    pub fn alone(record: &'t CredentialRecord, parent: &'t CredentialRecord, latest: UnixMillis) -> Result<Self, Denial> {
        Ok(Self {
            subject: parent.id.as_str(),
            id: None,
            scopes: &record.scopes,
            claims: record.claims(),
            now: record.created_at.min(latest),
            expires_at: record.expires_at.ok_or(Denial::Internal)?,
            valid_after: parent.valid_after,
        })
    }
}

/// Signs a token with the first secret of its surface.
///
/// # Errors
/// [`Denial::Internal`] when the claims make it longer than any gateway takes.
pub fn sign(rules: &TokenRules, facts: &TokenFacts<'_>) -> Result<SignedToken, Denial> {
    let mut claims = Map::new();
    for (name, value) in facts.claims.into_iter().flat_map(RecordClaims::iter) {
        let value = match value {
            ClaimValue::Text(text) => Json::from(text.as_str()),
            ClaimValue::List(words) => Json::from(words.as_slice()),
        };
        claims.insert(name.to_owned(), value);
    }
    // A claim that the route configures may list scopes too. Verification narrows it to the scopes of the record.
    if let Some(name) = &rules.scopes_claim
        && (!facts.scopes.is_empty() || !claims.contains_key(name))
    {
        let scopes: Vec<&str> = facts.scopes.iter().map(|s| s.as_str()).collect();
        claims.insert(name.clone(), scopes.into());
    }
    // The claims that verification rests on come last, so that no configured claim can replace one of them.
    let expires_at = whole_seconds(facts.expires_at);
    claims.insert("sub".into(), facts.subject.into());
    claims.insert("kind".into(), rules.kind.as_str().into());
    claims.insert("iat".into(), issued_at(facts.now, facts.valid_after));
    claims.insert("exp".into(), expires_at.secs().into());
    for (name, value) in [
        ("jti", facts.id),
        ("iss", rules.issuer.as_deref()),
        ("aud", rules.audience.as_deref()),
    ] {
        match value {
            Some(value) => claims.insert(name.into(), value.into()),
            None => claims.remove(name),
        };
    }
    claims.remove("nbf");
    let text = rules.keys.sign(&claims).map_err(|error| {
        tracing::error!(%error, "a session token cannot be signed");
        Denial::Internal
    })?;
    Ok(SignedToken {
        text: Zeroizing::new(text),
        expires_at,
    })
}

/// Signs a later token for a session. Its claims come from the record as it is now. `jti` stays the same, and so does
/// `iat`, unless a clock was corrected since; so "log out everywhere" and the age of the session still count from the
/// log-in. No claim is taken from the presented token: whoever has a retired secret can write claims into one, and
/// the present secret must not sign them. Returns `None` if the new token would not end later than `old_end`.
///
/// # Errors
/// [`Denial::Internal`] when the token cannot be signed.
pub fn renew(
    rules: &TokenRules,
    record: &CredentialRecord,
    parent: Option<&CredentialRecord>,
    old_end: UnixMillis,
    new_end: UnixMillis,
) -> Result<Option<SignedToken>, Denial> {
    let expires_at = whole_seconds(new_end);
    if expires_at <= old_end {
        return Ok(None);
    }
    let made = TokenFacts::own(record, parent, Duration::ZERO, record.created_at);
    sign(rules, &TokenFacts { expires_at, ..made }).map(Some)
}

/// `iat` in whole seconds, which every library reads. If the whole second lies before a log-out of everything within
/// this very second, the token would be dead at once; then `iat` has its milliseconds (RFC 7519, section 2, allows
/// fractions).
fn issued_at(now: UnixMillis, valid_after: Option<UnixMillis>) -> Json {
    let whole = whole_seconds(now);
    if valid_after.is_none_or(|watermark| whole >= watermark) {
        return whole.secs().into();
    }
    // The watermark comes from another clock and may lie some milliseconds ahead of ours.
    let issued = valid_after.map_or(now, |watermark| now.max(watermark));
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of this millennium fit into 53 bits")]
    let seconds = issued.0 as f64 / 1000.0;
    Number::from_f64(seconds).map_or_else(|| whole.secs().into(), Json::Number)
}

fn whole_seconds(time: UnixMillis) -> UnixMillis {
    UnixMillis(time.secs().saturating_mul(1000))
}

/// The value of a `Set-Cookie` field that sets this token. `remaining` is the longest remaining life of the session;
/// `Max-Age` is never longer.
#[must_use]
pub fn session_cookie(spec: &CookieSpec, token: &str, remaining: Duration) -> String {
    let mut value = cookie_value(spec, token);
    if let Some(max_age) = spec.max_age {
        value.push_str(&format!("; Max-Age={}", max_age.min(remaining).as_secs()));
    }
    value
}

/// The value of a `Set-Cookie` field that removes the cookie: the same name and path, an empty value, and no
/// remaining life.
#[must_use]
pub fn removed_cookie(spec: &CookieSpec) -> String {
    let mut value = cookie_value(spec, "");
    value.push_str("; Max-Age=0");
    value
}

fn cookie_value(spec: &CookieSpec, token: &str) -> String {
    let CookieSpec { name, same_site, path, .. } = spec;
    format!("{name}={token}; Path={path}; HttpOnly; Secure; SameSite={}", same_site.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::surface::SameSite;

    fn spec(max_age: Option<u64>) -> CookieSpec {
        CookieSpec {
            name: "__Host-session".into(),
            same_site: SameSite::Lax,
            path: "/".into(),
            max_age: max_age.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_session_cookie_is_out_of_reach_of_scripts_and_plain_http() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(
            session_cookie(&spec(None), "a.b.c", hour),
            "__Host-session=a.b.c; Path=/; HttpOnly; Secure; SameSite=Lax"
        );
        assert!(session_cookie(&spec(Some(60)), "a.b.c", hour).ends_with("SameSite=Lax; Max-Age=60"));
        assert!(
            session_cookie(&spec(Some(7_200)), "a.b.c", hour).ends_with("; Max-Age=3600"),
            "not kept beyond the session"
        );
    }

    #[test]
    fn a_cookie_is_removed_under_its_own_name_and_path() {
        assert_eq!(
            removed_cookie(&spec(Some(60))),
            "__Host-session=; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=0"
        );
    }
}
