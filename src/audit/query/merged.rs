//! Several trails as one.

use super::{EntryOrder, EntryQuery, FoundEntry, Matches, ReadCount};
use crate::audit::segments::Segments;

/// Entries of several trails as one: by time, and within one trail in the order in which they were recorded.
#[derive(Debug)]
pub struct MergedMatches<'q> {
    trails: Vec<Matches<'q>>,
    heads: Vec<Option<FoundEntry>>,
    order: EntryOrder,
}

impl<'q> MergedMatches<'q> {
    #[must_use]
    pub fn new(directories: &[Segments], query: &'q EntryQuery) -> Self {
        let mut trails: Vec<_> = directories.iter().map(|segments| Matches::new(segments, query)).collect();
        let heads = trails.iter_mut().map(Iterator::next).collect();
        Self {
            trails,
            heads,
            order: query.order,
        }
    }

    /// What could not be read, for people.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.trails.iter().flat_map(|trail| trail.problems().to_vec()).collect()
    }

    /// Which segments were read whole, and why, for people. The answer lacks nothing of them.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        self.trails.iter().flat_map(|trail| trail.remarks().to_vec()).collect()
    }

    /// What was read so far.
    #[must_use]
    pub fn read(&self) -> ReadCount {
        self.trails.iter().fold(ReadCount::default(), |sum, trail| {
            let read = trail.read();
            ReadCount {
                blocks: sum.blocks + read.blocks,
                of_blocks: sum.of_blocks + read.of_blocks,
                plain: sum.plain + read.plain,
            }
        })
    }
}

impl Iterator for MergedMatches<'_> {
    /// The number of the trail, and the entry.
    type Item = (usize, FoundEntry);

    fn next(&mut self) -> Option<Self::Item> {
        let heads = self.heads.iter().enumerate();
        let times = heads.filter_map(|(trail, head)| Some((head.as_ref()?.time, trail)));
        let (_, trail) = match self.order {
            EntryOrder::NewestFirst => times.max_by_key(|(time, trail)| (*time, usize::MAX - trail))?,
            EntryOrder::OldestFirst => times.min()?,
        };
        let next = self.trails.get_mut(trail).and_then(Iterator::next);
        let head = std::mem::replace(self.heads.get_mut(trail)?, next);
        head.map(|entry| (trail, entry))
    }
}
