//! `[[routes.mint]]`: what a served route makes.

use std::time::Duration;

use toml::de::DeValue;

use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::source::{Located, Place};
use crate::config::units::secs;
use crate::issue::spec::Source;

use super::source::{self, SOURCE};

/// Longest life of anything a route makes: ten years; what should live longer says nothing.
const LONGEST: Duration = secs(3_653 * 86_400);

/// `[[routes.mint]]`.
pub const MINT: Schema = Schema {
    parts: &[],
    name: "`[[routes.mint]]`",
    about: "One credential that a route with `serve = \"mint\"` makes. Several are made in order, all or none. Scopes, mode, tenant and lifetime are never beyond the caller's, except what `grants` names.",
    keys: &[
        Key {
            name: "surface",
            kind: Kind::Text,
            default: Fallback::Required,
            about: "The surface it is for: keys, pairs, accounts, or session tokens of a surface with `lifetime`.",
        },
        Key {
            name: "parent",
            kind: Kind::Either(
                "`tenant`, `caller`, `caller.parent`, `minted.<number>` (from 0), or a table",
                &[Kind::Table(&PARENT)],
            ),
            default: Fallback::Absent("`tenant`"),
            about: "What it hangs on: when the parent ends, it ends, and scopes that the parent loses, it loses. With `tenant` (or `none`) it hangs on its tenant alone. It is then given scopes that its caller holds when it is made, or that `grants` names, and keeps them: the end, rotation or narrowing of its caller does not affect it.",
        },
        Key {
            name: "subject",
            kind: Kind::Either(SOURCE, &[]),
            default: Fallback::Absent("none"),
            about: "Who acts by it.",
        },
        Key {
            name: "name",
            kind: Kind::Either(SOURCE, &[]),
            default: Fallback::Absent("none"),
            about: "Its name for people.",
        },
        Key {
            name: "description",
            kind: Kind::Either(SOURCE, &[]),
            default: Fallback::Absent("none"),
            about: "What it is for, at most 1024 bytes; stored, and shown in lists and to operators.",
        },
        Key {
            name: "login",
            kind: Kind::Either(SOURCE, &[]),
            default: Fallback::Absent("none"),
            about: "Of an account: its e-mail address. One that is taken is `taken`.",
        },
        Key {
            name: "password",
            kind: Kind::Either(SOURCE, &[]),
            default: Fallback::Absent("none: nobody can log in"),
            about: "Of an account: its password, from a body field of type `secret`.",
        },
        Key {
            name: "mode",
            kind: Kind::Either(
                "`caller`, `none`, `live` or `test` (for callers without a mode), or a source of one of these two words",
                &[],
            ),
            default: Fallback::Absent("`caller`; on public routes `none`"),
            about: "Its mode.",
        },
        Key {
            name: "scopes",
            kind: Kind::Either("`caller` (all of the caller's), a source, or a list of scopes", &[]),
            default: Fallback::Absent("none"),
            about: "Its scopes, within the caller's and `grants`; what is asked for beyond them is `insufficient_scope`.",
        },
        Key {
            name: "grants",
            kind: Kind::Texts,
            default: Fallback::Absent("none"),
            about: "Scopes this route may give although its caller lacks them: your word. They are the new credential's own, and stay with it whatever its parent loses.",
        },
        Key {
            name: "roles",
            kind: Kind::Either(SOURCE, &[]),
            default: Fallback::Absent("none"),
            about: "Ids of its roles. Roles that are written here as constants may be names of roles of the configuration. Their scopes are judged as `scopes` are.",
        },
        Key {
            name: "claims",
            kind: Kind::Either("table of sources", &[]),
            default: Fallback::Absent("none"),
            about: "What is kept with it, and written into a session token; at most 16.",
        },
        Key {
            name: "lifetime",
            kind: Kind::Duration {
                min: secs(1),
                max: LONGEST,
            },
            default: Fallback::Absent("without end; on session surfaces the surface's `lifetime`"),
            about: "How long it lives unless the caller chooses; with records of their own, how long the whole session may last. Never beyond what it hangs on.",
        },
        Key {
            name: "max_lifetime",
            kind: Kind::Duration {
                min: secs(1),
                max: LONGEST,
            },
            default: Fallback::Absent("required with `lifetime_from`"),
            about: "The longest a caller may choose; more is a validation error.",
        },
        Key {
            name: "lifetime_from",
            kind: Kind::Text,
            default: Fallback::Absent("callers do not choose"),
            about: "`body.<field>` of type `integer`: the lifetime in seconds.",
        },
        Key {
            name: "idle",
            kind: Kind::Duration {
                min: secs(60),
                max: LONGEST,
            },
            default: Fallback::Absent("it does not end by disuse"),
            about: "It ends after so long without use; `lifetime` is then the absolute limit and must be there.",
        },
    ],
};

/// `parent` of a mint, as a table.
pub const PARENT: Schema = Schema {
    parts: &[],
    name: "`parent`",
    about: "A record of the caller's tenant that is in force; otherwise `record_not_found`.",
    keys: &[
        Key {
            name: "surface",
            kind: Kind::Text,
            default: Fallback::Required,
            about: "Its surface.",
        },
        Key {
            name: "id",
            kind: Kind::Either(SOURCE, &[]),
            default: Fallback::Required,
            about: "Its id.",
        },
    ],
};

/// One mint as written.
#[derive(Debug)]
pub struct WrittenMint {
    /// Where it begins.
    pub at: Place,
    /// Surface.
    pub surface: Option<Located<String>>,
    /// Parent.
    pub parent: Option<Located<WrittenParent>>,
    /// Subject.
    pub subject: Option<Located<Source>>,
    /// Name.
    pub name: Option<Located<Source>>,
    /// What it is for.
    pub description: Option<Located<Source>>,
    /// Login.
    pub login: Option<Located<Source>>,
    /// Password.
    pub password: Option<Located<Source>>,
    /// Mode.
    pub mode: Option<Located<WrittenMode>>,
    /// Scopes.
    pub scopes: Option<Located<WrittenScopes>>,
    /// Grants.
    pub grants: Vec<Located<String>>,
    /// Roles.
    pub roles: Option<Located<Source>>,
    /// Claims.
    pub claims: Vec<(Located<String>, Located<Source>)>,
    /// Lifetime.
    pub lifetime: Option<Located<Duration>>,
    /// Longest lifetime.
    pub max_lifetime: Option<Located<Duration>>,
    /// Where the caller chooses it.
    pub lifetime_from: Option<Located<String>>,
    /// Idle limit.
    pub idle: Option<Located<Duration>>,
}

/// A parent as written.
#[derive(Debug, Clone)]
pub enum WrittenParent {
    /// `tenant`
    None,
    /// `caller`
    Caller,
    /// `caller.parent`
    CallersParent,
    /// `minted.<number>`
    Minted(usize),
    /// `{ surface, id }`
    Record(Located<String>, Located<Source>),
}

/// A mode as written.
#[derive(Debug, Clone)]
pub enum WrittenMode {
    /// `caller`
    Caller,
    /// `none`
    Unset,
    /// `live` or `test`
    Fixed(crate::base::scope::Mode),
    /// A source.
    From(Source),
}

/// Scopes as written.
#[derive(Debug, Clone)]
pub enum WrittenScopes {
    /// `caller`
    Caller,
    /// A list.
    Fixed(Vec<Located<String>>),
    /// A source.
    From(Source),
}

/// Reads one mint.
#[must_use]
pub fn read(section: &Section<'_>) -> WrittenMint {
    WrittenMint {
        at: section.at(),
        surface: section.text("surface"),
        parent: read_parent(section),
        subject: source::read(section, "subject"),
        name: source::read(section, "name"),
        description: source::read(section, "description"),
        login: source::read(section, "login"),
        password: source::read(section, "password"),
        mode: read_mode(section),
        scopes: read_scopes(section),
        grants: section.texts("grants"),
        roles: source::read(section, "roles"),
        claims: source::read_table(section, "claims"),
        lifetime: section.duration("lifetime"),
        max_lifetime: section.duration("max_lifetime"),
        lifetime_from: section.text("lifetime_from"),
        idle: section.duration("idle"),
    }
}

fn read_parent(section: &Section<'_>) -> Option<Located<WrittenParent>> {
    let value = section.raw("parent")?;
    let at = section.place(value);
    let parent = match value.get_ref() {
        DeValue::String(text) => match text.as_ref() {
            "tenant" | "none" => Some(WrittenParent::None),
            "caller" => Some(WrittenParent::Caller),
            "caller.parent" => Some(WrittenParent::CallersParent),
            text => text.strip_prefix("minted.").and_then(|n| n.parse().ok()).map(WrittenParent::Minted),
        },
        DeValue::Table(_) => {
            let table = section.section("parent")?;
            let (surface, id) = (table.text("surface"), source::read(&table, "id"));
            return Some(Located {
                value: WrittenParent::Record(surface?, id?),
                at,
            });
        }
        _ => None,
    };
    match parent {
        Some(value) => Some(Located { value, at }),
        None => section.wrong("parent", value, value.get_ref()),
    }
}

fn read_mode(section: &Section<'_>) -> Option<Located<WrittenMode>> {
    let text = section.text("mode")?;
    let mode = match text.value.as_str() {
        "caller" => WrittenMode::Caller,
        "none" => WrittenMode::Unset,
        "live" => WrittenMode::Fixed(crate::base::scope::Mode::Live),
        "test" => WrittenMode::Fixed(crate::base::scope::Mode::Test),
        _ => WrittenMode::From(source::read(section, "mode")?.value),
    };
    Some(text.map(|_| mode))
}

fn read_scopes(section: &Section<'_>) -> Option<Located<WrittenScopes>> {
    let value = section.raw("scopes")?;
    let at = section.place(value);
    let scopes = match value.get_ref() {
        DeValue::String(text) if text == "caller" => WrittenScopes::Caller,
        DeValue::Array(_) => WrittenScopes::Fixed(section.texts("scopes")),
        _ => WrittenScopes::From(source::read(section, "scopes")?.value),
    };
    Some(Located { value: scopes, at })
}
