//! The last answer of the witnesses (sentinels, or the primaries of a cluster): up to when a server was the primary.
//! What is read from a server counts as no younger than that.
//!
//! The rule has two parts:
//!
//! - The age of facts counts from the earlier of two moments: when their read was sent, and when the last question was sent
//!   that a majority answered by naming exactly this server. The answer must be known when the read is sent. Without such an
//!   answer, nothing is read.
//! - A change is acknowledged only when a majority names the server that the change was made on, in answer to a question that
//!   was sent after the change was made.
//!
//! With this rule, no fact outlives an acknowledged change by more than its age, whichever server believes to be the primary:
//!
//! 1. Let a change be acknowledged at T on a server N. A majority named N in answer to a question sent after the change, so
//!    each member of that majority named N before T.
//! 2. Take facts without that change, read from another server E, whose last answer is of V. Any two majorities share a
//!    member. That member named N before T, and E at V or later.
//! 3. No sentinel goes back to an older configuration, and no node of a cluster to an older owner: each accepts only a higher
//!    epoch. Suppose the member named E before it named N. Then V is before T, and the facts are unusable from T + `max_age` on.
//! 4. Suppose the member named E after N. Then E has become the primary again, after N and before the read was sent, because
//!    the answer was known then. A primary that was promoted after the change has the change, if the replicas that may be
//!    promoted had it when it was acknowledged.
//! 5. Facts read from N itself after the change contain the change. Facts read from N before it are older than T.
//!
//! In a cluster, the old and the new owner of a slot both count themselves. There two majorities share a member only because
//! more primaries are asked before a change is acknowledged ([`cluster`](super::cluster)). A single server has no witnesses:
//! its facts count from their read. An operator who lets its address lead to another server must make sure that the other
//! server has every acknowledged change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::clock::{BootMillis, Clock};
use crate::store::StoreError;

use super::Endpoint;

/// How long the last answer of a majority is enough to stay with a primary that answers. After that the store counts as
/// unavailable and says why. It does not change the age of facts, which counts from that answer anyway.
const TRUST: Duration = Duration::from_secs(10);

/// Longest time between two questions: that between two heartbeats.
const LONGEST_PERIOD: Duration = Duration::from_secs(2);

/// Questions within the age limit of facts, so that the question adds little to their age.
const QUESTIONS_IN_AN_AGE: u32 = 4;

/// Shortest time between two questions, because a sentinel serves all gateways.
const SHORTEST_PERIOD: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MajorityAnswer {
    pub(crate) named: Endpoint,
    pub(crate) may_acknowledge: MayAcknowledge,
}

/// Whether a change may be acknowledged on this answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MayAcknowledge {
    Yes,
    /// The answer is enough to read, but another majority could still name another primary.
    No,
}

/// The last question and its answer.
struct LastQuestion {
    sent_at: BootMillis,
    /// The server that the question was about. Only a question to a cluster names one.
    about: Option<Endpoint>,
    answer: Result<MajorityAnswer, StoreError>,
}

/// The last answers of the witnesses.
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

    /// A question that was sent after this moment is recent enough, and is not repeated.
    pub(crate) fn lately(&self) -> BootMillis {
        let period = u64::try_from(SHORTEST_PERIOD.as_millis()).unwrap_or(0);
        BootMillis(self.now().0.saturating_sub(period))
    }

    /// The pause between two questions.
    pub(crate) fn period(&self) -> Duration {
        (self.max_age / QUESTIONS_IN_AN_AGE).clamp(SHORTEST_PERIOD, LONGEST_PERIOD)
    }

    /// Notes the answer to a question. Answers are noted in the order in which their questions were sent.
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

    /// The answer to the last question, if that was sent after this moment and about that server.
    pub(crate) fn answer_since(&self, after: BootMillis, about: Option<&Endpoint>) -> Option<Result<MajorityAnswer, StoreError>> {
        let state = self.state();
        let last = state.last.as_ref()?;
        (last.sent_at > after && last.about.as_ref() == about).then(|| last.answer.clone())
    }

    /// Up to when this server was known to be the primary.
    ///
    /// # Errors
    /// No majority said so, or so long ago that nothing read from the server could be used.
    pub(crate) fn primary_at(&self, endpoint: &Endpoint) -> Result<BootMillis, StoreError> {
        let now = self.now();
        let state = self.state();
        match &state.named_last {
            Some((named, at)) if named == endpoint && now.since(*at) < self.max_age => Ok(*at),
            _ => Err(state.why_not(endpoint, now)),
        }
    }

    /// Whether a majority named this server last.
    pub(crate) fn is_named(&self, endpoint: &Endpoint) -> bool {
        matches!(&self.state().named_last, Some((named, _)) if named == endpoint)
    }

    /// Whether this server may still be used as the primary: a majority named it last, and not too long ago.
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
        // No majority: the age of the earlier answer does not change.
        majority.note(majority.now(), None, &Err(StoreError::Unavailable("held".into())));
        assert_eq!(majority.primary_at(&old).ok(), Some(first));
        clock.advance(Duration::from_millis(3_999));
        assert!(majority.primary_at(&old).is_ok());
        clock.advance(Duration::from_millis(1));
        let why = majority.primary_at(&old).unwrap_err().to_string();
        assert!(why.contains("for 5 s") && why.contains("held"), "{why}");
        // Another server is named: the old one is no longer the primary.
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
        assert!(majority.answer_since(before, Some(&about)).is_some());
        assert!(majority.answer_since(sent, Some(&about)).is_none());
        assert!(majority.answer_since(before, Some(&endpoint("new:1"))).is_none());
    }

    #[test]
    fn the_shorter_facts_live_the_more_often_is_asked() {
        let period = |max_age| majority(Duration::from_secs(max_age)).1.period().as_millis();
        assert_eq!([1, 4, 5, 8, 30].map(period), [250, 1_000, 1_250, 2_000, 2_000]);
        assert_eq!(majority(Duration::from_millis(400)).1.period().as_millis(), 250);
    }
}
