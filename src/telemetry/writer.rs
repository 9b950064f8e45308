//! The thread that writes lines out, so that a slow terminal or a full pipe never holds a worker.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Chunks in the queue. With 64 KiB each this is four megabytes, about half a second at
/// 20,000 requests a second: longer stalls are the output's fault and cost lines, not latency.
const QUEUE: usize = 64;

enum WriterMessage {
    Lines { bytes: Vec<u8>, count: u64 },
    Flushed(SyncSender<()>),
}

/// An output with its thread. The thread ends when the last sender is gone.
#[derive(Debug)]
pub struct Output {
    queue: SyncSender<WriterMessage>,
    dropped: Arc<AtomicU64>,
}

impl Output {
    /// Starts the thread, called `name`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(name: &str, sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || run(&messages, sink, &lost))?;
        Ok(Self { queue, dropped })
    }

    /// Hands `count` lines over, or counts them as dropped when the queue is full. Never waits.
    pub(crate) fn send(&self, bytes: Vec<u8>, count: u64) {
        self.sender().send(bytes, count);
    }

    /// A sender for one producer.
    #[must_use]
    pub(crate) fn sender(&self) -> LineSender {
        LineSender {
            queue: self.queue.clone(),
            dropped: Arc::clone(&self.dropped),
        }
    }

    /// Counts lines that were not written.
    #[must_use]
    pub fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    /// Waits until everything sent so far is written, at most `deadline`; blocks the thread.
    pub fn flush(&self, deadline: Duration) {
        let (done, wait) = sync_channel(1);
        let end = crate::base::clock::instant() + deadline;
        let mut message = WriterMessage::Flushed(done);
        loop {
            match self.queue.try_send(message) {
                Ok(()) => break,
                Err(std::sync::mpsc::TrySendError::Disconnected(_)) => return,
                Err(std::sync::mpsc::TrySendError::Full(back)) => message = back,
            }
            if crate::base::clock::instant() >= end {
                return;
            }
            // The queue is full. The writer frees an entry with each write, and sends no signal when it does.
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let _ = wait.recv_timeout(end.saturating_duration_since(crate::base::clock::instant()));
    }
}

/// Hands lines to the writer's thread.
#[derive(Debug, Clone)]
pub(crate) struct LineSender {
    queue: SyncSender<WriterMessage>,
    dropped: Arc<AtomicU64>,
}

impl LineSender {
    /// Hands `count` lines over, or counts them as dropped when the queue is full. Never waits.
    pub(crate) fn send(&self, bytes: Vec<u8>, count: u64) {
        if self.queue.try_send(WriterMessage::Lines { bytes, count }).is_err() {
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }
}

fn run(messages: &Receiver<WriterMessage>, mut sink: impl Write, dropped: &AtomicU64) {
    while let Ok(message) = messages.recv() {
        match message {
            WriterMessage::Lines { bytes, count } => {
                if sink.write_all(&bytes).and_then(|()| sink.flush()).is_err() {
                    dropped.fetch_add(count, Ordering::Relaxed);
                }
            }
            // If the deadline has passed, nobody waits for this any more.
            WriterMessage::Flushed(done) => drop(done.try_send(())),
        }
    }
}
