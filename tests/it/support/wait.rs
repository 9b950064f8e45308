//! Waiting for something to become true, with a deadline and without a fixed pause.

use std::sync::mpsc;
use std::time::Duration;

use durward::base::clock;

/// How long any single thing in a test may take before the test fails: two slow cores under load
/// must not fail it, and a hang must not stall the run.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at. Short against anything a test measures.
const STEP: Duration = Duration::from_millis(3);

/// Asks until the answer is `Some`, or fails with what was waited for.
pub(crate) fn until<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = clock::instant();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} for {what}");
        pause(STEP);
    }
}

/// Lets a short time pass between two looks.
pub(crate) fn pause(time: Duration) {
    let (_sender, receiver) = mpsc::channel::<()>();
    let _ = receiver.recv_timeout(time);
}
