//! Counters of connections. Each worker writes its own, and the operator side reads them.

use std::sync::atomic::{AtomicU64, Ordering};

/// One counter. One thread writes it and others read it, so no ordering is needed.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn take_one(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Replaces the value of a gauge.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: Counter,)*
        }

        impl $name {
            /// Every counter with its name, in the order of the declaration.
            #[must_use]
            pub fn figures(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field.read()),)*]
            }
        }
    };
}

counters! {
    /// What one worker counts about its connections.
    WorkerCounters {
        open,
        /// Connections received from the acceptor.
        connections,
        handshakes,
        handshakes_failed,
        /// TLS handshakes that missed their deadline.
        handshakes_timed_out,
        /// Requests over HTTP/1.
        h1_requests,
        /// Requests over HTTP/2.
        h2_requests,
        in_flight,
        /// Requests refused because too many were in flight.
        overloaded,
        /// Heads that could not be read.
        malformed,
        /// Connections closed because their first byte, head or body was too slow.
        timed_out,
        /// Connections closed because the client did not read its answer.
        stalled_writes,
        /// HTTP/2 connections closed for abuse (resets, control frames).
        h2_abuse,
        /// Panics that ended one connection or one stream.
        panics,
    }
}

counters! {
    AcceptCounters {
        /// Connections accepted and handed to a worker.
        accepted,
        /// Connections closed at once: the process has its maximum.
        refused_total,
        /// Connections closed at once: the client address has its maximum.
        refused_address,
        /// Connections closed at once: no worker could take one.
        refused_workers,
        /// Accepts that failed because a descriptor or memory was missing; each waits before the next.
        exhausted,
        /// Accepts that failed for a reason of the connection itself.
        failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_carry_their_names_and_values() {
        let counters = WorkerCounters::default();
        counters.panics.add_one();
        counters.panics.add_one();
        counters.panics.take_one();
        let figures = counters.figures();
        assert!(figures.contains(&("panics", 1)) && figures.contains(&("open", 0)), "{figures:?}");
    }
}
