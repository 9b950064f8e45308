//! Tokens of other issuers. They are verified by published keys and hang on their tenant alone.

use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::Now;
use crate::base::credential::{Credential, Unproven};
use crate::base::denial::Denial;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{SurfaceName, TenantId};
use crate::base::principal::{CredentialRecord, Principal, TokenClaims};
use crate::base::scope::Mode;
use crate::decide::external::{ExternalIssuer, ExternalRules, PublishedKeys, Unverified};
use crate::decide::token::{ClaimHeader, VerifiedClaims, is_token_shaped};

use super::{Carrier, Carry, CredentialKind, FindBy, KeyPrefix, Maker, Presentation, Proof, Recipe, Records};

/// A token signed by an issuer that is not ours.
#[derive(Debug)]
pub struct ExternalSurface {
    /// Where a token may be carried, in order; never in a cookie.
    pub carriers: Vec<Carrier>,
    pub rules: Box<ExternalRules>,
    /// The surface name of the records that stand for tenants.
    pub record_surface: SurfaceName,
}

/// The result of verifying the signature of a credential.
#[derive(Debug)]
pub enum Verified<'s> {
    /// The credential is no token and has no signature.
    NoToken,
    /// The signature is good, and the time is right.
    Token(VerifiedClaims),
    /// The key of the signature is unknown. Newer keys may be fetched.
    KeyWanted {
        /// The rules by which its tokens are verified.
        rules: &'s ExternalRules,
        keys: &'s Arc<PublishedKeys>,
        /// The refusal if there are no newer keys.
        otherwise: Unproven,
    },
}

impl CredentialKind for ExternalSurface {
    fn carry(&self) -> Carry<'_> {
        Carry::Whole(&self.carriers)
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

    fn find_by(&self, _: &SurfaceName, credential: Credential<'_>, claims: Option<&TokenClaims>) -> FindBy {
        let (Credential::Jwt { .. }, Some(claims)) = (credential, claims) else {
            return FindBy::Nothing;
        };
        let tenant = || TenantId::parse(claims.record.as_str()).ok();
        let found_by = claims.memo.found_by(|| tenant().map(|tenant| Fingerprint::of_tenant(&tenant)));
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
        match self.rules.verify_lasting(token, now) {
            Ok(verified) => Ok(Verified::Token(verified)),
            Err(Unverified::Denied(why)) => Err(why),
            Err(Unverified::KeyWanted { keys, otherwise }) => Ok(Verified::KeyWanted {
                rules: &self.rules,
                keys,
                otherwise,
            }),
        }
    }

    fn judge_again(&self, token: &VerifiedClaims, now: Now) -> Option<Result<(), Unproven>> {
        self.rules.judge_again(token, now)
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

    /// The issuer must still publish the key, and the rules must still ask for the same.
    fn prove_again(&self, was: &Self, before: &Principal, _: &CredentialRecord, now: Now) -> Result<Proof, Denial> {
        let claims = before.token.as_ref().ok_or(Denial::WrongSurface)?;
        if !self.rules.ask_the_same_as(&was.rules) {
            return Err(Denial::InvalidToken);
        }
        self.rules.check_key(claims, now)?;
        Ok(Proof::of_signature())
    }

    fn skew(&self) -> Option<Duration> {
        Some(self.rules.skew())
    }

    fn records(&self) -> Records<'_> {
        Records::Of(&self.record_surface)
    }

    fn recipe(&self) -> Recipe<'_> {
        Recipe::Elsewhere
    }

    fn issuers(&self) -> &[ExternalIssuer] {
        &self.rules.issuers
    }

    fn issuers_mut(&mut self) -> &mut [ExternalIssuer] {
        &mut self.rules.issuers
    }
}
