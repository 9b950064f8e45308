//! Tells the connections of one worker that the gateway is shutting down.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::Waker;

/// How far the shutdown has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum DrainPhase {
    #[default]
    Serving,
    /// Load balancers are being told. HTTP/1 responses carry `Connection: close`.
    Announced,
    /// Listeners close, and nothing else yet, so that a client whose connection is closed later cannot come back here.
    NotAccepting,
    /// Idle connections close now, others when their requests have ended.
    Closing,
    /// The drain time is over. Tunnels are closed with a Close frame.
    Ending,
    /// Whatever is left is cut off.
    Aborting,
}

/// The phase of the shutdown, which only moves forward and which every connection of the worker sees. A connection
/// reads it whenever it is polled, and leaves a waker here for the time when it is not. So a request costs nothing.
#[derive(Default)]
pub(super) struct DrainSignal {
    phase: Cell<DrainPhase>,
    next: Cell<u64>,
    wakers: RefCell<HashMap<u64, Waker>>,
}

impl DrainSignal {
    /// How far it has gone.
    pub(super) fn phase(&self) -> DrainPhase {
        self.phase.get()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.phase() >= DrainPhase::Closing
    }

    /// Goes on to `phase`. `Closing` and each later phase wakes every connection.
    pub(super) fn advance(&self, phase: DrainPhase) {
        self.phase.set(phase.max(self.phase()));
        if self.is_closing() {
            for waker in self.wakers.borrow().values() {
                waker.wake_by_ref();
            }
        }
    }

    /// Whether tunnels, which have no end of their own, end now.
    pub(super) fn is_ending(&self) -> bool {
        self.phase() >= DrainPhase::Ending
    }

    /// Wakes `waker` when connections are to close, until the subscription is dropped.
    pub(super) fn subscribe(self: &Rc<Self>, waker: Waker) -> DrainSubscription {
        let key = self.next.get();
        self.next.set(key.wrapping_add(1));
        if self.is_closing() {
            waker.wake_by_ref();
        }
        self.wakers.borrow_mut().insert(key, waker);
        DrainSubscription {
            signal: Rc::clone(self),
            key,
        }
    }
}

/// Removes the waker when dropped.
pub(super) struct DrainSubscription {
    signal: Rc<DrainSignal>,
    key: u64,
}

impl Drop for DrainSubscription {
    fn drop(&mut self) {
        self.signal.wakers.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// Counts how often it wakes.
    #[derive(Default)]
    pub(in crate::server) struct WakeCount(pub(in crate::server) AtomicUsize);

    impl Wake for WakeCount {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn closing_wakes_those_registered_before_and_after_but_not_those_gone() {
        let (signal, stays, gone, late) = (
            Rc::<DrainSignal>::default(),
            Arc::<WakeCount>::default(),
            Arc::<WakeCount>::default(),
            Arc::<WakeCount>::default(),
        );
        let _kept = signal.subscribe(Arc::clone(&stays).into());
        drop(signal.subscribe(Arc::clone(&gone).into()));
        signal.advance(DrainPhase::Announced);
        assert_eq!(stays.0.load(Ordering::Relaxed), 0);
        signal.advance(DrainPhase::Closing);
        signal.advance(DrainPhase::Announced);
        let _late = signal.subscribe(Arc::clone(&late).into());
        let counts = [&stays, &gone, &late].map(|c| c.0.load(Ordering::Relaxed));
        assert_eq!((signal.phase(), counts), (DrainPhase::Closing, [2, 0, 1]));
        signal.advance(DrainPhase::Ending);
        assert_eq!(stays.0.load(Ordering::Relaxed), 3, "those that go on are told of the end too");
    }
}
