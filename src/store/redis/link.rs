//! A connection that is supervised: rebuilt when it breaks, asked whether it still lives, and known
//! to lead to a primary.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};
use tokio::sync::Notify;

use crate::store::{StoreError, watch};

use super::dial::{Address, CONNECT_TIMEOUT, Wire, dial};
use super::scripts::Scripts;

/// Time between two questions whether the connection lives and leads to a primary ...
const HEARTBEAT: Duration = Duration::from_secs(2);

/// ... and how long the answer may take: together a silent partition is noticed within 3 s.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(1);

/// First and longest pause before a connection is tried again. Two seconds keep recovery within
/// five; the jitter keeps gateways apart.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What a failed command means.
pub(super) struct Fault {
    pub(super) error: StoreError,
    pub(super) connection: Connection,
    pub(super) retry: Retry,
}

/// Whether a connection may go on being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    Keep,
    Drop,
}

/// Whether a read may be sent again, on another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    Elsewhere,
    No,
}

impl Fault {
    /// Sorts an error. Nothing here is ever an absence (hardening C4, F9). Of the server's text only
    /// the code is kept: the rest may repeat arguments.
    pub(super) fn of(error: &RedisError) -> Self {
        let (connection, retry) = if error.is_timeout() {
            (Connection::Drop, Retry::No)
        } else if error.is_io_error() || error.is_connection_dropped() {
            (Connection::Drop, Retry::Elsewhere)
        } else {
            match error.kind() {
                // A demoted or cut off primary: this address may lead elsewhere by now.
                ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => (Connection::Drop, Retry::No),
                ErrorKind::Server(_) | ErrorKind::Extension => (Connection::Keep, Retry::No),
                _ => (Connection::Drop, Retry::No),
            }
        };
        let error = match error.code() {
            Some("WRONGTYPE") => StoreError::Corrupt("a key has the wrong type".into()),
            Some("FOREIGN") => StoreError::Foreign(super::super::other_pepper()),
            Some("NODATA") => {
                StoreError::Unavailable("it holds no data: it was never used, or it was flushed; make a tenant, or restore it".into())
            }
            Some("DATALOST") => {
                StoreError::Unavailable("it has lost keys: check that maxmemory-policy is noeviction, and restore it".into())
            }
            Some(code @ ("NOAUTH" | "WRONGPASS" | "NOPERM")) => {
                tracing::error!(alarm = "store_credentials", code, "Redis refuses this gateway's user");
                StoreError::Unavailable(format!("Redis refuses this gateway's user ({code})"))
            }
            Some(code) => StoreError::Unavailable(format!("Redis answered {code}")),
            None if error.is_timeout() => StoreError::Unavailable("Redis did not answer in time".into()),
            None if matches!(error.kind(), ErrorKind::UnexpectedReturnType) => {
                StoreError::Corrupt("an answer of Redis has the wrong form".into())
            }
            None => StoreError::Unavailable(format!("the connection to Redis failed ({})", error.category())),
        };
        Self { error, connection, retry }
    }
}

/// An open connection, numbered so that a report about an older one does no harm.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) wire: Wire,
    number: u64,
}

/// What a link is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkState {
    /// The first attempt is not over.
    Starting,
    Up,
    Down,
}

/// One supervised connection.
pub(super) struct Link {
    response_timeout: Duration,
    live: Mutex<Option<Live>>,
    last_error: Mutex<StoreError>,
    next_number: AtomicU64,
    state: watch::Sender<LinkState>,
    broken: Notify,
}

impl Link {
    pub(super) fn new(response_timeout: Duration) -> Self {
        Self {
            response_timeout,
            live: Mutex::new(None),
            last_error: Mutex::new(StoreError::Unavailable("no connection to Redis yet".into())),
            next_number: AtomicU64::new(1),
            state: watch::channel(LinkState::Starting).0,
            broken: Notify::new(),
        }
    }

    /// The connection, if there is a healthy one.
    pub(super) fn live(&self) -> Option<Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why there is none.
    pub(super) fn last_error(&self) -> StoreError {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it is doing, now and whenever that changes.
    pub(super) fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Ends a connection that failed or answered what it must not.
    pub(super) fn drop_connection(&self, failed: &Live, why: &StoreError) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|l| l.number == failed.number) {
            *live = None;
            drop(live);
            self.remember(why);
            self.broken.notify_one();
        }
    }

    fn publish(&self, wire: Wire) -> Live {
        let live = Live {
            wire,
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
    pub(super) async fn supervise(
        self: Arc<Self>,
        address: Arc<Address>,
        scripts: Arc<Scripts>,
        mut leader: Option<watch::Receiver<LinkState>>,
    ) {
        let mut backoff = address.backoff();
        loop {
            if let Some(leader) = &mut leader
                && leader.wait_for(|state| *state == LinkState::Up).await.is_err()
            {
                return;
            }
            match self.connect(&address, &scripts).await {
                Ok(wire) => {
                    let live = self.publish(wire);
                    self.watch_over(&live, &scripts, &mut backoff).await;
                    self.state.send_replace(LinkState::Down);
                    tracing::warn!(error = %self.last_error(), "a connection to Redis was lost");
                }
                Err(error) => {
                    self.remember(&error);
                    self.state.send_replace(LinkState::Down);
                    tracing::debug!(%error, "no connection to Redis");
                }
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn connect(&self, address: &Address, scripts: &Scripts) -> Result<Wire, StoreError> {
        let wire = dial(address, self.response_timeout).await?;
        let check = async {
            scripts.check_primary(&wire).await?;
            scripts.claim(&wire).await
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, check).await {
            Ok(Ok(())) => Ok(wire),
            Ok(Err(fault)) => Err(fault.error),
            Err(_) => Err(StoreError::Unavailable("Redis did not answer in time".into())),
        }
    }

    /// Returns when the connection is no longer to be used.
    async fn watch_over(&self, live: &Live, scripts: &Scripts, backoff: &mut Backoff) {
        loop {
            let beat = tokio::select! {
                biased;
                () = self.broken.notified() => Ok(Ok(())),
                beat = async {
                    tokio::time::sleep(HEARTBEAT).await;
                    tokio::time::timeout(HEARTBEAT_TIMEOUT, scripts.check_primary(&live.wire)).await
                } => {
                    backoff.reset();
                    beat
                }
            };
            match beat {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => self.drop_connection(live, &fault.error),
                Err(_) => self.drop_connection(live, &StoreError::Unavailable("Redis did not answer in time".into())),
            }
            if self.live().is_none_or(|now| now.number != live.number) {
                return;
            }
        }
    }
}

/// Growing pauses with jitter.
pub(super) struct Backoff {
    attempts: u32,
    random: u64,
}

impl Backoff {
    pub(super) const fn new(seed: u64) -> Self {
        Self { attempts: 0, random: seed }
    }

    pub(super) const fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Between half and the whole of 100 ms, 200 ms, ... 2 s.
    pub(super) fn next(&mut self) -> Duration {
        let (first, longest) = BACKOFF;
        let whole = first.saturating_mul(1 << self.attempts.min(8)).min(longest);
        self.attempts = self.attempts.saturating_add(1);
        whole / 2 + whole.mul_f64(f64::from(self.draw() % 1_000) / 2_000.0)
    }

    /// `SplitMix64`, upper half: neighbouring seeds give unlike pauses.
    fn draw(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from(mixed >> 32).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_start_again() {
        let mut backoff = Backoff::new(7);
        for whole in [100, 200, 400, 800, 1_600, 2_000, 2_000] {
            let pause = backoff.next();
            assert!(
                (Duration::from_millis(whole / 2)..=Duration::from_millis(whole)).contains(&pause),
                "{pause:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }

    #[test]
    fn f9_no_error_of_the_server_is_an_absence_and_its_text_is_not_repeated() {
        for line in [
            "LOADING canary",
            "READONLY canary",
            "NOAUTH canary",
            "OOM canary",
            "BUSY canary",
            "MOVED 1 canary:1",
            "NOPERM canary",
            "MASTERDOWN canary",
        ] {
            let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
            let error = value.extract_error().unwrap_err();
            let fault = Fault::of(&error);
            assert!(matches!(fault.error, StoreError::Unavailable(_)), "{line}: {:?}", fault.error);
            assert!(!fault.error.to_string().contains("canary"), "{}", fault.error);
        }
    }
}
