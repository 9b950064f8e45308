//! Writes events of `tracing` as lines in the format of access lines.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::base::clock::{Clock as _, SystemClock, UnixMillis};

use super::diagnostics::Format;
use super::line::{Style, escape};
use super::stamp::Stamp;

/// Writes one line for each event: in JSON `ts`, `level`, `message`, the event's fields and `target`; for a terminal the
/// time of day, the level, the message, and each field as `name=value`.
pub(super) struct EventFormat(pub(super) Format);

impl<S, N> FormatEvent<S, N> for EventFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut told = Told::default();
        event.record(&mut told);
        let line = match self.0 {
            Format::Json => told.json(SystemClock.now().wall, *event.metadata().level(), event.metadata().target()),
            Format::Pretty => told.pretty(SystemClock.now().wall, *event.metadata().level()),
        };
        writer.write_str(&line)
    }
}

/// Message and fields of an event.
#[derive(Debug, Default)]
struct Told {
    message: String,
    members: Vec<(&'static str, Value)>,
}

#[derive(Debug)]
enum Value {
    /// A number or boolean as JSON.
    Plain(String),
    Text(String),
}

impl Told {
    fn json(&self, at: UnixMillis, level: Level, target: &str) -> String {
        let mut out = b"{\"ts\":\"".to_vec();
        Stamp::new().write(at, &mut out);
        let member = |out: &mut Vec<u8>, name: &str, value: &str| {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":\"");
            escape(out, value, Style::Json);
            out.push(b'"');
        };
        out.push(b'"');
        member(&mut out, "level", word(level));
        member(&mut out, "message", &self.message);
        for (name, value) in &self.members {
            match value {
                Value::Text(text) => member(&mut out, name, text),
                Value::Plain(plain) => {
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
        Stamp::new().write_time_of_day(at, &mut out);
        out.push(b' ');
        out.extend_from_slice(word(level).as_bytes());
        out.push(b' ');
        // The spaces of a message are kept. Everything else is escaped as in a value, since a message may quote foreign text.
        for (i, word) in self.message.split(' ').enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            escape(&mut out, word, Style::Terminal);
        }
        for (name, value) in &self.members {
            out.push(b' ');
            out.extend_from_slice(name.as_bytes());
            out.push(b'=');
            match value {
                Value::Text(text) if text.contains(' ') => {
                    let mut quoted = String::new();
                    let _ = write!(quoted, "{text:?}");
                    out.extend_from_slice(quoted.as_bytes());
                }
                Value::Text(text) => escape(&mut out, text, Style::Terminal),
                Value::Plain(plain) => out.extend_from_slice(plain.as_bytes()),
            }
        }
        out.push(b'\n');
        String::from_utf8(out).unwrap_or_default()
    }
}

impl Visit for Told {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else if !value.is_empty() {
            self.members.push((field.name(), Value::Text(value.to_owned())));
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.members.push((field.name(), Value::Plain(value.to_string())));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.members.push((field.name(), Value::Plain(value.to_string())));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.members.push((field.name(), Value::Plain(value.to_string())));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The level as access lines write it.
const fn word(level: Level) -> &'static str {
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

    fn told() -> Told {
        Told {
            message: "it \"broke\"\nin two".into(),
            members: vec![
                ("alarm", Value::Text("x".into())),
                ("why", Value::Text("a\u{1b}[0m b".into())),
                ("count", Value::Plain("3".into())),
            ],
        }
    }

    #[test]
    fn a_line_is_one_json_object_with_the_members_of_access_lines_first() {
        let line = told().json(UnixMillis(0), Level::WARN, "durward::x");
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
        let line = told().pretty(UnixMillis(0), Level::ERROR);
        assert_eq!(
            line,
            "00:00:00.000 error it \"broke\"\\u{a}in two alarm=x why=\"a\\u{1b}[0m b\" count=3\n"
        );
    }
}
