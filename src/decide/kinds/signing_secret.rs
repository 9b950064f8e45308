//! Signing secrets: what a service signs its webhooks with. No request ever presents one.

use std::time::Duration;

use crate::base::clock::Now;
use crate::base::credential::{Credential, Unproven};
use crate::base::denial::Denial;
use crate::base::ids::SurfaceName;
use crate::base::principal::{CredentialRecord, Principal, TokenClaims};
use crate::base::scope::Mode;
use crate::decide::token::ClaimHeader;

use super::{Carry, CredentialKind, FindBy, KeyPrefix, Maker, Presentation, Proof, Recipe, Records, Verified};

/// The surface of signing secrets. They are made, listed, rotated and revoked like keys, but authenticate nobody:
/// nothing carries them, nothing that is presented finds them, and they prove nothing.
#[derive(Debug)]
pub struct SigningSecretSurface {
    /// The prefixes by mode; never empty.
    pub prefixes: Vec<KeyPrefix>,
}

impl CredentialKind for SigningSecretSurface {
    fn carry(&self) -> Carry<'_> {
        Carry::Never
    }

    fn prefixes(&self) -> &[KeyPrefix] {
        &self.prefixes
    }

    fn prefix_of(&self, _: &[u8]) -> Option<&KeyPrefix> {
        None
    }

    fn is_form_of(&self, _: &[u8]) -> bool {
        false
    }

    fn read<'h>(&self, _: &'h [u8], _: &KeyPrefix) -> Result<Credential<'h>, Denial> {
        Err(Denial::MalformedCredential)
    }

    fn read_halves<'h>(&self, _: &'h [u8], _: &'h [u8]) -> Result<(Credential<'h>, Option<Mode>), Denial> {
        Err(Denial::AmbiguousCredentials)
    }

    fn is_token(&self) -> bool {
        false
    }

    fn claim_headers(&self) -> &[ClaimHeader] {
        &[]
    }

    fn find_by(&self, _: &SurfaceName, _: Credential<'_>, _: Option<&TokenClaims>) -> FindBy {
        FindBy::Nothing
    }

    fn maker(&self, _: Credential<'_>) -> Maker {
        Maker::Untold
    }

    fn with_key<T>(&self, _: Credential<'_>, _: impl FnOnce(&[u8]) -> T) -> Option<T> {
        None
    }

    fn verify(&self, _: Credential<'_>, _: Now) -> Result<Verified<'_>, Unproven> {
        Ok(Verified::NoToken)
    }

    fn prove(&self, _: Presentation<'_>, _: Option<&CredentialRecord>) -> Proof {
        Proof::NONE
    }

    fn demand(&self, _: Proof, _: &CredentialRecord) -> Result<(), Denial> {
        Err(Denial::WrongSecret)
    }

    fn prove_again(&self, _: &Self, _: &Principal, _: &CredentialRecord, _: Now) -> Result<Proof, Denial> {
        Ok(Proof::NONE)
    }

    fn skew(&self) -> Option<Duration> {
        None
    }

    fn records(&self) -> Records<'_> {
        Records::Own
    }

    fn recipe(&self) -> Recipe<'_> {
        Recipe::Signing(&self.prefixes)
    }
}
