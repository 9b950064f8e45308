//! Seals texts that the store or a browser holds and nobody but a gateway may read: secrets of identity providers, log-ins and
//! log-outs that have begun, names of sessions at providers.
//!
//! A sealed text is `v1.<mark of the pepper>.<base64url of nonce, ciphertext and tag>`. It is encrypted by AES-256-GCM under a
//! key of the pepper and the purpose, and authenticated with where it belongs, so it opens nowhere else. It opens under every
//! pepper that the gateway has.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::base::fingerprint::{Pepper, PepperMark, Peppers};

/// The version of the form.
const VERSION: &str = "v1";

/// Longest sealed text that is opened: a private key of 8192 bits in DER is 5 KiB, and a log-in that has begun 2 KiB.
const MAX_SEALED: usize = 16 * 1024;

/// What a text is sealed for. Each purpose has a key of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealPurpose {
    /// A secret in the settings of an identity provider.
    ProviderSecret,
    /// The log-in that a browser has begun, in its cookie.
    LogIn,
    /// The log-out that a browser has begun, in its cookie.
    LogOut,
    /// What a sign-on's record keeps of the session at the provider.
    SignOn,
}

impl SealPurpose {
    const fn word(self) -> &'static str {
        match self {
            Self::ProviderSecret => "provider secrets",
            Self::LogIn => "log-ins",
            Self::LogOut => "log-outs",
            Self::SignOn => "sign-ons",
        }
    }
}

/// Where a sealed text belongs: a record and a field of it, or a cookie and nothing. Neither holds a zero byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealScope<'s> {
    pub purpose: SealPurpose,
    /// The id of the record, or the name of the cookie.
    pub owner: &'s str,
    /// The field; empty where the owner has one sealed text.
    pub field: &'s str,
}

impl SealScope<'_> {
    fn associated(&self) -> Vec<u8> {
        [self.owner.as_bytes(), b"\0", self.field.as_bytes()].concat()
    }
}

/// Why a text cannot be sealed or opened. It says nothing about the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the system has no randomness to seal with")]
    NoRandomness,
    /// Not what [`seal`] makes, or too long.
    #[error("it is no sealed text")]
    Form,
    /// Sealed under a pepper that this gateway does not have.
    #[error("it was sealed under pepper {0}, which this gateway does not have")]
    UnknownPepper(PepperMark),
    /// It was changed, or belongs elsewhere.
    #[error("it was changed, or was sealed for something else")]
    Broken,
}

/// Seals a text under this pepper.
///
/// # Errors
/// [`SealError::NoRandomness`].
pub fn seal(pepper: &Pepper, scope: &SealScope<'_>, plain: &[u8]) -> Result<String, SealError> {
    let key = key_of(pepper, scope.purpose)?;
    // It is encrypted in place, so no copy of the plain text is left.
    let mut text = plain.to_vec();
    let nonce = key
        .seal_in_place_append_tag(Aad::from(scope.associated()), &mut text)
        .map_err(|_| SealError::NoRandomness)?;
    let sealed = [nonce.as_ref().as_slice(), &text].concat();
    Ok(format!("{VERSION}.{}.{}", pepper.check().mark(), URL_SAFE_NO_PAD.encode(sealed)))
}

/// Opens a text that was sealed for this scope under one of these peppers.
///
/// # Errors
/// [`SealError`].
pub fn open(peppers: &Peppers, scope: &SealScope<'_>, sealed: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let mark = mark_of(sealed).ok_or(SealError::Form)?;
    let (_, text) = sealed.rsplit_once('.').ok_or(SealError::Form)?;
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SealError::Form)?;
    let (nonce, text) = bytes.split_at_checked(NONCE_LEN).ok_or(SealError::Form)?;
    let mut known = SealError::UnknownPepper(mark);
    // Two peppers may have one mark, so each of them is tried.
    for pepper in peppers.iter().filter(|pepper| pepper.check().mark() == mark) {
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Form)?;
        let mut text = Zeroizing::new(text.to_vec());
        let opened = key_of(pepper, scope.purpose)?.open_in_place(nonce, Aad::from(scope.associated()), &mut text);
        match opened.map(|plain| plain.len()) {
            Ok(length) => {
                text.truncate(length);
                return Ok(text);
            }
            Err(_) => known = SealError::Broken,
        }
    }
    Err(known)
}

/// The pepper that a text was sealed under; `None` for what is no sealed text.
#[must_use]
pub fn mark_of(sealed: &str) -> Option<PepperMark> {
    if sealed.len() > MAX_SEALED {
        return None;
    }
    let mut parts = sealed.split('.');
    let (version, mark, _) = (parts.next()?, parts.next()?, parts.next()?);
    if version != VERSION || parts.next().is_some() {
        return None;
    }
    PepperMark::parse(mark)
}

fn key_of(pepper: &Pepper, purpose: SealPurpose) -> Result<RandomizedNonceKey, SealError> {
    RandomizedNonceKey::new(&AES_256_GCM, pepper.sealing_key(purpose.word()).as_slice()).map_err(|_| SealError::Form)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: SealScope<'_> = SealScope {
        purpose: SealPurpose::ProviderSecret,
        owner: "prv_1",
        field: "client_secret",
    };

    fn pepper(byte: u8) -> Pepper {
        Pepper::new(&[byte; 32]).unwrap()
    }

    fn peppers(bytes: &[u8]) -> Peppers {
        Peppers::new(bytes.iter().map(|byte| pepper(*byte)).collect()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_under_each_pepper_of_the_list_and_under_no_other() {
        let sealed = seal(&pepper(1), &SECRET, b"canary").unwrap();
        assert!(!sealed.contains("canary"));
        for list in [peppers(&[1]), peppers(&[2, 1])] {
            assert_eq!(open(&list, &SECRET, &sealed).unwrap().as_slice(), b"canary");
        }
        let mark = pepper(1).check().mark();
        assert_eq!(mark_of(&sealed), Some(mark));
        assert_eq!(open(&peppers(&[2]), &SECRET, &sealed), Err(SealError::UnknownPepper(mark)));
    }

    #[test]
    fn no_two_seals_of_one_text_are_alike() {
        let sealed = seal(&pepper(1), &SECRET, b"same").unwrap();
        assert_ne!(sealed, seal(&pepper(1), &SECRET, b"same").unwrap());
    }

    #[test]
    fn what_was_sealed_for_one_place_opens_at_no_other() {
        let sealed = seal(&pepper(1), &SECRET, b"x").unwrap();
        for other in [
            SealScope { owner: "prv_2", ..SECRET },
            SealScope {
                field: "private_key",
                ..SECRET
            },
            SealScope {
                purpose: SealPurpose::LogIn,
                ..SECRET
            },
            // The end of one part is not the beginning of the other.
            SealScope {
                owner: "prv_",
                field: "1client_secret",
                ..SECRET
            },
        ] {
            assert_eq!(open(&peppers(&[1]), &other, &sealed), Err(SealError::Broken), "{other:?}");
        }
        assert!(open(&peppers(&[1]), &SECRET, &sealed).is_ok());
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let sealed = seal(&pepper(1), &SECRET, b"canary").unwrap();
        let from = sealed.rfind('.').unwrap() + 1;
        for at in from..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(open(&peppers(&[1]), &SECRET, &changed).is_err(), "{at}");
        }
        let mark = pepper(1).check().mark();
        for bad in [
            String::new(),
            "v1".into(),
            format!("v1.{mark}"),
            format!("v1.{mark}."),
            format!("v1.{mark}.AAAA"),
            format!("v1.{mark}.AA.AA"),
            format!("v2.{mark}.{}", &sealed[from..]),
            format!("v1.zzzzzzzz.{}", &sealed[from..]),
            format!("v1.{mark}.{}", "A".repeat(MAX_SEALED)),
        ] {
            assert_eq!(open(&peppers(&[1]), &SECRET, &bad), Err(SealError::Form), "{}", bad.len());
        }
    }
}
