//! Session tokens: HS256 JWTs, verified by strict rules around `jsonwebtoken`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use subtle::ConstantTimeEq;

use crate::base::clock::UnixMillis;
use crate::base::credential::{TokenFault, Unproven};
use crate::base::denial::Denial;
use crate::base::ids::{CredentialId, Subject};
use crate::base::principal::{IssuerIndex, KeyMark, TokenClaims, TokenMemo};
use crate::base::text::every;

use super::surface::MAX_SKEW;

pub(crate) mod claims;
pub(crate) mod json;
#[cfg(test)]
mod tests;
mod verified;

pub use claims::ClaimLists;
use claims::{check_audience, check_begun, header_value, read_scopes, read_time, read_times};
use json::{JsonObject, JsonValue};
pub use verified::{RulesId, VerifiedClaims};

/// Longest session token in bytes. Documented sessions have 400 to 900 characters. 4 KiB is what a cookie may hold
/// (RFC 6265, section 6.1), and it bounds the work before the signature is verified.
pub const MAX_TOKEN_LEN: usize = 4096;
/// Shortest secret in bytes: an HS256 key is as long as its hash (RFC 7518, section 3.2).
pub const MIN_SECRET_LEN: usize = 32;

/// Longest `kid`. It is not used here, and a longer one is no name.
const MAX_KID_LEN: usize = 128;
/// Base64url characters of an HMAC-SHA-256.
const SIGNATURE_LEN: usize = 43;
/// How far `iat` may lie in the future of the verifier, unless `skew` is larger. The gateway dates its tokens by the
/// clock of the store, so that a log-out on another gateway has a place in their order. That clock may be ahead of
/// this machine's. Nobody gains by a later `iat`: it only decides which log-outs end the token.
pub const MAX_AHEAD: Duration = Duration::from_secs(1);

/// Encodings of the headers that common libraries write. They are known to be good and are not parsed:
const KNOWN_HEADERS: [&[u8]; 3] = [
    b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
    b"eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9",
    b"eyJhbGciOiJIUzI1NiJ9",
];

/// The rules by which session tokens of one surface are verified. Built when the configuration is loaded.
pub struct TokenRules {
    /// What a token that was read by these rules is remembered under. Rules of another configuration, and so of another secret, have
    /// another identity.
    pub id: RulesId,
    /// Verification keys; several while a secret is rotated.
    pub keys: TokenKeys,
    /// The exact value of the `kind` claim.
    pub kind: String,
    /// The exact `iss`. If it is configured, tokens must have it.
    pub issuer: Option<String>,
    /// A value that `aud` must be or contain. If it is configured, tokens must have it.
    pub audience: Option<String>,
    /// Tolerated clock difference; at most [`MAX_SKEW`] counts.
    pub skew: Duration,
    /// The claim that lists scopes, if scopes come from the token.
    pub scopes_claim: Option<String>,
    /// Claims that become headers, with the lower-case header names.
    pub claim_headers: Vec<ClaimHeader>,
}

/// A claim forwarded as a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimHeader {
    pub claim: String,
    /// The header's name as written upstream, e.g. `X-Transaction-Id`.
    pub header: String,
}

/// A secret that is shorter than 32 bytes, or none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token secret has at least 32 bytes")]
pub struct WeakSecret;

/// The secrets that may sign the tokens of one surface, the newest first. They are wiped when dropped.
pub struct TokenKeys(Vec<(DecodingKey, KeyMark)>);

impl TokenKeys {
    /// At least one secret, each of at least 32 bytes.
    ///
    /// # Errors
    /// [`WeakSecret`].
    pub fn new<S: AsRef<[u8]>>(secrets: impl IntoIterator<Item = S>) -> Result<Self, WeakSecret> {
        let keys: Vec<(DecodingKey, KeyMark)> = secrets
            .into_iter()
            .map(|secret| {
                let key = DecodingKey::from_secret(check_secret_len(secret.as_ref())?);
                let mark = mark_of(&key).ok_or(WeakSecret)?;
                Ok((key, mark))
            })
            .collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(WeakSecret) } else { Ok(Self(keys)) }
    }

    /// Whether both have a secret in common.
    #[cfg(test)]
    #[must_use]
    pub fn shares_secret_with(&self, other: &Self) -> bool {
        self.0.iter().any(|(_, a)| other.trusts(*a))
    }

    /// Whether the key of this mark is among them.
    #[must_use]
    pub fn trusts(&self, mark: KeyMark) -> bool {
        self.0.iter().any(|(_, own)| own.0.ct_eq(&mark.0).into())
    }

    /// Signs claims with the first secret, as [`mint`] does.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn sign(&self, claims: &serde_json::Map<String, serde_json::Value>) -> Result<String, MintError> {
        let secret = self.0.first().and_then(|(key, _)| key.try_get_as_bytes().ok());
        mint(secret.ok_or(WeakSecret)?, claims)
    }

    /// The key that made this signature.
    fn verify(&self, signed: &[u8], signature: &str) -> Option<KeyMark> {
        let made_by = |key| jsonwebtoken::crypto::verify(signature, signed, key, Algorithm::HS256).unwrap_or(false);
        self.0.iter().find(|(key, _)| made_by(key)).map(|(_, mark)| *mark)
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKeys({})", self.0.len())
    }
}

impl fmt::Debug for TokenRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRules").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl TokenRules {
    /// Verifies a token whose record is named by `sub`.
    ///
    /// # Errors
    /// As [`verify_naming`](Self::verify_naming).
    #[cfg(any(test, feature = "internals"))]
    pub fn verify(&self, token: &[u8], now: UnixMillis) -> Result<TokenClaims, Unproven> {
        self.verify_naming(token, now, "sub").map(into_claims)
    }

    /// Verifies a token whose record is named by `jti`: that of a session with a record of its own. A token without `jti` is none of
    /// those.
    ///
    /// # Errors
    /// As [`verify_naming`](Self::verify_naming).
    pub fn verify_own(&self, token: &[u8], now: UnixMillis) -> Result<TokenClaims, Unproven> {
        self.verify_naming(token, now, "jti").map(into_claims)
    }

    /// Verifies a token: first its form, then its signature, and only then its claims. Its record is named by the claim `record`. The
    /// result may be remembered.
    ///
    /// Times are judged at `now` with the configured skew. A token is dead from `exp` + skew on. No key is ever taken
    /// from the token, and nothing in it is fetched or followed.
    ///
    /// # Errors
    /// [`Denial::ExpiredCredential`] if everything but the time is right, otherwise [`Denial::InvalidToken`] with its
    /// cause.
    pub(super) fn verify_naming(&self, token: &[u8], now: UnixMillis, record: &str) -> Result<VerifiedClaims, Unproven> {
        let (payload, key) = self.check_signature(token)?;
        let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenFault::Form)?;
        let members = JsonObject::parse(&json)?;
        let claims = self.read_claims(&members, record, key)?;
        self.check_times(&claims, now)?;
        Ok(VerifiedClaims::new(claims, &self.id))
    }

    /// Judges at `now` what was read of a token before. `None` if it has to be verified anew: other rules have read it, or its key is
    /// not trusted.
    ///
    /// # Errors
    /// As [`verify_naming`](Self::verify_naming), for a token whose time is wrong.
    pub(super) fn judge_again(&self, token: &VerifiedClaims, now: UnixMillis) -> Option<Result<(), Unproven>> {
        let is_trusted = token.is_read_by(&self.id) && self.keys.trusts(token.claims.key);
        is_trusted.then(|| self.check_times(&token.claims, now))
    }

    fn check_times(&self, claims: &TokenClaims, now: UnixMillis) -> Result<(), Unproven> {
        let latest = now.plus(self.skew());
        check_begun(claims, latest, latest.max(now.plus(MAX_AHEAD)))?;
        if now >= claims.expires_at.plus(self.skew()) {
            return Err(Denial::ExpiredCredential.into());
        }
        Ok(())
    }

    /// Whether both rules demand the same of a token, apart from its key: a token that was admitted by one is
    /// admitted by the other.
    #[must_use]
    pub fn ask_the_same_as(&self, other: &Self) -> bool {
        let texts = |rules: &Self| {
            (
                rules.kind.clone(),
                rules.issuer.clone(),
                rules.audience.clone(),
                rules.scopes_claim.clone(),
            )
        };
        texts(self) == texts(other) && self.skew == other.skew && self.claim_headers == other.claim_headers
    }

    #[must_use]
    pub fn skew(&self) -> Duration {
        self.skew.min(MAX_SKEW)
    }

    /// The payload of a token whose form, header and signature are right (RFC 7515, section 5.2), and the key that
    /// signed it.
    fn check_signature<'t>(&self, token: &'t [u8]) -> Result<(&'t [u8], KeyMark), TokenFault> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenFault::TooLong);
        }
        let (header, payload, signature) = split(token).ok_or(TokenFault::Form)?;
        if payload.is_empty() {
            return Err(TokenFault::Form);
        }
        check_header(header)?;
        let signature = std::str::from_utf8(signature).ok().filter(|text| text.len() == SIGNATURE_LEN);
        let signed = token.get(..header.len() + 1 + payload.len()).ok_or(TokenFault::Form)?;
        let key = self.keys.verify(signed, signature.ok_or(TokenFault::BadSignature)?);
        Ok((payload, key.ok_or(TokenFault::BadSignature)?))
    }

    fn read_claims(&self, claims: &JsonObject<'_>, record: &str, key: KeyMark) -> Result<TokenClaims, TokenFault> {
        let text = |name: &str| claims.find(name).and_then(JsonValue::text);
        if text("kind") != Some(&self.kind) {
            return Err(TokenFault::WrongKind);
        }
        if self.issuer.is_some() && text("iss") != self.issuer.as_deref() {
            return Err(TokenFault::UnknownIssuer);
        }
        if let Some(audience) = &self.audience {
            check_audience(claims.find("aud"), audience)?;
        }
        let times = read_times(|name| claims.find(name).map(read_time))?;
        let subject = text("sub").ok_or(TokenFault::NoSubject)?;
        Ok(TokenClaims {
            subject: Subject::parse(subject).map_err(|_| TokenFault::MalformedSubject)?,
            record: text(record)
                .and_then(|id| CredentialId::parse(id).ok())
                .ok_or(TokenFault::NoRecord)?,
            issuer: IssuerIndex(0),
            key,
            expires_at: times.expires_at,
            issued_at: times.issued_at,
            not_before: times.not_before,
            scopes: match &self.scopes_claim {
                Some(name) => Some(read_scopes(claims.find(name))?),
                None => None,
            },
            headers: self
                .claim_headers
                .iter()
                .map(|wanted| header_value(claims.find(&wanted.claim)?, ClaimLists::Spaces))
                .collect(),
            memo: TokenMemo::default(),
        })
    }
}

/// The claims alone, which nothing else refers to yet.
pub(super) fn into_claims(token: VerifiedClaims) -> TokenClaims {
    Arc::unwrap_or_clone(token.claims)
}

/// The three parts of a compact serialisation (RFC 7515, section 7.1).
pub(super) fn split(token: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut dots = memchr::memchr_iter(b'.', token);
    let (first, second) = (dots.next()?, dots.next()?);
    if dots.next().is_some() {
        return None;
    }
    Some((token.get(..first)?, token.get(first + 1..second)?, token.get(second + 1..)?))
}

/// Why a token could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The secret is too short.
    #[error(transparent)]
    Weak(#[from] WeakSecret),
    /// The claims could not be written.
    #[error("the claims cannot be written as a token")]
    Claims,
    /// The token would be longer than any gateway takes.
    #[error("the token would be longer than 4096 characters")]
    TooLong,
}

/// Signs a session token with HS256, for served routes, the demo and tests. The claims are written as they are. Every
/// surface needs `kind`, `sub` and `exp`.
///
/// # Errors
/// [`MintError`].
pub fn mint(secret: &[u8], claims: &serde_json::Map<String, serde_json::Value>) -> Result<String, MintError> {
    let key = EncodingKey::from_secret(check_secret_len(secret)?);
    let header = jsonwebtoken::Header::new(Algorithm::HS256);
    let token = jsonwebtoken::encode(&header, claims, &key).map_err(|_| MintError::Claims)?;
    if token.len() > MAX_TOKEN_LEN {
        Err(MintError::TooLong)
    } else {
        Ok(token)
    }
}

/// Whether a text has the shape of a signed token: three parts of base64url, none of them empty. It says nothing
/// about their contents.
#[must_use]
pub fn is_token_shaped(text: &[u8]) -> bool {
    let in_alphabet = every(text, |b| b.is_ascii_alphanumeric() | (b == b'-') | (b == b'_') | (b == b'.'));
    let parts = split(text);
    in_alphabet && parts.is_some_and(|(header, payload, signature)| !header.is_empty() && !payload.is_empty() && !signature.is_empty())
}

fn check_secret_len(secret: &[u8]) -> Result<&[u8], WeakSecret> {
    if secret.len() < MIN_SECRET_LEN {
        Err(WeakSecret)
    } else {
        Ok(secret)
    }
}

/// The signature of a fixed text, which identifies a secret. Secrets are compared by what they sign and not by their
/// bytes: HMAC pads a key with zeros and hashes a long one (RFC 2104), so different bytes may be the same key.
fn mark_of(key: &DecodingKey) -> Option<KeyMark> {
    let key = EncodingKey::from_secret(key.try_get_as_bytes().ok()?);
    let signature = jsonwebtoken::crypto::sign(b"durward same secret", &key, Algorithm::HS256).ok()?;
    signature.as_bytes().first_chunk().copied().map(KeyMark)
}

/// Members of a header that are refused whatever they say: extensions that must be understood (`crit`, `b64`: RFC
/// 7515, section 4.1.11; RFC 7797), compression and encryption.
pub(super) const UNSUPPORTED: [&str; 4] = ["crit", "b64", "zip", "enc"];

/// Checks the header. It must name HS256 and may name the type. [`UNSUPPORTED`] members are refused; keys and
/// addresses of keys (`jwk`, `jku`, `x5c`, `x5u`) are ignored.
fn check_header(encoded: &[u8]) -> Result<(), TokenFault> {
    if KNOWN_HEADERS.contains(&encoded) {
        return Ok(());
    }
    let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenFault::Form)?;
    let header = JsonObject::parse(&json)?;
    if UNSUPPORTED.iter().any(|name| header.find(name).is_some()) {
        return Err(TokenFault::UnsupportedHeader);
    }
    match header.find("alg").map(JsonValue::text) {
        Some(Some("HS256")) => {}
        Some(Some(_)) => return Err(TokenFault::WrongAlgorithm),
        _ => return Err(TokenFault::MalformedHeader),
    }
    if header.find("typ").is_some_and(|typ| typ.text() != Some("JWT")) {
        return Err(TokenFault::WrongType);
    }
    let is_name = |kid: &JsonValue<'_>| kid.text().is_some_and(|kid| kid.len() <= MAX_KID_LEN);
    if header.find("kid").is_none_or(is_name) {
        Ok(())
    } else {
        Err(TokenFault::MalformedHeader)
    }
}
