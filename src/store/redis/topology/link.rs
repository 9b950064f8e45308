//! A connection that is supervised: rebuilt when it breaks, asked whether it still lives, and known
//! to lead to a primary.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::store::redis::scripts::Scripts;
use crate::store::{StoreError, watch};

use super::Endpoint;
use super::dial::{CONNECT_TIMEOUT, Wire};
use super::fault::{Connection, Fault};
use super::primary_locator::{self, Whereabouts};
use super::reconnect::Backoff;

/// Time between two questions whether the connection lives and leads to a primary ...
const HEARTBEAT: Duration = Duration::from_secs(2);

/// ... and how long the answer may take: together a silent partition is noticed within 3 s.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(1);

/// An open connection, numbered so that a report about an older one does no harm.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) wire: Wire,
    /// Where it leads.
    pub(crate) endpoint: Arc<Endpoint>,
    number: u64,
}

impl Live {
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

/// What a link does about where the primary is.
pub(crate) enum Duty {
    /// Looks for it.
    Lead,
    /// Goes where the leader is, while it is up.
    Follow(watch::Receiver<LinkState>),
}

/// One supervised connection.
pub(crate) struct Link {
    whereabouts: Arc<Whereabouts>,
    response_timeout: Duration,
    live: Mutex<Option<Live>>,
    last_error: Mutex<StoreError>,
    next_number: AtomicU64,
    state: watch::Sender<LinkState>,
    broken: Notify,
}

impl Link {
    pub(crate) fn new(whereabouts: &Arc<Whereabouts>, response_timeout: Duration) -> Self {
        Self {
            whereabouts: Arc::clone(whereabouts),
            response_timeout,
            live: Mutex::new(None),
            last_error: Mutex::new(StoreError::Unavailable("no connection to Redis yet".into())),
            next_number: AtomicU64::new(1),
            state: watch::channel(LinkState::Starting).0,
            broken: Notify::new(),
        }
    }

    /// The connection, if there is a healthy one.
    pub(crate) fn live(&self) -> Option<Live> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner).clone();
        live.filter(|live| live.wire.is_open())
    }

    /// Why there is none.
    pub(crate) fn last_error(&self) -> StoreError {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it is doing, now and whenever that changes.
    pub(crate) fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Ends a connection that failed or answered what it must not, if the fault says so.
    pub(crate) fn settle(&self, failed: &Live, fault: &Fault) {
        self.whereabouts.note(fault);
        if fault.connection == Connection::Keep {
            return;
        }
        self.drop_connection(failed, &fault.error);
    }

    fn drop_connection(&self, failed: &Live, why: &StoreError) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|l| l.number == failed.number) {
            *live = None;
            drop(live);
            self.remember(why);
            self.broken.notify_one();
        }
    }

    fn publish(&self, endpoint: &Endpoint, wire: Wire) -> Live {
        let live = Live {
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

    /// Keeps the link up until its task is aborted. All links but the leader wait for the leader, so
    /// that an unreachable Redis sees one attempt at a time from each gateway.
    pub(crate) async fn supervise(self: Arc<Self>, scripts: Arc<Scripts>, mut duty: Duty) {
        let mut backoff = self.whereabouts.backoff();
        let mut course = self.whereabouts.course();
        loop {
            if let Duty::Follow(leader) = &mut duty
                && leader.wait_for(|state| *state == LinkState::Up).await.is_err()
            {
                return;
            }
            let tried = course.take_latest();
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
                    // Others have lost it too: the leaders try one after the other.
                    match duty {
                        Duty::Lead => self.whereabouts.turn.lengthen(backoff.next(), backoff.fraction()),
                        Duty::Follow(_) => backoff.next(),
                    }
                }
            };
            match duty {
                Duty::Lead => tokio::time::sleep(pause).await,
                // What was wrong was wrong with the server before: the one that the leader has found since is tried at
                // once. Otherwise a gateway whose leader came late would have no connection for look-ups for seconds.
                Duty::Follow(_) => {
                    let elsewhere = course.wait_for(|now| now.is_some() && *now != tried);
                    if let Ok(Ok(_)) = tokio::time::timeout(pause, elsewhere).await {
                        backoff.reset();
                    }
                }
            }
        }
    }

    async fn connect(&self, scripts: &Scripts, duty: &Duty) -> Result<(Endpoint, Wire), StoreError> {
        let endpoint = match duty {
            Duty::Lead => self.whereabouts.locate().await?,
            Duty::Follow(_) => match &self.whereabouts.course().take_latest() {
                Some(endpoint) => Endpoint::clone(endpoint),
                None => return Err(StoreError::Unavailable("the primary of Redis is not known".into())),
            },
        };
        let wire = self.whereabouts.dial(&endpoint, self.response_timeout).await?;
        let check = async {
            scripts.check_primary(&wire).await?;
            scripts.claim(&wire).await
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, check).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => {
                self.whereabouts.note(&fault);
                return Err(fault.error);
            }
            Err(_) => return Err(StoreError::Unavailable("Redis did not answer in time".into())),
        }
        if matches!(duty, Duty::Lead) {
            self.whereabouts.vouch_for(&endpoint).await?;
            self.whereabouts.set_course(endpoint.clone());
        }
        Ok((endpoint, wire))
    }

    /// Returns when the connection is no longer to be used.
    async fn keep(&self, live: &Live, endpoint: &Endpoint, scripts: &Scripts, duty: &Duty, backoff: &mut Backoff) {
        let mut course = self.whereabouts.course();
        let mut astray = self.whereabouts.astray();
        loop {
            let ended = tokio::select! {
                biased;
                () = self.broken.notified() => None,
                () = live.wire.closed() => Some(StoreError::Unavailable("Redis closed the connection".into())),
                () = primary_locator::left(&mut course, endpoint) => Some(elsewhere()),
                _ = astray.changed(), if matches!(duty, Duty::Lead) => Some(elsewhere()),
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
    async fn beat(&self, live: &Live, endpoint: &Endpoint, scripts: &Scripts, duty: &Duty) -> Result<(), StoreError> {
        tokio::time::sleep(HEARTBEAT).await;
        // On a link of changes the question waits its turn behind those that wait for replicas; that the
        // server is gone is the leader's to notice.
        let patience = match duty {
            Duty::Lead => HEARTBEAT_TIMEOUT,
            Duty::Follow(_) => HEARTBEAT_TIMEOUT.max(self.response_timeout),
        };
        match tokio::time::timeout(patience, scripts.check_primary(&live.wire)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => {
                self.whereabouts.note(&fault);
                return Err(fault.error);
            }
            Err(_) => return Err(StoreError::Unavailable("Redis did not answer in time".into())),
        }
        match duty {
            Duty::Lead => self.whereabouts.check(endpoint).await,
            Duty::Follow(_) => Ok(()),
        }
    }
}

fn elsewhere() -> StoreError {
    StoreError::Unavailable("the primary of Redis is elsewhere now".into())
}
