//! API keys: one opaque text. Whoever has it may use it.

use std::time::Duration;

use crate::base::clock::Now;
use crate::base::credential::{Credential, Unproven};
use crate::base::denial::Denial;
use crate::base::ids::SurfaceName;
use crate::base::key::{IdKind, MAX_KEY_LEN};
use crate::base::principal::{CredentialRecord, Principal, TokenClaims};
use crate::base::scope::Mode;
use crate::decide::token::ClaimHeader;

use super::proof::whole_key;
use super::{
    Carrier, Carry, CredentialKind, FindBy, KeyForm, KeyOrigin, KeyPrefix, Maker, Presentation, Proof, Recipe, Records, Verified,
    longest_prefix,
};

#[derive(Debug)]
pub struct ApiKeySurface {
    /// Where a key may be carried, in order.
    pub carriers: Vec<Carrier>,
    /// The accepted prefixes; never empty.
    pub prefixes: Vec<KeyPrefix>,
    /// The origins of the keys of this surface.
    pub keys: KeyOrigin,
    /// Base62 characters of a new key's random part.
    pub random: usize,
    /// Claims of the record that become headers.
    pub claim_headers: Vec<ClaimHeader>,
}

impl ApiKeySurface {
    fn form(&self) -> KeyForm<'_> {
        KeyForm {
            prefixes: &self.prefixes,
            random: self.random,
            longest: MAX_KEY_LEN,
        }
    }
}

impl CredentialKind for ApiKeySurface {
    fn carry(&self) -> Carry<'_> {
        Carry::Whole(&self.carriers)
    }

    fn prefixes(&self) -> &[KeyPrefix] {
        &self.prefixes
    }

    fn prefix_of(&self, text: &[u8]) -> Option<&KeyPrefix> {
        longest_prefix(&self.prefixes, text)
    }

    fn is_form_of(&self, text: &[u8]) -> bool {
        self.prefix_of(text).is_some()
    }

    fn read<'h>(&self, text: &'h [u8], prefix: &KeyPrefix) -> Result<Credential<'h>, Denial> {
        self.form().check(text, prefix, self.keys)?;
        Ok(Credential::Key(text))
    }

    fn read_halves<'h>(&self, _: &'h [u8], _: &'h [u8]) -> Result<(Credential<'h>, Option<Mode>), Denial> {
        Err(Denial::AmbiguousCredentials)
    }

    fn is_token(&self) -> bool {
        false
    }

    fn claim_headers(&self) -> &[ClaimHeader] {
        &self.claim_headers
    }

    fn find_by(&self, _: &SurfaceName, credential: Credential<'_>, _: Option<&TokenClaims>) -> FindBy {
        let Credential::Key(text) = credential else {
            return FindBy::Nothing;
        };
        self.form().find_by(text, self.keys)
    }

    fn maker(&self, credential: Credential<'_>) -> Maker {
        let Credential::Key(text) = credential else {
            return Maker::Untold;
        };
        self.form().maker(text, self.keys)
    }

    fn with_key<T>(&self, credential: Credential<'_>, with: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let Credential::Key(text) = credential else {
            return None;
        };
        Some(with(text))
    }

    fn verify(&self, _: Credential<'_>, _: Now) -> Result<Verified<'_>, Unproven> {
        Ok(Verified::NoToken)
    }

    /// Finding the record is the proof: it is looked up by nothing but the keyed hash of the key.
    fn prove(&self, presented: Presentation<'_>, record: Option<&CredentialRecord>) -> Proof {
        let (Credential::Key(_), Some(record)) = (presented.credential, record) else {
            return Proof::NONE;
        };
        whole_key(record)
    }

    fn demand(&self, proof: Proof, record: &CredentialRecord) -> Result<(), Denial> {
        if proof.is_of_key(record) {
            Ok(())
        } else {
            Err(Denial::WrongSecret)
        }
    }

    /// The record is proof enough.
    fn prove_again(&self, _: &Self, _: &Principal, record: &CredentialRecord, _: Now) -> Result<Proof, Denial> {
        Ok(whole_key(record))
    }

    fn skew(&self) -> Option<Duration> {
        None
    }

    fn records(&self) -> Records<'_> {
        Records::Own
    }

    fn recipe(&self) -> Recipe<'_> {
        Recipe::Keys {
            id: IdKind::Key,
            key: self.form(),
            secret: None,
            origin: self.keys,
        }
    }

    fn present(&self, key: &str, _: Option<&str>) -> Option<(String, String)> {
        self.carriers.iter().find_map(|carrier| carrier.field(key))
    }
}
