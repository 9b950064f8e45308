//! Session tokens: signed by the gateway, or by a service that shares a secret with it. They hang on a record.

use std::time::Duration;

use crate::base::clock::Now;
use crate::base::credential::{Credential, Unproven};
use crate::base::denial::Denial;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::SurfaceName;
use crate::base::principal::{CredentialRecord, Principal, TokenClaims};
use crate::base::scope::Mode;
use crate::decide::token::{ClaimHeader, TokenRules, VerifiedClaims, is_token_shaped};

use super::{Carrier, Carry, CredentialKind, FindBy, KeyPrefix, Maker, Presentation, Proof, Recipe, Records, Verified};

/// A signed session token that hangs on a record.
#[derive(Debug)]
pub struct SessionSurface {
    /// Where a token may be carried, in order. An explicit header beats a cookie.
    pub carriers: Vec<Carrier>,
    pub rules: Box<TokenRules>,
    /// Which record the token hangs on.
    pub record: SessionRecord,
    /// How the gateway mints the tokens; `None`: another service does.
    pub minting: Option<Box<Minting>>,
}

/// Which record a session token hangs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionRecord {
    /// The record of this surface that `sub` names by id. The token has no record of its own.
    Sub(SurfaceName),
    /// The record of the own surface that `jti` names by id, whose parent is what the session hangs on. Each session
    /// can be listed and ended by itself.
    Own,
}

/// How tokens of a session surface are minted. The first secret of its rules signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minting {
    /// The time from `iat` to `exp`, unless a mint asks for less; never beyond the end of the record.
    pub lifetime: Duration,
    /// The cookie that carries a minted token, if the surface has one.
    pub cookie: Option<CookieSpec>,
    /// Whether a token is renewed while it is used; only with [`SessionRecord::Own`].
    pub refresh: Option<Refresh>,
}

/// The cookie of a session. Always `HttpOnly` and `Secure`, never with `Domain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieSpec {
    /// The name, which is also one of the surface's carriers.
    pub name: String,
    /// `SameSite`.
    pub same_site: SameSite,
    /// `Path`.
    pub path: String,
    /// `Max-Age`; `None`: until the browser closes.
    pub max_age: Option<Duration>,
}

/// When a browser attaches a cookie to requests that other sites cause (RFC 6265bis, section 5.6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    Strict,
    /// When a person follows a link.
    Lax,
    None,
}

impl SameSite {
    /// Its word in `Set-Cookie`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

/// Automatic renewal: the use of a token that is older than `after` is answered with a new token, up to the end of
/// its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    /// The age from which a token is renewed; less than its lifetime.
    pub after: Duration,
    /// The response header with the renewed token, for callers without a cookie.
    pub header: Option<String>,
}

impl SessionSurface {
    fn records_of<'s>(&'s self, own: &'s SurfaceName) -> &'s SurfaceName {
        match &self.record {
            SessionRecord::Sub(surface) => surface,
            SessionRecord::Own => own,
        }
    }
}

impl CredentialKind for SessionSurface {
    fn carry(&self) -> Carry<'_> {
        Carry::Whole(&self.carriers)
    }

    fn cookies(&self) -> &[Carrier] {
        &self.carriers
    }

    fn prefixes(&self) -> &[KeyPrefix] {
        &[]
    }

    fn prefix_of(&self, _: &[u8]) -> Option<&KeyPrefix> {
        None
    }

    fn is_form_of(&self, text: &[u8]) -> bool {
        is_token_shaped(text)
    }

    fn read<'h>(&self, _: &'h [u8], _: &KeyPrefix) -> Result<Credential<'h>, Denial> {
        Err(Denial::MalformedCredential)
    }

    fn read_halves<'h>(&self, _: &'h [u8], _: &'h [u8]) -> Result<(Credential<'h>, Option<Mode>), Denial> {
        Err(Denial::AmbiguousCredentials)
    }

    fn is_token(&self) -> bool {
        true
    }

    fn claim_headers(&self) -> &[ClaimHeader] {
        &self.rules.claim_headers
    }

    /// The id in the verified `sub` or `jti`, on the surface of the record.
    fn find_by(&self, surface: &SurfaceName, credential: Credential<'_>, claims: Option<&TokenClaims>) -> FindBy {
        let (Credential::Jwt { .. }, Some(claims)) = (credential, claims) else {
            return FindBy::Nothing;
        };
        let found_by = claims
            .memo
            .found_by(|| Some(Fingerprint::of_id(self.records_of(surface), &claims.record)));
        found_by.map_or(FindBy::Nothing, FindBy::Exactly)
    }

    fn maker(&self, _: Credential<'_>) -> Maker {
        Maker::BySignature
    }

    fn with_key<T>(&self, _: Credential<'_>, _: impl FnOnce(&[u8]) -> T) -> Option<T> {
        None
    }

    fn verify(&self, credential: Credential<'_>, now: Now) -> Result<Verified<'_>, Unproven> {
        let Credential::Jwt { token, .. } = credential else {
            return Ok(Verified::NoToken);
        };
        let record = match self.record {
            SessionRecord::Sub(_) => "sub",
            SessionRecord::Own => "jti",
        };
        Ok(Verified::Token(self.rules.verify_naming(token, now.wall, record)?))
    }

    fn judge_again(&self, token: &VerifiedClaims, now: Now) -> Option<Result<(), Unproven>> {
        self.rules.judge_again(token, now.wall)
    }

    fn prove(&self, presented: Presentation<'_>, _: Option<&CredentialRecord>) -> Proof {
        let (Credential::Jwt { .. }, Some(_)) = (presented.credential, presented.claims) else {
            return Proof::NONE;
        };
        Proof::of_signature()
    }

    fn demand(&self, proof: Proof, _: &CredentialRecord) -> Result<(), Denial> {
        if proof.is_of_signature() { Ok(()) } else { Err(Denial::Internal) }
    }

    /// The secret that signed it must still be trusted, and the rules must still ask for the same. The time of the
    /// token is judged as for any token.
    fn prove_again(&self, was: &Self, before: &Principal, _: &CredentialRecord, _: Now) -> Result<Proof, Denial> {
        let claims = before.token.as_ref().ok_or(Denial::WrongSurface)?;
        if self.rules.ask_the_same_as(&was.rules) && self.rules.keys.trusts(claims.key) {
            Ok(Proof::of_signature())
        } else {
            Err(Denial::InvalidToken)
        }
    }

    fn skew(&self) -> Option<Duration> {
        Some(self.rules.skew())
    }

    fn records(&self) -> Records<'_> {
        match &self.record {
            SessionRecord::Sub(surface) => Records::Of(surface),
            SessionRecord::Own => Records::Own,
        }
    }

    fn recipe(&self) -> Recipe<'_> {
        Recipe::Session(self)
    }

    fn session(&self) -> Option<&SessionSurface> {
        Some(self)
    }
}
