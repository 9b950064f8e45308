//! Accounts: people and other actors. They prove themselves by a password, or not at all.

use std::time::Duration;

use crate::base::clock::Now;
use crate::base::credential::{Credential, Unproven};
use crate::base::denial::Denial;
use crate::base::ids::SurfaceName;
use crate::base::principal::{CredentialRecord, PasswordHash, Principal, TokenClaims};
use crate::base::scope::Mode;
use crate::decide::token::ClaimHeader;

use super::{AccountFields, Carry, CredentialKind, FindBy, KeyPrefix, Maker, Presentation, Proof, Recipe, Records, Verified};

/// The surface of accounts, which have further records below them. An account is found by its id, or by the
/// fingerprint of the normal form of its log-in name.
#[derive(Debug)]
pub struct AccountSurface {
    /// The body fields that present an account on served routes; `None`: an account is never presented.
    pub fields: Option<AccountFields>,
}

fn password(record: &CredentialRecord) -> Option<&PasswordHash> {
    record.extras.as_ref()?.password.as_ref()
}

impl CredentialKind for AccountSurface {
    fn carry(&self) -> Carry<'_> {
        self.fields.as_ref().map_or(Carry::Never, Carry::Login)
    }

    fn prefixes(&self) -> &[KeyPrefix] {
        &[]
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

    /// Log-ins are handled separately: the name is no secret, and the password needs a hash that is slow on purpose.
    fn find_by(&self, _: &SurfaceName, _: Credential<'_>, _: Option<&TokenClaims>) -> FindBy {
        FindBy::Nothing
    }

    /// Anybody may type a log-in name.
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

    fn demand(&self, proof: Proof, record: &CredentialRecord) -> Result<(), Denial> {
        if proof.is_of_password(record) {
            Ok(())
        } else {
            Err(Denial::WrongSecret)
        }
    }

    /// The verified password must be the present one: whoever knew an old password has proven nothing.
    fn prove_again(&self, _: &Self, before: &Principal, record: &CredentialRecord, _: Now) -> Result<Proof, Denial> {
        let (verified, present) = (password(&before.facts.credential), password(record));
        if present.is_some() && verified == present {
            Ok(Proof::of_password(record))
        } else {
            Ok(Proof::NONE)
        }
    }

    fn skew(&self) -> Option<Duration> {
        None
    }

    fn records(&self) -> Records<'_> {
        Records::Own
    }

    fn recipe(&self) -> Recipe<'_> {
        Recipe::Account
    }
}
