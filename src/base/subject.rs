//! Who acts within a tenant, named as its provider names it.

use std::fmt;
use std::sync::Arc;

use super::ids::is_valid_id;

/// Longest subject in characters: what OpenID Connect Core, section 2 allows `sub`. In a header it is at most
/// twelve times as long, since each of four bytes of a character may become three.
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
        // Most are identifiers, which are checked sixteen bytes at a time.
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
