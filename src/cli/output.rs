//! What commands print: the JSON of `--json`, as docs/operations.md has it, or tables for people.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;

use serde::Serialize;

use crate::admin::GatewayStatus;
use crate::admin::keys::{KeyMade, KeyView};
use crate::admin::tenants::TenantView;
use crate::config::{Problems, RenderStyle};

use super::failure::{Exit, Failure};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Text,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    form: Form,
}

impl Printer {
    /// A printer of this form.
    #[must_use]
    pub(crate) const fn new(form: Form) -> Self {
        Self { form }
    }

    #[must_use]
    pub(crate) const fn form(&self) -> Form {
        self.form
    }

    /// Prints one answer to standard output. A reader that went away (`| head`) is no failure.
    ///
    /// # Errors
    /// When standard output fails in another way, since the text that was lost may hold the secret of a new key.
    pub(crate) fn print(&self, value: &impl Serialize, text: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        let json = |out: &mut dyn Write| {
            let written = serde_json::to_writer(&mut *out, value).map_err(io::Error::from);
            written.and_then(|()| writeln!(out))
        };
        self.write(json, text)
    }

    /// Prints one line of JSON as it was recorded, or text for people.
    ///
    /// # Errors
    /// As [`print`](Self::print).
    pub(crate) fn print_line(&self, line: &str, text: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        self.write(|out: &mut dyn Write| writeln!(out, "{line}"), text)
    }

    fn write(
        &self,
        json: impl FnOnce(&mut dyn Write) -> io::Result<()>,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        let printed = match self.form {
            Form::Json => json(&mut out),
            Form::Text => text(&mut out),
        };
        match printed.and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(Exit::Failed, format!("the answer could not be printed: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Writes a remark to standard error, where it disturbs no program: with `--json` a line `{"remark":"…"}`.
    pub(crate) fn remark(&self, text: &str) {
        self.note("remark", text);
    }

    /// Says how to see the rest of a list.
    pub(crate) fn more(&self, next: Option<&str>) {
        if let Some(next) = next {
            self.remark(&format!("there may be more: --after {next}"));
        }
    }

    /// Writes warnings to standard error: with `--json` lines `{"warning":"…"}`.
    pub(crate) fn warn(&self, warnings: &[String]) {
        for warning in warnings {
            match self.form {
                Form::Json => self.note("warning", warning),
                Form::Text => self.note("", &format!("warning: {warning}")),
            }
        }
    }

    /// Shows people the mistakes of a configuration, each with its line, and answers the failure of the command.
    #[must_use]
    pub(crate) fn mistakes(&self, config: &Path, problems: &Problems, style: RenderStyle) -> Failure {
        if self.form == Form::Text {
            self.remark(&problems.render(style));
        }
        Failure::of_configuration(config, problems)
    }

    fn note(&self, name: &str, text: &str) {
        // When standard error is closed, nobody can read the failure.
        let _ = match self.form {
            Form::Json => writeln!(io::stderr(), "{}", serde_json::json!({ name: text })),
            Form::Text => writeln!(io::stderr(), "{text}"),
        };
    }
}

/// With colours where standard error is a terminal.
#[must_use]
pub(crate) fn style() -> RenderStyle {
    if io::stderr().is_terminal() {
        RenderStyle::Coloured
    } else {
        RenderStyle::Plain
    }
}

/// A text that came from a request, for a terminal: without characters that move its cursor, change its colours or turn the
/// direction of what is written. They become escapes as JSON has them, so that what is JSON stays JSON.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let is_odd = |character: char| {
        (character.is_control() && character != '\n')
            || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_odd) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_odd(character) {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// The same for one line of several: a line feed would begin another, which the sender of the request made up.
pub(crate) fn visible_in_line(text: &str) -> Cow<'_, str> {
    match visible(text) {
        Cow::Borrowed(text) if !text.contains('\n') => Cow::Borrowed(text),
        text => Cow::Owned(text.replace('\n', "\\n")),
    }
}

/// Values under names, aligned. Empty values are left out.
pub(crate) fn fields(out: &mut dyn Write, fields: &[(&str, &str)]) -> io::Result<()> {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(out, "{name:width$}  {value}")?;
    }
    Ok(())
}

/// A table with a head; columns as wide as their widest cell.
pub(crate) fn table<const N: usize>(out: &mut dyn Write, head: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
    let mut widths = head.map(|name| name.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    line(head)?;
    for row in rows {
        line(row.each_ref().map(String::as_str))?;
    }
    Ok(())
}

pub(crate) fn tenant(out: &mut dyn Write, tenant: &TenantView) -> io::Result<()> {
    let state = if tenant.active { "active" } else { "inactive" };
    fields(out, &[("tenant", &tenant.id), ("state", state), ("created", &tenant.created_at)])
}

pub(crate) fn key_made(out: &mut dyn Write, made: &KeyMade) -> io::Result<()> {
    let (scopes, roles) = (made.scopes.join(" "), made.roles.join(" "));
    fields(
        out,
        &[
            ("id", &made.id),
            ("key", &made.key),
            ("secret", made.secret.as_deref().unwrap_or_default()),
            ("surface", &made.surface),
            ("tenant", &made.tenant),
            ("subject", made.subject.as_deref().unwrap_or_default()),
            ("mode", made.mode.as_deref().unwrap_or_default()),
            ("scopes", &scopes),
            ("roles", &roles),
            ("hangs on", made.parent.as_deref().unwrap_or_default()),
            ("name", made.name.as_deref().unwrap_or_default()),
            ("description", made.description.as_deref().unwrap_or_default()),
            ("expires", made.expires_at.as_deref().unwrap_or("never")),
        ],
    )
}

pub(crate) fn key(out: &mut dyn Write, key: &KeyView) -> io::Result<()> {
    let shown = format!("{}…{}", key.prefix, key.last4);
    let (scopes, roles) = (key.scopes.join(" "), key.roles.join(" "));
    fields(
        out,
        &[
            ("id", &key.id),
            ("state", &key.state),
            ("key", &shown),
            ("surface", &key.surface),
            ("tenant", &key.tenant),
            ("subject", key.subject.as_deref().unwrap_or_default()),
            ("mode", key.mode.as_deref().unwrap_or_default()),
            ("scopes", &scopes),
            ("roles", &roles),
            ("hangs on", key.parent.as_deref().unwrap_or_default()),
            ("name", key.name.as_deref().unwrap_or_default()),
            ("description", key.description.as_deref().unwrap_or_default()),
            ("created", &key.created_at),
            ("not before", key.not_before.as_deref().unwrap_or_default()),
            ("expires", key.expires_at.as_deref().unwrap_or("never")),
            ("revoked", key.revoked_at.as_deref().unwrap_or_default()),
        ],
    )
}

pub(crate) fn status(out: &mut dyn Write, status: &GatewayStatus) -> io::Result<()> {
    let (surfaces, upstreams) = (status.surfaces.join(", "), status.upstreams.join(", "));
    fields(
        out,
        &[
            ("version", &status.version),
            ("configuration", &status.configuration.to_string()),
            ("ready", if status.ready { "yes" } else { "no" }),
            ("store", &status.checks.store),
            ("serving", &status.checks.serving),
            ("surfaces", &surfaces),
            ("upstreams", &upstreams),
            ("routes", &status.routes.to_string()),
            ("in flight", &status.in_flight.to_string()),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_request_steers_no_terminal_and_begins_no_line() {
        assert_eq!(visible("one\ntwo \u{1b}[2J\u{202e}é"), "one\ntwo \\u001b[2J\\u202eé");
        assert_eq!(visible_in_line("one\ntwo \u{1b}[2J"), "one\\ntwo \\u001b[2J");
        assert_eq!(visible_in_line("key_1 (ann) of acmé"), "key_1 (ann) of acmé");
    }
}
