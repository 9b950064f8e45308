//! Key pairs: the publishable half finds the record, and the secret half proves it.

use std::time::Duration;

use crate::base::clock::Now;
use crate::base::credential::{Credential, Unproven};
use crate::base::denial::Denial;
use crate::base::ids::SurfaceName;
use crate::base::key::{IdKind, MAX_KEY_LEN};
use crate::base::principal::{CredentialRecord, Principal, TokenClaims};
use crate::base::scope::Mode;
use crate::decide::token::ClaimHeader;

use super::proof::{compare_secret, same_secret};
use super::{
    BodyField, Carry, CredentialKind, DEFAULT_RANDOM, FindBy, KeyForm, KeyOrigin, KeyPrefix, Maker, Presentation, Proof, Recipe, Records,
    Verified, longest_prefix,
};

#[derive(Debug)]
pub struct KeyPairSurface {
    pub halves: HalfCarriers,
    /// Accepted prefixes of the publishable half.
    pub key_prefixes: Vec<KeyPrefix>,
    /// Accepted prefixes of the secret half, with the same modes as `key_prefixes`.
    pub secret_prefixes: Vec<KeyPrefix>,
    /// The origins of the pairs of this surface.
    pub keys: KeyOrigin,
}

/// The two headers or body fields that carry the halves of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HalfCarriers {
    /// In two headers of these lower-case names.
    Headers { key: String, secret: String },
    /// In two fields of a JSON body, on served routes only.
    Body { key: BodyField, secret: BodyField },
}

/// Reads the two halves of a pair: both must have a known form, and the same mode.
///
/// Swapped halves and unknown texts are malformed. To the caller that looks like a wrong secret.
pub(super) fn read_pair<'h>(
    key: KeyForm<'_>,
    secret: KeyForm<'_>,
    origin: KeyOrigin,
    publishable: &'h [u8],
    half: &'h [u8],
) -> Result<Option<Mode>, Denial> {
    let prefixes = (longest_prefix(key.prefixes, publishable), longest_prefix(secret.prefixes, half));
    let (Some(key_prefix), Some(secret_prefix)) = prefixes else {
        return Err(Denial::MalformedCredential);
    };
    key.check(publishable, key_prefix, origin)?;
    secret.check(half, secret_prefix, origin)?;
    if key_prefix.mode == secret_prefix.mode {
        Ok(key_prefix.mode)
    } else {
        Err(Denial::WrongMode)
    }
}

impl KeyPairSurface {
    fn forms(&self) -> (KeyForm<'_>, KeyForm<'_>) {
        let longest = match &self.halves {
            HalfCarriers::Headers { .. } => MAX_KEY_LEN,
            // If the halves are swapped, the answer must be that for a wrong secret, not that for a text that is too
            // long.
            HalfCarriers::Body { key, secret } => key.max.min(secret.max),
        };
        let form = |prefixes| KeyForm {
            prefixes,
            random: DEFAULT_RANDOM,
            longest,
        };
        (form(&self.key_prefixes), form(&self.secret_prefixes))
    }
}

impl CredentialKind for KeyPairSurface {
    fn carry(&self) -> Carry<'_> {
        match &self.halves {
            HalfCarriers::Headers { key, secret } => Carry::Halves { key, secret },
            HalfCarriers::Body { key, secret } => Carry::BodyHalves { key, secret },
        }
    }

    fn prefixes(&self) -> &[KeyPrefix] {
        &self.key_prefixes
    }

    fn prefix_of(&self, text: &[u8]) -> Option<&KeyPrefix> {
        longest_prefix(&self.key_prefixes, text)
    }

    fn is_form_of(&self, text: &[u8]) -> bool {
        self.prefix_of(text).is_some()
    }

    /// One half without the other. To the caller that looks like a wrong secret.
    fn read<'h>(&self, _: &'h [u8], _: &KeyPrefix) -> Result<Credential<'h>, Denial> {
        Err(Denial::MalformedCredential)
    }

    fn read_halves<'h>(&self, publishable: &'h [u8], secret: &'h [u8]) -> Result<(Credential<'h>, Option<Mode>), Denial> {
        let (key_form, secret_form) = self.forms();
        let mode = read_pair(key_form, secret_form, self.keys, publishable, secret)?;
        Ok((Credential::Pair { publishable, secret }, mode))
    }

    fn is_token(&self) -> bool {
        false
    }

    fn claim_headers(&self) -> &[ClaimHeader] {
        &[]
    }

    fn find_by(&self, _: &SurfaceName, credential: Credential<'_>, _: Option<&TokenClaims>) -> FindBy {
        let Credential::Pair { publishable, .. } = credential else {
            return FindBy::Nothing;
        };
        self.forms().0.find_by(publishable, self.keys)
    }

    fn maker(&self, credential: Credential<'_>) -> Maker {
        let Credential::Pair { publishable, .. } = credential else {
            return Maker::Untold;
        };
        self.forms().0.maker(publishable, self.keys)
    }

    fn with_key<T>(&self, credential: Credential<'_>, with: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let Credential::Pair { publishable, .. } = credential else {
            return None;
        };
        Some(with(publishable))
    }

    fn verify(&self, _: Credential<'_>, _: Now) -> Result<Verified<'_>, Unproven> {
        Ok(Verified::NoToken)
    }

    /// An unknown publishable half costs the same comparison as a known one.
    fn prove(&self, presented: Presentation<'_>, record: Option<&CredentialRecord>) -> Proof {
        let Credential::Pair { secret, .. } = presented.credential else {
            return Proof::NONE;
        };
        compare_secret(&presented, secret, self.keys, record)
    }

    fn demand(&self, proof: Proof, record: &CredentialRecord) -> Result<(), Denial> {
        if proof.is_of_secret(record) {
            Ok(())
        } else {
            Err(Denial::WrongSecret)
        }
    }

    /// The record must still have the secret that was presented.
    fn prove_again(&self, _: &Self, before: &Principal, record: &CredentialRecord, _: Now) -> Result<Proof, Denial> {
        Ok(same_secret(&before.facts.credential, record))
    }

    fn skew(&self) -> Option<Duration> {
        None
    }

    fn records(&self) -> Records<'_> {
        Records::Own
    }

    fn recipe(&self) -> Recipe<'_> {
        let (key, secret) = self.forms();
        Recipe::Keys {
            id: IdKind::Pair,
            key,
            secret: Some(secret),
            origin: self.keys,
        }
    }
}
