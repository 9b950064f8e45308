//! Scopes and modes: the words of permissions.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::text::every;

/// Longest scope. The scopes of providers have up to about a hundred characters
/// (`https://www.googleapis.com/auth/cloud-platform.read-only`).
pub const MAX_SCOPE: usize = 255;

/// Why a text is not a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a scope has 1 to 255 characters of visible ASCII, without `\"` and `\\`")]
pub struct InvalidScope;

/// Whether a text is a `scope-token` (RFC 6749, section 3.3) of bounded length.
#[must_use]
pub fn is_scope(text: &str) -> bool {
    (1..=MAX_SCOPE).contains(&text.len()) && every(text.as_bytes(), |b| (b > b' ') & (b <= b'~') & (b != b'"') & (b != b'\\'))
}

/// One permission word, e.g. `orders:read` or `https://www.googleapis.com/auth/drive`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(Arc<str>);

impl Scope {
    /// Checks the text; scopes travel separated by spaces in a header, and none is in a scope.
    ///
    /// # Errors
    /// [`InvalidScope`] when it is not a `scope-token` of at most [`MAX_SCOPE`] characters.
    pub fn parse(text: &str) -> Result<Self, InvalidScope> {
        if is_scope(text) { Ok(Self(text.into())) } else { Err(InvalidScope) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of scopes without duplicates. It keeps the order in which they were given, since services and answers get
/// them in this order. So two sets of the same scopes in different orders are not equal. Their text is joined once,
/// when the set is made.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct ScopeSet {
    /// The scopes in the order in which they were given.
    given: Arc<[Scope]>,
    /// The same scopes in ascending order, for binary search.
    sorted: Arc<[Scope]>,
    joined: Arc<str>,
}

impl ScopeSet {
    /// Every scope of `self` that `other` has too.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.given.iter().filter(|s| other.contains(s)).cloned().collect()
    }

    /// Every scope that one of the two has.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        if self.covers(other) {
            return self.clone();
        }
        self.given.iter().chain(other.given.iter()).cloned().collect()
    }

    /// Whether this scope is in the set.
    #[must_use]
    pub fn contains(&self, scope: &Scope) -> bool {
        self.sorted.binary_search(scope).is_ok()
    }

    /// The scope of this text, if it is in the set.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<&Scope> {
        let at = self.sorted.binary_search_by(|scope| scope.as_str().cmp(text)).ok()?;
        self.sorted.get(at)
    }

    /// Whether every needed scope is in the set. The empty set of needed scopes is always covered.
    #[must_use]
    pub fn covers(&self, needed: &Self) -> bool {
        needed.sorted.iter().all(|s| self.contains(s))
    }

    /// The scopes in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.given.iter()
    }

    /// The scopes joined by single spaces, as `X-Scopes` carries them.
    #[must_use]
    pub fn joined(&self) -> &str {
        &self.joined
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let mut given: Vec<Scope> = scopes.into_iter().collect();
        if given.is_empty() {
            return Self::default();
        }
        // Sets are made for requests with tokens too, so a set that is in order is not sorted again.
        let sorted = if given.is_sorted_by(|a, b| a < b) {
            None
        } else {
            let mut sorted = given.clone();
            sorted.sort();
            sorted.dedup();
            if sorted.len() < given.len() {
                let mut seen = HashSet::with_capacity(given.len());
                given.retain(|scope| seen.insert(scope.clone()));
            }
            Some(sorted)
        };
        let mut joined = String::with_capacity(given.iter().map(|scope| scope.0.len() + 1).sum());
        for scope in &given {
            if !joined.is_empty() {
                joined.push(' ');
            }
            joined.push_str(scope.as_str());
        }
        let given: Arc<[Scope]> = given.into();
        Self {
            sorted: sorted.map_or_else(|| given.clone(), Arc::from),
            given,
            joined: joined.into(),
        }
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.given.iter()).finish()
    }
}

/// `test` or `live`; never mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    Test,
    Live,
}

impl Mode {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Live => "live",
        }
    }

    /// The mode of a word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "test" => Some(Self::Test),
            "live" => Some(Self::Live),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> ScopeSet {
        words.iter().map(|w| Scope::parse(w).unwrap()).collect()
    }

    #[test]
    fn scopes_are_the_tokens_of_rfc_6749() {
        for good in [
            "orders:read",
            "orders-api/orders.read",
            "https://www.googleapis.com/auth/drive.file",
            "api://0b1c/Files.ReadWrite.All",
            "!#[]~'(),;*$",
            &"s".repeat(255),
        ] {
            assert!(Scope::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\"b", "a\\b", "a\tb", "a\r\nb", "\u{e4}", "\u{7f}", &"s".repeat(256)] {
            assert_eq!(Scope::parse(bad), Err(InvalidScope), "{bad:?}");
        }
    }

    #[test]
    fn a_set_covers_its_subsets_and_nothing_more() {
        let held = set(&["orders:write", "orders:read", "orders:read"]);
        assert_eq!(held.joined(), "orders:write orders:read");
        assert!(held.covers(&set(&["orders:read"])));
        assert!(held.covers(&set(&[])));
        assert!(!held.covers(&set(&["orders:read", "orders:delete"])));
        assert_eq!(held.intersection(&set(&["orders:read", "x"])).joined(), "orders:read");
    }

    #[test]
    fn scopes_are_told_in_the_order_in_which_they_were_given() {
        let given = set(&["view", "fund", "view", "admin"]);
        assert_eq!(given.joined(), "view fund admin");
        assert_eq!(given.iter().map(Scope::as_str).collect::<Vec<_>>(), ["view", "fund", "admin"]);
        assert_eq!(given.union(&set(&["b", "view", "a"])).joined(), "view fund admin b a");
        assert_eq!(given.find("fund").map(Scope::as_str), Some("fund"));
        assert_eq!((given.find("fun"), set(&[]).find("fund")), (None, None));
        let other = set(&["admin", "fund", "view"]);
        assert!(given.covers(&other) && other.covers(&given), "a set all the same");
        assert_ne!(given, other, "and told in another order");
    }
}
