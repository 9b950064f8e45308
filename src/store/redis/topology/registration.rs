//! Whether this gateway is registered in the list of gateways. Look-ups of a gateway that is not registered fail.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::base::clock::UnixMillis;
use crate::base::ids::GatewayId;
use crate::store::concerns::Concern;
use crate::store::{Announcement, StoreError, watch};

/// The gateway that a store is opened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    pub id: GatewayId,
    /// Tells two processes of one name apart.
    pub run: u64,
}

/// The reason when the entry was written and is no longer in the list.
const GONE: &str = "its entry is not in the list of gateways";

/// The name of an entry in the list: `id/run`.
pub(crate) fn entry(id: &GatewayId, run: u64) -> String {
    format!("{id}/{run:016x}")
}

/// What this process knows of the list, as the scripts take it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KnownList {
    /// The number of the list at the last announcement; 0 before the first one.
    pub(crate) number: u64,
    /// The time of the last announcement, by the store's clock.
    pub(crate) at: i64,
    /// The store has accepted or refused an announcement of this process.
    pub(crate) answered: bool,
}

/// Whether `INFO` of the server tells its process (`run_id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ServerIdentity {
    #[default]
    Visible,
    /// A restart of the server cannot be noticed, so its list is never known to be complete.
    Hidden,
}

/// Whether this process is registered, and the look-ups that wait for that.
pub(crate) struct GatewayRegistration {
    own: Option<Registered>,
    /// The name of the entry; empty for a process that admits no requests.
    entry: String,
    state: Mutex<RegistrationState>,
    /// How often the entry was written.
    written: watch::WatchSender<u64>,
    announcement_needed: Notify,
}

#[derive(Default)]
struct RegistrationState {
    known_list: KnownList,
    written: u64,
    server: ServerIdentity,
    /// Why this process is not registered; `None` while it is.
    missing: Option<String>,
}

impl GatewayRegistration {
    pub(crate) fn new(own: Option<Registered>) -> Self {
        let missing = own.as_ref().map(|_| "it has not announced itself yet".to_owned());
        Self {
            entry: own.as_ref().map_or_else(String::new, |own| entry(&own.id, own.run)),
            own,
            state: Mutex::new(RegistrationState {
                missing,
                ..RegistrationState::default()
            }),
            written: watch::channel(0).0,
            announcement_needed: Notify::new(),
        }
    }

    /// The entry that a look-up must find in the list; empty for a process that admits no requests.
    pub(crate) fn entry(&self) -> &str {
        &self.entry
    }

    /// What this process knows of the list; nothing if the announcement is of another gateway.
    pub(crate) fn known_list_of(&self, gateway: &Announcement) -> KnownList {
        if self.is(&gateway.id, gateway.run) {
            self.known_list()
        } else {
            KnownList::default()
        }
    }

    pub(crate) fn known_list(&self) -> KnownList {
        self.state().known_list
    }

    fn state(&self) -> MutexGuard<'_, RegistrationState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is(&self, id: &GatewayId, run: u64) -> bool {
        self.own.as_ref().is_some_and(|own| own.id == *id && own.run == run)
    }

    pub(crate) fn note_written(&self, number: u64, at: UnixMillis, server: ServerIdentity) {
        let mut state = self.state();
        if server != state.server && server == ServerIdentity::Hidden {
            tracing::warn!(concern = Concern::ServerHidden.word(), "{}", Concern::ServerHidden);
        }
        state.server = server;
        state.known_list = KnownList {
            number,
            at: at.0,
            answered: true,
        };
        state.missing = None;
        state.written += 1;
        self.written.send_replace(state.written);
    }

    /// The store refused to register this process.
    pub(crate) fn note_refused(&self, why: &StoreError) {
        let mut state = self.state();
        state.known_list.answered = true;
        state.missing = Some(reason(why));
    }

    /// The announcement failed. The process stays registered if it was.
    pub(crate) fn note_failed(&self, why: &StoreError) {
        let mut state = self.state();
        if state.missing.is_some() {
            state.missing = Some(reason(why));
        }
    }

    /// What an operator should change about the server.
    pub(crate) fn concern(&self) -> Option<Concern> {
        (self.state().server == ServerIdentity::Hidden).then_some(Concern::ServerHidden)
    }

    /// Why this process may not admit requests; `None` while it may.
    pub(crate) fn missing(&self) -> Option<String> {
        self.state().missing.clone()
    }

    /// How often it was registered.
    pub(crate) fn written(&self) -> u64 {
        self.state().written
    }

    /// Returns when a look-up needs an announcement.
    pub(crate) async fn announcement_needed(&self) {
        self.announcement_needed.notified().await;
    }

    fn ask(&self, written: u64) {
        let mut state = self.state();
        if state.written == written {
            state.missing.get_or_insert_with(|| GONE.to_owned());
            self.announcement_needed.notify_one();
        }
    }

    /// For a look-up that was sent after `written` announcements and found no entry: asks for another announcement and waits
    /// for it.
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

/// The text of the error, without its kind.
fn reason(error: &StoreError) -> String {
    match error {
        StoreError::Unavailable(why) | StoreError::Corrupt(why) | StoreError::Foreign(why) => why.clone(),
    }
}

/// The error of a look-up while this gateway is not registered.
pub(crate) fn unlisted(why: Option<&str>) -> StoreError {
    StoreError::Unavailable(format!(
        "this gateway is not registered, and may admit nobody: {}",
        why.unwrap_or(GONE)
    ))
}
