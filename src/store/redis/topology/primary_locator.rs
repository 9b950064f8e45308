//! Finds the primary, for all connections of this process together.
//!
//! The leading connection looks for the primary and checks it. The other connections go to the same server, and leave it as
//! soon as the leader does. So no connection goes on reading from an old primary while the process follows a new one.
//!
//! *Witnesses* are the servers that say which server is the primary: the sentinels, or the primaries of a cluster. A single
//! server has none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;

use crate::base::clock::{BootMillis, Clock};
use crate::store::redis::scripts::Rights;
use crate::store::{StoreError, watch};

use super::cluster::ClusterNodes;
use super::dial::{Dialer, RedisConnection, RedisEnvironment, dial};
use super::fault::{ConnectionFate, StoreFault};
use super::link::LiveLink;
use super::majority::{MajorityAnswer, MajorityRecord, MayAcknowledge};
use super::reconnect::{Backoff, Pace, ReconnectSlot};
use super::replicas::PromotableReplicas;
use super::sentinel::Sentinels;
use super::{Endpoint, RedisAccess, Servers};

/// How long the primaries of a cluster may take to learn of a new owner of our slot. After that, a change on the new owner is
/// reported as not confirmed. Replicas have as long.
const CONFIRM_WITHIN: Duration = Duration::from_secs(1);

/// Time between two questions meanwhile.
const CONFIRM_AGAIN: Duration = Duration::from_millis(100);

/// Connections that follow the leader: two for look-ups, one for changes and one for events. When the leader has found
/// another primary, they must not wait because earlier attempts have used up the rate limit.
const FOLLOWERS: f64 = 4.0;

/// The server of the leader, for the other connections; `None` while there is none.
pub(crate) type PrimaryWatch = watch::WatchReceiver<Option<Arc<Endpoint>>>;

/// How the primary is found.
enum Discovery {
    One(Endpoint),
    Sentinels(Box<Sentinels>),
    Cluster(ClusterNodes),
}

/// Where the primary is, and what is needed to find it.
pub(crate) struct PrimaryLocator {
    environment: RedisEnvironment,
    pace: Pace,
    /// When this gateway tries again after all gateways have lost the store.
    pub(crate) reconnect_slot: ReconnectSlot,
    discovery: Discovery,
    /// The last answer of the witnesses.
    majority: MajorityRecord,
    /// Held while the witnesses are asked. A caller that waits for it may share the answer.
    asking: AsyncMutex<()>,
    dialer: Arc<Dialer>,
    /// The server that the leader uses; `None` while no server may be used.
    primary: watch::WatchSender<Option<Arc<Endpoint>>>,
    /// Counts the servers that said that they are not our primary.
    redirected: watch::WatchSender<u64>,
    hint: Mutex<Option<Endpoint>>,
    /// The server to which the leader was connected last.
    last: Mutex<Option<Endpoint>>,
    /// When a server last said that the store was written under a foreign pepper: boot time in milliseconds plus one; 0 for
    /// never.
    foreign_at: AtomicU64,
    clock: Arc<dyn Clock>,
}

/// How long the answer "foreign pepper" counts. The readiness probe asks twice a second, which renews it.
const FOREIGN_FOR: Duration = Duration::from_secs(3);

impl PrimaryLocator {
    pub(crate) fn new(
        environment: RedisEnvironment,
        access: RedisAccess,
        hash_tag: &str,
        max_age: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let dialer = Arc::new(Dialer::new(&environment, &access.user, access.database, access.tls.as_ref()));
        Self {
            discovery: match access.servers {
                Servers::One(endpoint) => Discovery::One(endpoint),
                Servers::Sentinels(sentinels) => Discovery::Sentinels(Box::new(Sentinels::new(&environment, *sentinels))),
                Servers::Cluster(seeds) => Discovery::Cluster(ClusterNodes::new(seeds, hash_tag, &dialer)),
            },
            dialer,
            majority: MajorityRecord::new(Arc::clone(&clock), max_age),
            asking: AsyncMutex::default(),
            pace: environment.pace(),
            reconnect_slot: ReconnectSlot::new(Arc::clone(&clock)),
            foreign_at: AtomicU64::new(0),
            clock,
            environment,
            primary: watch::channel(None).0,
            redirected: watch::channel(0).0,
            hint: Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// Where the leader tries next. The connection finds out whether the server is the primary. Ends within two seconds.
    pub(crate) async fn locate(&self) -> Result<Endpoint, StoreError> {
        match &self.discovery {
            Discovery::One(endpoint) => Ok(endpoint.clone()),
            Discovery::Sentinels(_) => self.ask(None, None).await.map(|answer| answer.named),
            Discovery::Cluster(nodes) => {
                let hint = self.hint.lock().unwrap_or_else(PoisonError::into_inner).take();
                match hint {
                    Some(endpoint) => Ok(endpoint),
                    None => nodes.ask().await,
                }
            }
        }
    }

    /// Asks the primaries of a cluster whether the server that the leader has just reached owns our slot. Sentinels were
    /// asked before the connection was made.
    ///
    /// # Errors
    /// Too few say so.
    pub(crate) async fn confirm_reached(&self, endpoint: &Endpoint) -> Result<(), StoreError> {
        match &self.discovery {
            Discovery::One(_) | Discovery::Sentinels(_) => Ok(()),
            Discovery::Cluster(_) => self.ask(None, Some(endpoint)).await.map(drop),
        }
    }

    /// A part of the leader's heartbeat: whether the witnesses still name its server as the primary.
    ///
    /// # Errors
    /// They name another server, or no majority has answered for too long.
    pub(crate) async fn check(&self, endpoint: &Endpoint) -> Result<(), StoreError> {
        if !self.has_witnesses() {
            return Ok(());
        }
        if self.majority.check(endpoint).is_err() {
            self.ask_anew(endpoint).await;
        }
        self.majority.check(endpoint)
    }

    /// Up to when this server was known to be the primary; `None` without witnesses. Call it before a read is sent: the age
    /// of what is read counts from this moment.
    ///
    /// # Errors
    /// The server is not known to be the primary.
    pub(crate) async fn primary_at(&self, endpoint: &Endpoint) -> Result<Option<BootMillis>, StoreError> {
        if !self.has_witnesses() {
            return Ok(None);
        }
        if self.majority.primary_at(endpoint).is_err() {
            self.ask_anew(endpoint).await;
        }
        self.last_known_primary_at(endpoint)
    }

    /// As [`primary_at`](Self::primary_at), without asking anybody.
    pub(crate) fn last_known_primary_at(&self, endpoint: &Endpoint) -> Result<Option<BootMillis>, StoreError> {
        if !self.has_witnesses() {
            return Ok(None);
        }
        self.majority.primary_at(endpoint).map(Some)
    }

    /// Asks ahead of time when the last answer is too old, for example after the machine was suspended: requests would be
    /// refused until the next regular question. It does not ask when another server is named.
    async fn ask_anew(&self, endpoint: &Endpoint) {
        if self.is_named(endpoint) {
            let about = matches!(self.discovery, Discovery::Cluster(_)).then_some(endpoint);
            let _ = self.ask(Some(self.majority.lately()), about).await;
        }
    }

    /// Whether the last answer names this server.
    pub(crate) fn is_named(&self, endpoint: &Endpoint) -> bool {
        match &self.discovery {
            Discovery::One(_) => true,
            Discovery::Sentinels(_) | Discovery::Cluster(_) => self.majority.is_named(endpoint),
        }
    }

    /// Whether there are servers besides the primary that say which one it is.
    pub(crate) const fn has_witnesses(&self) -> bool {
        !matches!(self.discovery, Discovery::One(_))
    }

    /// Succeeds when the witnesses name this server in an answer to a question that was sent after `after`: a change that
    /// was made on it before then may be acknowledged. Concurrent callers share a question. Ends within two rounds of
    /// questions, eight seconds at most.
    ///
    /// # Errors
    /// They name another server, or no majority answers.
    pub(crate) async fn confirm_after(&self, endpoint: &Endpoint, after: BootMillis) -> Result<(), StoreError> {
        if !self.has_witnesses() {
            return Ok(());
        }
        let about = matches!(self.discovery, Discovery::Cluster(_)).then_some(endpoint);
        let mut since = after;
        loop {
            let why = match self.ask(Some(since), about).await {
                Ok(answer) if answer.named != *endpoint => {
                    StoreError::Unavailable(format!("{} is named as the primary now, and not {endpoint}", answer.named))
                }
                Ok(answer) if answer.may_acknowledge == MayAcknowledge::Yes => return Ok(()),
                Ok(_) => StoreError::Unavailable("too few primaries of the cluster say that this one has our slot".into()),
                Err(error) => error,
            };
            if about.is_none() || self.majority.now().since(after) >= CONFIRM_WITHIN {
                return Err(why);
            }
            // Our slot may have a new owner, which the other primaries have not heard of yet.
            tokio::time::sleep(CONFIRM_AGAIN).await;
            since = self.majority.now();
        }
    }

    /// The replicas of this server that could be promoted, as the witnesses say in answers to questions sent after the call.
    /// `None` without witnesses: then the primary's own list is all there is. Ends within four seconds.
    ///
    /// # Errors
    /// Why that is not known.
    pub(crate) async fn promotable(&self, live: &LiveLink) -> Result<Option<PromotableReplicas>, String> {
        match &self.discovery {
            Discovery::One(_) => Ok(None),
            Discovery::Sentinels(sentinels) => sentinels.promotable(&live.endpoint).await.map(Some),
            Discovery::Cluster(nodes) => nodes.promotable(&live.wire).await.map(Some),
        }
    }

    /// Now, on the clock of [`confirm_after`](Self::confirm_after).
    pub(crate) fn now(&self) -> BootMillis {
        self.majority.now()
    }

    /// Asks the witnesses at regular intervals while there is a primary, until its task is aborted.
    pub(crate) async fn ask_for_ever(self: Arc<Self>) {
        let period = self.majority.period();
        let mut primary = self.primary();
        while self.has_witnesses() {
            tokio::time::sleep(period).await;
            if let Some(endpoint) = primary.take_latest() {
                let about = matches!(self.discovery, Discovery::Cluster(_)).then_some(&*endpoint);
                let _ = self.ask(None, about).await;
            }
        }
    }

    /// Asks the witnesses once, unless there is an answer to a question sent after `since`. In a cluster, the question is
    /// about the server `about`.
    async fn ask(&self, since: Option<BootMillis>, about: Option<&Endpoint>) -> Result<MajorityAnswer, StoreError> {
        let _one_at_a_time = self.asking.lock().await;
        if let Some(shared) = since.and_then(|since| self.majority.answer_since(since, about)) {
            return shared;
        }
        let sent_at = self.majority.now();
        let answer = match (&self.discovery, about) {
            (Discovery::Sentinels(sentinels), _) => sentinels.ask().await.map(|named| MajorityAnswer {
                named,
                may_acknowledge: MayAcknowledge::Yes,
            }),
            (Discovery::Cluster(nodes), Some(endpoint)) => nodes.ask_about(endpoint).await,
            (Discovery::Cluster(_), None) | (Discovery::One(_), _) => Err(StoreError::Unavailable("there is nobody to ask".into())),
        };
        self.majority.note(sent_at, about, &answer);
        self.forget_primary_unless_named();
        answer
    }

    /// Ends the use of the primary when the witnesses name another server, or have not answered for too long.
    fn forget_primary_unless_named(&self) {
        self.primary.send_if_modified(|primary| {
            let ended = primary.as_deref().is_some_and(|at| self.majority.check(at).is_err());
            if ended {
                *primary = None;
            }
            ended
        });
    }

    /// Connects to what may be the primary, within the rate limit of this gateway.
    ///
    /// # Errors
    /// As [`dial`].
    pub(crate) async fn dial(&self, endpoint: &Endpoint, response_timeout: Duration) -> Result<RedisConnection, StoreError> {
        self.pace.wait(&self.reconnect_slot).await;
        dial(endpoint, &self.dialer, response_timeout).await
    }

    /// Tells the other connections that the leader is connected to this server.
    pub(crate) fn set_primary(&self, endpoint: Endpoint) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|last| *last != endpoint) {
            self.pace.allow(FOLLOWERS);
        }
        *last = Some(endpoint.clone());
        drop(last);
        self.primary.send_if_modified(|primary| {
            let changed = primary.as_deref() != Some(&endpoint);
            if changed {
                *primary = Some(Arc::new(endpoint));
            }
            changed
        });
    }

    /// The rights that this gateway's users lack.
    pub(crate) const fn rights(&self) -> &Arc<Rights> {
        self.environment.rights()
    }

    /// Pauses between the attempts of one connection.
    pub(crate) fn backoff(&self) -> Backoff {
        self.environment.backoff()
    }

    /// The server of the leader, now and after each change.
    pub(crate) fn primary(&self) -> PrimaryWatch {
        self.primary.subscribe()
    }

    /// Every fault comes here. If it says that a server is not our primary, the leader looks for another one.
    pub(crate) fn note(&self, fault: &StoreFault) {
        self.rights().note(fault);
        if matches!(fault.error, StoreError::Foreign(_)) {
            self.foreign_at.store(self.clock.now().boot.0.saturating_add(1), Ordering::Relaxed);
        }
        if let ConnectionFate::NotPrimary(hint) = &fault.connection {
            if hint.is_some() {
                self.hint.lock().unwrap_or_else(PoisonError::into_inner).clone_from(hint);
            }
            self.redirected.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Whether a server said lately that the store was written under a foreign pepper.
    pub(crate) fn is_foreign(&self) -> bool {
        let at = self.foreign_at.load(Ordering::Relaxed);
        at > 0 && self.clock.now().boot.since(BootMillis(at - 1)) < FOREIGN_FOR
    }

    /// Changes when a server says that it is not our primary. The leader watches it while it is connected.
    pub(crate) fn redirected(&self) -> watch::WatchReceiver<u64> {
        self.redirected.subscribe()
    }
}

/// Waits until the leader uses another server, or none.
pub(crate) async fn primary_moved(primary: &mut PrimaryWatch, endpoint: &Endpoint) {
    // An error means that the store was dropped, and this connection with it.
    let _ = primary.wait_for(|now| now.as_deref() != Some(endpoint)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(text).unwrap()
    }

    fn cluster() -> PrimaryLocator {
        let access = RedisAccess {
            servers: Servers::Cluster(vec![endpoint("127.0.0.1:1")]),
            user: crate::store::redis::RedisUser::default(),
            database: 0,
            tls: None,
        };
        PrimaryLocator::new(
            RedisEnvironment::default(),
            access,
            "durward",
            Duration::from_secs(30),
            Arc::new(crate::base::clock::SystemClock),
        )
    }

    #[tokio::test]
    async fn a_node_that_says_where_the_slot_is_is_followed_once() {
        let locator = cluster();
        let mut redirected = locator.redirected();
        let hint = Some(endpoint("10.0.0.7:7000"));
        locator.note(&StoreFault {
            connection: ConnectionFate::NotPrimary(hint.clone()),
            ..StoreFault::replica()
        });
        assert!(redirected.has_changed().unwrap());
        let _ = redirected.take_latest();
        assert_eq!(locator.locate().await.ok(), hint);
        // Nobody listens where the seeds are.
        assert!(locator.locate().await.is_err());
    }

    #[tokio::test]
    async fn a_course_that_has_not_changed_is_left_by_nobody() {
        let locator = cluster();
        locator.set_primary(endpoint("a:1"));
        let mut primary = locator.primary();
        locator.set_primary(endpoint("a:1"));
        assert!(!primary.has_changed().unwrap());
        locator.set_primary(endpoint("b:1"));
        primary_moved(&mut primary, &endpoint("a:1")).await;
    }
}
