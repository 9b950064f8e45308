//! Identifiers. Each is a type of its own and valid by construction, so it can go into a header as it is. A
//! [`Subject`] is encoded there.

use std::fmt;
use std::sync::Arc;

use super::text::every;

/// Longest identifier in characters. A tenant id becomes a header value and a store key; 128 characters hold a UUID
/// with a prefix and leave room.
pub const MAX_ID_LEN: usize = 128;

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an identifier has 1 to 128 characters of A-Z a-z 0-9 . _ : -")]
pub struct InvalidId;

/// Whether a text is `[A-Za-z0-9._:-]{1,128}`. No other text may become an identity header.
#[must_use]
pub fn is_valid_id(text: &str) -> bool {
    (1..=MAX_ID_LEN).contains(&text.len())
        && every(text.as_bytes(), |b| {
            b.is_ascii_alphanumeric() | (b == b'.') | (b == b'_') | (b == b':') | (b == b'-')
        })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Eq, Hash, PartialOrd, Ord)]
        #[expect(clippy::derived_hash_with_manual_eq, reason = "equal texts are equal, only sooner if they are one in memory")]
        pub struct $name(Arc<str>);

        impl PartialEq for $name {
            /// The same text in memory is equal to itself without a comparison.
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
            }
        }

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// [`InvalidId`] when it is not `[A-Za-z0-9._:-]{1,128}`.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                if is_valid_id(text) { Ok(Self(text.into())) } else { Err(InvalidId) }
            }

            /// Wraps a text known to be an identifier: part of another one, or made of its alphabet.
            #[allow(dead_code, reason = "not every identifier is made of others")]
            pub(in crate::base) fn of_valid(text: &str) -> Self {
                debug_assert!(is_valid_id(text));
                Self(text.into())
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// The business a credential belongs to.
    TenantId
}
id! {
    /// The id of a record: what operators see, list and revoke. Not a secret.
    CredentialId
}
id! {
    /// The name of a surface as configured.
    SurfaceName
}
id! {
    /// The id of a role: a UUID, or what the operator wrote. Not a secret.
    RoleId
}
id! {
    /// The name of a running gateway, as its receipts have it.
    GatewayId
}

impl GatewayId {
    /// The name of a gateway without a configured one.
    #[must_use]
    pub fn of_number(number: u64) -> Self {
        Self::of_valid(&format!("gateway-{number:016x}"))
    }
}

/// Longest subject in characters, as OpenID Connect Core, section 2 limits `sub`. In a header it is at most twelve
/// times as long: a character has up to four bytes, and each byte may become three.
pub const MAX_SUBJECT: usize = 255;

/// Why a text is not a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a subject has 1 to 255 characters, none of them a control character")]
pub struct InvalidSubject;

/// Who acts within the tenant: an account, a client, an access token, or what another issuer says
/// (`auth0|5f7c`, `alice@example.com`, `repo:org/repo:ref:refs/heads/main`, `spiffe://example.org/web`). Any text
/// without control characters; where it becomes a header it is encoded ([`push_encoded`](super::percent::push_encoded)).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(Arc<str>);

impl Subject {
    /// Makes a subject of a text of a provider or a record.
    ///
    /// # Errors
    /// [`InvalidSubject`] when it is empty, longer than [`MAX_SUBJECT`] or holds a control character.
    pub fn parse(text: &str) -> Result<Self, InvalidSubject> {
        // Most subjects are identifiers, which are checked sixteen bytes at a time.
        let good = is_valid_id(text)
            || !text.is_empty()
                && text.len() <= MAX_SUBJECT * 4
                && text.chars().count() <= MAX_SUBJECT
                && !text.chars().any(char::is_control);
        if good { Ok(Self(text.into())) } else { Err(InvalidSubject) }
    }

    /// The text as its provider wrote it: any Unicode, so it has to be escaped or encoded where it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_hold_only_header_safe_text() {
        for good in ["a", "acme", "t.1_2:3-4", &"x".repeat(128)] {
            assert!(TenantId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\r\nx: y", "ä", "a,b", "a/b", &"x".repeat(129)] {
            assert_eq!(TenantId::parse(bad), Err(InvalidId), "{bad}");
        }
    }

    #[test]
    fn any_text_without_control_characters_is_a_subject() {
        for good in [
            "user-7",
            "auth0|5f7c8ec7c33c6c004bbafe82",
            "google-oauth2|103547991597142817347",
            "0oa1a2b3c4d5e6f7g8h9@clients",
            "alice@example.com",
            "repo:org/repo:ref:refs/heads/main",
            "spiffe://example.org/ns/prod/sa/web",
            "system:serviceaccount:prod:web",
            "CN=J\u{fc}rgen M\u{fc}ller,OU=Vertrieb",
            " ",
            &"x".repeat(255),
            &"\u{1f600}".repeat(255),
        ] {
            assert!(Subject::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a\r\nX-Tenant-Id: b",
            "a\0",
            "a\tb",
            "\u{7f}",
            "\u{85}",
            "\u{9b}31m",
            &"x".repeat(256),
            &"\u{1f600}".repeat(256),
        ] {
            assert_eq!(Subject::parse(bad), Err(InvalidSubject), "{bad:?}");
        }
    }
}
