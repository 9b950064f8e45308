//! The present keys of one issuer. A fetch replaces them; verification reads them.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::base::clock::BootMillis;

use super::keys::{IssuerAlgorithm, KeySet};

/// Where an issuer's keys come from.
#[derive(Clone)]
pub enum KeySource {
    /// A file, read whenever the configuration is.
    File(PathBuf),
    /// A URL that is fetched regularly.
    Url(Box<KeyUrl>),
}

#[derive(Clone)]
pub struct KeyUrl {
    /// Host name or address literal, without brackets.
    pub host: String,
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub target: String,
    /// How the server is verified.
    pub tls: Arc<rustls::ClientConfig>,
    /// A digest of the certificates that `tls` trusts. It tells a changed configuration from the same one.
    pub trust: [u8; 32],
    /// The addresses that may be fetched from.
    pub addresses: FetchAddresses,
    /// The algorithm of RSA keys without `alg`.
    pub unnamed_rsa: IssuerAlgorithm,
    /// The time between two fetches.
    pub refresh: Duration,
    /// How long a set may be used when it cannot be renewed.
    pub keep: Duration,
}

/// The addresses that a fetch may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchAddresses {
    Public,
    /// Private and local addresses too, as the operator has configured.
    InsecureAny,
}

impl KeyUrl {
    /// The URL as it is logged.
    #[must_use]
    pub fn text(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        format!("https://{host}:{}{}", self.port, self.target)
    }

    fn is_same(&self, other: &Self) -> bool {
        let place = |url: &Self| (url.host.clone(), url.port, url.target.clone());
        let rules = |url: &Self| (url.trust, url.addresses, url.unnamed_rsa, url.refresh, url.keep);
        place(self) == place(other) && rules(self) == rules(other)
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "KeySource({})", path.display()),
            Self::Url(url) => write!(f, "KeySource({})", url.text()),
        }
    }
}

/// The keys of an issuer, shared by all workers and by the task that fetches them.
#[derive(Debug)]
pub struct PublishedKeys {
    source: KeySource,
    current: RwLock<Option<(Arc<KeySet>, BootMillis)>>,
    version: AtomicU64,
    /// The number of fetches that ended, with success or without.
    attempts: AtomicU64,
    /// When an unknown key last caused a fetch, in milliseconds plus one; 0 for never ...
    asked_at: AtomicU64,
    /// ... and how many fetches had ended by then.
    asked_after: AtomicU64,
}

/// Shortest time between two fetches that unknown keys cause, whatever became of the last one: with an empty set or a
/// failing issuer too.
pub const ASK_PAUSE: Duration = Duration::from_secs(30);

impl PublishedKeys {
    /// Keys from a file. They hold until the configuration is read again.
    #[must_use]
    pub fn of_file(path: PathBuf, keys: KeySet) -> Self {
        Self {
            source: KeySource::File(path),
            current: RwLock::new(Some((Arc::new(keys), BootMillis(0)))),
            version: AtomicU64::new(1),
            attempts: AtomicU64::new(0),
            asked_at: AtomicU64::new(0),
            asked_after: AtomicU64::new(0),
        }
    }

    /// Keys that have yet to be fetched.
    #[must_use]
    pub const fn of_url(url: Box<KeyUrl>) -> Self {
        Self {
            source: KeySource::Url(url),
            current: RwLock::new(None),
            version: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
            asked_at: AtomicU64::new(0),
            asked_after: AtomicU64::new(0),
        }
    }

    /// How the keys are fetched; `None` for keys from a file.
    #[must_use]
    pub fn url(&self) -> Option<&KeyUrl> {
        match &self.source {
            KeySource::Url(url) => Some(url),
            KeySource::File(_) => None,
        }
    }

    /// Whether another configuration fetches the same keys in the same way, so that the known keys may be kept.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.url().zip(other.url()).is_some_and(|(own, other)| own.is_same(other))
    }

    /// The keys that may be used now; `None` if there are none yet, or if they were not renewed for too long.
    #[must_use]
    pub fn usable(&self, now: BootMillis) -> Option<Arc<KeySet>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let (keys, fetched_at) = current.as_ref()?;
        let young = self.url().is_none_or(|url| *fetched_at <= now && now.since(*fetched_at) < url.keep);
        young.then(|| keys.clone())
    }

    /// Puts a set in force. Its age counts from `asked_at`, when the fetch was sent.
    pub fn replace(&self, keys: KeySet, asked_at: BootMillis) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some((Arc::new(keys), asked_at));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The warning about the set in force; see [`KeySet::warning`].
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().and_then(|(keys, _)| keys.warning())
    }

    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Notes that a fetch ended.
    pub fn note_attempt(&self) {
        self.attempts.fetch_add(1, Ordering::Release);
    }

    /// The number of fetches that ended, with success or without.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Acquire)
    }

    /// Whether an unknown key may cause a fetch now. True once in [`ASK_PAUSE`].
    #[must_use]
    pub fn may_ask(&self, now: BootMillis) -> bool {
        let last = self.asked_at.load(Ordering::Acquire);
        let pause = u64::try_from(ASK_PAUSE.as_millis()).unwrap_or(u64::MAX);
        if last > 0 && now.0 < (last - 1).saturating_add(pause) {
            return false;
        }
        let mine = self
            .asked_at
            .compare_exchange(last, now.0.saturating_add(1), Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if mine {
            self.asked_after.store(self.attempts(), Ordering::Release);
        }
        mine
    }

    /// Whether the fetch that an unknown key caused is still under way.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.asked_at.load(Ordering::Acquire) > 0 && self.asked_after.load(Ordering::Acquire) == self.attempts()
    }

    /// When the fetch of the set in force was sent.
    #[must_use]
    pub fn fetched_at(&self) -> Option<BootMillis> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|(_, at)| *at)
    }
}
