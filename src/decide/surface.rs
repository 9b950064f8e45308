//! Surfaces as configured: which credential, where it is carried, how it is verified.

use std::time::Duration;

use crate::base::ids::SurfaceName;
use crate::base::scope::Mode;

use super::token::TokenRules;

/// Index of a surface in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SurfaceIndex(pub usize);

/// One class of caller.
#[derive(Debug)]
pub struct Surface {
    /// Its name; part of every fingerprint made for it.
    pub name: SurfaceName,
    /// Which credential it takes.
    pub kind: SurfaceKind,
    /// The only mode admitted, if the operator pinned one (a sandbox gateway).
    pub mode: Option<Mode>,
}

/// The kinds of credential.
#[derive(Debug)]
pub enum SurfaceKind {
    /// One opaque key.
    ApiKey {
        /// Where it may be carried, in order.
        carriers: Vec<Carrier>,
        /// Its accepted prefixes; never empty.
        prefixes: Vec<KeyPrefix>,
        /// Which keys exist on this surface.
        keys: KeyOrigin,
    },
    /// Two halves in two headers.
    KeyPair {
        /// Lower-case name of the header with the publishable half.
        key_header: String,
        /// Lower-case name of the header with the secret half.
        secret_header: String,
        /// Accepted prefixes of the publishable half.
        key_prefixes: Vec<KeyPrefix>,
        /// Accepted prefixes of the secret half; same modes as `key_prefixes`.
        secret_prefixes: Vec<KeyPrefix>,
        /// Which pairs exist on this surface.
        keys: KeyOrigin,
    },
    /// A signed session token that hangs on a record.
    SessionJwt {
        /// Where it may be carried, in order; an explicit header beats a cookie.
        carriers: Vec<Carrier>,
        /// How it is verified.
        rules: Box<TokenRules>,
        /// The surface whose record the token's `sub` names by id.
        record_surface: SurfaceName,
    },
}

/// Where a credential is carried.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Carrier {
    /// `Authorization: Bearer …`
    Bearer,
    /// A header of this lower-case name.
    Header(String),
    /// A cookie of this name.
    Cookie(String),
}

/// A visible beginning of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPrefix {
    /// The text, e.g. `hlive_`.
    pub text: String,
    /// The mode it tells, if any.
    pub mode: Option<Mode>,
}

/// Which keys a surface knows, and so which can be refused before any look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrigin {
    /// Only keys durward generated: the checksum must hold.
    Generated,
    /// Generated ones, and imported ones of which only the SHA-256 is known: no checksum is asked
    /// for and both forms are looked up.
    Imported,
}

/// Largest clock skew that may be configured for tokens: it eats into the revocation bound.
pub const MAX_SKEW: Duration = Duration::from_secs(5);
