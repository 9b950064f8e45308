//! The ID token (OpenID Connect Core 1.0, section 3.1.3.7): who logged in, for whom, when and how.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::clock::UnixMillis;
use crate::base::credential::TokenFault;
use crate::base::ids::Subject;
use crate::decide::external::KeySet;
use crate::decide::token::json::{JsonObject, JsonValue};
use crate::sign_on::fault::{Ago, Ahead, ProviderText, SignOnFault};
use crate::sign_on::person::{GivenRoles, PersonRules, ProviderSession, SignedOnPerson};
use crate::sign_on::refresh_token::SignOnOrigin;

use super::claims::JsonClaims;
use super::request::{LogInValue, OidcClient};
use super::signed::{SKEW, VerifiedToken, check_common, is_name, time, verify};
use super::token::TokenAnswer;
use super::userinfo::UserInfo;

/// What an ID token must say.
#[derive(Debug)]
pub struct IdTokenRules<'a> {
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub nonce: &'a LogInValue,
    pub max_age: Option<Duration>,
    pub acr_values: &'a [String],
    /// The only algorithms that are taken; none: each that a key of the provider has.
    pub algorithms: &'a [String],
}

impl<'a> IdTokenRules<'a> {
    /// For a log-in of this client.
    #[must_use]
    pub fn of(client: &'a OidcClient, nonce: &'a LogInValue) -> Self {
        Self {
            issuer: &client.issuer,
            client_id: &client.client_id,
            nonce,
            max_age: client.max_age,
            acr_values: &client.acr_values,
            algorithms: &client.algorithms,
        }
    }
}

/// An ID token that is the provider's, for this client, and of this log-in.
pub struct IdToken {
    payload: Vec<u8>,
    subject: String,
    session: ProviderSession,
}

impl fmt::Debug for IdToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdToken").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl IdToken {
    /// Verifies the ID token of an answer of the token endpoint: its signature first, then its claims.
    ///
    /// # Errors
    /// [`SignOnFault`]. After [`TokenFault::UnknownKey`], newer keys may be fetched and asked once more.
    pub fn verify(answer: &TokenAnswer, keys: &KeySet, rules: &IdTokenRules<'_>, now: UnixMillis) -> Result<Self, SignOnFault> {
        let token = verify_for(answer, keys, rules.algorithms)?;
        let claims = JsonObject::parse(&token.payload).map_err(SignOnFault::Token)?;
        check_common(&claims, rules.issuer, rules.client_id, now)?;
        check_party(&claims, rules.client_id)?;
        check_nonce(&claims, rules.nonce)?;
        check_access_token(&claims, &token.algorithm, answer.access_token())?;
        let auth_time = check_auth_time(&claims, rules.max_age, now)?;
        check_acr(&claims, rules.acr_values)?;
        Self::of_claims(&claims, auth_time, token.payload.clone())
    }

    /// Verifies the ID token that came for a refresh token: it must be as new as that of a log-in, and of the same sign-on (OpenID
    /// Connect Core 1.0, section 12.2). `max_age` was a demand on the log-in, which is not repeated.
    ///
    /// # Errors
    /// As [`verify`](Self::verify); [`SignOnFault::RefreshChanged`] for what must not have changed.
    pub fn verify_refreshed(
        answer: &TokenAnswer,
        keys: &KeySet,
        client: &OidcClient,
        origin: &SignOnOrigin,
        now: UnixMillis,
    ) -> Result<Self, SignOnFault> {
        let token = verify_for(answer, keys, &client.algorithms)?;
        let claims = JsonObject::parse(&token.payload).map_err(SignOnFault::Token)?;
        check_common(&claims, &client.issuer, &client.client_id, now)?;
        check_party(&claims, &client.client_id)?;
        check_access_token(&claims, &token.algorithm, answer.access_token())?;
        let auth_time = check_auth_time(&claims, None, now)?;
        // It need not be named again, and nothing weaker may be named.
        if claims.find("acr").is_some() {
            check_acr(&claims, &client.acr_values)?;
        }
        let nonce = claims.find("nonce").filter(|nonce| **nonce != JsonValue::Null);
        if nonce.is_some_and(|nonce| nonce.text() != Some(&origin.nonce)) {
            return Err(SignOnFault::RefreshChanged("nonce"));
        }
        let own = Self::of_claims(&claims, auth_time, token.payload.clone())?;
        let changed = |one: bool, name: &'static str| if one { Err(SignOnFault::RefreshChanged(name)) } else { Ok(()) };
        changed(own.subject != origin.subject, "sub")?;
        changed(
            auth_time.is_some() && origin.auth_time.is_some() && auth_time != origin.auth_time,
            "auth_time",
        )?;
        // Otherwise a logout token for the session that goes on would not end ours.
        changed(own.session.id.is_some() && own.session.id != origin.session_id, "sid")?;
        Ok(own)
    }

    fn of_claims(claims: &JsonObject<'_>, auth_time: Option<UnixMillis>, payload: Vec<u8>) -> Result<Self, SignOnFault> {
        let subject = claims.find("sub").ok_or(SignOnFault::Token(TokenFault::NoSubject))?;
        let subject = subject
            .text()
            .filter(|text| Subject::parse(text).is_ok())
            .ok_or(SignOnFault::Subject)?;
        let session_id = match claims.find("sid") {
            None | Some(JsonValue::Null) => None,
            Some(JsonValue::Text(sid)) if is_name(sid) => Some(sid.to_string()),
            Some(_) => return Err(SignOnFault::MissingClaim(ProviderText::of("sid"))),
        };
        Ok(Self {
            subject: subject.to_owned(),
            session: ProviderSession {
                id: session_id,
                ends_at: None,
                auth_time,
            },
            payload,
        })
    }

    /// What later ID tokens of this sign-on must say too.
    #[must_use]
    pub fn origin(&self, nonce: &LogInValue) -> SignOnOrigin {
        SignOnOrigin {
            subject: self.subject.clone(),
            nonce: nonce.text(),
            session_id: self.session.id.clone(),
            auth_time: self.session.auth_time,
        }
    }

    /// What the provider's table gives the person of a refreshed sign-on. Who the person is was said at the sign-on, so the claim
    /// with the subject is not read again.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub fn given_roles(&self, userinfo: Option<&UserInfo>, rules: &PersonRules) -> Result<Option<GivenRoles>, SignOnFault> {
        let claims = JsonObject::parse(&self.payload).map_err(SignOnFault::Token)?;
        let more = userinfo.map(UserInfo::claims).transpose()?;
        rules.given_roles(&JsonClaims {
            first: &claims,
            second: more.as_ref(),
        })
    }

    /// The `sub`, of which userinfo must be.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The person that the ID token and, for claims that it lacks, userinfo tell of. The identity is read from the ID token alone.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub fn person(self, userinfo: Option<&UserInfo>, rules: &PersonRules) -> Result<SignedOnPerson, SignOnFault> {
        let claims = JsonObject::parse(&self.payload).map_err(SignOnFault::Token)?;
        let more = userinfo.map(UserInfo::claims).transpose()?;
        let subject = match rules.subject.as_str() {
            "sub" => self.subject.as_str(),
            other => claims
                .find_claim(other)
                .and_then(JsonValue::text)
                .ok_or_else(|| SignOnFault::MissingClaim(ProviderText::of(other)))?,
        };
        let claims = JsonClaims {
            first: &claims,
            second: more.as_ref(),
        };
        SignedOnPerson::of(subject, &claims, rules, self.session.clone())
    }
}

/// Verifies signature and algorithm of the ID token of an answer.
fn verify_for(answer: &TokenAnswer, keys: &KeySet, algorithms: &[String]) -> Result<VerifiedToken, SignOnFault> {
    let text = answer.id_token().ok_or(SignOnFault::TokenAnswerMember("id_token"))?;
    // Not `at+jwt` or `logout+jwt`: a token of one kind is never taken for another.
    let token = verify(text, keys, &["JWT"])?;
    if !algorithms.is_empty() && !algorithms.contains(&token.algorithm) {
        return Err(SignOnFault::TokenAlgorithm(ProviderText::of(&token.algorithm)));
    }
    Ok(token)
}

/// `azp` names this client if it is there; it must be there if the token has further audiences.
fn check_party(claims: &JsonObject<'_>, client_id: &str) -> Result<(), SignOnFault> {
    let several = matches!(claims.find("aud"), Some(JsonValue::List(all)) if all.len() > 1);
    match claims.find("azp") {
        Some(JsonValue::Text(party)) if party == client_id => Ok(()),
        None if !several => Ok(()),
        _ => Err(SignOnFault::TokenParty),
    }
}

fn check_nonce(claims: &JsonObject<'_>, nonce: &LogInValue) -> Result<(), SignOnFault> {
    match claims.find("nonce") {
        None | Some(JsonValue::Null) => Err(SignOnFault::NoNonce),
        Some(value) if value.text().is_some_and(|text| nonce.is(text)) => Ok(()),
        Some(_) => Err(SignOnFault::WrongNonce),
    }
}

/// `at_hash` is the left half of the hash of the access token, by the hash of the token's algorithm (section 3.1.3.6).
fn check_access_token(claims: &JsonObject<'_>, algorithm: &str, access_token: Option<&str>) -> Result<(), SignOnFault> {
    let Some(named) = claims.find("at_hash") else { return Ok(()) };
    let hash = match algorithm.as_bytes() {
        [.., b'2', b'5', b'6'] => &digest::SHA256,
        [.., b'3', b'8', b'4'] => &digest::SHA384,
        // Of Ed25519 too, whose own hash it is.
        _ => &digest::SHA512,
    };
    let right = access_token.is_some_and(|access_token| {
        let hash = digest::digest(hash, access_token.as_bytes());
        let half = hash.as_ref().get(..hash.as_ref().len() / 2).unwrap_or_default();
        named.text() == Some(&URL_SAFE_NO_PAD.encode(half))
    });
    if right { Ok(()) } else { Err(SignOnFault::AccessTokenHash) }
}

fn check_auth_time(claims: &JsonObject<'_>, max_age: Option<Duration>, now: UnixMillis) -> Result<Option<UnixMillis>, SignOnFault> {
    let auth_time = time(claims, "auth_time")?;
    if auth_time.is_some_and(|at| at > now.plus(SKEW)) {
        return Err(SignOnFault::TokenFuture(Ahead(auth_time.map_or(0, |at| at.0 - now.0))));
    }
    if let Some(age) = max_age {
        let at = auth_time.ok_or(SignOnFault::NoAuthTime)?;
        if now > at.plus(age).plus(SKEW) {
            return Err(SignOnFault::AuthTimeOld(Ago(now.0 - at.0)));
        }
    }
    Ok(auth_time)
}

fn check_acr(claims: &JsonObject<'_>, wanted: &[String]) -> Result<(), SignOnFault> {
    let named = claims.find("acr").and_then(JsonValue::text);
    if wanted.is_empty() || named.is_some_and(|named| wanted.iter().any(|value| value == named)) {
        Ok(())
    } else {
        Err(SignOnFault::WrongAcr)
    }
}
