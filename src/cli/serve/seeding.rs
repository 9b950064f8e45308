//! Seeds the random generator while the configuration is loaded: the first random bytes of a process take longer than all else
//! that a small gateway does to start.

use std::thread;

/// Runs `load`, and meanwhile draws the first random bytes of the process on another thread. Returns what `load` returns, after
/// both threads have ended.
///
/// The cryptographic library seeds its generator once, when it is first asked: from jitter of the processor's clock, which it
/// measures and tests for about 50 ms of one core, and from the system. All threads wait for that seed and share it. So this
/// changes when it is made, and not what it is made of.
pub(super) fn load_while_seeding<T>(load: impl FnOnce() -> T) -> T {
    // Without randomness nothing starts: whoever needs it first asks again and reports why.
    beside(load, || {
        let _ = aws_lc_rs::rand::fill(&mut [0; 1]);
    })
}

/// Runs `own` on this thread and `other` on a thread of its own. If there is no thread for it, `other` does not run.
fn beside<T>(own: impl FnOnce() -> T, other: impl FnOnce() + Send) -> T {
    thread::scope(|scope| {
        let seeding = thread::Builder::new().name("durward-seed".to_owned()).spawn_scoped(scope, other);
        let answer = own();
        // A defect there is no reason not to start.
        let _ = seeding.map(thread::ScopedJoinHandle::join);
        answer
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn loading_and_seeding_do_not_wait_for_each_other_to_end() {
        let both_run = Barrier::new(2);
        let answer = beside(
            || {
                both_run.wait();
                7
            },
            || {
                both_run.wait();
            },
        );
        assert_eq!(answer, 7);
    }

    #[test]
    fn nothing_is_answered_before_both_have_ended() {
        let (loaded, seeded) = (Barrier::new(2), AtomicBool::new(false));
        beside(
            || {
                loaded.wait();
            },
            || {
                loaded.wait();
                seeded.store(true, Ordering::Release);
            },
        );
        assert!(seeded.load(Ordering::Acquire));
    }

    #[test]
    fn a_seeding_that_fails_keeps_no_configuration_from_being_loaded() {
        assert_eq!(beside(|| 7, || panic!("no randomness")), 7);
        assert!(load_while_seeding(|| true));
    }
}
