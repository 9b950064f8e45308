//! What a caller presented, and why it proves nothing.
//!
//! A presented credential is untrusted and borrowed from the request head; it is never copied or printed.

use std::fmt;

use super::denial::Denial;

/// A presented credential. It borrows from the head, so it cannot outlive extraction and resolution. `Debug` shows
/// its kind and nothing else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    Key(&'a [u8]),
    /// Both halves of a key pair.
    Pair {
        publishable: &'a [u8],
        secret: &'a [u8],
    },
    /// The base64 of user name and password, as the scheme `Basic` carries them; decoded only while it is used.
    Basic(&'a [u8]),
    Jwt {
        token: &'a [u8],
        /// Where the token was carried. Browsers attach cookies without the user's intent.
        origin: TokenOrigin,
    },
}

impl Credential<'_> {
    #[must_use]
    pub const fn origin(&self) -> TokenOrigin {
        match self {
            Self::Key(_) | Self::Pair { .. } | Self::Basic(_) => TokenOrigin::Header,
            Self::Jwt { origin, .. } => *origin,
        }
    }
}

/// Whether the caller's code or the caller's browser attached a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenOrigin {
    /// `Authorization` or a named header.
    Header,
    Cookie,
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "Credential::Key(..)",
            Self::Pair { .. } => "Credential::Pair(..)",
            Self::Basic(_) => "Credential::Basic(..)",
            Self::Jwt { .. } => "Credential::Jwt(..)",
        })
    }
}

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident $label:literal;)*) => {
        /// Why a token was refused. Access lines tell it as `cause`; to the caller every one looks alike.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum TokenFault {
            $($(#[$doc])* $fault,)*
        }

        impl TokenFault {
            #[cfg(test)]
            pub const ALL: &'static [Self] = &[$(Self::$fault,)*];

            /// The word in access lines. It stays the same between versions.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$fault => $label,)*
                }
            }
        }
    };
}

faults! {
    /// The token has more bytes than the surface takes.
    TooLong "token_too_long";
    /// Not three parts of base64url without padding.
    Form "malformed_token";
    /// The header or the claims are not one JSON object.
    Json "malformed_json";
    /// Objects and lists are nested deeper than a token may have them.
    TooDeep "too_deep";
    /// A member stands twice in one object.
    RepeatedMember "repeated_member";
    /// The header has `crit`, `b64`, `zip` or `enc`.
    UnsupportedHeader "unsupported_header";
    /// `alg` is missing, or `alg`, `kid` or `typ` is not a text.
    MalformedHeader "malformed_header";
    /// `typ` is of another kind of token.
    WrongType "wrong_type";
    /// `iss` is missing, or of no configured issuer.
    UnknownIssuer "unknown_issuer";
    /// The issuer's keys could not be had.
    NoKeys "no_keys";
    /// No key has the `kid`.
    UnknownKey "unknown_key";
    /// More keys fit than are tried.
    AmbiguousKey "ambiguous_key";
    /// The key is for another algorithm than the token names.
    WrongAlgorithm "wrong_algorithm";
    /// The signature is not the key's.
    BadSignature "bad_signature";
    /// `exp` is missing.
    NoExpiry "no_expiry";
    /// `exp`, `nbf` or `iat` is not a time.
    MalformedTime "malformed_time";
    /// `nbf` is in the future.
    NotYetValid "not_yet_valid";
    /// `iat` is in the future.
    IssuedInFuture "issued_in_future";
    /// `iat` is missing where an age is bounded.
    NoIssueTime "no_issue_time";
    /// The claim with the audience is missing.
    NoAudience "no_audience";
    /// The audience is another one.
    WrongAudience "wrong_audience";
    /// A claim that must have a certain text has another, or is missing.
    RequiredClaim "required_claim";
    /// The claim with the subject is missing.
    NoSubject "no_subject";
    /// The subject is not a text, too long, or holds a control character.
    MalformedSubject "malformed_subject";
    /// The claim with the tenant is missing.
    NoTenant "no_tenant";
    /// The tenant is not a text that could be a tenant's id.
    MalformedTenant "malformed_tenant";
    /// The issuer does not speak for this tenant.
    ForeignTenant "foreign_tenant";
    /// The claim with the scopes is neither a text nor a list.
    MalformedScopes "malformed_scopes";
    /// `kind` is missing or of another kind of session.
    WrongKind "wrong_kind";
    /// A session names no record.
    NoRecord "no_record";
    /// Its key, or what its surface asks for, has changed since it was admitted.
    NoLongerTrusted "no_longer_trusted";
}

impl fmt::Display for TokenFault {
    /// In words for whoever configures an issuer. Nothing of the token stands in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "it is too large",
            Self::Form => "it is not a signed JWT of three parts; an encrypted token is not taken",
            Self::Json => "it is not one JSON object",
            Self::TooDeep => "its objects and lists are nested too deep",
            Self::RepeatedMember => "a member stands twice in it",
            Self::UnsupportedHeader => "its header has `crit`, `b64`, `zip` or `enc`",
            Self::MalformedHeader => "`alg`, `kid` or `typ` of its header is missing or not a text",
            Self::WrongType => "its `typ` is that of another kind of token",
            Self::UnknownIssuer => "`iss` is missing, or of no known issuer",
            Self::NoKeys => "no key is published that can be used: RSA of 2048 to 4096 bits, P-256, P-384, Ed25519",
            Self::UnknownKey => "no published key has its `kid`",
            Self::AmbiguousKey => "it names no `kid`, and too many published keys could be meant",
            Self::WrongAlgorithm => "its `alg` is not that of the key",
            Self::BadSignature => "its signature is not that of the published key",
            Self::NoExpiry => "`exp` is missing",
            Self::MalformedTime => "`exp`, `nbf`, `iat` or `auth_time` is not a number of seconds",
            Self::NotYetValid => "`nbf` is in the future",
            Self::IssuedInFuture => "`iat` is in the future",
            Self::NoIssueTime => "`iat` is missing",
            Self::NoAudience => "`aud` is missing",
            Self::WrongAudience => "`aud` is another audience",
            Self::RequiredClaim => "a required claim is missing or has another value",
            Self::NoSubject => "the claim with the subject is missing",
            Self::MalformedSubject => "its subject is not a text of 1 to 255 characters without control characters",
            Self::NoTenant => "the claim with the tenant is missing",
            Self::MalformedTenant => "its tenant is not the id of one",
            Self::ForeignTenant => "its issuer does not speak for the tenant",
            Self::MalformedScopes => "its scopes are neither a text nor a list",
            Self::WrongKind => "it is of another kind of session",
            Self::NoRecord => "it names no record",
            Self::NoLongerTrusted => "its key or its surface has changed",
        })
    }
}

/// Why a credential was not accepted.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unproven {
    /// What the caller is told.
    pub denial: Denial,
    /// The `cause` in the access line.
    pub cause: Option<&'static str>,
}

impl Unproven {
    /// A key whose MAC is wrong under every pepper. The caller and the metrics see the same as for an unknown key.
    pub const WRONG_MAC: Self = Self {
        denial: Denial::UnknownCredential,
        cause: Some("wrong_mac"),
    };
}

impl From<Denial> for Unproven {
    fn from(denial: Denial) -> Self {
        Self { denial, cause: None }
    }
}

impl From<TokenFault> for Unproven {
    fn from(fault: TokenFault) -> Self {
        let denial = match fault {
            // Without the keys nobody knows whether the token is good, and not knowing is never a 401.
            TokenFault::NoKeys => Denial::StoreUnavailable,
            _ => Denial::InvalidToken,
        };
        Self {
            denial,
            cause: Some(fault.label()),
        }
    }
}

impl From<Unproven> for Denial {
    fn from(unproven: Unproven) -> Self {
        unproven.denial
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_word_of_its_own() {
        let mut words: Vec<&str> = TokenFault::ALL.iter().map(|fault| fault.label()).collect();
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), TokenFault::ALL.len());
    }

    #[test]
    fn the_operations_page_tells_every_cause() {
        let page = include_str!("../../docs/operations.md");
        for fault in TokenFault::ALL {
            assert!(page.contains(&format!("| `{}` |", fault.label())), "{}", fault.label());
        }
    }
}
