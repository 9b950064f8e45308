//! HTTP Basic: a key and a secret, or a key alone, in one header (RFC 7617).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::base::clock::Now;
use crate::base::credential::{Credential, Unproven};
use crate::base::denial::Denial;
use crate::base::ids::SurfaceName;
use crate::base::key::{IdKind, MAX_KEY_LEN};
use crate::base::principal::{CredentialRecord, Principal, TokenClaims};
use crate::base::scope::Mode;
use crate::decide::token::ClaimHeader;

use super::key_pair::read_pair;
use super::proof::{compare_secret, same_secret, whole_key};
use super::{
    AuthScheme, Carrier, Carry, CredentialKind, DEFAULT_RANDOM, FindBy, KeyForm, KeyOrigin, KeyPrefix, Maker, Presentation, Proof, Recipe,
    Records, Verified, longest_prefix,
};

/// `Authorization: Basic base64(key:password)`.
#[derive(Debug)]
pub struct BasicSurface {
    /// Accepted prefixes of the key.
    pub key_prefixes: Vec<KeyPrefix>,
    /// What stands after the colon.
    pub password: BasicPassword,
    /// The origins of the keys of this surface.
    pub keys: KeyOrigin,
}

/// What the password of HTTP Basic holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BasicPassword {
    /// The secret half of a pair; the user name is the publishable half.
    Secret {
        /// Accepted prefixes, with the same modes as those of the key.
        prefixes: Vec<KeyPrefix>,
    },
    /// Nothing: the user name is the whole key (`curl -u key:`).
    Empty,
}

/// The longest key, a colon and the longest secret.
const MAX_PLAIN: usize = 2 * MAX_KEY_LEN + 1;
/// Four characters of base64 for each three bytes.
const MAX_ENCODED: usize = MAX_PLAIN.div_ceil(3) * 4;

const CARRIERS: &[Carrier] = &[Carrier::Authorization(AuthScheme::Basic)];

impl BasicSurface {
    fn key_form(&self) -> KeyForm<'_> {
        KeyForm {
            prefixes: &self.key_prefixes,
            random: DEFAULT_RANDOM,
            longest: MAX_KEY_LEN,
        }
    }

    fn secret_form(&self) -> Option<KeyForm<'_>> {
        match &self.password {
            BasicPassword::Secret { prefixes } => Some(KeyForm {
                prefixes,
                random: DEFAULT_RANDOM,
                longest: MAX_KEY_LEN,
            }),
            BasicPassword::Empty => None,
        }
    }
}

/// Calls `with` with user name and password; `None` if the text is not exactly the base64 of two texts without
/// control characters. The user name ends at the first colon (RFC 7617, section 2). The plain text is wiped.
fn with_both<T>(encoded: &[u8], with: impl FnOnce(&[u8], &[u8]) -> T) -> Option<T> {
    if encoded.len() > MAX_ENCODED {
        return None;
    }
    let mut plain = Zeroizing::new([0_u8; MAX_ENCODED / 4 * 3]);
    let length = STANDARD.decode_slice(encoded, plain.as_mut_slice()).ok()?;
    let plain = plain.get(..length).filter(|text| !text.iter().any(u8::is_ascii_control))?;
    let colon = memchr::memchr(b':', plain)?;
    let (user, password) = (plain.get(..colon)?, plain.get(colon + 1..)?);
    Some(with(user, password))
}

impl CredentialKind for BasicSurface {
    fn carry(&self) -> Carry<'_> {
        Carry::Whole(CARRIERS)
    }

    fn prefixes(&self) -> &[KeyPrefix] {
        &self.key_prefixes
    }

    fn prefix_of(&self, text: &[u8]) -> Option<&KeyPrefix> {
        with_both(text, |user, _| longest_prefix(&self.key_prefixes, user)).flatten()
    }

    /// The encoded form, or the bare key in another header.
    fn is_form_of(&self, text: &[u8]) -> bool {
        self.prefix_of(text).is_some() || longest_prefix(&self.key_prefixes, text).is_some()
    }

    /// A pair is never read from its key alone, and a key never with an unexpected password.
    fn read<'h>(&self, text: &'h [u8], prefix: &KeyPrefix) -> Result<Credential<'h>, Denial> {
        let read = with_both(text, |user, password| match self.secret_form() {
            Some(secret) => read_pair(self.key_form(), secret, self.keys, user, password).map(drop),
            None if password.is_empty() => self.key_form().check(user, prefix, self.keys),
            None => Err(Denial::MalformedCredential),
        });
        read.unwrap_or(Err(Denial::MalformedCredential))?;
        Ok(Credential::Basic(text))
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

    fn find_by(&self, _: &SurfaceName, credential: Credential<'_>, _: Option<&TokenClaims>) -> FindBy {
        let found = self.with_key(credential, |user| self.key_form().find_by(user, self.keys));
        found.unwrap_or(FindBy::Nothing)
    }

    fn maker(&self, credential: Credential<'_>) -> Maker {
        let found = self.with_key(credential, |user| self.key_form().maker(user, self.keys));
        found.unwrap_or(Maker::Untold)
    }

    fn with_key<T>(&self, credential: Credential<'_>, with: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let Credential::Basic(encoded) = credential else {
            return None;
        };
        with_both(encoded, |user, _| with(user))
    }

    fn verify(&self, _: Credential<'_>, _: Now) -> Result<Verified<'_>, Unproven> {
        Ok(Verified::NoToken)
    }

    /// An unknown key costs the same comparison as a known key.
    fn prove(&self, presented: Presentation<'_>, record: Option<&CredentialRecord>) -> Proof {
        let Credential::Basic(encoded) = presented.credential else {
            return Proof::NONE;
        };
        let proof = with_both(encoded, |_, password| match &self.password {
            BasicPassword::Secret { .. } => compare_secret(&presented, password, self.keys, record),
            BasicPassword::Empty => record.map_or(Proof::NONE, whole_key),
        });
        proof.unwrap_or(Proof::NONE)
    }

    fn demand(&self, proof: Proof, record: &CredentialRecord) -> Result<(), Denial> {
        let proven = match &self.password {
            BasicPassword::Secret { .. } => proof.is_of_secret(record),
            BasicPassword::Empty => proof.is_of_key(record),
        };
        if proven { Ok(()) } else { Err(Denial::WrongSecret) }
    }

    fn prove_again(&self, was: &Self, before: &Principal, record: &CredentialRecord, _: Now) -> Result<Proof, Denial> {
        match (&was.password, &self.password) {
            (BasicPassword::Secret { .. }, BasicPassword::Secret { .. }) => Ok(same_secret(&before.facts.credential, record)),
            (BasicPassword::Empty, BasicPassword::Empty) => Ok(whole_key(record)),
            (BasicPassword::Secret { .. }, BasicPassword::Empty) | (BasicPassword::Empty, BasicPassword::Secret { .. }) => {
                Err(Denial::WrongSurface)
            }
        }
    }

    fn skew(&self) -> Option<Duration> {
        None
    }

    fn records(&self) -> Records<'_> {
        Records::Own
    }

    fn recipe(&self) -> Recipe<'_> {
        Recipe::Keys {
            id: match &self.password {
                BasicPassword::Secret { .. } => IdKind::Pair,
                BasicPassword::Empty => IdKind::Key,
            },
            key: self.key_form(),
            secret: self.secret_form(),
            origin: self.keys,
        }
    }

    fn present(&self, key: &str, secret: Option<&str>) -> Option<(String, String)> {
        let plain = Zeroizing::new(format!("{key}:{}", secret.unwrap_or_default()));
        CARRIERS
            .iter()
            .find_map(|carrier| carrier.field(&STANDARD.encode(plain.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fingerprint::{CredentialPart, Pepper, Peppers};
    use crate::base::key::GeneratedKey;
    use crate::decide::extract::{Extracted, extract};
    use crate::decide::samples::{self, api_key, prefixes, surface};
    use crate::decide::surface::{Surface, SurfaceIndex, SurfaceKind};
    use crate::wire::fields::Fields;

    const PAIR: usize = 0;
    const ALONE: usize = 1;
    const API: usize = 2;

    fn basic(name: &str, key: &str, password: BasicPassword) -> Surface {
        surface(
            name,
            SurfaceKind::Basic(BasicSurface {
                key_prefixes: prefixes(&[
                    (&format!("{key}test_"), Some(Mode::Test)),
                    (&format!("{key}live_"), Some(Mode::Live)),
                ]),
                password,
                keys: KeyOrigin::Generated,
            }),
        )
    }

    fn surfaces() -> Vec<Surface> {
        let secret = BasicPassword::Secret {
            prefixes: prefixes(&[("s_test_", Some(Mode::Test)), ("s_live_", Some(Mode::Live))]),
        };
        vec![
            basic("pair", "p_", secret),
            basic("alone", "a_", BasicPassword::Empty),
            api_key("api", &[Carrier::BEARER], "htst_", "hlive_", KeyOrigin::Generated),
        ]
    }

    fn made(prefix: &str) -> String {
        GeneratedKey::mint(prefix).unwrap().expose().to_owned()
    }

    fn encoded(plain: impl AsRef<[u8]>) -> String {
        STANDARD.encode(plain)
    }

    /// What is found in these fields on a route of one surface.
    fn found(fields: &[(&str, &str)], accepted: usize) -> Result<(SurfaceIndex, Option<Mode>), Denial> {
        let mut head = Fields::default();
        for (name, value) in fields {
            head.push(name.as_bytes(), value.as_bytes());
        }
        let surfaces = surfaces();
        let Extracted { surface, credential, mode } = extract(&head, &surfaces, &[SurfaceIndex(accepted)])?;
        assert_eq!(matches!(credential, Credential::Basic(_)), accepted != API, "{credential:?}");
        Ok((surface, mode))
    }

    fn presented(value: &str, accepted: usize) -> Result<(SurfaceIndex, Option<Mode>), Denial> {
        found(&[("Authorization", value)], accepted)
    }

    #[test]
    fn a_pair_and_a_key_alone_are_read_as_curl_sends_them() {
        let (key, secret, alone) = (made("p_live_"), made("s_live_"), made("a_test_"));
        let pair = encoded(format!("{key}:{secret}"));
        for scheme in ["Basic", "basic", "BASIC"] {
            assert_eq!(
                presented(&format!("{scheme} {pair}"), PAIR),
                Ok((SurfaceIndex(PAIR), Some(Mode::Live)))
            );
        }
        let alone = encoded(format!("{alone}:"));
        assert_eq!(
            presented(&format!("Basic {alone}"), ALONE),
            Ok((SurfaceIndex(ALONE), Some(Mode::Test)))
        );
    }

    #[test]
    fn nothing_but_the_exact_form_is_a_credential() {
        let (key, secret, alone) = (made("p_live_"), made("s_live_"), made("a_live_"));
        let (test, mut flipped) = (made("s_test_"), key.clone());
        flipped.replace_range(key.len() - 1.., if key.ends_with('A') { "B" } else { "A" });
        let pair = |key: &str, secret: &str| format!("Basic {}", encoded(format!("{key}:{secret}")));
        let good = encoded(format!("{key}:{secret}"));
        assert!(
            good.ends_with('=') && !good.ends_with("=="),
            "the cases below need one character of padding"
        );
        // Bits behind the last byte that are not zero: another text of the same bytes.
        let mut trailing = good.clone();
        let last = trailing.remove(trailing.len() - 2);
        trailing.insert(trailing.len() - 1, char::from(last as u8 + 1));
        let malformed = Denial::MalformedCredential;
        for (value, accepted, denial) in [
            (pair(&key, ""), PAIR, malformed),
            (pair(&key, &key), PAIR, malformed),
            (pair(&secret, &key), PAIR, malformed),
            (pair(&flipped, &secret), PAIR, malformed),
            (pair(&key, &test), PAIR, Denial::WrongMode),
            (pair("", &secret), PAIR, malformed),
            (pair("", ""), PAIR, malformed),
            (pair(&key, &format!("{secret}\n")), PAIR, malformed),
            (pair(&key, &format!("{secret}\0")), PAIR, malformed),
            (format!("Basic {}", encoded(&key)), PAIR, malformed),
            (format!("Basic {}", encoded(format!("{key}:{}", "x".repeat(600)))), PAIR, malformed),
            (
                format!("Basic {}", encoded([b"p_live_:\xff\xfe".as_slice()].concat())),
                PAIR,
                malformed,
            ),
            (format!("Basic {}", good.trim_end_matches('=')), PAIR, malformed),
            (format!("Basic {trailing}"), PAIR, malformed),
            (format!("Basic {good}="), PAIR, malformed),
            (format!("Basic {good}!"), PAIR, malformed),
            (format!("Basic\t{good}"), PAIR, malformed),
            (format!("Basic \t{good}"), PAIR, malformed),
            (format!("Basic {good} {good}"), PAIR, malformed),
            (format!("Basic {good},{good}"), PAIR, Denial::AmbiguousCredentials),
            ("Basic".to_owned(), PAIR, malformed),
            ("Basic ".to_owned(), PAIR, malformed),
            (format!("Basicx {good}"), PAIR, Denial::MissingCredential),
            (pair(&alone, &secret), ALONE, malformed),
            // Of another surface, or where no route looks for it.
            (pair(&alone, ""), PAIR, Denial::WrongSurface),
            (pair(&key, &secret), ALONE, Denial::WrongSurface),
            (pair(&key, &secret), API, Denial::MisplacedCredential),
            (format!("Bearer {key}"), API, Denial::WrongSurface),
            (format!("Bearer {good}"), API, Denial::WrongSurface),
            (format!("Basic {}", encoded("nobody:nothing")), API, Denial::MissingCredential),
        ] {
            assert_eq!(presented(&value, accepted), Err(denial), "{value}");
        }
        let twice = pair(&key, &secret);
        assert_eq!(
            found(&[("Authorization", &twice), ("authorization", &twice)], PAIR),
            Err(Denial::AmbiguousCredentials)
        );
    }

    #[test]
    fn a_pair_is_proven_by_its_secret_and_a_key_alone_only_where_it_has_none() {
        let peppers = Peppers::new(vec![Pepper::new(&[1; 32]).unwrap()]).unwrap();
        let all = surfaces();
        let mut record = samples::facts("pair", "pair_1", "acme").credential;
        let demand = |index: usize, plain: &str, record: &CredentialRecord| {
            let (surface, text) = (&all[index], encoded(plain));
            let proof = surface.prove(Credential::Basic(text.as_bytes()), None, Some(record), &peppers);
            surface.kind.demand(proof, record)
        };
        record.secret_fingerprint = Some(peppers.first().fingerprint(&all[PAIR].name, CredentialPart::Secret, b"right"));
        assert_eq!(demand(PAIR, "key:right", &record), Ok(()));
        assert_eq!(demand(PAIR, "key:wrong", &record), Err(Denial::WrongSecret));
        assert_eq!(demand(PAIR, "key:", &record), Err(Denial::WrongSecret));
        assert_eq!(
            demand(ALONE, "key:", &record),
            Err(Denial::WrongSecret),
            "a pair's key is no secret"
        );
        record.secret_fingerprint = None;
        assert_eq!(demand(PAIR, "key:", &record), Err(Denial::WrongSecret));
        assert_eq!(demand(ALONE, "key:", &record), Ok(()));
        let other = all[ALONE].prove(Credential::Key(b"key"), None, Some(&record), &peppers);
        assert_eq!(other, Proof::NONE, "what was presented in another place");
    }
}
