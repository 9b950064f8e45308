//! Which history of the store this process follows, so that positions in this process never go backwards.
//!
//! The position in Redis is a counter. After a flush, a restored backup or a failover that lost changes, the counter may be
//! lower than that of facts that were read before. Therefore a [`Position`] of this process has a generation above the
//! counter. Whenever the event reader cannot prove that what it reads follows what it has read, it starts a new generation,
//! and everything that was read before is forgotten. A read carries the generation in which it was *sent*.

use std::sync::{Arc, Mutex, PoisonError};

use crate::base::principal::Position;
use crate::store::redis::scripts::StreamHead;
use crate::store::{HistoryPoint, watch};

/// Bits of the counter: 10^12 changes, which is a thousand a second for 34 years. The 24 bits above it count generations, of
/// which a broken store makes at most one a second.
const COUNTER_BITS: u32 = 40;

/// What is known when a read is sent.
#[derive(Debug, Clone)]
pub(crate) struct KnownHistory {
    generation: u64,
    /// The random id of the store's history; `None` until the reader has read it.
    id: Option<Arc<str>>,
    /// The counter of the last event applied.
    pub(crate) applied: u64,
}

impl KnownHistory {
    /// The position of a counter that is read now; `None` when the counter is too large.
    pub(crate) fn position(&self, counter: u64) -> Option<Position> {
        (counter >> COUNTER_BITS == 0).then_some(Position((self.generation << COUNTER_BITS) | counter))
    }

    /// Whether an answer with this history and counter can follow what is known: the same history, and not behind events
    /// that had arrived before the question.
    pub(crate) fn is_followed_by(&self, id: &str, counter: u64) -> bool {
        self.id.as_deref().is_none_or(|known| known == id) && counter >= self.applied
    }

    /// False until the reader has read a history.
    pub(crate) const fn is_anything(&self) -> bool {
        self.id.is_some()
    }

    /// Whether this is the known history.
    pub(crate) fn continues(&self, id: &str) -> bool {
        self.id.as_deref() == Some(id)
    }
}

pub(crate) struct History {
    known: Mutex<KnownHistory>,
    /// The last entry of the stream that was read. It is noted before the sinks get its event.
    entry: Mutex<LastEntry>,
    applied: watch::WatchSender<u64>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            known: Mutex::new(KnownHistory {
                generation: 0,
                id: None,
                applied: 0,
            }),
            entry: Mutex::default(),
            applied: watch::channel(0).0,
        }
    }
}

/// An entry of the stream, and the generation in which it was read.
#[derive(Debug, Clone, Default)]
struct LastEntry {
    generation: u64,
    id: String,
    counter: u64,
    link: String,
}

/// How much of the store's history has been applied in this process, with an entry of the stream as the proof. Without the
/// proof, two branches could be confused: after data went back, both have the same history id and the same counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct AppliedPoint {
    pub(crate) standing: HistoryPoint,
    /// The stream id of an entry at or after everything that was applied.
    pub(crate) entry: String,
    /// The count of that entry.
    pub(crate) counter: u64,
    /// The link of that entry in the chain of events.
    pub(crate) link: String,
}

impl History {
    pub(crate) fn known(&self) -> KnownHistory {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts a generation at this point of the stream; answers its first position.
    pub(crate) fn restart(&self, head: &StreamHead) -> Option<Position> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.generation += 1;
        known.id = Some(head.history.as_str().into());
        known.applied = head.counter;
        let position = known.position(head.counter);
        *self.entry.lock().unwrap_or_else(PoisonError::into_inner) = LastEntry {
            generation: known.generation,
            id: head.last_id.clone(),
            counter: head.counter,
            link: head.link.clone(),
        };
        drop(known);
        self.applied.send_replace(head.counter);
        position
    }

    /// Notes that this entry of the stream was read. It follows the last one.
    pub(crate) fn note_read(&self, entry: &str, counter: u64, link: &str) {
        let mut last = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        last.id.clear();
        last.id.push_str(entry);
        last.counter = counter;
        link.clone_into(&mut last.link);
    }

    /// The event with this counter has reached the sinks.
    pub(crate) fn advance(&self, counter: u64) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).applied = counter;
        self.applied.send_replace(counter);
    }

    /// The point in the store's history of a position of this process. A position of an earlier generation has none, because
    /// its count may be of another history. The point is never beyond the last entry that was noted; a later event announces
    /// again.
    pub(crate) fn claim(&self, position: Position) -> AppliedPoint {
        let entry = self.entry.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = self.known();
        match known.id {
            Some(history) if position.0 >> COUNTER_BITS == known.generation && entry.generation == known.generation => AppliedPoint {
                standing: HistoryPoint {
                    history: history.as_ref().to_owned(),
                    count: (position.0 & ((1 << COUNTER_BITS) - 1)).min(entry.counter),
                },
                entry: entry.id,
                counter: entry.counter,
                link: entry.link,
            },
            _ => AppliedPoint::default(),
        }
    }

    /// Waits until the events up to `counter` have reached the sinks.
    pub(crate) async fn applied(&self, counter: u64) {
        let mut applied = self.applied.subscribe();
        // An error means that the store was dropped.
        let _ = applied.wait_for(|applied| *applied >= counter).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(history: &str, counter: u64, last_id: &str) -> StreamHead {
        StreamHead {
            history: history.into(),
            counter,
            last_id: last_id.into(),
            at_last: Some(counter),
            at_cursor: None,
            link: format!("l{counter}"),
        }
    }

    #[test]
    fn a_new_generation_is_ahead_of_every_position_before_it() {
        let history = History::default();
        let before = history.known();
        let first = history.restart(&head("a", 1_000, "9-0")).unwrap();
        assert!(before.position(1_000_000).unwrap() < first);
        let second = history.restart(&head("b", 3, "9-1")).unwrap();
        assert!(first < second);
        assert!(history.known().position(3).unwrap() >= second);
    }

    #[test]
    fn an_answer_from_another_or_an_earlier_history_is_seen() {
        let history = History::default();
        assert!(history.known().is_followed_by("a", 0), "nothing is known yet");
        history.restart(&head("a", 10, "9-0"));
        history.advance(11);
        let known = history.known();
        assert!(known.is_followed_by("a", 11));
        assert!(!known.is_followed_by("a", 10));
        assert!(!known.is_followed_by("b", 11));
    }

    #[test]
    fn a_position_stands_in_the_present_history_or_nowhere() {
        let history = History::default();
        assert_eq!(history.claim(Position(5)), AppliedPoint::default(), "no history is known");
        let first = history.restart(&head("a", 10, "9-0")).unwrap();
        let of = |id: &str, count, entry: &str| AppliedPoint {
            standing: HistoryPoint { history: id.into(), count },
            entry: entry.into(),
            counter: count,
            link: format!("l{count}"),
        };
        assert_eq!(history.claim(first), of("a", 10, "9-0"));
        let second = history.restart(&head("b", 3, "9-1")).unwrap();
        assert_eq!(
            history.claim(first),
            AppliedPoint::default(),
            "what was applied of `a` is not of `b`"
        );
        assert_eq!(history.claim(second), of("b", 3, "9-1"));
    }

    #[test]
    fn nothing_is_claimed_beyond_the_entry_that_proves_it() {
        let history = History::default();
        let first = history.restart(&head("a", 10, "9-0")).unwrap();
        let next = Position(first.0 + 1);
        assert_eq!(history.claim(next).standing.count, 10, "the entry of 11 was not read");
        history.note_read("9-5", 11, "l11");
        let claim = history.claim(first);
        assert_eq!((claim.standing.count, claim.entry.as_str(), claim.counter), (10, "9-5", 11));
        assert_eq!(history.claim(next).standing.count, 11);
    }

    #[test]
    fn a_counter_that_would_spill_into_the_generation_is_refused() {
        assert_eq!(History::default().known().position(1 << COUNTER_BITS), None);
    }
}
