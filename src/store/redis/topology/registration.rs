//! Whether this gateway stands in the list of those that admit: without that proof nothing it reads is used.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::base::clock::UnixMillis;
use crate::base::ids::GatewayId;
use crate::store::concerns::Concern;
use crate::store::{Announcement, StoreError, watch};

/// Who a store's user is registered as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The gateway's name.
    pub id: GatewayId,
    /// Tells two processes of one name apart.
    pub run: u64,
}

/// What is known when the list does not have an entry that was written.
const GONE: &str = "its entry is not in the list of gateways";

/// An entry's name in the list.
pub(crate) fn entry(id: &GatewayId, run: u64) -> String {
    format!("{id}/{run:016x}")
}

/// What this process knows of the list, for scripts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// The number of the list at the last announcement; nought for none.
    pub(crate) number: u64,
    /// When that was, by the store's clock.
    pub(crate) at: i64,
    /// The store has answered it, for or against.
    pub(crate) answered: bool,
}

/// Whether a server tells which of its processes it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Server {
    #[default]
    Told,
    /// Every moment may be the first of another process: its list is never known to be whole.
    Hidden,
}

/// Whether this process is registered, and who waits for that.
pub(crate) struct Registration {
    own: Option<Registered>,
    /// The entry's name; empty for what admits nobody.
    entry: String,
    state: Mutex<State>,
    /// How often it was registered.
    written: watch::Sender<u64>,
    wanted: Notify,
}

#[derive(Default)]
struct State {
    seen: Seen,
    written: u64,
    server: Server,
    /// Why it is not registered; nothing while it is.
    missing: Option<String>,
}

impl Registration {
    pub(crate) fn new(own: Option<Registered>) -> Self {
        let missing = own.as_ref().map(|_| "it has not announced itself yet".to_owned());
        Self {
            entry: own.as_ref().map_or_else(String::new, |own| entry(&own.id, own.run)),
            own,
            state: Mutex::new(State {
                missing,
                ..State::default()
            }),
            written: watch::channel(0).0,
            wanted: Notify::new(),
        }
    }

    /// What a look-up must find in the list; empty for what admits nobody.
    pub(crate) fn entry(&self) -> &str {
        &self.entry
    }

    /// What this process knows of the list; nothing if it announces somebody else.
    pub(crate) fn seen_by(&self, gateway: &Announcement) -> Seen {
        if self.is(&gateway.id, gateway.run) {
            self.seen()
        } else {
            Seen::default()
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.state().seen
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is(&self, id: &GatewayId, run: u64) -> bool {
        self.own.as_ref().is_some_and(|own| own.id == *id && own.run == run)
    }

    /// The announcement was written.
    pub(crate) fn note_written(&self, number: u64, at: UnixMillis, server: Server) {
        let mut state = self.state();
        if server != state.server && server == Server::Hidden {
            tracing::warn!(concern = Concern::ServerHidden.word(), "{}", Concern::ServerHidden);
        }
        state.server = server;
        state.seen = Seen {
            number,
            at: at.0,
            answered: true,
        };
        state.missing = None;
        state.written += 1;
        self.written.send_replace(state.written);
    }

    /// The store refused to list this process.
    pub(crate) fn note_refused(&self, why: &StoreError) {
        let mut state = self.state();
        state.seen.answered = true;
        state.missing = Some(reason(why));
    }

    /// The announcement failed; whether it is listed is as it was.
    pub(crate) fn note_failed(&self, why: &StoreError) {
        let mut state = self.state();
        if state.missing.is_some() {
            state.missing = Some(reason(why));
        }
    }

    /// What an operator should change.
    pub(crate) fn concern(&self) -> Option<Concern> {
        (self.state().server == Server::Hidden).then_some(Concern::ServerHidden)
    }

    /// Why this process may not admit, unless it may.
    pub(crate) fn missing(&self) -> Option<String> {
        self.state().missing.clone()
    }

    /// How often it was registered.
    pub(crate) fn written(&self) -> u64 {
        self.state().written
    }

    /// Returns when somebody needs an announcement.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    fn ask(&self, written: u64) {
        let mut state = self.state();
        if state.written == written {
            state.missing.get_or_insert_with(|| GONE.to_owned());
            self.wanted.notify_one();
        }
    }

    /// A look-up that was sent after `written` announcements found no entry. Asks for another announcement
    /// and waits for it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] with the reason when it is not there in time.
    pub(crate) async fn renew(&self, written: u64, patience: Duration) -> Result<(), StoreError> {
        let mut count = self.written.subscribe();
        self.ask(written);
        match timeout(patience, count.wait_for(|count| *count > written)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(unlisted(self.missing().as_deref())),
        }
    }
}

/// The store's own words, without whose they are.
fn reason(error: &StoreError) -> String {
    match error {
        StoreError::Unavailable(why) | StoreError::Corrupt(why) | StoreError::Foreign(why) => why.clone(),
    }
}

/// What a look-up fails with that nobody may be admitted by.
pub(crate) fn unlisted(why: Option<&str>) -> StoreError {
    StoreError::Unavailable(format!(
        "this gateway is not registered, and may admit nobody: {}",
        why.unwrap_or(GONE)
    ))
}
