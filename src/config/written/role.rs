//! `[roles.<name>]`: named sets of scopes.

use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::source::Located;

/// `[roles.<name>]`.
pub const ROLE: Schema = Schema {
    parts: &[],
    name: "`[roles.<name>]`",
    about: "Records refer to a role by its id. A change reaches every gateway with its configuration.",
    keys: &[
        Key {
            name: "id",
            kind: Kind::Text,
            default: Fallback::Absent("a UUID made from the name"),
            about: "Its id, a UUID. Write it down before you rename a role: records keep the id.",
        },
        Key {
            name: "description",
            kind: Kind::Text,
            default: Fallback::Absent("none"),
            about: "What it is for.",
        },
        Key {
            name: "scopes",
            kind: Kind::Texts,
            default: Fallback::Required,
            about: "What its holders may do.",
        },
    ],
};

/// A role as written.
#[derive(Debug)]
pub struct WrittenRole {
    /// Its name.
    pub name: Located<String>,
    /// Its id.
    pub id: Option<Located<String>>,
    /// What it is for.
    pub description: Option<Located<String>>,
    /// Its scopes.
    pub scopes: Vec<Located<String>>,
}

/// Reads one role.
#[must_use]
pub fn read(name: Located<String>, section: &Section<'_>) -> WrittenRole {
    WrittenRole {
        name,
        id: section.text("id"),
        description: section.text("description"),
        scopes: section.texts("scopes"),
    }
}
