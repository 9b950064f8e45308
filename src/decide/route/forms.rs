//! Spellings of a path that services read in more than one way: refused unless a route lets them in.

/// A set of spellings: of a target, those it has; of a route, those it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathForms(u8);

impl PathForms {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// `%2F` in a segment.
    pub const ENCODED_SLASH: Self = Self(1);
    /// `%5C` in a segment.
    pub const ENCODED_BACKSLASH: Self = Self(2);
    /// A character that RFC 3986 wants escaped, and is not: `[ ] | ^ { } < > "`, a grave accent, or any beyond ASCII.
    pub const RAW_CHARACTER: Self = Self(4);
    /// A path parameter: what follows a `;` in a segment.
    pub const PARAMETER: Self = Self(8);

    /// Those of both sets.
    #[must_use]
    pub const fn with(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// These if `wanted`, else none.
    #[must_use]
    pub const fn only_if(self, wanted: bool) -> Self {
        if wanted { self } else { Self::NONE }
    }

    /// Whether all of `others` are among these.
    #[must_use]
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}
