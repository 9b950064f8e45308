//! Session tickets of TLS 1.3 that every gateway of a store reads (RFC 8446, section 4.6.1), so that a client resumes at
//! another gateway, or after a restart, without a signature.
//!
//! A ticket is `key name (16) | nonce (12) | ciphertext | tag (16)`, by AES-256-GCM-SIV (RFC 8452), authenticated with its key
//! name. Its key is of one pepper, one listener and one period of six hours. Nothing is shared between gateways but the pepper
//! and, roughly, the time.
//!
//! TLS 1.2 has no part in this (docs/threats.md K12). Its tickets hold the keys of the connection itself, so whoever got a pepper
//! later could read what was recorded before. They stay under random keys of this process. With TLS 1.3 a resumption has a
//! Diffie-Hellman exchange of its own, since rustls resumes only by `psk_dhe_ke`.

#[cfg(any(test, feature = "internals"))]
mod fuzzing;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::server::ProducesTickets;

use crate::base::clock::Clock;
use crate::base::fingerprint::{Pepper, Peppers};

#[cfg(any(test, feature = "internals"))]
pub use self::fuzzing::only_made_tickets_are_read;

/// Tickets are made under one key for so many seconds, by the wall clock. A ticket is read in its own period, the one after it
/// and, for gateways whose clocks are late, the one before it. So it is good for at least one period, and for two and the
/// difference of the clocks at most. rustls' own ticketer has the same times.
const PERIOD: u32 = 6 * 60 * 60;

/// Length of a key's name, as RFC 5077 recommends.
const NAME_LEN: usize = 16;

/// Longest ticket that is made or read. A session has a server name of at most 255 bytes, a secret of 48, and no certificates.
const MAX_TICKET: usize = 1024;

/// What shared tickets are encrypted under.
#[derive(Clone)]
pub struct TicketKeySource {
    /// The first makes tickets, all are tried when one is read.
    pub peppers: Peppers,
    /// Its wall clock numbers the periods.
    pub clock: Arc<dyn Clock>,
}

/// The tickets of one listener.
pub(super) struct SharedTicketer {
    source: TicketKeySource,
    /// The listener's name. It is in every key, so that no ticket is taken at another listener.
    listener: String,
    /// The keys of the present period. They are derived again only when it ends. The lock is held for a copy of the pointer.
    keys: RwLock<Arc<PeriodKeys>>,
    /// Makes the tickets of TLS 1.2, under random keys of this process.
    private: Arc<dyn ProducesTickets>,
}

impl SharedTicketer {
    /// `private` makes and reads the tickets that are not shared.
    pub(super) fn new(source: TicketKeySource, listener: &str, private: Arc<dyn ProducesTickets>) -> Self {
        let keys = PeriodKeys::derive(&source.peppers, listener, period(&*source.clock));
        Self {
            source,
            listener: listener.to_owned(),
            keys: RwLock::new(Arc::new(keys)),
            private,
        }
    }

    /// The keys of the present period.
    fn keys(&self) -> Arc<PeriodKeys> {
        let period = period(&*self.source.clock);
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        if keys.period == period {
            return keys;
        }
        // Several threads may come here at the turn of a period. Each derives the same keys.
        let keys = Arc::new(PeriodKeys::derive(&self.source.peppers, &self.listener, period));
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.clone();
        keys
    }
}

impl ProducesTickets for SharedTicketer {
    fn enabled(&self) -> bool {
        true
    }

    /// How long every ticket is good for at least, in seconds; clients forget it then.
    fn lifetime(&self) -> u32 {
        PERIOD
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if is_of_tls13(plain) {
            self.keys().first()?.seal(plain)
        } else {
            self.private.encrypt(plain)
        }
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        if cipher.len() > MAX_TICKET {
            return None;
        }
        let (name, sealed) = cipher.split_first_chunk::<NAME_LEN>()?;
        match self.keys().named(name) {
            Some(key) => key.open(sealed).filter(|plain| is_of_tls13(plain)),
            None => self.private.decrypt(cipher),
        }
    }
}

impl fmt::Debug for SharedTicketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTicketer")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

/// The number of the present period.
fn period(clock: &dyn Clock) -> i64 {
    clock.now().wall.secs().div_euclid(i64::from(PERIOD))
}

/// Whether a session that rustls wants to have encrypted is of TLS 1.3.
///
/// rustls does not say it; it stands in the session: server name (0, or 1 and a length and the name), version, cipher suite. Both
/// must be of TLS 1.3 (RFC 8446, appendix B.4). If rustls ever writes sessions in another form, they do not look like this, and
/// nothing is shared any more, which tests notice.
fn is_of_tls13(session: &[u8]) -> bool {
    let after_name = match session {
        [0, rest @ ..] => Some(rest),
        [1, length, rest @ ..] => rest.get(usize::from(*length)..),
        _ => None,
    };
    matches!(after_name, Some([0x03, 0x04, 0x13, 0x01..=0x05, ..]))
}

/// The keys by which a listener makes and reads tickets in one period.
struct PeriodKeys {
    period: i64,
    /// At most three for each pepper. The first makes tickets.
    keys: Vec<TicketKey>,
}

impl PeriodKeys {
    fn derive(peppers: &Peppers, listener: &str, period: i64) -> Self {
        let periods = [period, period.saturating_sub(1), period.saturating_add(1)];
        let of_period = |period| peppers.iter().filter_map(move |pepper| TicketKey::derive(pepper, listener, period));
        Self {
            period,
            keys: periods.into_iter().flat_map(of_period).collect(),
        }
    }

    fn first(&self) -> Option<&TicketKey> {
        self.keys.first()
    }

    /// The key with this name. Names are public, so they may be compared in any time.
    fn named(&self, name: &[u8; NAME_LEN]) -> Option<&TicketKey> {
        self.keys.iter().find(|key| key.name == *name)
    }
}

/// One key and its name. AWS-LC overwrites a key when it is freed.
struct TicketKey {
    name: [u8; NAME_LEN],
    key: RandomizedNonceKey,
}

impl TicketKey {
    /// `None` only if AWS-LC has no memory for a key.
    fn derive(pepper: &Pepper, listener: &str, period: i64) -> Option<Self> {
        // The number holds no zero byte, so no two pairs of listener and period have one text.
        let key = pepper.sealing_key(&format!("session tickets\0{listener}\0{period}"));
        let name = pepper.sealing_key(&format!("session ticket names\0{listener}\0{period}"));
        Some(Self {
            name: *name.first_chunk()?,
            key: RandomizedNonceKey::new(&AES_256_GCM_SIV, key.as_slice()).ok()?,
        })
    }

    /// `None` without randomness, and for what would be too long.
    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        // It is encrypted in place, so no copy of the session is left.
        let mut text = plain.to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(self.name), &mut text).ok()?;
        let ticket = [self.name.as_slice(), nonce.as_ref(), &text].concat();
        (ticket.len() <= MAX_TICKET).then_some(ticket)
    }

    /// Opens what follows the name; `None` unless it is what [`seal`](Self::seal) made.
    fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let length = self.key.open_in_place(nonce, Aad::from(self.name), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

#[cfg(test)]
mod tests;
