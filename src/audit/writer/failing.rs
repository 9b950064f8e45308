//! What the writer does when the disk fails.

use std::io;
use std::sync::atomic::Ordering;

use super::super::settings::OnFull;
use super::super::trail::NotRecorded;
use super::{RETRY, Writer, instant};

pub(super) const CANNOT_WRITE: &str = "the audit trail cannot be written";

impl Writer {
    pub(super) fn is_failing(&self) -> bool {
        self.state.failing.load(Ordering::Relaxed)
    }

    /// Deals with a batch that the disk did not take; nothing of it is in the files.
    pub(super) fn fail_write(&mut self, error: &io::Error) {
        self.note_failure(error, CANNOT_WRITE);
        for waiting in self.batch.waiters.drain(..) {
            waiting.waiter.answer(Err(NotRecorded));
        }
        // With `refuse`, whoever was admitted is recorded as soon as there is room; nobody else is admitted until then.
        if self.settings.on_full == OnFull::DropAndCount {
            let batch = std::mem::take(&mut self.batch);
            self.frontier = self.written.clone();
            let lost = batch.entries - batch.own;
            self.state.dropped.fetch_add(lost, Ordering::Relaxed);
            self.counted_drops += lost;
            // What the batch would have told is told later.
            self.losses.add(batch.losses);
            self.losses.lost += lost;
            if self.losses.lost_from.is_none() {
                self.losses.lost_from = Some(self.now_text());
            }
        }
    }

    /// Deals with a sync that failed: everything that was written since the last good one may be nowhere. It is written again
    /// from memory, with both `on_full`.
    pub(super) fn fail_sync(&mut self, error: &io::Error) {
        self.note_failure(error, "the audit trail does not reach the disk");
        self.must_rewrite = true;
        self.fail_waiters();
    }

    /// Deals with a segment whose end could not be signed: the next one does not begin, and what is in it may be nowhere after a
    /// crash of the machine.
    pub(super) fn fail_ending(&mut self, error: &io::Error) {
        self.note_failure(error, "the next segment of the audit trail cannot begin");
        self.fail_waiters();
    }

    fn fail_waiters(&mut self) {
        for waiting in self.waiters.drain(..) {
            waiting.waiter.answer(Err(NotRecorded));
        }
        self.answer_body_waiters(false);
    }

    pub(super) fn note_failure(&mut self, error: &io::Error, what: &str) {
        if !self.state.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, directory = %self.settings.directory.display(), alarm = "audit_not_written", "{what}");
        }
        self.retry_at = Some(instant() + RETRY);
    }

    /// Writes again what a failed sync may have lost. Says whether the disk took it.
    pub(super) fn rewrite(&mut self) -> bool {
        match self.files.rewrite() {
            Ok(()) => {
                self.must_rewrite = false;
                true
            }
            Err(error) => {
                self.note_failure(&error, CANNOT_WRITE);
                false
            }
        }
    }

    /// Notes that the disk takes entries again.
    pub(super) fn recover(&mut self) {
        self.state.failing.store(false, Ordering::Relaxed);
        tracing::warn!("the audit trail is written again");
    }
}
