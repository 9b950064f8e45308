//! Where the primary is now, for all connections of this process together.
//!
//! The leading connection looks for it and checks it; the others go where the leader is, and leave as
//! soon as the leader is elsewhere. So no connection goes on reading from an old primary while the
//! rest of the process follows the new one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;

use crate::base::clock::{BootMillis, Clock};
use crate::store::redis::scripts::Rights;
use crate::store::{StoreError, watch};

use super::cluster::Nodes;
use super::dial::{Caller, Surroundings, Wire, dial};
use super::fault::{Connection, Fault};
use super::link::Live;
use super::majority::{Acknowledges, Vouching, Word};
use super::reconnect::{Backoff, Pace, Turn};
use super::replicas::Wanted;
use super::sentinel::Sentinels;
use super::{Endpoint, RedisAccess, Servers};

/// How long a new owner of a slot may take to be known to the primaries of a cluster before a change on it is
/// reported as not confirmed; as long as replicas may take.
const CONFIRM_WITHIN: Duration = Duration::from_secs(1);

/// Between two questions meanwhile.
const CONFIRM_AGAIN: Duration = Duration::from_millis(100);

/// Connections that follow the leader: two for look-ups, one for changes and one for events. When the leader has found another
/// primary, they must not wait because earlier connects have used up the pace.
const FOLLOWERS: f64 = 4.0;

/// Where the leader is, for the other connections.
pub(crate) type Course = watch::Receiver<Option<Arc<Endpoint>>>;

/// Who knows where the primary is.
enum Guide {
    One(Endpoint),
    Sentinels(Box<Sentinels>),
    Cluster(Nodes),
}

/// Where the primary is, and how to find it.
pub(crate) struct Whereabouts {
    around: Surroundings,
    pace: Pace,
    /// When this gateway tries again after others have lost the store too.
    pub(crate) turn: Turn,
    guide: Guide,
    /// What those said who know, unless there is only one server.
    vouching: Vouching,
    /// One question to them at a time: whoever waits may be told what came of it.
    asking: AsyncMutex<()>,
    caller: Arc<Caller>,
    /// Where the leader found the primary; `None` while nobody may be asked.
    course: watch::Sender<Option<Arc<Endpoint>>>,
    /// Grows when a server said that it is not our primary.
    astray: watch::Sender<u64>,
    hint: Mutex<Option<Endpoint>>,
    /// The server to which the leader was connected last.
    last: Mutex<Option<Endpoint>>,
    /// When a server last said that the store was written under a pepper that is not among ours: boot time in milliseconds,
    /// plus one; 0 for never.
    foreign_at: AtomicU64,
    clock: Arc<dyn Clock>,
}

/// How long such an answer counts. The probe of readiness asks twice a second, which renews it.
const FOREIGN_FOR: Duration = Duration::from_secs(3);

impl Whereabouts {
    pub(crate) fn new(around: Surroundings, access: RedisAccess, hash_tag: &str, max_age: Duration, clock: Arc<dyn Clock>) -> Self {
        let caller = Arc::new(Caller::new(&around, &access.user, access.database, access.tls.as_ref()));
        Self {
            guide: match access.servers {
                Servers::One(endpoint) => Guide::One(endpoint),
                Servers::Sentinels(sentinels) => Guide::Sentinels(Box::new(Sentinels::new(&around, *sentinels))),
                Servers::Cluster(seeds) => Guide::Cluster(Nodes::new(seeds, hash_tag, &caller)),
            },
            caller,
            vouching: Vouching::new(Arc::clone(&clock), max_age),
            asking: AsyncMutex::default(),
            pace: around.pace(),
            turn: Turn::new(Arc::clone(&clock)),
            foreign_at: AtomicU64::new(0),
            clock,
            around,
            course: watch::channel(None).0,
            astray: watch::channel(0).0,
            hint: Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// Where to try next; the leader's to ask. Whether it is the primary is for the connection to
    /// find out. Ends within two seconds.
    pub(crate) async fn locate(&self) -> Result<Endpoint, StoreError> {
        match &self.guide {
            Guide::One(endpoint) => Ok(endpoint.clone()),
            Guide::Sentinels(_) => self.ask(None, None).await.map(|word| word.named),
            Guide::Cluster(nodes) => {
                let hint = self.hint.lock().unwrap_or_else(PoisonError::into_inner).take();
                match hint {
                    Some(endpoint) => Ok(endpoint),
                    None => nodes.ask().await,
                }
            }
        }
    }

    /// Whether the server that the leader has just reached is the primary in the eyes of those who know. Sentinels
    /// have said so already.
    ///
    /// # Errors
    /// They do not say so.
    pub(crate) async fn vouch_for(&self, endpoint: &Endpoint) -> Result<(), StoreError> {
        match &self.guide {
            Guide::One(_) | Guide::Sentinels(_) => Ok(()),
            Guide::Cluster(_) => self.ask(None, Some(endpoint)).await.map(drop),
        }
    }

    /// Whether the leader's primary is still believed to be one by those who know; a part of its heartbeat.
    ///
    /// # Errors
    /// It is not: another is, or nobody has said so for too long.
    pub(crate) async fn check(&self, endpoint: &Endpoint) -> Result<(), StoreError> {
        if !self.has_witnesses() {
            return Ok(());
        }
        if self.vouching.check(endpoint).is_err() {
            self.ask_anew(endpoint).await;
        }
        self.vouching.check(endpoint)
    }

    /// Up to when this server was known to be the primary; `None` where nobody decides that but the server. Asked
    /// before a read is sent to it: what it answers counts from then.
    ///
    /// # Errors
    /// It is not known to be the primary.
    pub(crate) async fn primary_at(&self, endpoint: &Endpoint) -> Result<Option<BootMillis>, StoreError> {
        if !self.has_witnesses() {
            return Ok(None);
        }
        if self.vouching.primary_at(endpoint).is_err() {
            self.ask_anew(endpoint).await;
        }
        self.vouching.primary_at(endpoint).map(Some)
    }

    /// Puts a question ahead of time where the last word is too old, as in a machine that was suspended: there the
    /// next question is due as late as ever, and callers would be turned away meanwhile. Where another server is
    /// named there is nothing to ask.
    async fn ask_anew(&self, endpoint: &Endpoint) {
        if self.is_named(endpoint) {
            let about = matches!(self.guide, Guide::Cluster(_)).then_some(endpoint);
            let _ = self.ask(Some(self.vouching.lately()), about).await;
        }
    }

    /// Whether this is the server that was named last as the primary.
    pub(crate) fn is_named(&self, endpoint: &Endpoint) -> bool {
        match &self.guide {
            Guide::One(_) => true,
            Guide::Sentinels(_) | Guide::Cluster(_) => self.vouching.is_named(endpoint),
        }
    }

    /// Whether others than the server itself say that it is the primary.
    pub(crate) const fn has_witnesses(&self) -> bool {
        !matches!(self.guide, Guide::One(_))
    }

    /// Whether this server is the primary by what those who know say after `after`: something that was done on it
    /// until then may be acknowledged. Shares the question with whoever asks at the same time; ends within two
    /// rounds of questions, eight seconds at the very most.
    ///
    /// # Errors
    /// Nobody knows, or another one is.
    pub(crate) async fn confirm_after(&self, endpoint: &Endpoint, after: BootMillis) -> Result<(), StoreError> {
        if !self.has_witnesses() {
            return Ok(());
        }
        let about = matches!(self.guide, Guide::Cluster(_)).then_some(endpoint);
        let mut since = after;
        loop {
            let why = match self.ask(Some(since), about).await {
                Ok(word) if word.named != *endpoint => {
                    StoreError::Unavailable(format!("{} is named as the primary now, and not {endpoint}", word.named))
                }
                Ok(word) if word.acknowledges == Acknowledges::Yes => return Ok(()),
                Ok(_) => StoreError::Unavailable("too few primaries of the cluster say that this one has our slot".into()),
                Err(error) => error,
            };
            if about.is_none() || self.vouching.now().since(after) >= CONFIRM_WITHIN {
                return Err(why);
            }
            // A slot that has just changed hands: its new owner is telling the others.
            tokio::time::sleep(CONFIRM_AGAIN).await;
            since = self.vouching.now();
        }
    }

    /// The replicas of this connection's server that could be promoted, by accounts that were given after the call.
    /// `None` where the primary's own list is all there is. Ends within four seconds.
    ///
    /// # Errors
    /// Why nobody knows.
    pub(crate) async fn promotable(&self, live: &Live) -> Result<Option<Wanted>, String> {
        match &self.guide {
            Guide::One(_) => Ok(None),
            Guide::Sentinels(sentinels) => sentinels.promotable(&live.endpoint).await.map(Some),
            Guide::Cluster(nodes) => nodes.promotable(&live.wire).await.map(Some),
        }
    }

    /// The moment on the clock of [`confirm_after`](Self::confirm_after).
    pub(crate) fn now(&self) -> BootMillis {
        self.vouching.now()
    }

    /// Asks those who know again and again, while there is a primary to be asked about; until its task is aborted.
    pub(crate) async fn ask_for_ever(self: Arc<Self>) {
        let period = self.vouching.period();
        let mut course = self.course();
        while self.has_witnesses() {
            tokio::time::sleep(period).await;
            if let Some(endpoint) = course.take_latest() {
                let about = matches!(self.guide, Guide::Cluster(_)).then_some(&*endpoint);
                let _ = self.ask(None, about).await;
            }
        }
    }

    /// Puts one question, unless one was answered that was sent after `since`. In a cluster `about` is the server
    /// that it is about.
    async fn ask(&self, since: Option<BootMillis>, about: Option<&Endpoint>) -> Result<Word, StoreError> {
        let _one_at_a_time = self.asking.lock().await;
        if let Some(heard) = since.and_then(|since| self.vouching.heard_since(since, about)) {
            return heard;
        }
        let sent_at = self.vouching.now();
        let word = match (&self.guide, about) {
            (Guide::Sentinels(sentinels), _) => sentinels.ask().await.map(|named| Word {
                named,
                acknowledges: Acknowledges::Yes,
            }),
            (Guide::Cluster(nodes), Some(endpoint)) => nodes.ask_about(endpoint).await,
            (Guide::Cluster(_), None) | (Guide::One(_), _) => Err(StoreError::Unavailable("there is nobody to ask".into())),
        };
        self.vouching.note(sent_at, about, &word);
        self.end_course_unless_vouched_for();
        word
    }

    /// Ends the course when another primary is named, or none has been for too long.
    fn end_course_unless_vouched_for(&self) {
        self.course.send_if_modified(|course| {
            let ended = course.as_deref().is_some_and(|at| self.vouching.check(at).is_err());
            if ended {
                *course = None;
            }
            ended
        });
    }

    /// Connects to what may be the primary, at the pace of this gateway.
    ///
    /// # Errors
    /// As [`dial`].
    pub(crate) async fn dial(&self, endpoint: &Endpoint, response_timeout: Duration) -> Result<Wire, StoreError> {
        self.pace.wait(&self.turn).await;
        dial(endpoint, &self.caller, response_timeout).await
    }

    /// The leader is connected to the primary here.
    pub(crate) fn set_course(&self, endpoint: Endpoint) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|last| *last != endpoint) {
            self.pace.allow(FOLLOWERS);
        }
        *last = Some(endpoint.clone());
        drop(last);
        self.course.send_if_modified(|course| {
            let changed = course.as_deref() != Some(&endpoint);
            if changed {
                *course = Some(Arc::new(endpoint));
            }
            changed
        });
    }

    /// What was refused to this gateway's users.
    pub(crate) const fn rights(&self) -> &Arc<Rights> {
        self.around.rights()
    }

    /// The pauses of one more connection.
    pub(crate) fn backoff(&self) -> Backoff {
        self.around.backoff()
    }

    /// Where the leader is, now and whenever that changes.
    pub(crate) fn course(&self) -> Course {
        self.course.subscribe()
    }

    /// Told about every fault: a server that is not our primary makes the leader look for it.
    pub(crate) fn note(&self, fault: &Fault) {
        self.rights().note(fault);
        if matches!(fault.error, StoreError::Foreign(_)) {
            self.foreign_at.store(self.clock.now().boot.0.saturating_add(1), Ordering::Relaxed);
        }
        if let Connection::Astray(hint) = &fault.connection {
            if hint.is_some() {
                self.hint.lock().unwrap_or_else(PoisonError::into_inner).clone_from(hint);
            }
            self.astray.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Whether a server has said lately that the store was written under a pepper that is not among ours.
    pub(crate) fn is_foreign(&self) -> bool {
        let at = self.foreign_at.load(Ordering::Relaxed);
        at > 0 && self.clock.now().boot.since(BootMillis(at - 1)) < FOREIGN_FOR
    }

    /// What the leader watches while it is connected; seen up to now.
    pub(crate) fn astray(&self) -> watch::Receiver<u64> {
        self.astray.subscribe()
    }
}

/// Waits until the leader is elsewhere.
pub(crate) async fn left(course: &mut Course, endpoint: &Endpoint) {
    // An error means that the store is gone, and with it this connection.
    let _ = course.wait_for(|now| now.as_deref() != Some(endpoint)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(text).unwrap()
    }

    fn cluster() -> Whereabouts {
        let access = RedisAccess {
            servers: Servers::Cluster(vec![endpoint("127.0.0.1:1")]),
            user: crate::store::redis::RedisUser::default(),
            database: 0,
            tls: None,
        };
        Whereabouts::new(
            Surroundings::default(),
            access,
            "durward",
            Duration::from_secs(30),
            Arc::new(crate::base::clock::SystemClock),
        )
    }

    #[tokio::test]
    async fn a_node_that_says_where_the_slot_is_is_followed_once() {
        let whereabouts = cluster();
        let mut astray = whereabouts.astray();
        let hint = Some(endpoint("10.0.0.7:7000"));
        whereabouts.note(&Fault {
            connection: Connection::Astray(hint.clone()),
            ..Fault::replica()
        });
        assert!(astray.has_changed().unwrap());
        let _ = astray.take_latest();
        assert_eq!(whereabouts.locate().await.ok(), hint);
        // Nobody listens where the seeds are.
        assert!(whereabouts.locate().await.is_err());
    }

    #[tokio::test]
    async fn a_course_that_has_not_changed_is_left_by_nobody() {
        let whereabouts = cluster();
        whereabouts.set_course(endpoint("a:1"));
        let mut course = whereabouts.course();
        whereabouts.set_course(endpoint("a:1"));
        assert!(!course.has_changed().unwrap());
        whereabouts.set_course(endpoint("b:1"));
        left(&mut course, &endpoint("a:1")).await;
    }
}
