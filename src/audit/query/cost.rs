//! What a query will cost where no index helps.

use std::io;

use super::plain::CHUNK;
use super::{EntryOrder, EntryQuery, read_whole_since};
use crate::audit::closed::ClosedSegment;
use crate::audit::segments::{SegmentFile, SegmentForm, Segments};

/// What a query reads without an index, known before it reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryCost {
    /// At most so many bytes: of segments that are written to, of those whose index cannot be used, and all that has the time
    /// where no filter has an index.
    pub bytes: u64,
    /// Why indexes of closed segments cannot be used, for people. These segments are read whole.
    pub without_index: Vec<String>,
}

impl QueryCost {
    /// Asks the heads of the indexes. `limit` is how many entries are wanted.
    #[must_use]
    pub fn of(segments: &Segments, query: &EntryQuery, limit: Option<u64>) -> Self {
        let length = |file: &SegmentFile| std::fs::metadata(file.path()).map_or(0, |data| data.len());
        let mut cost = Self::default();
        // Where every entry is meant, reading ends with the limit.
        let mut wanted = limit.filter(|_| query.terms().is_empty() && query.kind.is_none() && query.until.is_none());
        let mut list: Vec<_> = segments.list().iter().collect();
        if query.order == EntryOrder::NewestFirst {
            list.reverse();
        }
        for file in list {
            if wanted == Some(0) {
                break;
            }
            if file.form() == SegmentForm::Plain {
                let most = wanted.map_or(u64::MAX, |wanted| CHUNK + wanted * LONGEST_ENTRY);
                cost.bytes += length(file).min(most);
                continue;
            }
            let read = file.open_closed().and_then(|segment| read_of(&segment, query, &mut wanted));
            match read {
                Ok(read) => cost.bytes += read,
                Err(error) => {
                    cost.bytes += length(file);
                    cost.without_index.push(read_whole_since(&error));
                }
            }
        }
        cost
    }
}

/// Longest line of an entry, which is one block of a closed segment.
const LONGEST_ENTRY: u64 = 64 * 1_024;

/// How many bytes of a closed segment are read because no filter has an index, and how many entries are wanted after that.
fn read_of(segment: &ClosedSegment, query: &EntryQuery, wanted: &mut Option<u64>) -> io::Result<u64> {
    let index = segment.index();
    let (since, until) = (query.since, query.until);
    let timed = (since, until) != (None, None);
    if query.is_indexed() || timed && !index.times().meets(since, until) {
        return Ok(0);
    }
    let mut blocks = index.blocks()?;
    let mut end = index.lines();
    if query.order == EntryOrder::NewestFirst {
        blocks.reverse();
    }
    let mut read = 0;
    for block in &blocks {
        if *wanted == Some(0) {
            break;
        }
        if timed && !block.times.meets(since, until) {
            continue;
        }
        read += u64::from(block.length);
        let lines = match query.order {
            EntryOrder::NewestFirst => end.saturating_sub(block.first),
            // The end of a block is the beginning of the next one; each has one line at least.
            EntryOrder::OldestFirst => 1,
        };
        end = block.first;
        if since.is_none_or(|since| block.times.first >= since) {
            *wanted = wanted.map(|wanted| wanted.saturating_sub(u64::from(lines)));
        }
    }
    Ok(read)
}
