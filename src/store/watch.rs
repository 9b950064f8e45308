//! A value that tasks can wait for. It works as tokio's `watch`, but wakes the waiting tasks in the order of waiting. tokio wakes them
//! in a random order, and then a simulation of the store could not be repeated.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A sender and its first receiver.
pub(super) fn channel<T>(value: T) -> (WatchSender<T>, WatchReceiver<T>) {
    let shared = Arc::new(Watched {
        current: Mutex::new(VersionedValue {
            value,
            version: 0,
            end: End::Open,
        }),
        changed: Notify::new(),
    });
    (WatchSender(Arc::clone(&shared)), WatchReceiver { shared, seen: 0 })
}

/// The sender is gone: no value will follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SenderGone;

struct Watched<T> {
    current: Mutex<VersionedValue<T>>,
    changed: Notify,
}

struct VersionedValue<T> {
    value: T,
    /// How often it was set.
    version: u64,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Closed,
}

impl<T> Watched<T> {
    fn current(&self) -> MutexGuard<'_, VersionedValue<T>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets the value. There is one for each channel.
pub(super) struct WatchSender<T>(Arc<Watched<T>>);

impl<T> WatchSender<T> {
    /// Sets the value; answers the one before.
    pub(super) fn send_replace(&self, value: T) -> T {
        let mut current = self.0.current();
        let before = std::mem::replace(&mut current.value, value);
        current.version += 1;
        drop(current);
        self.0.changed.notify_waiters();
        before
    }

    /// Changes the value in place; whoever waits hears of it if `change` says that there was a change.
    pub(super) fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let mut current = self.0.current();
        let changed = change(&mut current.value);
        current.version += u64::from(changed);
        drop(current);
        if changed {
            self.0.changed.notify_waiters();
        }
        changed
    }

    /// Changes the value in place.
    pub(super) fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            change(value);
            true
        });
    }

    /// One more receiver, which has seen the value as it is now.
    pub(super) fn subscribe(&self) -> WatchReceiver<T> {
        WatchReceiver {
            seen: self.0.current().version,
            shared: Arc::clone(&self.0),
        }
    }
}

impl<T: Clone> WatchSender<T> {
    pub(super) fn value(&self) -> T {
        self.0.current().value.clone()
    }
}

impl<T> Drop for WatchSender<T> {
    fn drop(&mut self) {
        self.0.current().end = End::Closed;
        self.0.changed.notify_waiters();
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for WatchSender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WatchSender").field(&self.0.current().value).finish()
    }
}

pub(super) struct WatchReceiver<T> {
    shared: Arc<Watched<T>>,
    /// The version of the value that was seen last.
    seen: u64,
}

impl<T> Clone for WatchReceiver<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            seen: self.seen,
        }
    }
}

impl<T> WatchReceiver<T> {
    /// Waits until the value was set since it was last seen. Cancel-safe.
    ///
    /// # Errors
    /// [`SenderGone`] when the sender is gone and its last value was seen.
    pub(super) async fn changed(&mut self) -> Result<(), SenderGone> {
        loop {
            // Before the value is read: a change after that wakes this task.
            let changed = self.shared.changed.notified();
            {
                let current = self.shared.current();
                if current.version != self.seen {
                    self.seen = current.version;
                    return Ok(());
                }
                if current.end == End::Closed {
                    return Err(SenderGone);
                }
            }
            changed.await;
        }
    }

    /// Whether the value was set since it was last seen.
    ///
    /// # Errors
    /// [`SenderGone`] when the sender is gone.
    pub(super) fn has_changed(&self) -> Result<bool, SenderGone> {
        let current = self.shared.current();
        match current.end {
            End::Open => Ok(current.version != self.seen),
            End::Closed => Err(SenderGone),
        }
    }

    /// Marks the value as not seen.
    pub(super) const fn mark_changed(&mut self) {
        self.seen = self.seen.wrapping_sub(1);
    }
}

impl<T: Clone> WatchReceiver<T> {
    /// The value now, which counts as seen.
    pub(super) fn take_latest(&mut self) -> T {
        let current = self.shared.current();
        self.seen = current.version;
        current.value.clone()
    }

    /// Waits until the value is as wanted, and answers it. Cancel-safe.
    ///
    /// # Errors
    /// [`SenderGone`] when the sender is gone and its last value is another one.
    pub(super) async fn wait_for(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Result<T, SenderGone> {
        loop {
            let changed = self.shared.changed.notified();
            {
                let current = self.shared.current();
                self.seen = current.version;
                if wanted(&current.value) {
                    return Ok(current.value.clone());
                }
                if current.end == End::Closed {
                    return Err(SenderGone);
                }
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wanted_value_is_seen_and_a_gone_sender_too() {
        let (sender, mut receiver) = channel(0);
        assert_eq!(receiver.wait_for(|value| *value == 0).await, Ok(0));
        let mut other = receiver.clone();
        let waiting = tokio::spawn(async move { other.wait_for(|value| *value == 2).await });
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(sender.send_replace(1), 0);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!waiting.is_finished());
        sender.send_replace(2);
        assert_eq!(waiting.await.unwrap(), Ok(2));
        let mut late = sender.subscribe();
        assert_eq!(sender.value(), 2);
        drop(sender);
        assert_eq!(late.wait_for(|value| *value == 2).await, Ok(2));
        assert_eq!(late.wait_for(|value| *value == 3).await, Err(SenderGone));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_in_the_order_of_waiting() {
        for _ in 0..20 {
            let (sender, receiver) = channel(false);
            let woken = Arc::new(Mutex::new(Vec::new()));
            let tasks: Vec<_> = (0..10)
                .map(|i| {
                    let (mut receiver, woken) = (receiver.clone(), Arc::clone(&woken));
                    tokio::spawn(async move {
                        receiver.wait_for(|value| *value).await.unwrap();
                        woken.lock().unwrap().push(i);
                    })
                })
                .collect();
            tokio::time::sleep(Duration::from_millis(1)).await;
            sender.send_replace(true);
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(*woken.lock().unwrap(), (0..10).collect::<Vec<_>>());
        }
    }
}
