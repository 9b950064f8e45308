//! Tokens of other issuers: JWTs that are verified by published keys.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::clock::{Now, UnixMillis};
use crate::base::credential::{TokenFault, Unproven};
use crate::base::denial::Denial;
use crate::base::ids::{CredentialId, Subject, TenantId};
use crate::base::principal::{IssuerIndex, KeyMark, TokenClaims, TokenMemo};
use crate::base::scope::ScopeSet;

use super::surface::MAX_SKEW;
use super::token::claims::{check_audience, check_begun, header_value, read_foreign_scopes, read_time, read_times};
use super::token::json::{JsonObject, JsonValue};
use super::token::{ClaimHeader, ClaimLists, RulesId, UNSUPPORTED, VerifiedClaims, into_claims, split};

mod jwk;
pub mod keys;
mod published;

pub use keys::{IssuerAlgorithm, KeyMiss, KeySet, KeySetError};
pub use published::{FetchAddresses, KeyUrl, PublishedKeys};

/// Largest token that may be configured, and the default. It fits into a head
/// ([`MAX_FIELD`](crate::wire::head::MAX_FIELD)). A token of Entra ID with two hundred groups has about 11 KiB.
pub const MAX_EXTERNAL_TOKEN: usize = 16 * 1024;

/// The rules by which tokens of one surface are verified. Built when the configuration is loaded.
#[derive(Debug)]
pub struct ExternalRules {
    /// What a token that was read by these rules is remembered under.
    pub id: RulesId,
    /// The issuers; never empty. An issuer without `issuer` is the only one.
    pub issuers: Vec<ExternalIssuer>,
    /// Tolerated clock difference; at most [`MAX_SKEW`] counts.
    pub skew: Duration,
    /// Largest token in bytes, at most [`MAX_EXTERNAL_TOKEN`].
    pub max_token: usize,
    pub claim_headers: Vec<ClaimHeader>,
    /// How lists in those claims are written.
    pub claim_lists: ClaimLists,
}

/// One issuer: its keys, and what its tokens must and may claim.
#[derive(Debug)]
pub struct ExternalIssuer {
    /// The exact `iss`. If it is configured, tokens must have it.
    pub issuer: Option<String>,
    /// A value that the audience claim must be or contain. If it is configured, tokens must have it.
    pub audience: Option<String>,
    /// The audience claim: `aud`, or `client_id` in access tokens of Amazon Cognito.
    pub audience_claim: String,
    /// The exact `typ` of the header. If it is not configured, `typ` is one of [`USUAL_TYPES`] or missing.
    pub token_type: Option<String>,
    /// The tenants that the issuer may speak for.
    pub tenants: Tenants,
    /// The claim with the subject.
    pub subject_claim: String,
    /// The claim with the scopes.
    pub scopes_claim: String,
    /// The only scopes that the issuer may give, if it is bounded.
    pub scopes: Option<ScopeSet>,
    /// Claims that must have exactly these texts.
    pub required: Vec<(String, String)>,
    /// The longest time since `iat`. If it is configured, tokens must have `iat`.
    pub max_age: Option<Duration>,
    pub keys: Arc<PublishedKeys>,
}

/// The tenant of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenants {
    One(TenantId),
    /// The tenant that this claim names, if it is allowed.
    Claim {
        claim: String,
        /// The tenants that the issuer may speak for; `None`: any.
        allowed: Option<Vec<TenantId>>,
    },
}

/// The types of tokens that identify a caller: JWTs (RFC 7519, section 5.1), as SPIFFE names them too, and access
/// tokens (RFC 9068).
const USUAL_TYPES: [&str; 3] = ["JWT", "JOSE", "at+jwt"];

/// Why a token was not verified.
#[derive(Debug)]
pub enum Unverified<'r> {
    Denied(Unproven),
    /// The key of the token is unknown, or no keys are known. Newer keys may be fetched.
    KeyWanted {
        keys: &'r Arc<PublishedKeys>,
        /// The refusal if there are no newer keys.
        otherwise: Unproven,
    },
}

impl<T: Into<Unproven>> From<T> for Unverified<'_> {
    fn from(why: T) -> Self {
        Self::Denied(why.into())
    }
}

/// The parts of a signed token, before any of it is verified.
pub(crate) struct TokenParts<'t> {
    pub(crate) algorithm: String,
    kid: Option<String>,
    token_type: Option<String>,
    signed: &'t [u8],
    pub(crate) payload: Vec<u8>,
    signature: Vec<u8>,
}

impl ExternalRules {
    /// Verifies a token: first its form, then the issuer that it names (which chooses keys and nothing else), then
    /// its signature by the key that it names, and only then its claims.
    ///
    /// The algorithm is that of the key; a token that names another is refused. No key, address or certificate is
    /// taken from the token (`jwk`, `jku`, `x5c` and `x5u` are ignored).
    ///
    /// # Errors
    /// [`Unverified`]. The denials are [`Denial::InvalidToken`]; [`Denial::ExpiredCredential`] if everything but the
    /// time is right; and [`Denial::StoreUnavailable`] without usable keys, since not knowing is never a 401.
    pub fn verify(&self, token: &[u8], now: Now) -> Result<TokenClaims, Unverified<'_>> {
        self.verify_lasting(token, now).map(into_claims)
    }

    /// [`verify`](Self::verify), with a result that may be remembered.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub(super) fn verify_lasting(&self, token: &[u8], now: Now) -> Result<VerifiedClaims, Unverified<'_>> {
        if token.len() > self.max_token {
            return Err(TokenFault::TooLong.into());
        }
        let parts = TokenParts::of(token)?;
        let claims = JsonObject::parse(&parts.payload)?;
        let (named, issuer) = self.find_issuer(&claims).ok_or(TokenFault::UnknownIssuer)?;
        if !issuer.takes_type(parts.token_type()) {
            return Err(TokenFault::WrongType.into());
        }
        let Some(set) = issuer.keys.usable(now.boot) else {
            return Err(issuer.want_key(TokenFault::NoKeys));
        };
        let mark = match parts.find_key(&set) {
            Err(TokenFault::UnknownKey) if issuer.keys.url().is_some() => return Err(issuer.want_key(TokenFault::UnknownKey)),
            found => found?,
        };
        let claims = self.read_claims(named, issuer, mark, &claims)?;
        self.check_times(&claims, now.wall)?;
        Ok(VerifiedClaims::new(claims, &self.id))
    }

    /// Judges at `now` what was read of a token before. `None` if it has to be verified anew: other rules have read it, or its key is
    /// not among the usable keys of its issuer.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), for a token whose time is wrong.
    pub(super) fn judge_again(&self, token: &VerifiedClaims, now: Now) -> Option<Result<(), Unproven>> {
        let is_trusted = token.is_read_by(&self.id) && self.check_key(&token.claims, now).is_ok();
        is_trusted.then(|| self.check_times(&token.claims, now.wall))
    }

    fn check_times(&self, claims: &TokenClaims, now: UnixMillis) -> Result<(), Unproven> {
        // The clock of an issuer may be ahead of ours, and nobody gains by a later `nbf` or `iat`.
        let latest = now.plus(MAX_SKEW);
        check_begun(claims, latest, latest)?;
        if now >= claims.expires_at.plus(self.skew()) {
            return Err(Denial::ExpiredCredential.into());
        }
        Ok(())
    }

    /// Whether both rules demand the same of a token, apart from its key: a token that was admitted by one is
    /// admitted by the other.
    #[must_use]
    pub fn ask_the_same_as(&self, other: &Self) -> bool {
        self.skew == other.skew
            && self.max_token == other.max_token
            && self.claim_headers == other.claim_headers
            && self.claim_lists == other.claim_lists
            && self.issuers.len() == other.issuers.len()
            && self.issuers.iter().zip(&other.issuers).all(|(a, b)| a.asks_the_same_as(b))
    }

    /// Checks that the key of a token is still published by the issuer of the token. The other issuers of the surface are not asked
    /// (docs/threats.md J22): a public key is public, so each of them could publish the key that this one has withdrawn.
    ///
    /// The token was read by these rules, or by rules that [ask the same](Self::ask_the_same_as): those have the same issuers in the
    /// same places.
    ///
    /// # Errors
    /// [`Denial::InvalidToken`] if it is not; [`Denial::StoreUnavailable`] if the issuer has no usable keys, since not
    /// knowing is never a 401.
    pub fn check_key(&self, token: &TokenClaims, now: Now) -> Result<(), Denial> {
        let place = usize::try_from(token.issuer.0).map_err(|_| Denial::InvalidToken)?;
        let issuer = self.issuers.get(place).ok_or(Denial::InvalidToken)?;
        let published = issuer.keys.usable(now.boot).ok_or(Denial::StoreUnavailable)?;
        if published.trusts(token.key) {
            Ok(())
        } else {
            Err(Denial::InvalidToken)
        }
    }

    #[must_use]
    pub fn skew(&self) -> Duration {
        self.skew.min(MAX_SKEW)
    }

    /// The issuer that a token names. `iss` is compared as one whole text: a list names no issuer.
    fn find_issuer(&self, claims: &JsonObject<'_>) -> Option<(IssuerIndex, &ExternalIssuer)> {
        let named = claims.find("iss").and_then(JsonValue::text);
        let mut issuers = (0..).map(IssuerIndex).zip(&self.issuers);
        issuers.find(|(_, issuer)| issuer.issuer.as_deref().is_none_or(|own| named == Some(own)))
    }

    fn read_claims(
        &self,
        named: IssuerIndex,
        issuer: &ExternalIssuer,
        key: KeyMark,
        claims: &JsonObject<'_>,
    ) -> Result<TokenClaims, TokenFault> {
        if let Some(audience) = &issuer.audience {
            check_audience(claims.find_claim(&issuer.audience_claim), audience)?;
        }
        if !issuer
            .required
            .iter()
            .all(|(name, wanted)| claims.find_claim(name).is_some_and(|value| says(value, wanted)))
        {
            return Err(TokenFault::RequiredClaim);
        }
        let times = read_times(|name| claims.find(name).map(read_time))?;
        let scopes = read_foreign_scopes(claims.find_claim(&issuer.scopes_claim), issuer.scopes.as_ref())?;
        let subject = claims.find_claim(&issuer.subject_claim).ok_or(TokenFault::NoSubject)?;
        let subject = subject.text().and_then(|text| Subject::parse(text).ok());
        Ok(TokenClaims {
            subject: subject.ok_or(TokenFault::MalformedSubject)?,
            issuer: named,
            key,
            // A token that is too old has expired: it ends at whichever time is first.
            expires_at: match issuer.max_age {
                Some(age) => times.expires_at.min(times.issued_at.ok_or(TokenFault::NoIssueTime)?.plus(age)),
                None => times.expires_at,
            },
            issued_at: times.issued_at,
            not_before: times.not_before,
            scopes: Some(scopes),
            headers: self
                .claim_headers
                .iter()
                .map(|wanted| header_value(claims.find_claim(&wanted.claim)?, self.claim_lists))
                .collect(),
            memo: TokenMemo::default(),
            record: CredentialId::parse(issuer.tenant_of(claims)?.as_str()).map_err(|_| TokenFault::MalformedTenant)?,
        })
    }
}

/// Whether a `typ` is this type: media types may stand without `application/`, in any case (RFC 7515, section 4.1.9).
pub(crate) fn is_type(named: &str, expected: &str) -> bool {
    let prefixed = named.get(..12).is_some_and(|begin| begin.eq_ignore_ascii_case("application/"));
    let short = if prefixed { &named[12..] } else { named };
    short.eq_ignore_ascii_case(expected)
}

/// Whether a claim is this text, or a number or truth value in this notation.
fn says(value: &JsonValue<'_>, wanted: &str) -> bool {
    match value {
        JsonValue::Text(text) => text == wanted,
        JsonValue::Bool(truth) => wanted == if *truth { "true" } else { "false" },
        JsonValue::Integer(number) => wanted == number.to_string(),
        _ => false,
    }
}

impl ExternalIssuer {
    fn asks_the_same_as(&self, other: &Self) -> bool {
        let names = |own: &Self| (own.issuer.clone(), own.audience.clone(), own.token_type.clone());
        let claims = |own: &Self| {
            (
                own.audience_claim.clone(),
                own.subject_claim.clone(),
                own.scopes_claim.clone(),
                own.required.clone(),
            )
        };
        names(self) == names(other)
            && claims(self) == claims(other)
            && self.tenants == other.tenants
            && self.scopes == other.scopes
            && self.max_age == other.max_age
    }

    fn takes_type(&self, named_type: Option<&str>) -> bool {
        match &self.token_type {
            Some(wanted) => named_type.is_some_and(|named_type| is_type(named_type, wanted)),
            None => named_type.is_none_or(|named_type| USUAL_TYPES.iter().any(|usual| is_type(named_type, usual))),
        }
    }

    fn want_key(&self, otherwise: TokenFault) -> Unverified<'_> {
        Unverified::KeyWanted {
            keys: &self.keys,
            otherwise: otherwise.into(),
        }
    }

    fn tenant_of(&self, claims: &JsonObject<'_>) -> Result<TenantId, TokenFault> {
        match &self.tenants {
            Tenants::One(tenant) => Ok(tenant.clone()),
            Tenants::Claim { claim, allowed } => {
                let named = claims.find_claim(claim).ok_or(TokenFault::NoTenant)?.text();
                let tenant = named
                    .and_then(|text| TenantId::parse(text).ok())
                    .ok_or(TokenFault::MalformedTenant)?;
                if allowed.as_ref().is_none_or(|all| all.contains(&tenant)) {
                    Ok(tenant)
                } else {
                    Err(TokenFault::ForeignTenant)
                }
            }
        }
    }
}

impl<'t> TokenParts<'t> {
    /// Splits a compact serialisation into its parts (RFC 7515, section 7.1). [`UNSUPPORTED`] members are refused.
    pub(crate) fn of(token: &'t [u8]) -> Result<Self, TokenFault> {
        let (header, payload, signature) = split(token).ok_or(TokenFault::Form)?;
        let decode = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Form);
        let json = decode(header)?;
        let members = JsonObject::parse(&json)?;
        if UNSUPPORTED.iter().any(|name| members.find(name).is_some()) {
            return Err(TokenFault::UnsupportedHeader);
        }
        let text = |name: &str| match members.find(name) {
            None => Ok(None),
            Some(JsonValue::Text(text)) => Ok(Some(text.to_string())),
            Some(_) => Err(TokenFault::MalformedHeader),
        };
        let kid = text("kid")?;
        if kid.as_ref().is_some_and(|kid| kid.len() > keys::MAX_KID_LEN) {
            return Err(TokenFault::MalformedHeader);
        }
        let signature = decode(signature)?;
        if signature.is_empty() {
            return Err(TokenFault::Form);
        }
        Ok(Self {
            algorithm: text("alg")?.ok_or(TokenFault::MalformedHeader)?,
            kid,
            token_type: text("typ")?,
            signed: token.get(..header.len() + 1 + payload.len()).ok_or(TokenFault::Form)?,
            payload: decode(payload)?,
            signature,
        })
    }

    /// The `typ` of the header.
    pub(crate) fn token_type(&self) -> Option<&str> {
        self.token_type.as_deref()
    }

    /// The key of the set that has signed the token.
    ///
    /// # Errors
    /// [`TokenFault::UnknownKey`] for a `kid` that no key has; a newer set may have it. Other faults are final.
    pub(crate) fn find_key(&self, set: &KeySet) -> Result<KeyMark, TokenFault> {
        let mut keys = set.find(self.kid.as_deref(), &self.algorithm).map_err(KeyMiss::fault)?;
        let key = keys.find(|key| key.verifies(self.signed, &self.signature));
        Ok(key.ok_or(TokenFault::BadSignature)?.mark())
    }
}
