//! Writes access lines: exactly one line for each request, whatever its texts contain, and without an allocation.

use crate::base::denial::Severity;
use crate::base::ids::{CredentialId, Subject, SurfaceName, TenantId};
use crate::base::text::{push_address, push_decimal};

use super::members::{AddressText, EscapeFor, Timestamp, escape, number, text, word};
use super::{AccessLine, LineFormat};

/// Writes lines in one format.
#[derive(Debug)]
pub(crate) struct LineFormatter {
    format: LineFormat,
    timestamp: Timestamp,
    client: AddressText,
}

impl LineFormatter {
    pub(crate) const fn new(format: LineFormat) -> Self {
        Self {
            format,
            timestamp: Timestamp::new(),
            client: AddressText::new(),
        }
    }

    /// Appends the line with its line feed.
    pub(crate) fn write(&mut self, line: &AccessLine<'_>, out: &mut Vec<u8>) {
        match self.format {
            LineFormat::Json => self.write_json(line, out),
            LineFormat::Pretty => self.write_pretty(line, out),
            LineFormat::Off => {}
        }
    }

    fn write_json(&mut self, line: &AccessLine<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"ts\":\"");
        self.timestamp.write(line.at, out);
        match level(line) {
            "info" => out.extend_from_slice(b"\",\"level\":\"info\""),
            level => word(out, b"\",\"level\":\"", Some(level)),
        }
        text(out, b",\"request_id\":\"", Some(line.request_id));
        out.extend_from_slice(b",\"client\":\"");
        out.extend_from_slice(self.client.of(line.client));
        match line.version {
            "1.1" => out.extend_from_slice(b"\",\"version\":\"1.1\""),
            version => word(out, b"\",\"version\":\"", Some(version)),
        }
        word(out, b",\"method\":\"", line.method);
        text(out, b",\"host\":\"", line.host);
        text(out, b",\"path\":\"", line.path);
        text(out, b",\"route\":\"", line.route);
        word(out, b",\"surface\":\"", line.surface.map(SurfaceName::as_str));
        match line.of {
            Some((facts, None)) => out.extend_from_slice(facts.lines.logged(|| caller(line))),
            Some((facts, Some(token))) => token.memo.append_logged(&facts.lines, out, || caller(line)),
            None => write_caller(line, out),
        }
        text(out, b",\"done\":\"", line.done);
        word(out, b",\"denial\":\"", line.denial.or(line.reported).map(|denial| denial.label()));
        if line.reported.is_some() {
            out.extend_from_slice(b",\"report_only\":true");
        }
        word(out, b",\"cause\":\"", line.cause);
        number(out, b",\"status\":", u64::from(line.status));
        text(out, b",\"upstream\":\"", line.upstream);
        text(out, b",\"endpoint\":\"", line.endpoint);
        number(out, b",\"attempts\":", u64::from(line.attempts));
        word(out, b",\"failure\":\"", line.failure);
        if let Some(bytes) = line.bytes_in {
            number(out, b",\"bytes_in\":", bytes);
        }
        number(out, b",\"bytes_out\":", line.bytes_out);
        if line.dropped_fields > 0 {
            number(out, b",\"dropped_fields\":", u64::from(line.dropped_fields));
        }
        word(out, b",\"ended\":\"", line.ended.map(|(_, end)| end.as_str()));
        number(out, b",\"took_us\":", u64::try_from(line.took.as_micros()).unwrap_or(u64::MAX));
        out.extend_from_slice(if line.completed {
            b",\"completed\":true}\n"
        } else {
            b",\"completed\":false}\n"
        });
    }

    fn write_pretty(&mut self, line: &AccessLine<'_>, out: &mut Vec<u8>) {
        self.timestamp.write_time_of_day(line.at, out);
        out.push(b' ');
        push_decimal(out, u64::from(line.status));
        out.push(b' ');
        out.extend_from_slice(line.method.unwrap_or("-").as_bytes());
        out.push(b' ');
        if line.host.is_none() && line.path.is_none() {
            out.push(b'-');
        }
        escape(out, line.host.unwrap_or_default(), EscapeFor::Terminal);
        escape(out, line.path.unwrap_or_default(), EscapeFor::Terminal);
        out.push(b' ');
        push_decimal(out, u64::try_from(line.took.as_micros()).unwrap_or(u64::MAX));
        out.extend_from_slice(b"us");
        let names = [
            ("denial", line.denial.or(line.reported).map(|denial| denial.label())),
            ("report_only", line.reported.map(|_| "true")),
            ("cause", line.cause),
            ("ended", line.ended.map(|(_, end)| end.as_str())),
            ("done", line.done),
            ("tenant", line.tenant.map(TenantId::as_str)),
            ("surface", line.surface.map(SurfaceName::as_str)),
            ("credential", line.credential.map(CredentialId::as_str)),
            ("principal", line.principal.map(Subject::as_str)),
            ("route", line.route),
            ("endpoint", line.endpoint),
            ("failure", line.failure),
            ("request_id", Some(line.request_id)),
        ];
        for (name, value) in names {
            if let Some(value) = value {
                out.push(b' ');
                out.extend_from_slice(name.as_bytes());
                out.push(b'=');
                escape(out, value, EscapeFor::Terminal);
            }
        }
        out.extend_from_slice(b" client=");
        push_address(out, line.client);
        if !line.completed {
            out.extend_from_slice(b" aborted");
        }
        out.push(b'\n');
    }
}

/// The caller's fields, as they are kept with the facts or the token.
#[cold]
fn caller(line: &AccessLine<'_>) -> Vec<u8> {
    let mut members = Vec::new();
    write_caller(line, &mut members);
    members
}

fn write_caller(line: &AccessLine<'_>, out: &mut Vec<u8>) {
    word(out, b",\"tenant\":\"", line.tenant.map(TenantId::as_str));
    text(out, b",\"principal\":\"", line.principal.map(Subject::as_str));
    word(out, b",\"credential\":\"", line.credential.map(CredentialId::as_str));
}

fn level(line: &AccessLine<'_>) -> &'static str {
    match line.denial.or(line.reported) {
        None => "info",
        Some(denial) => match denial.row().severity {
            Severity::Info => "info",
            Severity::Warn => "warn",
            Severity::Error => "error",
        },
    }
}
