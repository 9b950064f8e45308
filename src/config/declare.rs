//! How a setting is declared, once: from one declaration come its row in `docs/configuration.md`, its part of
//! the JSON Schema, its default, its bounds, the code that reads it, and the typed value.
//!
//! # A table
//!
//! [`table!`] reads like a documented struct:
//!
//! ```text
//! table! {
//!     /// What a table is for. The doc comment is the text of the documentation, lines joined by spaces.
//!     pub struct Cors = "`[cors]`" {
//!         /// What the key does, and why its bounds are these.
//!         origins: Located<Vec<Located<String>>> = required();
//!         /// …
//!         credentials: Option<Located<bool>> = default("false");
//!         /// …
//!         max_age: Duration = default("10m"), duration(secs(0), secs(86_400));
//!     }
//! }
//! ```
//!
//! A line is `name: type = what holds without it, what it may be;`.
//!
//! - What holds without the key: [`required`]`()`, [`default`]`("10m")` (as if this had been written), or
//!   [`absent`]`("what its absence means, for people")`.
//! - What the key may be follows from its type; only bounds ([`count`], [`size`], [`duration`]) and what a type
//!   does not show ([`path`], [`url`]) are written.
//! - A name that is a word of Rust is written `kind as "type": …`.
//! - `..part: Type;` at the end adds the keys of another declaration to the table, in a field of their own: a
//!   table, or the alternatives of [`tagged!`].
//!
//! The struct has the field `at`, where the table stands, besides. `table! { for Limits = … }` declares the keys
//! of a struct that exists elsewhere, which then has these fields and no others.
//!
//! # Types
//!
//! | type | in the file |
//! |---|---|
//! | `String`, `bool`, `u64` `u32` `u16` `usize`, `Duration`, `SocketAddr`, [`Reference`] (to a secret) | a value |
//! | an enum of [`choice!`] | one of its words |
//! | a struct of [`table!`] | a table. Without the key it is read as an empty one, so that its defaults hold |
//! | `Located<T>` | the same, with its place, for messages of later checks |
//! | `Option<T>` | the same, `None` without the key and where the value is wrong |
//! | `Vec<T>` | a list. A list of tables with `required()` is not empty |
//! | `Named<T>` | tables under names that the operator chooses; each member has its `name` besides |
//! | [`Pairs`] | texts under such names; `Pairs<T>`: other values |
//!
//! A size is a `u64` or `usize` with [`size`]`(min, max)`. Without it, the number is a count, and `10MiB` is refused.
//!
//! Whatever has a form of its own implements [`SettingValue`]: `KIND` for people and for the JSON Schema, `parse` for
//! what is written. A struct whose value is checked later keeps `Located`, so that the check can point at it.
//!
//! # Alternatives
//!
//! Where the keys depend on a choice, [`tagged!`] declares an enum over tables:
//!
//! ```text
//! tagged! {
//!     /// What the key `kind` means.
//!     pub enum StoreKind by "kind" = default("embedded") => {
//!         Embedded(EmbeddedStore) = "embedded", "the embedded store";
//!         Redis(Box<RedisStore>) = "redis", "the redis store";
//!     }
//! }
//! ```
//!
//! The table it belongs to ends with `..kind: StoreKind;`. That a key belongs to another alternative, and that a
//! chosen one lacks a required key, is then reported without further code.
//!
//! # Rules
//!
//! Reading never stops at a mistake: every key is read, and a table is `None` only when a required value is
//! missing or wrong, which was reported. Checks that relate several keys, or need files, belong to the `build`
//! functions below the declarations. Secrets are [`Reference`]s; a literal is reported and masked.
//! A wrong value is tested by a row in `tests/cases.rs`: `GATEWAY_CASES`, or `UPSTREAM_CASES` for the file of a service.
//!
//! After a change run `DURWARD_BLESS=1 cargo test --lib config::tests`. It writes `docs/configuration.md` and `schemas/`.
//!
//! # From a route setting to a request
//!
//! A line of `RouteTable` (`tables/routes.rs`) is a setting of every route, a line of `ForwardTable` beside it one of
//! routes that forward, and a line of `ServeTable` (`tables/serve.rs`) one of routes with `serve`. `Builder::options`
//! (`tables/routes.rs`) makes the `RouteOptions` (`decide/route.rs`) of both kinds of routes from the first two, and a
//! request reads them as `route.options`. What `ServeTable` says becomes a `ServedRoute` (`snapshot/served_route.rs`).
//! A new field of `RouteOptions` is also written where tests make a route without a file: `decide/samples.rs`,
//! `admin/tests/fixture.rs` and `tests/sim/cast.rs`.

use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reader::{RawEntry, Section};
use super::schema::{Fallback, Schema, SchemaPart, Setting, ValueKind};
use super::secret::Reference;
use super::source::{Located, Span};
use super::units::{parse_duration, parse_size, write_duration, write_size};

/// The key must be there.
pub const fn required() -> Fallback {
    Fallback::Required
}

/// Without the key it is as if this had been written.
pub const fn default(text: &'static str) -> Fallback {
    Fallback::Value(text)
}

/// What the absence of the key means, for people.
pub const fn absent(meaning: &'static str) -> Fallback {
    Fallback::Absent(meaning)
}

/// A whole number within bounds.
pub const fn count(min: u64, max: u64) -> ValueKind {
    ValueKind::Count { min, max }
}

/// A number of bytes within bounds: a number, or text with a unit.
pub const fn size(min: u64, max: u64) -> ValueKind {
    ValueKind::Size { min, max }
}

pub const fn duration(min: Duration, max: Duration) -> ValueKind {
    ValueKind::Duration { min, max }
}

/// A text that is a path; relative ones count from the directory of the configuration file.
pub const fn path() -> ValueKind {
    ValueKind::Path
}

/// A reference to a URL, or a URL without a password.
pub const fn url() -> ValueKind {
    ValueKind::Url
}

/// A text of a form that is checked later, as people call the form.
pub const fn form(text: &'static str) -> ValueKind {
    ValueKind::Either(text, &[ValueKind::Text])
}

/// Joined lines of a doc comment, as a text.
pub const fn prose(doc: &'static str) -> &'static str {
    doc.trim_ascii()
}

/// What a key's value becomes.
pub trait SettingValue: Sized {
    const KIND: ValueKind;

    /// Reads what is written. `None` when it is wrong; that is reported.
    fn parse(entry: &RawEntry<'_>) -> Option<Self>;

    /// What holds without the key, and where its value is wrong. `None` for a value that is required.
    fn fallback(section: &Section<'_>, key: &'static Setting) -> Option<Self> {
        let Fallback::Value(text) = key.default else { return None };
        let value = match key.kind {
            ValueKind::Flag => DeValue::Boolean(text == "true"),
            ValueKind::Count { .. } => DeValue::parse(text).ok().map(Spanned::into_inner)?,
            _ => DeValue::String(text.into()),
        };
        Self::parse(&RawEntry {
            section: *section,
            key,
            value: &value,
            at: section.span_of(key.name),
        })
    }
}

pub trait DeclaredTable: Sized {
    const SCHEMA: &'static Schema;

    fn schema() -> &'static Schema {
        Self::SCHEMA
    }

    /// Reads every key. `None` when one that is required is missing or wrong; that is reported.
    fn read(section: &Section<'_>) -> Option<Self>;
}

/// Keys that belong to a table besides its own.
pub trait PartOf: Sized {
    const PART: SchemaPart;

    fn read(section: &Section<'_>) -> Option<Self>;
}

/// Tables under names of the operator's choice, in the order they are written.
#[derive(Debug)]
pub struct Named<T> {
    members: Vec<Member<T>>,
    /// Every name, also of tables that could not be read.
    pub names: Vec<String>,
}

/// A table and its name.
#[derive(Debug)]
pub struct Member<T> {
    pub name: Located<String>,
    table: T,
}

/// Values under names of the operator's choice, in the order they are written.
#[derive(Debug)]
pub struct Pairs<T = String>(Vec<(Located<String>, Located<T>)>);

/// The value of one key.
pub fn value<T: SettingValue>(section: &Section<'_>, name: &str) -> Option<T> {
    let key = section.key(name)?;
    let written = section.entry(key).and_then(|entry| T::parse(&entry));
    written.or_else(|| T::fallback(section, key))
}

pub fn file<T: DeclaredTable>(table: &DeTable<'_>, at: &Span, report: &super::report::ProblemReport) -> Option<T> {
    T::read(&Section::open(T::SCHEMA, table, at, report))
}

impl<T: DeclaredTable> SettingValue for T {
    const KIND: ValueKind = ValueKind::Table(T::schema);

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        T::read(&entry.section(T::SCHEMA)?)
    }

    /// An empty table, so that defaults come from one path only.
    fn fallback(section: &Section<'_>, key: &'static Setting) -> Option<Self> {
        if matches!(key.default, Fallback::Required) {
            return None;
        }
        T::read(&Section::open(T::SCHEMA, &DeTable::new(), &section.at(), section.report()))
    }
}

impl<T: DeclaredTable> PartOf for T {
    const PART: SchemaPart = SchemaPart::Keys(T::SCHEMA);

    fn read(section: &Section<'_>) -> Option<Self> {
        T::read(&section.part(T::SCHEMA))
    }
}

impl SettingValue for Reference {
    const KIND: ValueKind = ValueKind::Secret;

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        Self::read(entry)
    }
}

impl<T: PartOf> PartOf for Option<T> {
    const PART: SchemaPart = T::PART;

    fn read(section: &Section<'_>) -> Option<Self> {
        Some(T::read(section))
    }
}

/// Alternatives, with the place of their tag.
impl<T: PartOf> PartOf for Located<T> {
    const PART: SchemaPart = T::PART;

    fn read(section: &Section<'_>) -> Option<Self> {
        let at = match T::PART {
            SchemaPart::Choice(choice) => section.span_of(choice.tag.name),
            SchemaPart::Keys(_) => section.at(),
        };
        T::read(section).map(|value| Self { value, at })
    }
}

impl<T: DeclaredTable> DeclaredTable for Box<T> {
    const SCHEMA: &'static Schema = T::SCHEMA;

    fn read(section: &Section<'_>) -> Option<Self> {
        T::read(section).map(Self::new)
    }
}

impl<T: SettingValue> SettingValue for Located<T> {
    const KIND: ValueKind = T::KIND;

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        let at = entry.at.clone();
        T::parse(entry).map(|value| Self { value, at })
    }

    fn fallback(section: &Section<'_>, key: &'static Setting) -> Option<Self> {
        let at = section.span_of(key.name);
        T::fallback(section, key).map(|value| Self { value, at })
    }
}

impl<T: SettingValue> SettingValue for Option<T> {
    const KIND: ValueKind = T::KIND;

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        T::parse(entry).map(Some)
    }

    fn fallback(_: &Section<'_>, _: &'static Setting) -> Option<Self> {
        Some(None)
    }
}

impl<T: SettingValue> SettingValue for Vec<T> {
    const KIND: ValueKind = T::KIND.listed();

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        let is_list = matches!(entry.value, DeValue::Array(_));
        if matches!(entry.key.kind, ValueKind::Secrets) && !is_list {
            return T::parse(entry).map(|one| vec![one]);
        }
        let items = entry.items()?;
        let name = entry.key.name;
        match (entry.key.kind, entry.key.default) {
            (ValueKind::Tables(_), Fallback::Required) if items.is_empty() => {
                let help = format!("at least one is needed; {}", entry.key.about);
                entry.error::<()>(format!("`{name}` is empty"), help);
            }
            (ValueKind::Secrets, _) if items.is_empty() => {
                entry.error::<()>(format!("`{name}` is empty"), "name at least one secret".to_owned());
            }
            _ => {}
        }
        Some(items.iter().filter_map(T::parse).collect())
    }

    fn fallback(section: &Section<'_>, key: &'static Setting) -> Option<Self> {
        let Fallback::Value(_) = key.default else {
            return Some(Self::new());
        };
        T::fallback(section, key).map(|one| vec![one])
    }
}

impl<T: DeclaredTable> SettingValue for Named<T> {
    const KIND: ValueKind = T::KIND.named();

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        let members = entry.members()?;
        let names = members.iter().map(|(name, _)| name.value.clone()).collect();
        let read = |(name, member): (_, RawEntry<'_>)| {
            Some(Member {
                name,
                table: T::parse(&member)?,
            })
        };
        let members = members.into_iter().filter_map(read).collect();
        Some(Self { members, names })
    }

    fn fallback(_: &Section<'_>, _: &'static Setting) -> Option<Self> {
        Some(Self {
            members: Vec::new(),
            names: Vec::new(),
        })
    }
}

impl<T: SettingValue> SettingValue for Pairs<T> {
    const KIND: ValueKind = T::KIND.named();

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        let members = entry.members()?.into_iter();
        Some(Self(
            members
                .filter_map(|(name, member)| Some((name, SettingValue::parse(&member)?)))
                .collect(),
        ))
    }

    fn fallback(_: &Section<'_>, _: &'static Setting) -> Option<Self> {
        Some(Self(Vec::new()))
    }
}

impl<T> Deref for Named<T> {
    type Target = [Member<T>];

    fn deref(&self) -> &Self::Target {
        &self.members
    }
}

impl<T> Deref for Member<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.table
    }
}

impl<T> Deref for Pairs<T> {
    type Target = [(Located<String>, Located<T>)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'n, T> IntoIterator for &'n Named<T> {
    type Item = &'n Member<T>;
    type IntoIter = std::slice::Iter<'n, Member<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'n, T> IntoIterator for &'n Pairs<T> {
    type Item = &'n (Located<String>, Located<T>);
    type IntoIter = std::slice::Iter<'n, (Located<String>, Located<T>)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl SettingValue for String {
    const KIND: ValueKind = ValueKind::Text;

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        entry.text().map(str::to_owned)
    }
}

impl SettingValue for bool {
    const KIND: ValueKind = ValueKind::Flag;

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        match entry.value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => entry.wrong(),
        }
    }
}

impl SettingValue for SocketAddr {
    const KIND: ValueKind = ValueKind::Address;

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        let address = entry.text()?.parse().ok();
        address.or_else(|| {
            entry.error(
                format!("`{}` is not an address with a port", entry.key.name),
                "write an IP address and a port, for example \"127.0.0.1:8080\" or \"[::1]:8080\"".to_owned(),
            )
        })
    }
}

impl SettingValue for Duration {
    const KIND: ValueKind = ValueKind::Duration {
        min: Self::ZERO,
        max: Self::MAX,
    };

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        let Some(duration) = parse_duration(entry.text()?) else {
            return entry.error(
                format!("`{}` is not a duration", entry.key.name),
                "write a whole number and ms, s, m, h or d, for example \"30s\"".to_owned(),
            );
        };
        match entry.key.kind {
            ValueKind::Duration { min, max } if duration < min || duration > max => {
                entry.outside(&write_duration(min), &write_duration(max))
            }
            _ => Some(duration),
        }
    }
}

impl SettingValue for u64 {
    const KIND: ValueKind = ValueKind::Count { min: 0, max: Self::MAX };

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        match entry.key.kind {
            ValueKind::Size { min, max } => match parse_bytes(entry)? {
                size if (min..=max).contains(&size) => Some(size),
                _ => entry.outside(&write_size(min), &write_size(max)),
            },
            ValueKind::Count { min, max } => match entry.number() {
                Some(number) if (min..=max).contains(&number) => Some(number),
                Some(_) => entry.outside(&min.to_string(), &max.to_string()),
                None => entry.wrong(),
            },
            _ => entry.wrong(),
        }
    }
}

fn parse_bytes(entry: &RawEntry<'_>) -> Option<u64> {
    let size = match entry.value {
        DeValue::String(text) => parse_size(text),
        _ => entry.number(),
    };
    size.or_else(|| {
        entry.error(
            format!("`{}` is not a size", entry.key.name),
            "write a number of bytes, or text with B, KiB, MiB or GiB, for example \"10MiB\"".to_owned(),
        )
    })
}

/// Smaller numbers; bounds that do not fit into one are a mistake of the declaration, and count as its largest.
macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl SettingValue for $number {
            const KIND: ValueKind = u64::KIND;

            fn parse(entry: &RawEntry<'_>) -> Option<Self> {
                u64::parse(entry).map(|number| Self::try_from(number).unwrap_or(Self::MAX))
            }
        }
    )*};
}

numbers!(u16, u32, usize);

/// Declares a table; see the head of this module.
macro_rules! table {
    ($(#[doc = $about:literal])* $vis:vis struct $table:ident = $title:literal {
        $($(#[doc = $doc:literal])* $field:ident $(as $name:literal)? : $type:ty = $fallback:expr $(, $kind:expr)? ;)*
        $(..$part:ident : $part_type:ty ;)*
    }) => {
        #[derive(Debug)]
        $vis struct $table {
            #[allow(dead_code, reason = "not every table is pointed at")]
            pub at: $crate::config::source::Span,
            $(pub $field: $type,)*
            $(pub $part: $part_type,)*
        }

        $crate::config::declare::table! {
            @impl $table, [$($about)*], $title, [at,]
            $($([$doc])* $field [$($name)?] [$type] [$fallback] [$($kind)?])*;
            $($part [$part_type])*
        }
    };
    ($(#[doc = $about:literal])* for $table:ident = $title:literal {
        $($(#[doc = $doc:literal])* $field:ident $(as $name:literal)? : $type:ty = $fallback:expr $(, $kind:expr)? ;)*
    }) => {
        $crate::config::declare::table! {
            @impl $table, [$($about)*], $title, []
            $($([$doc])* $field [$($name)?] [$type] [$fallback] [$($kind)?])*;
        }
    };
    (@impl $table:ident, [$($about:literal)*], $title:literal, [$($at:ident,)?]
        $($([$doc:literal])* $field:ident [$($name:literal)?] [$type:ty] [$fallback:expr] [$($kind:expr)?])*;
        $($part:ident [$part_type:ty])*
    ) => {
        impl $crate::config::declare::DeclaredTable for $table {
            const SCHEMA: &'static $crate::config::schema::Schema = {
                static SCHEMA: $crate::config::schema::Schema = $crate::config::schema::Schema {
                    name: $title,
                    about: $crate::config::declare::prose(concat!($($about),*)),
                    keys: &[$($crate::config::schema::Setting {
                        name: $crate::config::declare::table!(@name $field $($name)?),
                        kind: $crate::config::declare::table!(@kind $type, $($kind)?),
                        default: $fallback,
                        about: $crate::config::declare::prose(concat!($($doc),*)),
                    }),*],
                    parts: &[$(<$part_type as $crate::config::declare::PartOf>::PART),*],
                };
                &SCHEMA
            };

            fn read(section: &$crate::config::reader::Section<'_>) -> Option<Self> {
                // Every key is read, whatever is wrong with another one.
                $(let $field = $crate::config::declare::value(section, $crate::config::declare::table!(@name $field $($name)?));)*
                $(let $part = <$part_type as $crate::config::declare::PartOf>::read(section);)*
                Some(Self {
                    $($at: section.at(),)?
                    $($field: $field?,)*
                    $($part: $part?,)*
                })
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
    (@kind $type:ty,) => { <$type as $crate::config::declare::SettingValue>::KIND };
    (@kind $type:ty, $kind:expr) => { $kind };
}

/// Declares the words of an enum: `choice! { pub enum Password { Secret = "secret", Empty = "empty" } }`, or of
/// one that exists elsewhere: `choice! { for LogFormat { Json = "json", Pretty = "pretty" } }`.
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $choice:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $choice { $($variant),* }

        #[allow(dead_code, reason = "not every word is shown")]
        impl $choice {
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        $crate::config::declare::choice! { for $choice { $($variant = $word),* } }
    };
    (for $choice:ty { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $crate::config::declare::SettingValue for $choice {
            const KIND: $crate::config::schema::ValueKind = $crate::config::schema::ValueKind::Choice(&[$($word),*]);

            fn parse(entry: &$crate::config::reader::RawEntry<'_>) -> Option<Self> {
                match entry.word()? {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

/// Declares alternatives; see the head of this module.
macro_rules! tagged {
    ($(#[doc = $about:literal])* $vis:vis enum $choice:ident by $tag:literal = $fallback:expr => {
        $($variant:ident($table:ty) = $word:literal, $label:literal;)*
    }) => {
        #[derive(Debug)]
        #[allow(dead_code, reason = "a table without keys says nothing but that it was chosen")]
        $vis enum $choice { $($variant($table)),* }

        #[allow(dead_code, reason = "not every declaration is a part of another one")]
        impl $choice {
            pub const WORDS: &'static [&'static str] = &[$($word),*];
            pub const TAG: $crate::config::schema::Setting = $crate::config::schema::Setting {
                name: $tag,
                kind: $crate::config::schema::ValueKind::Choice(Self::WORDS),
                default: $fallback,
                about: $crate::config::declare::prose(concat!($($about),*)),
            };
            const CHOICE: &'static $crate::config::schema::TaggedChoice = {
                static CHOICE: $crate::config::schema::TaggedChoice = $crate::config::schema::TaggedChoice {
                    tag: $choice::TAG,
                    alternatives: &[$($crate::config::schema::Alternative {
                        words: &[$word],
                        label: $label,
                        schema: <$table as $crate::config::declare::DeclaredTable>::SCHEMA,
                    }),*],
                };
                &CHOICE
            };
        }

        impl $crate::config::declare::PartOf for $choice {
            const PART: $crate::config::schema::SchemaPart = $crate::config::schema::SchemaPart::Choice(Self::CHOICE);

            fn read(section: &$crate::config::reader::Section<'_>) -> Option<Self> {
                match section.tag(&Self::CHOICE.tag)? {
                    $($word => <$table as $crate::config::declare::PartOf>::read(section).map(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

pub(in crate::config) use {choice, table, tagged};
