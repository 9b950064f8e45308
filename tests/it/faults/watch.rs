//! Callers that ask again and again, and a record of everything they were told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use durward::base::clock;

use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::wait::pause;

use super::scene::Caller;

/// One answer.
#[derive(Debug, Clone)]
pub(super) struct Tick {
    /// When the request was sent.
    pub(super) at: Instant,
    /// How long the answer took.
    pub(super) took: Duration,
    /// Its status; 0 when the connection ended without one.
    pub(super) status: u16,
    /// The `code` of a refusal.
    pub(super) code: String,
    /// Whether it said when to come again.
    pub(super) retry_after: bool,
}

/// A caller that asks until it is stopped.
pub(super) struct Watch {
    ticks: Arc<Mutex<Vec<Tick>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Asks this gateway every so often, one request at a time.
    pub(super) fn start(gateway: &Gateway, caller: &Caller, every: Duration) -> Self {
        let (address, request) = (gateway.address("plain"), caller.request());
        let ticks = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (record, stopped) = (Arc::clone(&ticks), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut line = Line::to(address);
            while !stopped.load(Ordering::Relaxed) {
                let tick = line.ask(&request);
                record.lock().unwrap_or_else(PoisonError::into_inner).push(tick);
                pause(every);
            }
        });
        Self {
            ticks,
            stop,
            thread: Some(thread),
        }
    }

    /// Everything so far.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        self.ticks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was said last.
    pub(super) fn last(&self) -> Option<Tick> {
        self.ticks.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    /// Stops, and gives the record.
    pub(super) fn finish(mut self) -> Vec<Tick> {
        self.end();
        self.ticks()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a caller failed");
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

/// A connection that is opened again when the gateway has said that it is the last answer on it.
pub(super) struct Line {
    address: SocketAddr,
    client: Client,
}

impl Line {
    /// Connects.
    pub(super) fn open(gateway: &Gateway) -> Self {
        Self::to(gateway.address("plain"))
    }

    /// Connects to this address.
    pub(super) fn to(address: SocketAddr) -> Self {
        Self {
            address,
            client: Client::connect(address),
        }
    }

    /// One request.
    pub(super) fn ask(&mut self, request: &[u8]) -> Tick {
        let at = clock::instant();
        self.client.send(request);
        let response = self.client.response();
        let took = at.elapsed();
        if response
            .as_ref()
            .is_none_or(|response| response.field("connection") == Some("close"))
        {
            self.client = Client::connect(self.address);
        }
        let Some(response) = response else {
            return Tick {
                at,
                took,
                status: 0,
                code: String::new(),
                retry_after: false,
            };
        };
        let code = if response.status < 400 {
            String::new()
        } else {
            response.json()["code"].as_str().unwrap_or_default().to_owned()
        };
        Tick {
            at,
            took,
            status: response.status,
            code,
            retry_after: response.field("retry-after").is_some(),
        }
    }
}

/// The value below which so many of a hundred are; zero of none.
pub(super) fn percentile(times: impl IntoIterator<Item = Duration>, percent: usize) -> Duration {
    let mut times: Vec<Duration> = times.into_iter().collect();
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}
