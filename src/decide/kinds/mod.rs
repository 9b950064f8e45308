//! The kinds of credential. Each kind has one file, which holds everything that is asked of it.
//!
//! Every question reaches a kind by one exhaustive match. A question has a default answer only where "none" is safe: a
//! kind without an answer to how it is found and proven does not compile.

use std::time::Duration;

use crate::base::clock::Now;
use crate::base::credential::{Credential, Unproven};
use crate::base::denial::Denial;
use crate::base::fingerprint::{Fingerprint, Peppers};
use crate::base::ids::SurfaceName;
use crate::base::key::IdKind;
use crate::base::principal::{CredentialRecord, Principal, TokenClaims};
use crate::base::scope::Mode;

use super::external::ExternalIssuer;
use super::token::{ClaimHeader, VerifiedClaims};

mod account;
mod api_key;
mod basic;
mod carrier;
mod external;
mod key_form;
mod key_pair;
mod proof;
mod session;
mod signing_secret;

pub use account::AccountSurface;
pub use api_key::ApiKeySurface;
pub use basic::{BasicPassword, BasicSurface};
pub use carrier::{AccountFields, AuthScheme, BodyField, Carrier, Carry, HeaderLocation};
pub use external::{ExternalSurface, Verified};
pub use key_form::{DEFAULT_RANDOM, KeyForm, KeyOrigin, KeyPrefix, longest_prefix};
pub use key_pair::{HalfCarriers, KeyPairSurface};
pub use proof::Proof;
pub use session::{CookieSpec, Minting, Refresh, SameSite, SessionRecord, SessionSurface};
pub use signing_secret::SigningSecretSurface;

/// Declares every kind of credential once. A new kind is one line here, and one file that implements [`CredentialKind`].
///
/// The first token is `$`: a macro that is defined inside a macro cannot write `$` itself.
macro_rules! kinds {
    ($d:tt $($(#[$doc:meta])* $kind:ident($surface:ident);)*) => {
        /// A kind of credential, with the settings of its surface.
        #[derive(Debug)]
        pub enum SurfaceKind {
            $($(#[$doc])* $kind($surface),)*
        }

        /// Asks the kind that a surface is of.
        macro_rules! ask {
            ($d of:expr, $d kind:ident => $d answer:expr) => {
                match $d of {
                    $(SurfaceKind::$kind($d kind) => $d answer,)*
                }
            };
        }

        impl SurfaceKind {
            /// # Errors
            /// As [`CredentialKind::prove_again`]. What was proven to one kind proves nothing to another.
            pub fn prove_again(&self, was: &Self, before: &Principal, record: &CredentialRecord, now: Now) -> Result<Proof, Denial> {
                match (self, was) {
                    $((Self::$kind(is), Self::$kind(was)) => is.prove_again(was, before, record, now),)*
                    _ => Err(Denial::WrongSurface),
                }
            }
        }
    };
}

kinds! { $
    ApiKey(ApiKeySurface);
    /// A publishable and a secret half.
    KeyPair(KeyPairSurface);
    /// A key and a secret, or a key alone, in one header.
    Basic(BasicSurface);
    /// People and other actors that further records hang on.
    Account(AccountSurface);
    /// A signed session token that hangs on a record.
    Session(SessionSurface);
    /// A token signed by an issuer that is not ours; it hangs on its tenant alone.
    External(ExternalSurface);
    /// What a service signs with; nobody presents it.
    SigningSecret(SigningSecretSurface);
}

/// The questions that every kind of credential answers.
pub trait CredentialKind {
    // -------------------------------------------------------------------- where it stands, and what it looks like

    /// Where a request carries the credential.
    fn carry(&self) -> Carry<'_>;

    /// The cookies that the credential is read from. Only tokens are read from cookies: a browser attaches cookies by
    /// itself, so they need the same-site proof, which only tokens are asked for.
    fn cookies(&self) -> &[Carrier] {
        &[]
    }

    /// The prefixes of keys, or of the publishable halves of pairs.
    fn prefixes(&self) -> &[KeyPrefix];

    /// The longest prefix of the key that this text, from a header of this kind, presents.
    fn prefix_of(&self, text: &[u8]) -> Option<&KeyPrefix>;

    /// Whether a text, wherever it stands, has the form of this kind.
    fn is_form_of(&self, text: &[u8]) -> bool;

    /// Reads the credential in a text with this prefix. Length, alphabet and, for generated keys, the checksum are
    /// checked, so that a key that cannot exist costs no look-up.
    ///
    /// # Errors
    /// [`Denial::MalformedCredential`]; [`Denial::WrongMode`] if two parts have different modes.
    fn read<'h>(&self, text: &'h [u8], prefix: &KeyPrefix) -> Result<Credential<'h>, Denial>;

    /// Reads the credential in two separate texts, and the mode that both have.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`Denial::AmbiguousCredentials`] for a kind that is never presented so.
    fn read_halves<'h>(&self, publishable: &'h [u8], secret: &'h [u8]) -> Result<(Credential<'h>, Option<Mode>), Denial>;

    /// Whether the credential is a signed token. Tokens look alike until they are verified, so no route accepts two
    /// surfaces with tokens in the same place.
    fn is_token(&self) -> bool;

    /// The claims of records or tokens that become headers.
    fn claim_headers(&self) -> &[ClaimHeader];

    // -------------------------------------------------------------------- how it is found and proven

    /// What the record is found by.
    fn find_by(&self, surface: &SurfaceName, credential: Credential<'_>, claims: Option<&TokenClaims>) -> FindBy;

    /// What shows, before any look-up, that the credential was made by somebody who may make it.
    fn maker(&self, credential: Credential<'_>) -> Maker;

    /// Calls `with` with the text that is hashed to find the record: the key, or the publishable half.
    fn with_key<T>(&self, credential: Credential<'_>, with: impl FnOnce(&[u8]) -> T) -> Option<T>;

    /// Verifies the signature.
    ///
    /// # Errors
    /// What is wrong with a token.
    fn verify(&self, credential: Credential<'_>, now: Now) -> Result<Verified<'_>, Unproven>;

    /// Judges at `now` a token that [`verify`](Self::verify) has verified before: its bytes are the same, so its signature and its
    /// claims are. `None` if it has to be verified anew: the kind is no token, the token was read by other rules, or its key is not
    /// trusted now.
    ///
    /// # Errors
    /// What is wrong with the time of the token.
    fn judge_again(&self, _token: &VerifiedClaims, _now: Now) -> Option<Result<(), Unproven>> {
        None
    }

    /// What presenting this credential proves about the record that was found.
    fn prove(&self, presented: Presentation<'_>, record: Option<&CredentialRecord>) -> Proof;

    /// Checks that the proof is the one that this kind requires for this record.
    ///
    /// # Errors
    /// [`Denial::WrongSecret`]; [`Denial::Internal`] for a token that nobody verified.
    fn demand(&self, proof: Proof, record: &CredentialRecord) -> Result<(), Denial>;

    /// What was proven when `before` was admitted, as far as it still holds for the same record: on an open stream,
    /// and at the step of a write. `was` is the surface as it was then.
    ///
    /// # Errors
    /// [`Denial::WrongSurface`] if the surface took another kind then; [`Denial::InvalidToken`] if the token's key is
    /// no longer trusted or the rules for tokens have changed; [`Denial::StoreUnavailable`] if the keys of an issuer
    /// are not available.
    fn prove_again(&self, was: &Self, before: &Principal, record: &CredentialRecord, now: Now) -> Result<Proof, Denial>;

    /// The tolerated clock difference of tokens; `None` if the kind is no token.
    fn skew(&self) -> Option<Duration>;

    // -------------------------------------------------------------------- what it hangs on, and how it is made

    /// The surface whose records the credentials resolve to.
    fn records(&self) -> Records<'_>;

    /// How a new credential is made.
    fn recipe(&self) -> Recipe<'_>;

    /// The one request field that presents these texts, as a client sends it; `None` if more than one field, a body
    /// or a browser is needed.
    fn present(&self, _key: &str, _secret: Option<&str>) -> Option<(String, String)> {
        None
    }

    /// The settings of session tokens.
    fn session(&self) -> Option<&SessionSurface> {
        None
    }

    /// The issuers, if other issuers sign the tokens.
    fn issuers(&self) -> &[ExternalIssuer] {
        &[]
    }

    /// The issuers, for a new configuration that keeps the known keys.
    fn issuers_mut(&mut self) -> &mut [ExternalIssuer] {
        &mut []
    }
}

/// What a record is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindBy {
    Nothing,
    Exactly(Fingerprint),
    /// The keyed hash of the presented key or publishable half, in the forms that can exist.
    Hash {
        /// The keyed hash of the text, for keys that durward made.
        generated: bool,
        /// The keyed hash of its SHA-256, for imported keys.
        imported: bool,
    },
}

/// What shows, before any look-up, that a credential was made by somebody who may make credentials. It does not show
/// whether the credential is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// A signature, which is verified before a look-up.
    BySignature,
    /// The MAC in a key.
    ByMac {
        /// Whether durward made every key of this form. If the surface has imported keys too, one of them may have
        /// the same form.
        only: bool,
    },
    /// Nothing: a guess looks the same.
    Untold,
}

/// A presented credential, with the claims that its signature verified.
#[derive(Debug, Clone, Copy)]
pub struct Presentation<'p> {
    /// The surface that the credential was presented for.
    pub surface: &'p SurfaceName,
    pub credential: Credential<'p>,
    /// What a verified token claims.
    pub claims: Option<&'p TokenClaims>,
    /// The peppers that secrets are hashed with.
    pub peppers: &'p Peppers,
}

/// The surface whose records the credentials of a surface resolve to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Records<'s> {
    /// The records of the surface itself.
    Own,
    /// The records of this other surface: the tokens have no records of their own.
    Of(&'s SurfaceName),
}

/// How a new credential is made.
#[derive(Debug, Clone, Copy)]
pub enum Recipe<'s> {
    /// A key, and a secret with some kinds.
    Keys {
        /// The kind of the id.
        id: IdKind,
        /// The key, or the publishable half.
        key: KeyForm<'s>,
        secret: Option<KeyForm<'s>>,
        /// Whether keys that were made elsewhere may be imported.
        origin: KeyOrigin,
    },
    /// A record with a password, or without one.
    Account,
    Session(&'s SessionSurface),
    /// A secret to sign with, derived from the pepper and the id of its record; with the prefixes by mode.
    Signing(&'s [KeyPrefix]),
    Elsewhere,
}

/// Each method asks the kind what [`CredentialKind`] describes.
impl SurfaceKind {
    #[must_use]
    pub fn carry(&self) -> Carry<'_> {
        ask!(self, kind => kind.carry())
    }

    #[must_use]
    pub fn cookies(&self) -> &[Carrier] {
        ask!(self, kind => kind.cookies())
    }

    #[must_use]
    pub fn prefixes(&self) -> &[KeyPrefix] {
        ask!(self, kind => kind.prefixes())
    }

    #[must_use]
    pub fn prefix_of(&self, text: &[u8]) -> Option<&KeyPrefix> {
        ask!(self, kind => kind.prefix_of(text))
    }

    #[must_use]
    pub fn is_form_of(&self, text: &[u8]) -> bool {
        ask!(self, kind => kind.is_form_of(text))
    }

    /// # Errors
    /// As [`CredentialKind::read`].
    pub fn read<'h>(&self, text: &'h [u8], prefix: &KeyPrefix) -> Result<Credential<'h>, Denial> {
        ask!(self, kind => kind.read(text, prefix))
    }

    /// # Errors
    /// As [`CredentialKind::read_halves`].
    pub fn read_halves<'h>(&self, publishable: &'h [u8], secret: &'h [u8]) -> Result<(Credential<'h>, Option<Mode>), Denial> {
        ask!(self, kind => kind.read_halves(publishable, secret))
    }

    #[must_use]
    pub fn is_token(&self) -> bool {
        ask!(self, kind => kind.is_token())
    }

    #[must_use]
    pub fn claim_headers(&self) -> &[ClaimHeader] {
        ask!(self, kind => kind.claim_headers())
    }

    #[must_use]
    pub fn find_by(&self, surface: &SurfaceName, credential: Credential<'_>, claims: Option<&TokenClaims>) -> FindBy {
        ask!(self, kind => kind.find_by(surface, credential, claims))
    }

    #[must_use]
    pub fn maker(&self, credential: Credential<'_>) -> Maker {
        ask!(self, kind => kind.maker(credential))
    }

    pub fn with_key<T>(&self, credential: Credential<'_>, with: impl FnOnce(&[u8]) -> T) -> Option<T> {
        ask!(self, kind => kind.with_key(credential, with))
    }

    /// # Errors
    /// As [`CredentialKind::verify`].
    pub fn verify(&self, credential: Credential<'_>, now: Now) -> Result<Verified<'_>, Unproven> {
        ask!(self, kind => kind.verify(credential, now))
    }

    /// # Errors
    /// As [`CredentialKind::judge_again`].
    #[must_use]
    pub fn judge_again(&self, token: &VerifiedClaims, now: Now) -> Option<Result<(), Unproven>> {
        ask!(self, kind => kind.judge_again(token, now))
    }

    #[must_use]
    pub fn prove(&self, presented: Presentation<'_>, record: Option<&CredentialRecord>) -> Proof {
        ask!(self, kind => kind.prove(presented, record))
    }

    /// # Errors
    /// As [`CredentialKind::demand`].
    pub fn demand(&self, proof: Proof, record: &CredentialRecord) -> Result<(), Denial> {
        ask!(self, kind => kind.demand(proof, record))
    }

    #[must_use]
    pub fn skew(&self) -> Option<Duration> {
        ask!(self, kind => kind.skew())
    }

    #[must_use]
    pub fn records(&self) -> Records<'_> {
        ask!(self, kind => kind.records())
    }

    #[must_use]
    pub fn recipe(&self) -> Recipe<'_> {
        ask!(self, kind => kind.recipe())
    }

    #[must_use]
    pub fn present(&self, key: &str, secret: Option<&str>) -> Option<(String, String)> {
        ask!(self, kind => kind.present(key, secret))
    }

    #[must_use]
    pub fn session(&self) -> Option<&SessionSurface> {
        ask!(self, kind => kind.session())
    }

    #[must_use]
    pub fn issuers(&self) -> &[ExternalIssuer] {
        ask!(self, kind => kind.issuers())
    }

    pub fn issuers_mut(&mut self) -> &mut [ExternalIssuer] {
        ask!(self, kind => kind.issuers_mut())
    }
}
