//! The entry for fuzzing of what clients show as session tickets.

use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;

use super::{NAME_LEN, SharedTicketer, TicketKeySource};
use crate::base::clock::ManualClock;
use crate::base::fingerprint::{Pepper, Peppers};

/// A session of TLS 1.3, as rustls writes it.
const SESSION: &[u8] = b"\x01\x06a.test\x03\x04\x13\x02\x04psk!";

/// A listener, and a ticket that it made. `None` without randomness.
static MADE: LazyLock<Option<(SharedTicketer, Vec<u8>)>> = LazyLock::new(|| {
    let source = TicketKeySource {
        peppers: Peppers::new(vec![Pepper::new(&[7; 32])?])?,
        clock: Arc::new(ManualClock::default()),
    };
    let ticketer = SharedTicketer::new(source, "public", Ticketer::new().ok()?);
    let ticket = ticketer.encrypt(SESSION)?;
    Some((ticketer, ticket))
});

/// Shows a listener these bytes as a ticket, and the same behind the name of a key that it has, and in a ticket that it made, from
/// the byte `at` on. Returns whether it read none of them but a ticket that was not changed.
#[must_use]
pub fn only_made_tickets_are_read(bytes: &[u8], at: usize) -> bool {
    let Some((ticketer, made)) = &*MADE else { return true };
    let named = [&made[..NAME_LEN.min(made.len())], bytes].concat();
    let mut changed = made.clone();
    let at = at % (made.len() + 1);
    let end = (at + bytes.len()).min(made.len());
    changed.splice(at..end, bytes.iter().copied());
    let is_right = |shown: &[u8]| match ticketer.decrypt(shown) {
        Some(session) => shown == made.as_slice() && session == SESSION,
        None => shown != made.as_slice(),
    };
    is_right(bytes) && is_right(&named) && is_right(&changed)
}
