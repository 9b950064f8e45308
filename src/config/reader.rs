//! Reads one table by its schema: every wrong key and value is reported, and reading goes on.

use std::net::SocketAddr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Report, closest, suggest};
use super::schema::{Fallback, Key, Kind, Schema};
use super::secret::Reference;
use super::source::{Located, Place, SourceId};
use super::units::{parse_duration, parse_size, write_duration, write_size};

mod collections;

/// A table being read.
#[derive(Debug, Clone, Copy)]
pub struct Section<'d> {
    schema: &'static Schema,
    table: &'d DeTable<'d>,
    source: SourceId,
    start: usize,
    end: usize,
    report: &'d Report,
}

impl<'d> Section<'d> {
    /// Begins to read a table: unknown keys and missing ones are reported now.
    #[must_use]
    pub fn open(schema: &'static Schema, table: &'d DeTable<'d>, at: &Place, report: &'d Report) -> Self {
        let section = Self {
            schema,
            table,
            source: at.source,
            start: at.start,
            end: at.end,
            report,
        };
        let mut misspelt = Vec::new();
        for (key, value) in table {
            match schema.find(key.get_ref()) {
                Some(known) if matches!(known.kind, Kind::Secret | Kind::Secrets | Kind::Url) => section.mask_literals(value),
                Some(_) => section.mask_pasted(value),
                None => misspelt.extend(section.unknown(key.get_ref(), key.span(), value)),
            }
        }
        for key in schema.keys {
            let missing = matches!(key.default, Fallback::Required) && !table.contains_key(key.name);
            if missing && !misspelt.contains(&key.name) {
                report.error(
                    &section.at(),
                    format!("`{}` is missing in {}", key.name, schema.name),
                    format!("add `{} = …` ({})", key.name, key.kind),
                );
            }
        }
        section
    }

    /// Where the table stands.
    #[must_use]
    pub fn at(&self) -> Place {
        Place {
            source: self.source,
            start: self.start,
            end: self.end,
        }
    }

    /// Where problems go.
    #[must_use]
    pub const fn report(&self) -> &'d Report {
        self.report
    }

    /// Where a key's value stands, or the table if it is absent.
    #[must_use]
    pub fn place_of(&self, name: &str) -> Place {
        self.raw(name).map_or_else(|| self.at(), |v| self.place(v))
    }

    /// A text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<Located<String>> {
        let value = self.raw(name)?;
        match value.get_ref() {
            DeValue::String(text) => Some(self.located(value, text.clone().into_owned())),
            other => self.wrong(name, value, other),
        }
    }

    /// A text, or the schema's default.
    #[must_use]
    pub fn text_or_default(&self, name: &str) -> Located<String> {
        self.text(name).unwrap_or_else(|| Located {
            value: self.default_of(name).to_owned(),
            at: self.at(),
        })
    }

    /// `true` or `false`; absent is `false`.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<Located<bool>> {
        let value = self.raw(name)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(self.located(value, *flag)),
            other => self.wrong(name, value, other),
        }
    }

    /// Whether a flag is set.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.flag(name).is_some_and(|f| f.value)
    }

    /// A number within the schema's bounds, if it is there.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<Located<u64>> {
        let value = self.raw(name)?;
        let DeValue::Integer(integer) = value.get_ref() else {
            return self.wrong(name, value, value.get_ref());
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let Some(number) = number.and_then(|n| u64::try_from(n).ok()) else {
            return self.wrong(name, value, value.get_ref());
        };
        match self.kind(name) {
            Some(Kind::Count { min, max }) if !(min..=max).contains(&number) => {
                self.outside(name, value, &min.to_string(), &max.to_string());
                None
            }
            _ => Some(self.located(value, number)),
        }
    }

    /// A number, or the schema's default.
    #[must_use]
    pub fn count_or_default(&self, name: &str) -> u64 {
        self.count(name)
            .map_or_else(|| self.default_of(name).parse().unwrap_or(0), |n| n.value)
    }

    /// A duration within the schema's bounds, if it is there.
    #[must_use]
    pub fn duration(&self, name: &str) -> Option<Located<Duration>> {
        let value = self.raw(name)?;
        let DeValue::String(text) = value.get_ref() else {
            return self.wrong(name, value, value.get_ref());
        };
        let Some(duration) = parse_duration(text) else {
            self.report.error(
                &self.place(value),
                format!("`{name}` is not a duration"),
                "write a whole number and ms, s, m, h or d, for example \"30s\"".to_owned(),
            );
            return None;
        };
        match self.kind(name) {
            Some(Kind::Duration { min, max }) if duration < min || duration > max => {
                self.outside(name, value, &write_duration(min), &write_duration(max));
                None
            }
            _ => Some(self.located(value, duration)),
        }
    }

    /// A duration, or the schema's default, with its place (the table's if it is the default).
    #[must_use]
    pub fn duration_or_default(&self, name: &str) -> Located<Duration> {
        self.duration(name).unwrap_or_else(|| Located {
            value: parse_duration(self.default_of(name)).unwrap_or_default(),
            at: self.place_of(name),
        })
    }

    /// A size in bytes within the schema's bounds, or the schema's default.
    #[must_use]
    pub fn size_or_default(&self, name: &str) -> u64 {
        let default = || parse_size(self.default_of(name)).unwrap_or(0);
        let Some(value) = self.raw(name) else { return default() };
        let size = match value.get_ref() {
            DeValue::String(text) => parse_size(text),
            DeValue::Integer(i) => i64::from_str_radix(i.as_str(), i.radix()).ok().and_then(|n| u64::try_from(n).ok()),
            _ => None,
        };
        let Some(size) = size else {
            self.report.error(
                &self.place(value),
                format!("`{name}` is not a size"),
                "write a number of bytes, or text with B, KiB, MiB or GiB, for example \"10MiB\"".to_owned(),
            );
            return default();
        };
        match self.kind(name) {
            Some(Kind::Size { min, max }) if !(min..=max).contains(&size) => {
                self.outside(name, value, &write_size(min), &write_size(max));
                default()
            }
            _ => size,
        }
    }

    /// One of the schema's words, or its default.
    #[must_use]
    pub fn choice(&self, name: &str) -> Located<&'static str> {
        let Some(Kind::Choice(words)) = self.kind(name) else {
            return Located { value: "", at: self.at() };
        };
        let default = words.iter().copied().find(|w| *w == self.default_of(name)).unwrap_or("");
        let Some(text) = self.text(name) else {
            return Located {
                value: default,
                at: self.place_of(name),
            };
        };
        if let Some(word) = words.iter().copied().find(|w| *w == text.value) {
            return Located { value: word, at: text.at };
        }
        self.report.error(
            &text.at,
            format!("`{name}` cannot be `{}`", shorten(&text.value)),
            suggest(&text.value, words.iter().copied(), &format!("`{name}`")),
        );
        text.map(|_| default)
    }

    /// An address and port.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<Located<SocketAddr>> {
        let text = self.text(name)?;
        if let Ok(address) = text.value.parse() {
            return Some(Located {
                value: address,
                at: text.at,
            });
        }
        self.report.error(
            &text.at,
            format!("`{name}` is not an address with a port"),
            "write an IP address and a port, for example \"127.0.0.1:8080\" or \"[::1]:8080\"".to_owned(),
        );
        None
    }

    /// The value itself, for keys with more than one form.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        debug_assert!(
            self.schema.find(name).is_some(),
            "{name} is not in the schema of {}",
            self.schema.name
        );
        self.table.get(name)
    }

    /// The place of a value of this file.
    #[must_use]
    pub fn place(&self, value: &Spanned<DeValue<'_>>) -> Place {
        Place::new(self.source, &value.span())
    }

    /// Reports a value of the wrong kind. Answers `None`, so that it can end a reading function.
    pub fn wrong<T>(&self, name: &str, value: &Spanned<DeValue<'_>>, found: &DeValue<'_>) -> Option<T> {
        let wanted = self.kind(name).map_or_else(String::new, |k| k.to_string());
        self.report.error(
            &self.place(value),
            format!("`{name}` cannot be {}", article(found)),
            format!("`{name}` is: {wanted}"),
        );
        None
    }

    fn located<T>(&self, value: &Spanned<DeValue<'_>>, inner: T) -> Located<T> {
        Located {
            value: inner,
            at: self.place(value),
        }
    }

    fn kind(&self, name: &str) -> Option<Kind> {
        self.schema.find(name).map(|k| k.kind)
    }

    fn about(&self, name: &str) -> &'static str {
        self.schema.find(name).map_or("", |k| k.about)
    }

    fn default_of(&self, name: &str) -> &'static str {
        match self.schema.find(name) {
            Some(Key {
                default: Fallback::Value(text),
                ..
            }) => text,
            _ => "",
        }
    }

    fn outside(&self, name: &str, value: &Spanned<DeValue<'_>>, min: &str, max: &str) {
        let why = self.schema.find(name).map_or("", |k| k.about);
        self.report.error(
            &self.place(value),
            format!("`{name}` must be {min} to {max}"),
            (!why.is_empty()).then(|| why.to_owned()),
        );
    }

    /// Reports a key that does not exist; answers the one that was probably meant.
    fn unknown(&self, key: &str, span: std::ops::Range<usize>, value: &Spanned<DeValue<'_>>) -> Option<&'static str> {
        let names = self.schema.keys.iter().map(|k| k.name);
        // A misspelt `secrets` may hold what its author took for a secret.
        if matches!(value.get_ref(), DeValue::String(_) | DeValue::Array(_) | DeValue::Table(_)) {
            self.report.mask(&self.place(value));
        }
        // A line of a secret that was pasted without quotes is a key to the parser.
        let place = Place::new(self.source, &span);
        let named = if is_key_like(key) {
            format!("`{key}`")
        } else {
            self.report.mask(&place);
            "of this name".to_owned()
        };
        self.report.error(
            &place,
            format!("there is no key {named} in {}", self.schema.name),
            suggest(key, names.clone(), "a key here"),
        );
        closest(key, names)
    }

    /// Where a path belongs, somebody may have pasted the file.
    fn mask_pasted(&self, value: &Spanned<DeValue<'_>>) {
        if matches!(value.get_ref(), DeValue::String(text) if text.contains("-----BEGIN ")) {
            self.report.mask(&self.place(value));
        }
    }

    /// Hides everything at a secret's key that is not a reference, whatever will be said about it.
    fn mask_literals(&self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::String(text) if Reference::parse(text).is_ok() => {}
            DeValue::Array(items) => items.iter().for_each(|item| self.mask_literals(item)),
            _ => self.report.mask(&self.place(value)),
        }
    }
}

/// Whether somebody may have meant this as a key: ours are short words.
fn is_key_like(key: &str) -> bool {
    const MAX_SHOWN: usize = 32;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=MAX_SHOWN).contains(&key.len()) && key.bytes().all(plain) && key.bytes().filter(u8::is_ascii_uppercase).count() <= 3
}

/// A value's kind for messages; never the value, which may be a secret.
fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "this number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// At most 60 characters of a word for messages.
#[must_use]
pub(in crate::config) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}
