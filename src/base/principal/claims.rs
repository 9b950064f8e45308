//! The claims of a record: small named values that become headers, claims of tokens, and parts of answers.

use std::borrow::Cow;

use crate::base::ids::is_valid_id;

/// Most claims of one record: the documented schemes use four, and each may become a header.
pub const MAX_CLAIMS: usize = 16;

/// Longest value with its list joined: a sixteenth of the head that an upstream must take.
pub const MAX_CLAIM_VALUE: usize = 1024;

/// Longest name of a claim.
pub const MAX_CLAIM_NAME: usize = 64;

/// The value of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimValue {
    /// One text: visible ASCII and inner spaces.
    Text(String),
    /// Several words, each of the alphabet of identifiers; in headers they are joined by spaces.
    List(Vec<String>),
}

impl ClaimValue {
    /// The value as a header carries it. Never holds a control character.
    #[must_use]
    pub fn joined(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::List(words) => words.join(" ").into(),
        }
    }

    /// Whether the value is this text or contains it. Lists of records are filtered by this.
    #[must_use]
    pub fn names(&self, text: &str) -> bool {
        match self {
            Self::Text(own) => own == text,
            Self::List(words) => words.iter().any(|word| word == text),
        }
    }

    fn is_valid(&self) -> bool {
        match self {
            Self::Text(text) => is_header_text(text),
            Self::List(words) => {
                words.iter().all(|word| is_valid_id(word)) && words.iter().map(|word| word.len() + 1).sum::<usize>() <= MAX_CLAIM_VALUE + 1
            }
        }
    }
}

/// Why values are not claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClaims {
    #[error("a record has at most 16 claims")]
    TooMany,
    /// A name outside the alphabet of identifiers, or longer than 64 characters.
    #[error("a claim's name has 1 to 64 characters of A-Z a-z 0-9 . _ : -")]
    Name,
    #[error("a claim is there twice")]
    Twice,
    /// A value that could not be a header.
    #[error("a claim's value is visible ASCII of 1 to 1024 characters, or a list of such words")]
    Value,
}

/// Claims by name, sorted; at most [`MAX_CLAIMS`], header-safe by construction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordClaims(Vec<(String, ClaimValue)>);

impl RecordClaims {
    /// Checks names and values.
    ///
    /// # Errors
    /// [`InvalidClaims`].
    pub fn new(claims: impl IntoIterator<Item = (String, ClaimValue)>) -> Result<Self, InvalidClaims> {
        let mut all = Vec::new();
        for (name, value) in claims {
            if all.len() == MAX_CLAIMS {
                return Err(InvalidClaims::TooMany);
            }
            if name.len() > MAX_CLAIM_NAME || !is_valid_id(&name) {
                return Err(InvalidClaims::Name);
            }
            if !value.is_valid() {
                return Err(InvalidClaims::Value);
            }
            all.push((name, value));
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        if all.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
            return Err(InvalidClaims::Twice);
        }
        Ok(Self(all))
    }

    /// The claim of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&ClaimValue> {
        let place = self.0.binary_search_by(|(own, _)| own.as_str().cmp(name)).ok()?;
        self.0.get(place).map(|(_, value)| value)
    }

    /// All claims in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ClaimValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

/// Visible ASCII and inner spaces. Without control characters there is no second header line.
fn is_header_text(text: &str) -> bool {
    (1..=MAX_CLAIM_VALUE).contains(&text.len())
        && text.bytes().all(|b| (b' '..=b'~').contains(&b))
        && !text.starts_with(' ')
        && !text.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> ClaimValue {
        ClaimValue::Text(value.into())
    }

    fn list(words: &[&str]) -> ClaimValue {
        ClaimValue::List(words.iter().map(|w| (*w).to_owned()).collect())
    }

    fn one(name: &str, value: ClaimValue) -> Result<RecordClaims, InvalidClaims> {
        RecordClaims::new([(name.to_owned(), value)])
    }

    #[test]
    fn claims_are_sorted_and_found_by_name() {
        let claims = RecordClaims::new([("tid".to_owned(), text("tx 1")), ("perms".to_owned(), list(&["view", "fund"]))]).unwrap();
        assert_eq!(claims.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["perms", "tid"]);
        assert_eq!(claims.find("perms").unwrap().joined(), "view fund");
        assert_eq!(claims.find("role"), None);
        assert!(claims.find("perms").unwrap().names("fund"));
        assert!(!claims.find("tid").unwrap().names("tx"));
    }

    #[test]
    fn h8_what_could_not_be_a_header_is_no_claim() {
        for good in [
            text("a b"),
            text(&"x".repeat(1024)),
            list(&[]),
            list(&["a"]),
            list(&["x".repeat(128).as_str(); 7]),
        ] {
            assert!(one("c", good).is_ok());
        }
        for bad in [
            text(""),
            text("a\r\nX-Tenant-Id: evil"),
            text(" a"),
            text("ä"),
            text(&"x".repeat(1025)),
            list(&["a b"]),
            list(&[""]),
            list(&["x".repeat(128).as_str(); 8]),
        ] {
            assert_eq!(one("c", bad.clone()), Err(InvalidClaims::Value), "{bad:?}");
        }
        for name in ["", "a b", "ä", &"n".repeat(65)] {
            assert_eq!(one(name, text("x")), Err(InvalidClaims::Name), "{name}");
        }
    }

    #[test]
    fn names_are_unique_and_few() {
        let many = |n: usize| RecordClaims::new((0..n).map(|i| (format!("c{i}"), text("x"))));
        assert!(many(MAX_CLAIMS).is_ok());
        assert_eq!(many(MAX_CLAIMS + 1), Err(InvalidClaims::TooMany));
        let twice = RecordClaims::new([("a".to_owned(), text("1")), ("a".to_owned(), text("2"))]);
        assert_eq!(twice, Err(InvalidClaims::Twice));
    }
}
