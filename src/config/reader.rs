//! Reads one table by its schema: every wrong key and value is reported, and reading goes on.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{ProblemReport, closest, suggest};
use super::schema::{Alternative, Fallback, Schema, SchemaPart, Setting, ValueKind};
use super::secret::Reference;
use super::source::{Located, SourceId, Span};

#[derive(Debug, Clone, Copy)]
pub struct Section<'d> {
    schema: &'static Schema,
    table: &'d DeTable<'d>,
    source: SourceId,
    start: usize,
    end: usize,
    report: &'d ProblemReport,
}

/// A key's value while it is read, or one item of it.
#[derive(Debug, Clone)]
pub struct RawEntry<'d> {
    pub section: Section<'d>,
    pub key: &'static Setting,
    pub value: &'d DeValue<'d>,
    pub at: Span,
}

/// A key that a table may have by what its tags say, with the alternative that it is a key of.
struct SettingRow {
    key: &'static Setting,
    of: Option<&'static Alternative>,
}

impl<'d> Section<'d> {
    /// Begins to read a table: keys that are unknown, that belong to another alternative, and that are
    /// missing are reported now.
    #[must_use]
    pub fn open(schema: &'static Schema, table: &'d DeTable<'d>, at: &Span, report: &'d ProblemReport) -> Self {
        let section = Self {
            schema,
            table,
            source: at.source,
            start: at.start,
            end: at.end,
            report,
        };
        let mut rows = Vec::new();
        section.collect_rows(schema, None, &mut rows);
        let mut misspelt = Vec::new();
        for (key, value) in table {
            let name = key.get_ref();
            section.mask_value(schema, name, value);
            if rows.iter().any(|row| row.key.name == name) {
                continue;
            }
            if schema.may_have(name) {
                section.foreign(name, value);
            } else {
                misspelt.extend(section.unknown(name, key.span(), value, &rows));
            }
        }
        for SettingRow { key, of } in &rows {
            let missing = matches!(key.default, Fallback::Required) && !table.contains_key(key.name);
            if missing && !misspelt.contains(&key.name) {
                section.missing(key, *of);
            }
        }
        section
    }

    /// The same table, read by the declaration of a part of its keys.
    #[must_use]
    pub const fn part(&self, schema: &'static Schema) -> Self {
        Self { schema, ..*self }
    }

    #[must_use]
    pub fn at(&self) -> Span {
        Span {
            source: self.source,
            start: self.start,
            end: self.end,
        }
    }

    #[must_use]
    pub const fn report(&self) -> &'d ProblemReport {
        self.report
    }

    /// What is written at a key.
    #[must_use]
    pub fn entry(&self, key: &'static Setting) -> Option<RawEntry<'d>> {
        let value = self.table.get(key.name)?;
        Some(RawEntry {
            section: *self,
            key,
            value: value.get_ref(),
            at: self.span(value),
        })
    }

    /// The declaration of a key of this table.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Setting> {
        let key = self.schema.find(name);
        debug_assert!(key.is_some(), "{name} is not declared in {}", self.schema.name);
        key
    }

    /// The word of a tag, or its default. A wrong word is reported.
    #[must_use]
    pub fn tag(&self, tag: &'static Setting) -> Option<&'static str> {
        match (self.entry(tag), tag.default) {
            (Some(entry), _) => entry.word(),
            (None, Fallback::Value(word)) => Some(word),
            (None, Fallback::Required | Fallback::Absent(_)) => None,
        }
    }

    /// The text of a tag, if it is there and one.
    #[must_use]
    pub fn word(&self, tag: &Setting) -> Option<&'d str> {
        self.table.get(tag.name)?.get_ref().as_str()
    }

    /// Whether a key is there, whatever its value is.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// Where the value of a key stands; the table, if the key is not there.
    #[must_use]
    pub fn span_of(&self, name: &str) -> Span {
        self.table.get(name).map_or_else(|| self.at(), |value| self.span(value))
    }

    fn span(&self, value: &Spanned<DeValue<'_>>) -> Span {
        Span::new(self.source, &value.span())
    }

    /// The keys that this table may have. Where a tag is missing or wrong, those of all alternatives, and none
    /// of them is demanded.
    fn collect_rows(&self, schema: &'static Schema, of: Option<&'static Alternative>, rows: &mut Vec<SettingRow>) {
        rows.extend(schema.keys.iter().map(|key| SettingRow { key, of }));
        for part in schema.parts {
            match part {
                SchemaPart::Keys(schema) => self.collect_rows(schema, of, rows),
                SchemaPart::Choice(choice) => {
                    rows.push(SettingRow { key: &choice.tag, of });
                    match choice.chosen(self.table.get(choice.tag.name).map(|_| self.word(&choice.tag).unwrap_or(""))) {
                        Some(one) => self.collect_rows(one.schema, Some(one), rows),
                        None => {
                            let all = choice.alternatives.iter().flat_map(|one| one.schema.all_keys());
                            rows.extend(
                                all.filter(|key| self.table.contains_key(key.name))
                                    .map(|key| SettingRow { key, of }),
                            );
                        }
                    }
                }
            }
        }
    }

    fn missing(&self, key: &Setting, of: Option<&Alternative>) {
        match of {
            Some(one) => self.report.error(
                &self.at(),
                format!("{} needs `{}`", one.label, key.name),
                Some(key.about.to_owned()),
            ),
            None => self.report.error(
                &self.at(),
                format!("`{}` is missing in {}", key.name, self.schema.name),
                format!("add `{} = …` ({})", key.name, key.kind),
            ),
        }
    }

    /// Reports a key of another alternative.
    fn foreign(&self, name: &str, value: &Spanned<DeValue<'_>>) {
        let owners = owners(self.schema, name);
        self.report.error(
            &self.span(value),
            format!(
                "`{name}` does not belong to {}",
                self.alternative_without(self.schema, name).unwrap_or(self.schema.name)
            ),
            Some(format!("it belongs to {}", owners.join(", or to "))),
        );
    }

    /// What was chosen instead of the alternative with this key.
    fn alternative_without(&self, schema: &Schema, name: &str) -> Option<&'static str> {
        schema.parts.iter().find_map(|part| match part {
            SchemaPart::Keys(schema) => self.alternative_without(schema, name),
            SchemaPart::Choice(choice) => {
                let chosen = choice.chosen(self.word(&choice.tag))?;
                if chosen.schema.may_have(name) {
                    return self.alternative_without(chosen.schema, name);
                }
                let elsewhere = choice.alternatives.iter().any(|one| one.schema.may_have(name));
                elsewhere.then_some(chosen.label)
            }
        })
    }

    /// Reports a key that does not exist; answers the one that was probably meant.
    fn unknown(&self, key: &str, span: std::ops::Range<usize>, value: &Spanned<DeValue<'_>>, rows: &[SettingRow]) -> Option<&'static str> {
        // The tag of nested choices stands in several rows.
        let is_first = |i: usize, name: &str| rows[..i].iter().all(|row| row.key.name != name);
        let names = rows
            .iter()
            .enumerate()
            .filter(|(i, row)| is_first(*i, row.key.name))
            .map(|(_, row)| row.key.name);
        // A misspelt `secrets` may hold what its author took for a secret.
        if matches!(value.get_ref(), DeValue::String(_) | DeValue::Array(_) | DeValue::Table(_)) {
            self.report.mask(&self.span(value));
        }
        // A line of a secret that was pasted without quotes is a key to the parser.
        let place = Span::new(self.source, &span);
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

    /// Hides what may be a secret, whatever will be said about it.
    fn mask_value(&self, schema: &Schema, name: &str, value: &Spanned<DeValue<'_>>) {
        // The kind first: few keys are secrets, and this is asked of every key that a table may have, for each that it has.
        let is_secret = |key: &Setting| matches!(key.kind, ValueKind::Secret | ValueKind::Secrets | ValueKind::Url) && key.name == name;
        if schema.any_key(&is_secret) {
            self.mask_literals(value);
        } else {
            self.mask_pasted(value);
        }
    }

    /// Where a path belongs, somebody may have pasted the file.
    fn mask_pasted(&self, value: &Spanned<DeValue<'_>>) {
        if matches!(value.get_ref(), DeValue::String(text) if text.contains("-----BEGIN ")) {
            self.report.mask(&self.span(value));
        }
    }

    /// Hides everything at a secret's key that is not a reference, whatever will be said about it.
    fn mask_literals(&self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::String(text) if Reference::parse(text).is_ok() => {}
            DeValue::Array(items) => items.iter().for_each(|item| self.mask_literals(item)),
            _ => self.report.mask(&self.span(value)),
        }
    }
}

impl<'d> RawEntry<'d> {
    /// An item of this value.
    fn item(&self, value: &'d Spanned<DeValue<'d>>) -> Self {
        Self {
            value: value.get_ref(),
            at: self.section.span(value),
            ..self.clone()
        }
    }

    /// Reports a mistake in this value. Answers `None`, so that it can end a reading function.
    pub fn error<T>(&self, message: impl Into<String>, help: impl Into<Option<String>>) -> Option<T> {
        self.section.report.error(&self.at, message, help);
        None
    }

    /// Reports a value of the wrong kind.
    pub fn wrong<T>(&self) -> Option<T> {
        let name = self.key.name;
        self.error(
            format!("`{name}` cannot be {}", article(self.value)),
            format!("`{name}` is: {}", self.key.kind),
        )
    }

    /// Reports a value outside its bounds.
    pub fn outside<T>(&self, min: &str, max: &str) -> Option<T> {
        let about = (!self.key.about.is_empty()).then(|| self.key.about.to_owned());
        self.error(format!("`{}` must be {min} to {max}", self.key.name), about)
    }

    #[must_use]
    pub fn text(&self) -> Option<&'d str> {
        match self.value {
            DeValue::String(text) => Some(text.as_ref()),
            _ => self.wrong(),
        }
    }

    /// One of the key's words.
    #[must_use]
    pub fn word(&self) -> Option<&'static str> {
        let text = self.text()?;
        let ValueKind::Choice(words) = self.key.kind else {
            return self.wrong();
        };
        let found = words.iter().copied().find(|word| *word == text);
        found.or_else(|| {
            let name = self.key.name;
            self.error(
                format!("`{name}` cannot be `{}`", shorten(text)),
                suggest(text, words.iter().copied(), &format!("`{name}`")),
            )
        })
    }

    /// A whole number that is not negative.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        let DeValue::Integer(integer) = self.value else { return None };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok()?;
        u64::try_from(number).ok()
    }

    /// The items of a list.
    #[must_use]
    pub fn items(&self) -> Option<Vec<Self>> {
        match self.value {
            DeValue::Array(items) => Some(items.iter().map(|item| self.item(item)).collect()),
            _ => self.wrong(),
        }
    }

    /// The members of a table whose names are the operator's choice, in the order they are written.
    /// A member that is a table stands where its name does.
    #[must_use]
    pub fn members(&self) -> Option<Vec<(Located<String>, Self)>> {
        let DeValue::Table(table) = self.value else { return self.wrong() };
        let mut members: Vec<_> = table
            .iter()
            .map(|(name, value)| {
                let at = Span::new(self.section.source, &name.span());
                let mut member = self.item(value);
                if matches!(member.value, DeValue::Table(_)) {
                    member.at.clone_from(&at);
                }
                let value = name.get_ref().clone().into_owned();
                (Located { value, at }, member)
            })
            .collect();
        members.sort_by_key(|(name, _)| name.at.start);
        Some(members)
    }

    /// A table that is declared.
    #[must_use]
    pub fn section(&self, schema: &'static Schema) -> Option<Section<'d>> {
        match self.value {
            DeValue::Table(table) => Some(Section::open(schema, table, &self.at, self.section.report)),
            _ => self.wrong(),
        }
    }
}

/// The alternatives that have a key of this name, as messages call them.
fn owners(schema: &Schema, name: &str) -> Vec<&'static str> {
    let mut found = Vec::new();
    for part in schema.parts {
        match part {
            SchemaPart::Keys(schema) => found.extend(owners(schema, name)),
            SchemaPart::Choice(choice) => {
                for one in choice.alternatives.iter().filter(|one| one.schema.may_have(name)) {
                    let inner = owners(one.schema, name);
                    if inner.is_empty() {
                        found.push(one.label);
                    } else {
                        found.extend(inner);
                    }
                }
            }
        }
    }
    found
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
