//! Tokens of issuers that are not ours: RS256, ES256 and Ed25519 JWTs verified by published keys (hardening 1.4).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::clock::{Now, UnixMillis};
use crate::base::denial::Denial;
use crate::base::ids::{CredentialId, Subject, TenantId};
use crate::base::principal::{KeyMark, TokenClaims};
use crate::base::scope::ScopeSet;

use super::surface::MAX_SKEW;
use super::token::members::{Members, Value};
use super::token::{ClaimHeader, MAX_TOKEN_LEN, names_audience, read_header_value, read_scopes, read_time};

pub mod keys;
mod published;

pub use keys::{IssuerAlgorithm, IssuerKey, KeyMiss, KeySet, KeySetError};
pub use published::{ASK_PAUSE, Addresses, KeySource, KeyUrl, Published};

/// How tokens of one surface are verified. Built at load time.
#[derive(Debug)]
pub struct ExternalRules {
    /// Issuers; never empty. One without `issuer` is the only one.
    pub issuers: Vec<ExternalIssuer>,
    /// Tolerated clock difference; counts as [`MAX_SKEW`] when it is larger.
    pub skew: Duration,
    /// Claims that become headers.
    pub claim_headers: Vec<ClaimHeader>,
}

/// Whose tokens, and what is read from them.
#[derive(Debug)]
pub struct ExternalIssuer {
    /// Exact `iss`, if configured; then required.
    pub issuer: Option<String>,
    /// A value `aud` must contain, if configured; then required.
    pub audience: Option<String>,
    /// Exact `typ` of the header; without it the type is `JWT` or not told.
    pub token_type: Option<String>,
    /// Whose tenants it may speak for.
    pub tenants: Tenants,
    /// The claim with the subject.
    pub subject_claim: String,
    /// The claim with the scopes.
    pub scopes_claim: String,
    /// The only scopes it may give, if there is such a bound.
    pub scopes: Option<ScopeSet>,
    /// Claims that must have exactly these texts.
    pub required: Vec<(String, String)>,
    /// Longest time since `iat`, if configured; then `iat` is required.
    pub max_age: Option<Duration>,
    /// Its keys.
    pub keys: Arc<Published>,
}

/// Which tenant a token is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenants {
    /// Always this one.
    One(TenantId),
    /// The one this claim names, if it is among these; `None` = any.
    Claim {
        /// The claim's name.
        claim: String,
        /// The tenants this issuer may speak for.
        allowed: Option<Vec<TenantId>>,
    },
}

/// Why a token was not verified.
#[derive(Debug)]
pub enum Unverified<'r> {
    /// It is not good.
    Denied(Denial),
    /// Its key is not among those known, or none are: newer ones may be had.
    KeyWanted {
        /// Whose key.
        keys: &'r Arc<Published>,
        /// What is to be said if there are no newer ones.
        otherwise: Denial,
    },
}

impl From<Denial> for Unverified<'_> {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

/// A token taken apart; nothing of it is proven.
struct Parts<'t> {
    algorithm: String,
    kid: Option<String>,
    token_type: Option<String>,
    signed: &'t [u8],
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl ExternalRules {
    /// Verifies a token: its form, then whose it says it is (which chooses keys and nothing else),
    /// then its signature by the one key it names, and only then what it claims.
    ///
    /// The algorithm is the key's; a token that names another is refused. No key, address or
    /// certificate is taken from the token (`jwk`, `jku`, `x5c`, `x5u` are not looked at).
    ///
    /// # Errors
    /// [`Unverified`]; the denials are [`Denial::InvalidToken`], [`Denial::ExpiredCredential`] when
    /// everything but its time is right, and [`Denial::StoreUnavailable`] without usable keys: not
    /// knowing is never a 401.
    pub fn verify(&self, token: &[u8], now: Now) -> Result<TokenClaims, Unverified<'_>> {
        let parts = Parts::of(token).ok_or(Denial::InvalidToken)?;
        let claims = Members::parse(&parts.payload).ok_or(Denial::InvalidToken)?;
        let issuer = self.find_issuer(&claims).ok_or(Denial::InvalidToken)?;
        if !issuer.takes_type(parts.token_type.as_deref()) {
            return Err(Denial::InvalidToken.into());
        }
        let Some(set) = issuer.keys.usable(now.boot) else {
            return Err(issuer.want_key(Denial::StoreUnavailable));
        };
        let key = match set.find(parts.kid.as_deref(), &parts.algorithm) {
            Ok(key) => key,
            Err(KeyMiss::UnknownKid) if issuer.keys.url().is_some() => return Err(issuer.want_key(Denial::InvalidToken)),
            Err(_) => return Err(Denial::InvalidToken.into()),
        };
        if !key.verifies(parts.signed, &parts.signature) {
            return Err(Denial::InvalidToken.into());
        }
        let claims = self
            .read_claims((issuer, key.mark()), &claims, now.wall)
            .ok_or(Denial::InvalidToken)?;
        if now.wall >= claims.expires_at.plus(self.skew()) {
            return Err(Denial::ExpiredCredential.into());
        }
        Ok(claims)
    }

    /// Whether these rules ask the same of a token, apart from its key: one that was admitted by the
    /// others would be admitted by these.
    #[must_use]
    pub fn ask_the_same_as(&self, other: &Self) -> bool {
        self.skew == other.skew
            && self.claim_headers == other.claim_headers
            && self.issuers.len() == other.issuers.len()
            && self.issuers.iter().zip(&other.issuers).all(|(a, b)| a.asks_the_same_as(b))
    }

    /// Whether the key of this mark is still published.
    ///
    /// # Errors
    /// [`Denial::InvalidToken`] when it is not; [`Denial::StoreUnavailable`] when an issuer has no usable
    /// keys: not knowing is never a 401.
    pub fn check_key(&self, mark: KeyMark, now: Now) -> Result<(), Denial> {
        let mut otherwise = Denial::InvalidToken;
        for issuer in &self.issuers {
            match issuer.keys.usable(now.boot) {
                Some(set) if set.trusts(mark) => return Ok(()),
                Some(_) => {}
                None => otherwise = Denial::StoreUnavailable,
            }
        }
        Err(otherwise)
    }

    /// The skew that counts.
    #[must_use]
    pub fn skew(&self) -> Duration {
        self.skew.min(MAX_SKEW)
    }

    /// The issuer a token says it is of. `iss` is compared as a text, whole: a list is no issuer.
    fn find_issuer(&self, claims: &Members<'_>) -> Option<&ExternalIssuer> {
        let named = claims.find("iss").and_then(Value::text);
        self.issuers
            .iter()
            .find(|issuer| issuer.issuer.as_deref().is_none_or(|own| named == Some(own)))
    }

    fn read_claims(&self, (issuer, key): (&ExternalIssuer, KeyMark), claims: &Members<'_>, now: UnixMillis) -> Option<TokenClaims> {
        let text = |name: &str| claims.find(name).and_then(Value::text);
        let latest = now.plus(self.skew());
        if let Some(audience) = &issuer.audience
            && !names_audience(claims.find("aud")?, audience)
        {
            return None;
        }
        if issuer.required.iter().any(|(name, value)| text(name) != Some(value)) {
            return None;
        }
        if claims
            .find("nbf")
            .map(read_time)
            .is_some_and(|start| start.is_none_or(|start| start > latest))
        {
            return None;
        }
        let issued_at = match claims.find("iat").map(read_time) {
            Some(issued) => Some(issued.filter(|issued| *issued <= latest)?),
            None => None,
        };
        let expires_at = read_time(claims.find("exp")?)?;
        let scopes = read_scopes(claims.find(&issuer.scopes_claim))?;
        Some(TokenClaims {
            subject: Subject::parse(text(&issuer.subject_claim)?).ok()?,
            key,
            // Too old is expired: a token is dead at whichever comes first.
            expires_at: match issuer.max_age {
                Some(age) => expires_at.min(issued_at?.plus(age)),
                None => expires_at,
            },
            issued_at,
            scopes: Some(match &issuer.scopes {
                Some(bound) => scopes.intersection(bound),
                None => scopes,
            }),
            headers: self
                .claim_headers
                .iter()
                .map(|wanted| claims.find(&wanted.claim).map_or(Some(None), read_header_value))
                .collect::<Option<_>>()?,
            record: CredentialId::parse(issuer.tenant_of(text)?.as_str()).ok()?,
        })
    }
}

impl ExternalIssuer {
    fn asks_the_same_as(&self, other: &Self) -> bool {
        let names = |own: &Self| (own.issuer.clone(), own.audience.clone(), own.token_type.clone());
        let claims = |own: &Self| (own.subject_claim.clone(), own.scopes_claim.clone(), own.required.clone());
        names(self) == names(other)
            && claims(self) == claims(other)
            && self.tenants == other.tenants
            && self.scopes == other.scopes
            && self.max_age == other.max_age
    }

    fn takes_type(&self, told: Option<&str>) -> bool {
        match &self.token_type {
            // RFC 7515, section 4.1.9: media types without `application/`, in any case.
            Some(wanted) => told.is_some_and(|told| {
                let short = told.get(..12).filter(|begin| begin.eq_ignore_ascii_case("application/"));
                let told = short.map_or(told, |begin| &told[begin.len()..]);
                told.eq_ignore_ascii_case(wanted)
            }),
            None => told.is_none_or(|told| told.eq_ignore_ascii_case("JWT")),
        }
    }

    fn want_key(&self, otherwise: Denial) -> Unverified<'_> {
        Unverified::KeyWanted {
            keys: &self.keys,
            otherwise,
        }
    }

    fn tenant_of<'c>(&self, text: impl Fn(&str) -> Option<&'c str>) -> Option<TenantId> {
        match &self.tenants {
            Tenants::One(tenant) => Some(tenant.clone()),
            Tenants::Claim { claim, allowed } => {
                let tenant = TenantId::parse(text(claim)?).ok()?;
                allowed.as_ref().is_none_or(|all| all.contains(&tenant)).then_some(tenant)
            }
        }
    }
}

impl<'t> Parts<'t> {
    /// Takes a compact serialisation apart (RFC 7515, section 7.1). Extensions that must be understood
    /// (`crit`, `b64`) and compression are refused.
    fn of(token: &'t [u8]) -> Option<Self> {
        if token.len() > MAX_TOKEN_LEN {
            return None;
        }
        let mut parts = token.split(|b| *b == b'.');
        let (header, payload, signature, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        let json = URL_SAFE_NO_PAD.decode(header).ok()?;
        let header_members = Members::parse(&json)?;
        if ["crit", "b64", "zip", "enc"].iter().any(|name| header_members.find(name).is_some()) {
            return None;
        }
        // Outer `None` refuses the token: what is there must be a text.
        let text = |name: &str| match header_members.find(name) {
            None => Some(None),
            Some(value) => value.text().map(|text| Some(text.to_owned())),
        };
        let kid = text("kid")?;
        if kid.as_ref().is_some_and(|kid| kid.len() > keys::MAX_KID_LEN) {
            return None;
        }
        Some(Self {
            algorithm: text("alg")??,
            kid,
            token_type: text("typ")?,
            signed: token.get(..header.len() + 1 + payload.len())?,
            payload: URL_SAFE_NO_PAD.decode(payload).ok()?,
            signature: URL_SAFE_NO_PAD.decode(signature).ok().filter(|bytes| !bytes.is_empty())?,
        })
    }
}
