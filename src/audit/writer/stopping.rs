//! How the writer ends.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::{Message, Writer, instant};

/// Longest time for what is on its way to standard output.
const OUTPUT_TIME: Duration = Duration::from_secs(1);

impl Writer {
    /// Writes what was handed over, the entry that the process ends, and a checkpoint. Blocks at most until the deadline.
    pub(super) fn stop(mut self, messages: &Receiver<Message>, deadline: Instant) {
        self.stopping = true;
        self.retry_at = None;
        self.archivist.begin_stop();
        let mut is_told = false;
        loop {
            if self.must_rewrite && !self.rewrite() {
                break;
            }
            self.write_pending();
            if self.pending.is_empty() && !is_told && self.retry_at.is_none() {
                is_told = true;
                self.tell_losses();
                self.add_own("stop", b"");
            }
            self.flush();
            if self.retry_at.is_some() {
                break;
            }
            let is_signed = is_told && self.files.ending().is_none() && self.signed == self.written.size();
            if self.running.is_none() {
                if is_signed {
                    break;
                }
                self.sync(is_told);
            }
            if !self.wait_for_syncer(messages, deadline) {
                break;
            }
        }
        if self.signed != self.written.size() {
            tracing::error!("the audit trail was not written to its end");
        }
        if let Some(stdout) = &self.stdout {
            stdout.flush(OUTPUT_TIME);
        }
        if self.running.is_none() {
            self.syncer.join();
        }
        self.archivist.end(deadline);
    }

    /// Says whether the syncer did something.
    fn wait_for_syncer(&mut self, messages: &Receiver<Message>, deadline: Instant) -> bool {
        loop {
            let left = deadline.saturating_duration_since(instant());
            match messages.recv_timeout(left) {
                Ok(Message::Synced(synced)) => {
                    self.end_sync(synced);
                    return self.retry_at.is_none();
                }
                Ok(Message::TreeDone(done)) => {
                    return self.end_tree(done);
                }
                // Workers and operators have ended.
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }
}
