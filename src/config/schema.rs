//! What a key of the configuration may be: one row for each, from which files are read, bounds are
//! checked and `docs/configuration.md` is written.

use std::fmt;
use std::time::Duration;

use super::units::{write_duration, write_size};

/// One table of a file.
#[derive(Debug)]
pub struct Schema {
    /// How the documentation calls it, e.g. `[store]`.
    pub name: &'static str,
    pub about: &'static str,
    /// Its keys, in the order of the documentation.
    pub keys: &'static [Setting],
    /// Further keys that stand in the same table.
    pub parts: &'static [SchemaPart],
}

/// Keys that a table has besides its own.
#[derive(Debug, Clone, Copy)]
pub enum SchemaPart {
    /// All keys of another declaration.
    Keys(&'static Schema),
    /// The keys of one alternative, chosen by the value of a key.
    Choice(&'static TaggedChoice),
}

/// Alternatives of which a table is one: its `kind`, or what it serves.
#[derive(Debug)]
pub struct TaggedChoice {
    /// The key that chooses; with the default of a key that may be left out.
    pub tag: Setting,
    pub alternatives: &'static [Alternative],
}

#[derive(Debug)]
pub struct Alternative {
    /// The words of the tag that choose it. None: it is chosen by the absence of the tag.
    pub words: &'static [&'static str],
    /// The table as a message calls it: "a surface of kind `api_key`".
    pub label: &'static str,
    pub schema: &'static Schema,
}

#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub name: &'static str,
    /// What its value may be.
    pub kind: ValueKind,
    pub default: Fallback,
    /// What it does, and why its bounds are these.
    pub about: &'static str,
}

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum ValueKind {
    Text,
    /// A path; relative ones count from the directory of the configuration file.
    Path,
    /// `host:port` with a literal address.
    Address,
    /// `true` or `false`.
    Flag,
    Count {
        min: u64,
        max: u64,
    },
    Duration {
        min: Duration,
        max: Duration,
    },
    /// A number of bytes, or text with a unit.
    Size {
        min: u64,
        max: u64,
    },
    Choice(&'static [&'static str]),
    Texts,
    /// A reference to a secret.
    Secret,
    /// A reference to a secret, or a list of them.
    Secrets,
    /// A reference to a URL, or one without a password.
    Url,
    /// `key = "text"` pairs.
    Pairs,
    /// `key = "text"` pairs, where a text may be a list of texts too: sources of values.
    Sources,
    /// A table. A function, since a table may hold tables of its own kind.
    Table(fn() -> &'static Schema),
    Tables(fn() -> &'static Schema),
    /// Tables under names of the operator's choice.
    Named(fn() -> &'static Schema),
    /// Something that has more than one form: the text for people, and the forms.
    Either(&'static str, &'static [ValueKind]),
}

/// What holds when a key is absent.
#[derive(Debug, Clone, Copy)]
pub enum Fallback {
    Required,
    /// As if this had been written.
    Value(&'static str),
    Absent(&'static str),
}

impl Schema {
    /// The key of a name, among its own.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&'static Setting> {
        self.keys.iter().find(|k| k.name == name)
    }

    /// Every key that a table of this kind may have, whatever its tags say.
    #[must_use]
    pub fn all_keys(&self) -> Vec<&'static Setting> {
        let mut keys: Vec<&'static Setting> = self.keys.iter().collect();
        for part in self.parts {
            match part {
                SchemaPart::Keys(schema) => keys.extend(schema.all_keys()),
                SchemaPart::Choice(choice) => {
                    keys.push(&choice.tag);
                    keys.extend(choice.alternatives.iter().flat_map(|one| one.schema.all_keys()));
                }
            }
        }
        keys
    }

    /// Whether this holds for a key that a table of this kind may have, whatever its tags say.
    #[must_use]
    pub fn any_key(&self, holds: &dyn Fn(&Setting) -> bool) -> bool {
        let of_part = |part: &SchemaPart| match part {
            SchemaPart::Keys(schema) => schema.any_key(holds),
            SchemaPart::Choice(choice) => holds(&choice.tag) || choice.alternatives.iter().any(|one| one.schema.any_key(holds)),
        };
        self.keys.iter().any(holds) || self.parts.iter().any(of_part)
    }

    /// Whether a table of this kind may have a key of this name.
    #[must_use]
    pub fn may_have(&self, name: &str) -> bool {
        self.any_key(&|key| key.name == name)
    }
}

impl TaggedChoice {
    /// The alternative that the tag chooses; `None` for a word that is none, and for a tag that is missing.
    #[must_use]
    pub fn chosen(&self, tag: Option<&str>) -> Option<&'static Alternative> {
        let word = tag.or(match self.tag.default {
            Fallback::Value(word) => Some(word),
            Fallback::Required | Fallback::Absent(_) => None,
        });
        self.alternatives.iter().find(|one| match word {
            Some(word) => one.words.contains(&word),
            None => one.words.is_empty(),
        })
    }
}

impl ValueKind {
    /// The table this kind leads to.
    #[must_use]
    pub fn table(&self) -> Option<&'static Schema> {
        match self {
            Self::Table(schema) | Self::Tables(schema) | Self::Named(schema) => Some(schema()),
            Self::Either(_, forms) => forms.iter().find_map(Self::table),
            _ => None,
        }
    }

    /// The kind of a list of these.
    #[must_use]
    pub const fn listed(self) -> Self {
        match self {
            Self::Secret => Self::Secrets,
            Self::Table(schema) => Self::Tables(schema),
            _ => Self::Texts,
        }
    }

    /// The kind of a table of these, under names of the operator's choice.
    #[must_use]
    pub const fn named(self) -> Self {
        match self {
            Self::Table(schema) => Self::Named(schema),
            Self::Text => Self::Pairs,
            _ => Self::Sources,
        }
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("text"),
            Self::Path => f.write_str("path"),
            Self::Address => f.write_str("address and port"),
            Self::Flag => f.write_str("`true` or `false`"),
            Self::Count { min, max } => write!(f, "number, {min} to {max}"),
            Self::Duration { min, max } => write!(f, "duration, {} to {}", write_duration(*min), write_duration(*max)),
            Self::Size { min, max } => write!(f, "size, {} to {}", write_size(*min), write_size(*max)),
            Self::Choice(words) => {
                for (i, word) in words.iter().enumerate() {
                    let separator = if i == 0 { "" } else { " or " };
                    write!(f, "{separator}`\"{word}\"`")?;
                }
                Ok(())
            }
            Self::Texts => f.write_str("list of texts"),
            Self::Secret => f.write_str("secret reference"),
            Self::Secrets => f.write_str("secret reference, or a list of them"),
            Self::Url => f.write_str("secret reference, or a `redis://` or `rediss://` URL without a password"),
            Self::Pairs => f.write_str("table of texts"),
            Self::Sources => f.write_str("table of sources"),
            Self::Table(schema) => write!(f, "table, see {}", schema().name),
            Self::Tables(schema) => write!(f, "list of tables, see {}", schema().name),
            Self::Named(schema) => write!(f, "named tables, see {}", schema().name),
            Self::Either(text, _) => match self.table() {
                Some(schema) => write!(f, "{text}, see {}", schema.name),
                None => f.write_str(text),
            },
        }
    }
}
