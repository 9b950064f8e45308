//! Shares equal values in memory.

use std::collections::HashSet;
use std::hash::Hash;

/// Values that several owners share. A clone of a value must not copy its contents, as with `Arc`.
#[derive(Debug)]
pub struct ValueSet<T> {
    values: HashSet<T>,
    /// Most values. A further one is not shared.
    max: usize,
}

impl<T: Clone + Eq + Hash> ValueSet<T> {
    /// An empty set of at most `max` values.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            values: HashSet::new(),
            max,
        }
    }

    /// Replaces a value by an equal one that is in memory already.
    pub fn intern(&mut self, value: &mut T) {
        if let Some(known) = self.values.get(value) {
            *value = known.clone();
        } else if self.values.len() < self.max {
            self.values.insert(value.clone());
        }
    }

    /// How many values there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.values.len()
    }
}
