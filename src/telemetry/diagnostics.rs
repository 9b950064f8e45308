//! Diagnostics: what is not a request. To standard error, one line for each event, never waiting.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
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
        let filter = filter(std::env::var("DURWARD_LOG").ok().as_deref());
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

/// What is logged: a level, or a list of `target=level`. Without a text, or with one that is neither, `info` and above.
fn filter(text: Option<&str>) -> Targets {
    text.filter(|text| !text.is_empty())
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_levels_and_what_is_not_understood_means_info() {
        for text in [None, Some(""), Some("=="), Some("durward=loud")] {
            assert_eq!(filter(text).default_level(), Some(LevelFilter::INFO), "{text:?}");
        }
        let chosen = filter(Some("warn,durward::store=debug"));
        assert_eq!(chosen.default_level(), Some(LevelFilter::WARN));
        assert!(chosen.would_enable("durward::store::redis", &tracing::Level::DEBUG));
        assert!(!chosen.would_enable("durward::gateway", &tracing::Level::INFO));
    }
}
