//! Reading keys by their names, for tables that are not declared with `table!` yet. See `declare`.

use std::net::SocketAddr;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::declare::{Named, Value, value};
use super::reader::{Entry, Section};
use super::schema::{Fallback, Kind};
use super::source::{Located, Place};

impl<'d> Section<'d> {
    fn named_entry(&self, name: &str) -> Option<Entry<'d>> {
        self.key(name).and_then(|key| self.entry(key))
    }

    fn optional<T: Value>(&self, name: &str) -> Option<Located<T>> {
        Located::parse(&self.named_entry(name)?)
    }

    pub fn text(&self, name: &str) -> Option<Located<String>> {
        self.optional(name)
    }

    pub fn text_or_default(&self, name: &str) -> Located<String> {
        self.text(name).unwrap_or_else(|| Located {
            value: self.default_of(name).to_owned(),
            at: self.at(),
        })
    }

    pub fn flag(&self, name: &str) -> Option<Located<bool>> {
        self.optional(name)
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.flag(name).is_some_and(|f| f.value)
    }

    pub fn count(&self, name: &str) -> Option<Located<u64>> {
        self.optional(name)
    }

    pub fn count_or_default(&self, name: &str) -> u64 {
        value(self, name).unwrap_or(0)
    }

    pub fn duration(&self, name: &str) -> Option<Located<Duration>> {
        self.optional(name)
    }

    pub fn duration_or_default(&self, name: &str) -> Located<Duration> {
        value(self, name).unwrap_or(Located {
            value: Duration::ZERO,
            at: self.at(),
        })
    }

    pub fn size_or_default(&self, name: &str) -> u64 {
        value(self, name).unwrap_or(0)
    }

    pub fn choice(&self, name: &str) -> Located<&'static str> {
        let at = self.place_of(name);
        let written = self.named_entry(name).and_then(|entry| entry.word());
        Located {
            value: written.unwrap_or_else(|| self.default_of(name)),
            at,
        }
    }

    pub fn address(&self, name: &str) -> Option<Located<SocketAddr>> {
        self.optional(name)
    }

    pub fn raw(&self, name: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.spanned(name)
    }

    pub fn wrong<T>(&self, name: &str, _: &Spanned<DeValue<'_>>, _: &DeValue<'_>) -> Option<T> {
        self.named_entry(name)?.wrong()
    }

    pub fn texts(&self, name: &str) -> Vec<Located<String>> {
        self.named_entry(name).and_then(|e| Vec::parse(&e)).unwrap_or_default()
    }

    pub fn pairs(&self, name: &str) -> Vec<(Located<String>, Located<String>)> {
        self.named_entry(name).and_then(|e| Named::parse(&e)).unwrap_or_default().0
    }

    pub fn section(&self, name: &str) -> Option<Self> {
        let entry = self.named_entry(name)?;
        entry.section(entry.key.kind.table()?)
    }

    pub fn sections(&self, name: &str) -> Vec<Self> {
        let Some(entry) = self.named_entry(name) else { return Vec::new() };
        let items = entry.items().unwrap_or_default();
        let schema = entry.key.kind.table();
        items.iter().filter_map(|item| item.section(schema?)).collect()
    }

    pub fn some_sections(&self, name: &str) -> Vec<Self> {
        if let Some(entry) = self.named_entry(name)
            && matches!(entry.value, DeValue::Array(items) if items.is_empty())
        {
            let help = format!("at least one is needed; {}", entry.key.about);
            entry.error::<()>(format!("`{name}` is empty"), help);
        }
        self.sections(name)
    }

    pub fn named(&self, name: &str) -> Vec<(Located<String>, Self)> {
        let Some(entry) = self.named_entry(name) else { return Vec::new() };
        let schema = entry.key.kind.table();
        let members = entry.members().unwrap_or_default().into_iter();
        members
            .filter_map(|(name, member)| Some((name, member.section(schema?)?)))
            .collect()
    }

    fn default_of(&self, name: &str) -> &'static str {
        match self.key(name).map(|key| key.default) {
            Some(Fallback::Value(text)) => text,
            _ => "",
        }
    }

    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.key(name).map(|key| key.kind)
    }

    pub fn place(&self, value: &Spanned<DeValue<'_>>) -> Place {
        Place::new(self.at().source, &value.span())
    }
}
