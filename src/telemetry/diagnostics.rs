//! Diagnostics: the log of everything that is not a request. One line to standard error for each event of `tracing`; the caller
//! never waits for the output.

use std::fmt::{self, Write as _};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::base::clock::{Clock as _, SystemClock, UnixMillis};

use super::members::{EscapeFor, Timestamp, escape};
use super::writer::{LineSender, Output};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiagnosticsFormat {
    /// One JSON object a line.
    Json,
    Pretty,
}

/// Diagnostics of this process; keep it until the end and flush it then.
#[derive(Debug)]
pub struct Diagnostics {
    output: Output,
    panics: Arc<AtomicU64>,
}

impl Diagnostics {
    /// Installs diagnostics for the whole process: `tracing` events of level `info` and above (or of the levels in the variable
    /// `DURWARD_LOG`), and a panic hook. The hook logs the place of a panic and not its message, which might hold a secret. A
    /// second call keeps the first subscriber.
    ///
    /// # Errors
    /// When the writing thread cannot be started.
    pub fn install(format: DiagnosticsFormat) -> io::Result<Self> {
        let output = Output::start("durward-log", io::stderr())?;
        let written = std::env::var("DURWARD_LOG").ok();
        let chosen = filter(written.as_deref().unwrap_or_default());
        let is_understood = chosen.is_some();
        let lines = LogWriter(output.sender());
        let layer = tracing_subscriber::fmt::layer().event_format(EventFormat(format)).with_ansi(false);
        // An error means that a subscriber is there already, as in tests that start twice.
        drop(
            tracing_subscriber::registry()
                .with(chosen.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO)))
                .with(layer.with_writer(lines))
                .try_init(),
        );
        if !is_understood {
            tracing::warn!(
                help = "write a level, or target=level, separated by commas: info,durward::store=debug",
                "DURWARD_LOG is not understood; info and above are logged"
            );
        }
        let panics = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&panics);
        std::panic::set_hook(Box::new(move |info| {
            count.fetch_add(1, Ordering::Relaxed);
            let place = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
            tracing::error!(place, "a defect ended this request or task; the process goes on");
        }));
        Ok(Self { output, panics })
    }

    #[must_use]
    pub fn panics(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.panics)
    }

    /// Waits until everything is written, at most `deadline`; blocks the thread.
    pub fn flush(&self, deadline: std::time::Duration) {
        self.output.flush(deadline);
    }
}

/// What is logged: a list of levels and `target=level`, as the variable `DURWARD_LOG` has it. Empty parts of the list are left out; an
/// empty list means `info` and above. `None` if a part is not understood.
fn filter(text: &str) -> Option<Targets> {
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return Some(Targets::new().with_default(LevelFilter::INFO));
    }
    // The parser of the library takes a word that is no level for a target, and logs nothing else; it takes an empty level for
    // `error`. Then a slip of the pen would silence the alarms.
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok() && !word.is_empty();
    let is_understood = |part: &&str| is_level(part.rsplit_once('=').map_or(*part, |(_, level)| level));
    parts.iter().all(is_understood).then(|| parts.join(","))?.parse().ok()
}

struct LogWriter(LineSender);

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine(self.0.clone())
    }
}

struct LogLine(LineSender);

impl io::Write for LogLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.send(line.to_vec(), 1);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one line for each event: in JSON `ts`, `level`, `message`, the event's fields and `target`; for a terminal the
/// time of day, the level, the message, and each field as `name=value`.
pub(super) struct EventFormat(pub(super) DiagnosticsFormat);

impl<S, N> FormatEvent<S, N> for EventFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = EventFields::default();
        event.record(&mut fields);
        let line = match self.0 {
            DiagnosticsFormat::Json => fields.json(SystemClock.now().wall, *event.metadata().level(), event.metadata().target()),
            DiagnosticsFormat::Pretty => fields.pretty(SystemClock.now().wall, *event.metadata().level()),
        };
        writer.write_str(&line)
    }
}

/// Message and fields of an event.
#[derive(Debug, Default)]
struct EventFields {
    message: String,
    fields: Vec<(&'static str, FieldValue)>,
}

#[derive(Debug)]
enum FieldValue {
    /// A number or boolean as JSON.
    Plain(String),
    Text(String),
}

impl EventFields {
    fn json(&self, at: UnixMillis, level: Level, target: &str) -> String {
        let mut out = b"{\"ts\":\"".to_vec();
        Timestamp::new().write(at, &mut out);
        let member = |out: &mut Vec<u8>, name: &str, value: &str| {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":\"");
            escape(out, value, EscapeFor::Json);
            out.push(b'"');
        };
        out.push(b'"');
        member(&mut out, "level", level_word(level));
        member(&mut out, "message", &self.message);
        for (name, value) in &self.fields {
            match value {
                FieldValue::Text(text) => member(&mut out, name, text),
                FieldValue::Plain(plain) => {
                    out.extend_from_slice(b",\"");
                    out.extend_from_slice(name.as_bytes());
                    out.extend_from_slice(b"\":");
                    out.extend_from_slice(plain.as_bytes());
                }
            }
        }
        member(&mut out, "target", target);
        out.extend_from_slice(b"}\n");
        String::from_utf8(out).unwrap_or_default()
    }

    fn pretty(&self, at: UnixMillis, level: Level) -> String {
        let mut out = Vec::new();
        Timestamp::new().write_time_of_day(at, &mut out);
        out.push(b' ');
        out.extend_from_slice(level_word(level).as_bytes());
        out.push(b' ');
        // The spaces of a message are kept. Everything else is escaped as in a value, since a message may quote foreign text.
        for (i, word) in self.message.split(' ').enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            escape(&mut out, word, EscapeFor::Terminal);
        }
        for (name, value) in &self.fields {
            out.push(b' ');
            out.extend_from_slice(name.as_bytes());
            out.push(b'=');
            match value {
                FieldValue::Text(text) if text.contains(' ') => {
                    let mut quoted = String::new();
                    let _ = write!(quoted, "{text:?}");
                    out.extend_from_slice(quoted.as_bytes());
                }
                FieldValue::Text(text) => escape(&mut out, text, EscapeFor::Terminal),
                FieldValue::Plain(plain) => out.extend_from_slice(plain.as_bytes()),
            }
        }
        out.push(b'\n');
        String::from_utf8(out).unwrap_or_default()
    }
}

impl Visit for EventFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else if !value.is_empty() {
            self.fields.push((field.name(), FieldValue::Text(value.to_owned())));
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), FieldValue::Plain(value.to_string())));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), FieldValue::Plain(value.to_string())));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), FieldValue::Plain(value.to_string())));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The level as access lines write it.
const fn level_word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> EventFields {
        EventFields {
            message: "it \"broke\"\nin two".into(),
            fields: vec![
                ("alarm", FieldValue::Text("x".into())),
                ("why", FieldValue::Text("a\u{1b}[0m b".into())),
                ("count", FieldValue::Plain("3".into())),
            ],
        }
    }

    #[test]
    fn a_line_is_one_json_object_with_the_members_of_access_lines_first() {
        let line = fields().json(UnixMillis(0), Level::WARN, "durward::x");
        assert!(
            line.starts_with("{\"ts\":\"1970-01-01T00:00:00.000Z\",\"level\":\"warn\",\"message\":"),
            "{line}"
        );
        assert_eq!(line.matches('\n').count(), 1);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["message"], "it \"broke\"\nin two");
        assert_eq!((&json["why"], &json["count"]), (&"a\u{1b}[0m b".into(), &3.into()));
        assert_eq!(json["target"], "durward::x");
    }

    #[test]
    fn a_line_for_a_terminal_is_one_line_and_moves_no_cursor() {
        let line = fields().pretty(UnixMillis(0), Level::ERROR);
        assert_eq!(
            line,
            "00:00:00.000 error it \"broke\"\\u{a}in two alarm=x why=\"a\\u{1b}[0m b\" count=3\n"
        );
    }

    #[test]
    fn the_variable_names_levels_of_everything_and_of_targets() {
        for text in ["", ",", " "] {
            assert_eq!(filter(text).unwrap().default_level(), Some(LevelFilter::INFO), "{text:?}");
        }
        for text in ["debug", "debug,", ",DEBUG", "debug,,durward::store=warn", " debug , "] {
            assert_eq!(filter(text).unwrap().default_level(), Some(LevelFilter::DEBUG), "{text:?}");
        }
        let chosen = filter("warn,durward::store=debug").unwrap();
        assert_eq!(chosen.default_level(), Some(LevelFilter::WARN));
        assert!(chosen.would_enable("durward::store::redis", &tracing::Level::DEBUG));
        assert!(!chosen.would_enable("durward::gateway", &tracing::Level::INFO));
    }

    #[test]
    fn a_part_that_is_not_understood_silences_nothing() {
        for text in [
            "loud",
            "==",
            "durward=",
            "durward=loud",
            "warn,durward=loud",
            "debug,durward=",
            "durward::store",
            "info,error?",
        ] {
            assert_eq!(filter(text), None, "{text:?}");
        }
    }
}
