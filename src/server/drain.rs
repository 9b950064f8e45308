//! Tells the connections of one worker that the gateway is leaving.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::Waker;

/// How far the gateway has gone in leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Phase {
    /// It stays.
    #[default]
    Serving,
    /// Load balancers are being told; HTTP/1 answers say `Connection: close`.
    Leaving,
    /// Listeners close, and nothing else yet: who is sent away later cannot come back here.
    Withdrawn,
    /// Idle connections close now, others after what is in flight.
    Closing,
    /// The time is over: what can say goodbye does.
    Ending,
    /// Whatever is left is cut off.
    Aborting,
}

/// Moves forward only, seen by every connection of the worker. Connections look at the flag when they are
/// polled anyway and leave a waker here for the time when they are not, so a request pays nothing.
#[derive(Default)]
pub(super) struct DrainSignal {
    phase: Cell<Phase>,
    next: Cell<u64>,
    wakers: RefCell<HashMap<u64, Waker>>,
}

impl DrainSignal {
    /// How far it has gone.
    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Whether idle connections close.
    pub(super) fn is_closing(&self) -> bool {
        self.phase() >= Phase::Closing
    }

    /// Goes on to `phase`; closing, and each phase after it, wakes every connection.
    pub(super) fn advance(&self, phase: Phase) {
        self.phase.set(phase.max(self.phase()));
        if self.is_closing() {
            for waker in self.wakers.borrow().values() {
                waker.wake_by_ref();
            }
        }
    }

    /// Whether what has no end of its own ends now.
    pub(super) fn is_ending(&self) -> bool {
        self.phase() >= Phase::Ending
    }

    /// Has `waker` woken when connections are to close, until the registration is dropped.
    pub(super) fn register(self: &Rc<Self>, waker: Waker) -> Registration {
        let key = self.next.get();
        self.next.set(key.wrapping_add(1));
        if self.is_closing() {
            waker.wake_by_ref();
        }
        self.wakers.borrow_mut().insert(key, waker);
        Registration {
            signal: Rc::clone(self),
            key,
        }
    }
}

/// Takes the waker out again when dropped.
pub(super) struct Registration {
    signal: Rc<DrainSignal>,
    key: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.signal.wakers.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn closing_wakes_those_registered_before_and_after_but_not_those_gone() {
        let (signal, stays, gone, late) = (
            Rc::<DrainSignal>::default(),
            Arc::<Count>::default(),
            Arc::<Count>::default(),
            Arc::<Count>::default(),
        );
        let _kept = signal.register(Arc::clone(&stays).into());
        drop(signal.register(Arc::clone(&gone).into()));
        signal.advance(Phase::Leaving);
        assert_eq!(stays.0.load(Ordering::Relaxed), 0);
        signal.advance(Phase::Closing);
        signal.advance(Phase::Leaving);
        let _late = signal.register(Arc::clone(&late).into());
        let counts = [&stays, &gone, &late].map(|c| c.0.load(Ordering::Relaxed));
        assert_eq!((signal.phase(), counts), (Phase::Closing, [2, 0, 1]));
        signal.advance(Phase::Ending);
        assert_eq!(stays.0.load(Ordering::Relaxed), 3, "those that go on are told of the end too");
    }
}
