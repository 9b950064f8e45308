//! Which history of the store this process follows, so that positions in this process never go backwards.
//!
//! The position in Redis is a counter. After a flush, a restored backup or a failover that lost changes, the counter may be
//! lower than that of facts that were read before. Therefore a [`Position`] of this process has a generation above the
//! counter. Whenever the event reader cannot prove that what it reads follows what it has read, it starts a new generation,
//! and everything that was read before is forgotten. A read carries the generation in which it was *sent*.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::principal::Position;
use crate::store::redis::scripts::StreamHead;
use crate::store::{HistoryPoint, watch};

/// Links of the newest events that are remembered. A look-up's answer is compared with the link of its count, which the reader
/// may have passed while the answer was on its way: at a thousand changes a second it passes 250 within a look-up's deadline.
const MAX_LINKS: usize = 1_024;

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
        (counter >> Position::COUNT_BITS == 0).then_some(Position((self.generation << Position::COUNT_BITS) | counter))
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
    links: Mutex<RecentLinks>,
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
            links: Mutex::default(),
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

/// The links of the newest events of one generation, by count.
#[derive(Debug, Default)]
struct RecentLinks {
    generation: u64,
    /// The count of the first link.
    first: u64,
    links: VecDeque<String>,
}

impl RecentLinks {
    fn restart(&mut self, generation: u64, counter: u64, link: &str) {
        (self.generation, self.first) = (generation, counter);
        self.links.clear();
        self.links.push_back(link.to_owned());
    }

    /// The next event's link.
    fn push(&mut self, link: &str) {
        if self.links.len() >= MAX_LINKS {
            self.links.pop_front();
            self.first += 1;
        }
        self.links.push_back(link.to_owned());
    }

    fn find(&self, counter: u64) -> Option<&String> {
        let at = counter.checked_sub(self.first)?;
        self.links.get(usize::try_from(at).ok()?)
    }
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
        self.links().restart(known.generation, head.counter, &head.link);
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
        drop(last);
        self.links().push(link);
    }

    /// Whether this is the link of the event with this count in the chain that the reader follows, in the generation of `known`.
    /// A link is made at one server and reaches others with everything before it. So a server that has it there has, up to this
    /// count, exactly the history that was read here. `false` if that is not known: the reader is not there yet, has long passed
    /// it, or an older gateway made the event, which writes no links.
    pub(crate) fn has_link(&self, known: &KnownHistory, counter: u64, link: &str) -> bool {
        let is_of_this_count = link.rsplit_once('.').is_some_and(|(_, count)| count.parse() == Ok(counter));
        let links = self.links();
        is_of_this_count && links.generation == known.generation && links.find(counter).is_some_and(|own| own == link)
    }

    /// The position at which a read would have brought nothing but what was read in this generation and what events have told
    /// since, by this word of the store about where it stands (docs/revocation.md, step 4a). `None`: the store counts changes that
    /// have not been applied; it has another history, or one that cannot be told from it; or a read would have failed, because
    /// records are missing or this gateway is not registered.
    pub(crate) fn revalidated_by(&self, head: &StreamHead) -> Option<Position> {
        let known = self.known();
        let is_whole = known.continues(&head.history) && known.applied >= head.counter && self.has_link(&known, head.counter, &head.link);
        (head.is_readable && is_whole).then(|| known.position(known.applied)).flatten()
    }

    fn links(&self) -> MutexGuard<'_, RecentLinks> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
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
            Some(history) if position.generation() == known.generation && entry.generation == known.generation => AppliedPoint {
                standing: HistoryPoint {
                    history: history.as_ref().to_owned(),
                    count: (position.0 & ((1 << Position::COUNT_BITS) - 1)).min(entry.counter),
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
            is_readable: true,
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
    fn a_link_proves_the_history_up_to_its_count_and_in_its_generation_alone() {
        let link = |counter: u64| format!("17.5.{counter}");
        let head = |counter: u64| StreamHead {
            link: link(counter),
            ..head("a", counter, "9-0")
        };
        let history = History::default();
        history.restart(&head(10));
        history.note_read("9-1", 11, &link(11));
        let known = history.known();
        for counter in [10, 11] {
            assert!(history.has_link(&known, counter, &link(counter)));
        }
        assert!(!history.has_link(&known, 12, &link(12)), "the reader is not there yet");
        assert!(!history.has_link(&known, 9, &link(9)), "nothing is known of what was before");
        assert!(!history.has_link(&known, 11, "18.5.11"), "another branch has the same count");
        // An older gateway has made the event 12, and left the link of the one before.
        history.note_read("9-2", 12, &link(11));
        assert!(!history.has_link(&known, 12, &link(11)));
        for counter in 13..13 + MAX_LINKS as u64 {
            history.note_read("9-3", counter, &link(counter));
        }
        assert!(!history.has_link(&known, 11, &link(11)) && history.has_link(&known, 14, &link(14)));
        history.restart(&head(14));
        assert!(
            !history.has_link(&known, 14, &link(14)),
            "the answer was asked for in another generation"
        );
        assert!(history.has_link(&history.known(), 14, &link(14)));
    }

    #[test]
    fn facts_are_revalidated_by_a_store_whose_every_event_was_applied() {
        let link = |counter: u64| format!("17.5.{counter}");
        let at = |counter: u64| StreamHead {
            link: link(counter),
            ..head("a", counter, "9-0")
        };
        let history = History::default();
        assert_eq!(history.revalidated_by(&at(0)), None, "nothing is known yet");
        let first = history.restart(&at(10)).unwrap();
        assert_eq!(history.revalidated_by(&at(10)), Some(first));
        assert_eq!(history.revalidated_by(&at(11)), None, "a change that was not applied");
        history.note_read("9-1", 11, &link(11));
        assert_eq!(history.revalidated_by(&at(11)), None, "its event is on its way to the sinks");
        history.advance(11);
        let next = Some(Position(first.0 + 1));
        assert_eq!(history.revalidated_by(&at(11)), next);
        assert_eq!(
            history.revalidated_by(&at(10)),
            next,
            "the answer was given before the event was made"
        );
        for doubtful in [
            StreamHead {
                is_readable: false,
                ..at(11)
            },
            StreamHead {
                history: "b".into(),
                ..at(11)
            },
            StreamHead {
                link: "18.5.11".into(),
                ..at(11)
            },
            StreamHead { link: link(10), ..at(11) },
            StreamHead {
                link: "-".into(),
                ..at(11)
            },
            at(9),
        ] {
            assert_eq!(history.revalidated_by(&doubtful), None, "{doubtful:?}");
        }
        let second = history.restart(&at(11)).unwrap();
        assert!(second.generation() > first.generation());
        assert_eq!(history.revalidated_by(&at(11)), Some(second));
    }

    #[test]
    fn a_counter_that_would_spill_into_the_generation_is_refused() {
        assert_eq!(History::default().known().position(1 << Position::COUNT_BITS), None);
    }
}
