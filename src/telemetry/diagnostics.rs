//! Diagnostics: what is not a request. To standard error, one line for each event, never waiting.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::event::EventFormat;
use super::writer::{LineSender, Output};

/// How diagnostics look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For a terminal.
    Pretty,
}

/// Diagnostics of this process; keep it until the end and flush it then.
#[derive(Debug)]
pub struct Diagnostics {
    output: Output,
    panics: Arc<AtomicU64>,
}

impl Diagnostics {
    /// Installs diagnostics for the whole process: `tracing` events of level `info` and above (or
    /// as the variable `DURWARD_LOG` says), and a panic hook that tells where, not what, so that
    /// no secret can leave in a message. A second call keeps the first subscriber.
    ///
    /// # Errors
    /// When the writing thread cannot be started.
    pub fn install(format: Format) -> io::Result<Self> {
        let output = Output::start("durward-log", io::stderr())?;
        let filter = EnvFilter::try_from_env("DURWARD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
        let lines = Lines(output.sender());
        let layer = tracing_subscriber::fmt::layer().event_format(EventFormat(format)).with_ansi(false);
        // An error means that a subscriber is there already, as in tests that start twice.
        drop(
            tracing_subscriber::registry()
                .with(filter)
                .with(layer.with_writer(lines))
                .try_init(),
        );
        let panics = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&panics);
        std::panic::set_hook(Box::new(move |info| {
            count.fetch_add(1, Ordering::Relaxed);
            let place = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
            tracing::error!(place, "a defect ended this request or task; the process goes on");
        }));
        Ok(Self { output, panics })
    }

    /// Counts panics.
    #[must_use]
    pub fn panics(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.panics)
    }

    /// Waits until everything is written, at most `deadline`; blocks the thread.
    pub fn flush(&self, deadline: std::time::Duration) {
        self.output.flush(deadline);
    }
}

struct Lines(LineSender);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Event;

    fn make_writer(&'a self) -> Event {
        Event(self.0.clone())
    }
}

struct Event(LineSender);

impl io::Write for Event {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.send(line.to_vec(), 1);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
