//! Up to when a server was the primary, by the word of those who decide it: sentinels, or the primaries of a
//! cluster. What is read from a server is no younger than that.
//!
//! The rule: facts count from the earlier of two moments, when their read was sent, and when the question was
//! sent which a majority answered last by naming exactly this server, as it was known when the read was sent.
//! Without such a word nothing is read. And a change is acknowledged only when a majority names the server that it
//! was made on in answer to a question sent after it was made.
//!
//! Why no fact then outlives an acknowledged change by more than its age, whoever believes to be the primary:
//!
//! 1. Let a change be acknowledged at T on a server N. A majority named N in answer to a question sent after the
//!    change was made, so each of that majority did so before T.
//! 2. Take facts without that change, read from another server E whose last word is of V. Any two majorities
//!    share a member. That member named N before T, and E at V or later.
//! 3. No sentinel goes back to an older configuration, and no node of a cluster to an older owner: each takes over
//!    only what has a higher epoch. So it named E before it named N: V is before T, and the facts are unusable
//!    from T + `max_age` on.
//! 4. If it named E after N, then E has become the primary once more, after N, and before the read was sent, since
//!    the word was known then. A primary that was promoted after the change has it, if the replicas that may be
//!    promoted had it when it was acknowledged.
//! 5. Facts read from N itself after the change was made contain it; those from before are older than T.
//!
//! In a cluster the old and the new owner count themselves, so that two majorities share a member only because
//! more are asked before a change is acknowledged ([`cluster`](super::cluster)). A single server has nobody who
//! says whether it is the one: there facts count from their read, and whoever lets its address lead to another
//! server answers for that one having every acknowledged change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::clock::{BootMillis, Clock};
use crate::store::StoreError;

use super::Endpoint;

/// How long the last word of a majority is enough to stay with a primary that answers. After it the store counts
/// as unavailable and says why. No part of the bound: facts have counted from that word all the while.
const TRUST: Duration = Duration::from_secs(10);

/// Between two questions: as often as connections are asked whether they live, ...
const LONGEST_PERIOD: Duration = Duration::from_secs(2);

/// ... more often where facts may not grow as old, so that the question adds little to their age, ...
const QUESTIONS_IN_AN_AGE: u32 = 4;

/// ... and never more often than this: a sentinel serves all gateways.
const SHORTEST_PERIOD: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MajorityAnswer {
    pub(crate) named: Endpoint,
    pub(crate) may_acknowledge: MayAcknowledge,
}

/// Whether a change may be acknowledged on this word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MayAcknowledge {
    Yes,
    /// It is enough to read, but not all who would have to agree on another primary were heard.
    No,
}

/// What came of a question.
struct LastQuestion {
    sent_at: BootMillis,
    /// About which server, where one must be named to be asked about.
    about: Option<Endpoint>,
    answer: Result<MajorityAnswer, StoreError>,
}

/// What was heard of those who decide.
pub(crate) struct MajorityRecord {
    clock: Arc<dyn Clock>,
    max_age: Duration,
    state: Mutex<MajorityState>,
}

#[derive(Default)]
struct MajorityState {
    /// The server that a majority named last, and when that question was sent.
    named_last: Option<(Endpoint, BootMillis)>,
    last: Option<LastQuestion>,
}

impl MajorityRecord {
    pub(crate) fn new(clock: Arc<dyn Clock>, max_age: Duration) -> Self {
        Self {
            clock,
            max_age,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, MajorityState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> BootMillis {
        self.clock.now().boot
    }

    /// The last question is not repeated if it was sent after this.
    pub(crate) fn lately(&self) -> BootMillis {
        let period = u64::try_from(SHORTEST_PERIOD.as_millis()).unwrap_or(0);
        BootMillis(self.now().0.saturating_sub(period))
    }

    /// The pause between two questions.
    pub(crate) fn period(&self) -> Duration {
        (self.max_age / QUESTIONS_IN_AN_AGE).clamp(SHORTEST_PERIOD, LONGEST_PERIOD)
    }

    /// Notes what came of a question that was sent then. Questions are noted in the order they were sent in.
    pub(crate) fn note(&self, sent_at: BootMillis, about: Option<&Endpoint>, answer: &Result<MajorityAnswer, StoreError>) {
        let mut state = self.state();
        if let Ok(answer) = answer {
            state.named_last = Some((answer.named.clone(), sent_at));
        }
        state.last = Some(LastQuestion {
            sent_at,
            about: about.cloned(),
            answer: answer.clone(),
        });
    }

    /// What came of the last question, if it was sent after this and about that server.
    pub(crate) fn heard_since(&self, after: BootMillis, about: Option<&Endpoint>) -> Option<Result<MajorityAnswer, StoreError>> {
        let state = self.state();
        let last = state.last.as_ref()?;
        (last.sent_at > after && last.about.as_ref() == about).then(|| last.answer.clone())
    }

    /// Up to when this server was known to be the primary.
    ///
    /// # Errors
    /// Nobody said so, or so long ago that nothing read from it could be used.
    pub(crate) fn primary_at(&self, endpoint: &Endpoint) -> Result<BootMillis, StoreError> {
        let now = self.now();
        let state = self.state();
        match &state.named_last {
            Some((named, at)) if named == endpoint && now.since(*at) < self.max_age => Ok(*at),
            _ => Err(state.why_not(endpoint, now)),
        }
    }

    /// Whether this is the server that a majority named last.
    pub(crate) fn is_named(&self, endpoint: &Endpoint) -> bool {
        matches!(&self.state().named_last, Some((named, _)) if named == endpoint)
    }

    /// Whether this server may go on being used as the primary: it was named last, and not too long ago.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self, endpoint: &Endpoint) -> Result<(), StoreError> {
        let now = self.now();
        let state = self.state();
        match &state.named_last {
            Some((named, at)) if named == endpoint && now.since(*at) < TRUST => Ok(()),
            _ => Err(state.why_not(endpoint, now)),
        }
    }
}

impl MajorityState {
    fn why_not(&self, endpoint: &Endpoint, now: BootMillis) -> StoreError {
        let last_error = self.last.as_ref().and_then(|last| last.answer.as_ref().err());
        let why = match last_error {
            Some(StoreError::Unavailable(why) | StoreError::Corrupt(why) | StoreError::Foreign(why)) => format!(": {why}"),
            None => String::new(),
        };
        StoreError::Unavailable(match &self.named_last {
            Some((named, at)) if named == endpoint => format!(
                "no majority has said for {} s that {endpoint} is still the primary{why}",
                now.since(*at).as_secs()
            ),
            Some((named, _)) => format!("{named} is named as the primary now, and not {endpoint}"),
            None => format!("no majority has named {endpoint} as the primary{why}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{ManualClock, Now};

    fn majority(max_age: Duration) -> (Arc<ManualClock>, MajorityRecord) {
        let clock = Arc::new(ManualClock::new(Now {
            boot: BootMillis(1_000_000),
            ..Now::default()
        }));
        (Arc::clone(&clock), MajorityRecord::new(clock, max_age))
    }

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(text).unwrap()
    }

    fn answer(text: &str) -> Result<MajorityAnswer, StoreError> {
        Ok(MajorityAnswer {
            named: endpoint(text),
            may_acknowledge: MayAcknowledge::Yes,
        })
    }

    #[test]
    fn a_server_counts_as_the_primary_up_to_the_question_that_was_answered_last() {
        let (clock, majority) = majority(Duration::from_secs(5));
        let (old, new) = (endpoint("old:1"), endpoint("new:1"));
        assert!(majority.primary_at(&old).is_err());
        let first = majority.now();
        clock.advance(Duration::from_secs(1));
        majority.note(first, None, &answer("old:1"));
        assert_eq!(majority.primary_at(&old).ok(), Some(first));
        assert!(majority.primary_at(&new).is_err());
        // No majority: what was said before stays as old as it is.
        majority.note(majority.now(), None, &Err(StoreError::Unavailable("held".into())));
        assert_eq!(majority.primary_at(&old).ok(), Some(first));
        clock.advance(Duration::from_millis(3_999));
        assert!(majority.primary_at(&old).is_ok());
        clock.advance(Duration::from_millis(1));
        let why = majority.primary_at(&old).unwrap_err().to_string();
        assert!(why.contains("for 5 s") && why.contains("held"), "{why}");
        // Another one is named: the old one at once is nobody's primary.
        let later = majority.now();
        majority.note(later, None, &answer("new:1"));
        assert!(majority.primary_at(&old).unwrap_err().to_string().contains("new:1"));
        assert_eq!(majority.primary_at(&new).ok(), Some(later));
    }

    #[test]
    fn a_primary_is_left_ten_seconds_after_the_last_word_whatever_facts_may_be() {
        let (clock, majority) = majority(Duration::from_secs(54));
        let old = endpoint("old:1");
        majority.note(majority.now(), None, &answer("old:1"));
        clock.advance(Duration::from_millis(9_999));
        assert!(majority.check(&old).is_ok() && majority.is_named(&old));
        clock.advance(Duration::from_millis(1));
        assert!(majority.check(&old).is_err() && majority.primary_at(&old).is_ok());
    }

    #[test]
    fn only_an_answer_to_a_later_question_about_the_same_server_is_shared() {
        let (clock, majority) = majority(Duration::from_secs(30));
        let before = majority.now();
        clock.advance(Duration::from_millis(1));
        let sent = majority.now();
        let about = endpoint("old:1");
        majority.note(sent, Some(&about), &answer("old:1"));
        assert!(majority.heard_since(before, Some(&about)).is_some());
        assert!(majority.heard_since(sent, Some(&about)).is_none());
        assert!(majority.heard_since(before, Some(&endpoint("new:1"))).is_none());
    }

    #[test]
    fn the_shorter_facts_live_the_more_often_is_asked() {
        let period = |max_age| majority(Duration::from_secs(max_age)).1.period().as_millis();
        assert_eq!([1, 4, 5, 8, 30].map(period), [250, 1_000, 1_250, 2_000, 2_000]);
        assert_eq!(majority(Duration::from_millis(400)).1.period().as_millis(), 250);
    }
}
