//! A supervised connection: it is rebuilt when it breaks, and a heartbeat checks that it lives and leads to the primary.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::store::redis::scripts::Scripts;
use crate::store::{StoreError, watch};

use super::Endpoint;
use super::dial::{CONNECT_TIMEOUT, RedisConnection};
use super::fault::{ConnectionFate, StoreFault};
use super::primary_locator::{self, PrimaryLocator};
use super::reconnect::Backoff;

/// Time between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How long the answer to a heartbeat may take. With [`HEARTBEAT`], a silent partition is noticed within 3 s.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(1);

/// The open connection of a link. The number tells it from earlier ones, so that a late report about those is ignored.
#[derive(Clone)]
pub(crate) struct LiveLink {
    pub(crate) wire: RedisConnection,
    pub(crate) endpoint: Arc<Endpoint>,
    number: u64,
}

impl LiveLink {
    /// Whether both are the same connection.
    pub(crate) const fn is(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

/// What a link is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// The first attempt is not over.
    Starting,
    Up,
    Down,
}

/// Whether a link looks for the primary itself.
pub(crate) enum LinkRole {
    Lead,
    /// Connects to the server of the leader, while the leader is up.
    Follow(watch::WatchReceiver<LinkState>),
}

pub(crate) struct Link {
    locator: Arc<PrimaryLocator>,
    response_timeout: Duration,
    live: Mutex<Option<LiveLink>>,
    last_error: Mutex<StoreError>,
    next_number: AtomicU64,
    state: watch::WatchSender<LinkState>,
    broken: Notify,
}

impl Link {
    pub(crate) fn new(locator: &Arc<PrimaryLocator>, response_timeout: Duration) -> Self {
        Self {
            locator: Arc::clone(locator),
            response_timeout,
            live: Mutex::new(None),
            last_error: Mutex::new(StoreError::Unavailable("no connection to Redis yet".into())),
            next_number: AtomicU64::new(1),
            state: watch::channel(LinkState::Starting).0,
            broken: Notify::new(),
        }
    }

    /// The connection, if there is a healthy one.
    pub(crate) fn live(&self) -> Option<LiveLink> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner).clone();
        live.filter(|live| live.wire.is_open())
    }

    pub(crate) fn last_error(&self) -> StoreError {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The state, now and after each change.
    pub(crate) fn watch(&self) -> watch::WatchReceiver<LinkState> {
        self.state.subscribe()
    }

    /// Ends the connection if this fault says that it must not be used again.
    pub(crate) fn settle(&self, failed: &LiveLink, fault: &StoreFault) {
        self.locator.note(fault);
        if fault.connection == ConnectionFate::Keep {
            return;
        }
        self.drop_connection(failed, &fault.error);
    }

    fn drop_connection(&self, failed: &LiveLink, why: &StoreError) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|l| l.number == failed.number) {
            *live = None;
            drop(live);
            self.remember(why);
            self.broken.notify_one();
        }
    }

    fn publish(&self, endpoint: &Endpoint, wire: RedisConnection) -> LiveLink {
        let live = LiveLink {
            wire,
            endpoint: Arc::new(endpoint.clone()),
            number: self.next_number.fetch_add(1, Ordering::Relaxed),
        };
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(live.clone());
        self.state.send_replace(LinkState::Up);
        live
    }

    fn remember(&self, why: &StoreError) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = why.clone();
    }

    /// Keeps the link up until its task is aborted. All other links wait for the leader, so that an unreachable Redis sees
    /// one attempt at a time from each gateway.
    pub(crate) async fn supervise(self: Arc<Self>, scripts: Arc<Scripts>, mut duty: LinkRole) {
        let mut backoff = self.locator.backoff();
        let mut primary = self.locator.primary();
        loop {
            if let LinkRole::Follow(leader) = &mut duty
                && leader.wait_for(|state| *state == LinkState::Up).await.is_err()
            {
                return;
            }
            let tried = primary.take_latest();
            let pause = match self.connect(&scripts, &duty).await {
                Ok((endpoint, wire)) => {
                    let live = self.publish(&endpoint, wire);
                    self.keep(&live, &endpoint, &scripts, &duty, &mut backoff).await;
                    self.state.send_replace(LinkState::Down);
                    tracing::warn!(error = %self.last_error(), "a connection to Redis was lost");
                    backoff.next()
                }
                Err(error) => {
                    self.remember(&error);
                    self.state.send_replace(LinkState::Down);
                    tracing::debug!(%error, "no connection to Redis");
                    // Other gateways may have lost it too: each tries in its own reconnect slot.
                    match duty {
                        LinkRole::Lead => self.locator.reconnect_slot.lengthen(backoff.next(), backoff.fraction()),
                        LinkRole::Follow(_) => backoff.next(),
                    }
                }
            };
            match duty {
                LinkRole::Lead => tokio::time::sleep(pause).await,
                // The pause is about the server that failed. Another server that the leader has found since is tried at
                // once: otherwise look-ups would have no connection for seconds.
                LinkRole::Follow(_) => {
                    let elsewhere = primary.wait_for(|now| now.is_some() && *now != tried);
                    if let Ok(Ok(_)) = tokio::time::timeout(pause, elsewhere).await {
                        backoff.reset();
                    }
                }
            }
        }
    }

    async fn connect(&self, scripts: &Scripts, duty: &LinkRole) -> Result<(Endpoint, RedisConnection), StoreError> {
        let endpoint = match duty {
            LinkRole::Lead => self.locator.locate().await?,
            LinkRole::Follow(_) => match &self.locator.primary().take_latest() {
                Some(endpoint) => Endpoint::clone(endpoint),
                None => return Err(StoreError::Unavailable("the primary of Redis is not known".into())),
            },
        };
        let wire = self.locator.dial(&endpoint, self.response_timeout).await?;
        let check = async {
            scripts.check_primary(&wire).await?;
            scripts.claim(&wire).await
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, check).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => {
                self.locator.note(&fault);
                return Err(fault.error);
            }
            Err(_) => return Err(StoreError::Unavailable("Redis did not answer in time".into())),
        }
        if matches!(duty, LinkRole::Lead) {
            self.locator.confirm_reached(&endpoint).await?;
            self.locator.set_primary(endpoint.clone());
        }
        Ok((endpoint, wire))
    }

    /// Returns when the connection is no longer to be used.
    async fn keep(&self, live: &LiveLink, endpoint: &Endpoint, scripts: &Scripts, duty: &LinkRole, backoff: &mut Backoff) {
        let mut primary = self.locator.primary();
        let mut redirected = self.locator.redirected();
        loop {
            let ended = tokio::select! {
                biased;
                () = self.broken.notified() => None,
                () = live.wire.closed() => Some(StoreError::Unavailable("Redis closed the connection".into())),
                () = primary_locator::primary_moved(&mut primary, endpoint) => Some(elsewhere()),
                _ = redirected.changed(), if matches!(duty, LinkRole::Lead) => Some(elsewhere()),
                beat = self.beat(live, endpoint, scripts, duty) => {
                    backoff.reset();
                    beat.err()
                }
            };
            if let Some(error) = ended {
                self.drop_connection(live, &error);
            }
            if self.live().is_none_or(|now| now.number != live.number) {
                return;
            }
        }
    }

    /// One heartbeat: after a pause, whether the connection lives and leads to the primary.
    async fn beat(&self, live: &LiveLink, endpoint: &Endpoint, scripts: &Scripts, duty: &LinkRole) -> Result<(), StoreError> {
        tokio::time::sleep(HEARTBEAT).await;
        // On the link of changes the heartbeat waits behind commands that wait for replicas. The leader notices a
        // server that is gone.
        let patience = match duty {
            LinkRole::Lead => HEARTBEAT_TIMEOUT,
            LinkRole::Follow(_) => HEARTBEAT_TIMEOUT.max(self.response_timeout),
        };
        match tokio::time::timeout(patience, scripts.check_primary(&live.wire)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => {
                self.locator.note(&fault);
                return Err(fault.error);
            }
            Err(_) => return Err(StoreError::Unavailable("Redis did not answer in time".into())),
        }
        match duty {
            LinkRole::Lead => self.locator.check(endpoint).await,
            LinkRole::Follow(_) => Ok(()),
        }
    }
}

fn elsewhere() -> StoreError {
    StoreError::Unavailable("the primary of Redis is elsewhere now".into())
}
