//! A tree of patterns to which more are added in any order.

use std::collections::BTreeMap;

use super::pattern::{Pattern, Segment, Tail};

/// One beginning of patterns, and what is kept at the patterns that end with it.
#[derive(Debug, Default)]
pub(super) struct PatternTree<T> {
    pub(super) literals: BTreeMap<Box<str>, Self>,
    pub(super) param: Option<Box<Self>>,
    /// For the pattern that ends here.
    pub(super) here: T,
    /// For the pattern that ends here with `/**`.
    pub(super) tail: T,
}

impl<T: Default> PatternTree<T> {
    /// What is kept at a pattern. The names of its parameters do not count.
    pub(super) fn at(&mut self, pattern: &Pattern) -> &mut T {
        let mut node = self;
        for segment in pattern.segments() {
            node = match segment {
                Segment::Param(_) => node.param.get_or_insert_default(),
                Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
            };
        }
        match pattern.tail() {
            Tail::Closed => &mut node.here,
            Tail::Open => &mut node.tail,
        }
    }
}
