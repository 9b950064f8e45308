//! Values with parts: lists, pairs, tables in tables.

use toml::Spanned;
use toml::de::DeValue;

use super::Section;
use crate::config::source::{Located, Place};

impl Section<'_> {
    /// A list of texts; empty if absent.
    #[must_use]
    pub fn texts(&self, name: &str) -> Vec<Located<String>> {
        let Some(value) = self.raw(name) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(items) => items.iter().filter_map(|item| self.item_text(name, item)).collect(),
            other => self.wrong(name, value, other).unwrap_or_default(),
        }
    }

    /// `key = "text"` pairs in the order they are written; empty if absent.
    #[must_use]
    pub fn pairs(&self, name: &str) -> Vec<(Located<String>, Located<String>)> {
        let Some(value) = self.raw(name) else { return Vec::new() };
        let DeValue::Table(table) = value.get_ref() else {
            return self.wrong(name, value, value.get_ref()).unwrap_or_default();
        };
        let mut pairs: Vec<_> = table
            .iter()
            .filter_map(|(key, value)| {
                let text = self.item_text(name, value)?;
                let at = Place::new(self.source, &key.span());
                Some((
                    Located {
                        value: key.get_ref().clone().into_owned(),
                        at,
                    },
                    text,
                ))
            })
            .collect();
        pairs.sort_by_key(|(key, _)| key.at.start);
        pairs
    }

    /// A table under this key.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<Self> {
        let value = self.raw(name)?;
        let schema = self.kind(name)?.table()?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Self::open(schema, table, &self.place(value), self.report)),
            other => self.wrong(name, value, other),
        }
    }

    /// The tables of a list.
    #[must_use]
    pub fn sections(&self, name: &str) -> Vec<Self> {
        let (Some(value), Some(schema)) = (self.raw(name), self.kind(name).and_then(|k| k.table())) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            return self.wrong(name, value, value.get_ref()).unwrap_or_default();
        };
        items
            .iter()
            .filter_map(|item| match item.get_ref() {
                DeValue::Table(table) => Some(Self::open(schema, table, &self.place(item), self.report)),
                other => self.wrong(name, item, other),
            })
            .collect()
    }

    /// The tables of a list that must not be empty.
    #[must_use]
    pub fn some_sections(&self, name: &str) -> Vec<Self> {
        if let Some(value) = self.raw(name)
            && matches!(value.get_ref(), DeValue::Array(items) if items.is_empty())
        {
            self.report().error(
                &self.place(value),
                format!("`{name}` is empty"),
                Some(format!("at least one is needed; {}", self.about(name))),
            );
        }
        self.sections(name)
    }

    /// The tables under names of the operator's choice, in the order they are written.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<(Located<String>, Self)> {
        let (Some(value), Some(schema)) = (self.raw(name), self.kind(name).and_then(|k| k.table())) else {
            return Vec::new();
        };
        let DeValue::Table(tables) = value.get_ref() else {
            return self.wrong(name, value, value.get_ref()).unwrap_or_default();
        };
        let mut found: Vec<_> = tables
            .iter()
            .filter_map(|(key, item)| match item.get_ref() {
                DeValue::Table(table) => {
                    let at = Place::new(self.source, &key.span());
                    let name = Located {
                        value: key.get_ref().clone().into_owned(),
                        at: at.clone(),
                    };
                    Some((name, Self::open(schema, table, &at, self.report)))
                }
                other => self.wrong(name, item, other),
            })
            .collect();
        found.sort_by_key(|(key, _)| key.at.start);
        found
    }

    fn item_text(&self, name: &str, item: &Spanned<DeValue<'_>>) -> Option<Located<String>> {
        match item.get_ref() {
            DeValue::String(text) => Some(self.located(item, text.clone().into_owned())),
            other => self.wrong(name, item, other),
        }
    }
}
