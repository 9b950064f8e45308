//! What is sealed into the record of a sign-on, so that a later step can name the session to its provider. Every look-up of a
//! session reads that record, so it is small.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::fingerprint::Peppers;
use crate::base::ids::CredentialId;
use crate::base::principal::CredentialRecord;

use super::fault::SignOnFault;
use super::saml::assertion::NameId;
use super::seal::{SealPurpose, SealScope, open, seal};

/// Longest name that is kept, with its qualifiers and its session, in bytes of JSON. Names of real providers have 300.
const MAX_NAME: usize = 1_024;

/// The sealed texts of a sign-on, as its record has them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignOnSecrets {
    /// By SAML: a [`SamlName`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_id: Option<String>,
}

/// How a SAML provider calls a person and a session there. A logout request must name both.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamlName {
    pub name_id: NameId,
    pub session_index: Option<String>,
}

impl std::fmt::Debug for SamlName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SamlName(..)")
    }
}

impl SignOnSecrets {
    /// The secrets of a record; none if it has none that can be read.
    #[must_use]
    pub fn of_record(record: &CredentialRecord) -> Self {
        let text = record.settings().filter(|_| record.is_sign_on());
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// The text that the record keeps; `None` without any secret.
    #[must_use]
    pub fn to_text(&self) -> Option<Arc<str>> {
        (*self != Self::default()).then(|| serde_json::to_string(self).unwrap_or_default().into())
    }
}

/// A name is sealed for its sign-on, so that it opens in no other record.
fn scope(sign_on: &CredentialId) -> SealScope<'_> {
    SealScope {
        purpose: SealPurpose::SignOn,
        owner: sign_on.as_str(),
        field: "name_id",
    }
}

impl SamlName {
    /// Seals the name for the record of this sign-on; `None` for one that is longer than 1 KiB.
    ///
    /// # Errors
    /// [`SignOnFault::NoRandomness`].
    pub fn seal(&self, sign_on: &CredentialId, peppers: &Peppers) -> Result<Option<String>, SignOnFault> {
        // Texts always become JSON.
        let text = Zeroizing::new(serde_json::to_vec(self).unwrap_or_default());
        if text.len() > MAX_NAME {
            return Ok(None);
        }
        let sealed = seal(peppers.first(), &scope(sign_on), &text).map_err(|_| SignOnFault::NoRandomness)?;
        Ok(Some(sealed))
    }

    /// The name in the record of a sign-on.
    ///
    /// # Errors
    /// [`SignOnFault::NoLogOutName`]: it has none, or none that opens under a pepper of this gateway.
    pub fn of_record(record: &CredentialRecord, peppers: &Peppers) -> Result<Self, SignOnFault> {
        let sealed = SignOnSecrets::of_record(record).name_id;
        let text = sealed.and_then(|sealed| open(peppers, &scope(&record.id), &sealed).ok());
        let name = text.and_then(|text| serde_json::from_slice(&text).ok());
        name.ok_or(SignOnFault::NoLogOutName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fingerprint::Pepper;
    use crate::base::principal::MAX_SIGN_ON_SECRETS;
    use crate::decide::samples;

    fn peppers(bytes: &[u8]) -> Peppers {
        Peppers::new(bytes.iter().map(|byte| Pepper::new(&[*byte; 32]).unwrap()).collect()).unwrap()
    }

    fn name(length: usize) -> SamlName {
        SamlName {
            name_id: NameId {
                value: "a".repeat(length),
                format: Some("urn:oasis:names:tc:SAML:2.0:nameid-format:persistent".into()),
                name_qualifier: Some("https://idp.example/metadata".into()),
                sp_name_qualifier: None,
            },
            session_index: Some("_session".into()),
        }
    }

    fn record(id: &str, name_id: Option<String>) -> CredentialRecord {
        let mut record = samples::facts("sign_on", id, "acme").credential;
        record.extras_mut().settings = SignOnSecrets { name_id }.to_text();
        record
    }

    #[test]
    fn a_name_opens_in_the_record_of_its_sign_on_and_in_no_other() {
        let known = peppers(&[7]);
        let sealed = name(40).seal(&CredentialId::parse("sgn_1").unwrap(), &known).unwrap().unwrap();
        let kept = record("sgn_1", Some(sealed.clone()));
        assert!(SamlName::of_record(&kept, &known).unwrap() == name(40));
        assert!(
            SamlName::of_record(&kept, &peppers(&[8, 7])).unwrap() == name(40),
            "the pepper was changed"
        );
        let text = kept.settings().unwrap();
        assert!(text.len() <= 600 && !text.contains("aaaa") && !text.contains("_session"), "{text}");
        let other = |record: &CredentialRecord, bytes: &[u8]| SamlName::of_record(record, &peppers(bytes)).err();
        assert_eq!(other(&kept, &[8]), Some(SignOnFault::NoLogOutName));
        assert_eq!(other(&record("sgn_2", Some(sealed)), &[7]), Some(SignOnFault::NoLogOutName));
        assert_eq!(other(&record("sgn_1", Some("v1.x".into())), &[7]), Some(SignOnFault::NoLogOutName));
        assert_eq!(other(&record("sgn_1", None), &[7]), Some(SignOnFault::NoLogOutName));
        assert_eq!(record("sgn_1", None).settings(), None);
    }

    #[test]
    fn a_name_that_is_too_long_is_not_kept_and_every_other_one_fits_into_its_record() {
        let id = CredentialId::parse("sgn_1").unwrap();
        let rest = serde_json::to_vec(&name(0)).unwrap().len();
        let longest = name(MAX_NAME - rest).seal(&id, &peppers(&[7])).unwrap();
        assert!(record("sgn_1", longest).settings().unwrap().len() <= MAX_SIGN_ON_SECRETS);
        assert_eq!(name(MAX_NAME - rest + 1).seal(&id, &peppers(&[7])).unwrap(), None);
    }
}
