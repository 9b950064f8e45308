//! Tokens that a provider has signed: form, type and signature by the rules of tokens of other issuers, and the claims that ID tokens
//! and logout tokens have in common.

use std::time::Duration;

use crate::base::clock::UnixMillis;
use crate::base::credential::TokenFault;
use crate::decide::external::{KeySet, TokenParts, is_type};
use crate::decide::token::claims::{check_audience, read_time};
use crate::decide::token::json::{JsonObject, JsonValue};
use crate::sign_on::fault::{Ago, Ahead, ProviderText, SignOnFault};

/// Largest token. Directories put at most two hundred groups into one, about 11 KiB.
const MAX_LEN: usize = 32 * 1024;

/// Tolerated difference of the two clocks. Unlike that of sessions it adds to no bound of revocation: these tokens are used once.
pub(super) const SKEW: Duration = Duration::from_secs(60);

/// Oldest token that is new. Entra ID dates its tokens five minutes back.
pub(super) const MAX_AGE: Duration = Duration::from_secs(600);

/// Longest `sid` and `jti`.
pub(super) const MAX_NAME: usize = 255;

/// A token whose signature is that of a key of the provider. Its claims are still to be judged.
pub(super) struct VerifiedToken {
    pub(super) algorithm: String,
    pub(super) payload: Vec<u8>,
}

/// Verifies form, type and signature.
///
/// The algorithm is that of the key; a token that names another is refused. No key is taken from the token.
pub(super) fn verify(token: &str, keys: &KeySet, types: &[&str]) -> Result<VerifiedToken, SignOnFault> {
    if token.len() > MAX_LEN {
        return Err(SignOnFault::Token(TokenFault::TooLong));
    }
    // `alg: none` has an empty third part (RFC 7515, appendix A.5).
    if token.ends_with('.') {
        return Err(SignOnFault::Unsigned);
    }
    let parts = TokenParts::of(token.as_bytes()).map_err(SignOnFault::Token)?;
    if parts.algorithm.eq_ignore_ascii_case("none") {
        return Err(SignOnFault::Unsigned);
    }
    if parts
        .token_type()
        .is_some_and(|named| !types.iter().any(|expected| is_type(named, expected)))
    {
        return Err(SignOnFault::Token(TokenFault::WrongType));
    }
    if keys.is_empty() {
        return Err(SignOnFault::Token(TokenFault::NoKeys));
    }
    match parts.find_key(keys) {
        Ok(_) => Ok(VerifiedToken {
            algorithm: parts.algorithm,
            payload: parts.payload,
        }),
        Err(TokenFault::WrongAlgorithm) => Err(SignOnFault::TokenAlgorithm(ProviderText::of(&parts.algorithm))),
        Err(fault) => Err(SignOnFault::Token(fault)),
    }
}

/// Checks `iss` and `aud`, `exp` and `iat`: that the token is the provider's, for this client, and new.
pub(super) fn check_common(claims: &JsonObject<'_>, issuer: &str, client_id: &str, now: UnixMillis) -> Result<(), SignOnFault> {
    if claims.find("iss").and_then(JsonValue::text) != Some(issuer) {
        return Err(SignOnFault::TokenIssuer);
    }
    check_audience(claims.find("aud"), client_id).map_err(|fault| match fault {
        TokenFault::WrongAudience => SignOnFault::TokenAudience,
        other => SignOnFault::Token(other),
    })?;
    let expires_at = time(claims, "exp")?.ok_or(SignOnFault::Token(TokenFault::NoExpiry))?;
    let issued_at = time(claims, "iat")?.ok_or(SignOnFault::Token(TokenFault::NoIssueTime))?;
    if now >= expires_at.plus(SKEW) {
        return Err(SignOnFault::TokenExpired(Ago(now.0 - expires_at.0)));
    }
    let begins_at = time(claims, "nbf")?.map_or(issued_at, |begin| begin.max(issued_at));
    if begins_at > now.plus(SKEW) {
        return Err(SignOnFault::TokenFuture(Ahead(begins_at.0 - now.0)));
    }
    if now > issued_at.plus(MAX_AGE).plus(SKEW) {
        return Err(SignOnFault::TokenOld(Ago(now.0 - issued_at.0)));
    }
    Ok(())
}

/// A time among the claims.
pub(super) fn time(claims: &JsonObject<'_>, name: &str) -> Result<Option<UnixMillis>, SignOnFault> {
    claims.find(name).map(read_time).transpose().map_err(SignOnFault::Token)
}

/// A name that is bounded and holds no control character, as a key of the store needs it.
pub(super) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
}
