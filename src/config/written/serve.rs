//! `serve` of a route: what the gateway does itself, and what it answers.

use std::time::Duration;

use toml::de::DeValue;

use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::source::{Located, Place};
use crate::issue::spec::Source;

use super::body::{self, WrittenField};
use super::hook::{self, WrittenHook};
use super::mint::{self, WrittenMint};
use super::source::{self, SOURCE};

/// What a served route may do.
pub const ACTIONS: &[&str] = &[
    "mint",
    "list",
    "revoke",
    "rotate",
    "set_roles",
    "list_roles",
    "list_scopes",
    "log_out",
    "set_password",
];

/// `[routes.answer]`.
pub const ANSWER: Schema = Schema {
    parts: &[],
    name: "`[routes.answer]`",
    about: "What is answered when it succeeded, with `Cache-Control: no-store`.",
    keys: &[
        Key {
            name: "status",
            kind: Kind::Count { min: 200, max: 204 },
            default: Fallback::Absent("200; 204 without a body"),
            about: "200, 201, 202, or 204, which has no body.",
        },
        Key {
            name: "body",
            kind: Kind::Text,
            default: Fallback::Absent("no body"),
            about: "Template of the body, see Templates.",
        },
        Key {
            name: "headers",
            kind: Kind::Pairs,
            default: Fallback::Absent("none"),
            about: "Further headers.",
        },
    ],
};

/// `reach` of a route, as a table.
pub const REACH: Schema = Schema {
    parts: &[],
    name: "`reach`",
    about: "Records of the caller's tenant whose claim has this value.",
    keys: &[
        Key {
            name: "claim",
            kind: Kind::Text,
            default: Fallback::Required,
            about: "The claim's name.",
        },
        Key {
            name: "from",
            kind: Kind::Either(SOURCE, &[]),
            default: Fallback::Required,
            about: "Its value.",
        },
    ],
};

/// A served route as written.
#[derive(Debug)]
pub struct WrittenServe {
    /// What it does.
    pub action: Located<&'static str>,
    /// Where its route begins.
    pub at: Place,
    /// Whose what is made is.
    pub tenant: Option<Located<String>>,
    /// Surface of the records.
    pub surface: Option<Located<String>>,
    /// Id of the record.
    pub id: Option<Located<Source>>,
    /// Which records.
    pub reach: Option<Located<WrittenReach>>,
    /// What the record may hold although the caller lacks it.
    pub grants: Vec<Located<String>>,
    /// How long the old one goes on.
    pub grace: Option<Located<Duration>>,
    /// Field with roles.
    pub roles: Option<Located<String>>,
    /// How far a log-out goes.
    pub extent: &'static str,
    /// Field with the present password.
    pub current: Option<Located<String>>,
    /// Field with the new password.
    pub new: Option<Located<String>>,
    /// What becomes of sessions.
    pub sessions: &'static str,
    /// What is made.
    pub mints: Vec<WrittenMint>,
    /// Fields of the body.
    pub body: Vec<WrittenField>,
    /// What unknown fields are told.
    pub unknown_field: Option<Located<String>>,
    /// What becomes of unknown fields.
    pub unknown_fields: &'static str,
    /// Whether forms are taken.
    pub forms: Option<Located<bool>>,
    /// What a body that cannot be read is.
    pub unreadable_body: Located<&'static str>,
    /// The answer.
    pub answer: WrittenAnswer,
    /// What a service is asked or told.
    pub hook: Option<WrittenHook>,
}

/// Which records, as written.
#[derive(Debug, Clone)]
pub enum WrittenReach {
    /// `tenant`, `children` or `path.<parameter>`
    Word(String),
    /// `{ claim, from }`
    Claim(Located<String>, Located<Source>),
}

/// An answer as written.
#[derive(Debug)]
pub struct WrittenAnswer {
    /// Where it stands, or its route.
    pub at: Place,
    /// Status.
    pub status: Option<Located<u16>>,
    /// Body template.
    pub body: Option<Located<String>>,
    /// Headers.
    pub headers: Vec<(Located<String>, Located<String>)>,
}

/// Keys of served routes, and the actions each belongs to.
const KEYS: &[(&str, &[&str])] = &[
    ("tenant", &["mint"]),
    ("mint", &["mint"]),
    ("surface", &["list", "revoke", "rotate", "set_roles", "set_password"]),
    ("id", &["revoke", "rotate", "set_roles"]),
    ("reach", &["list", "revoke", "rotate", "set_roles"]),
    ("grants", &["revoke", "rotate", "set_roles", "set_password"]),
    ("grace", &["rotate"]),
    ("roles", &["set_roles"]),
    ("extent", &["log_out"]),
    ("current", &["set_password"]),
    ("new", &["set_password"]),
    ("sessions", &["set_password"]),
];

/// What each action cannot do without.
const NEEDED: &[(&str, &[&str])] = &[
    ("mint", &["mint"]),
    ("list", &["surface"]),
    ("revoke", &["surface", "id"]),
    ("rotate", &["surface", "id"]),
    ("set_roles", &["surface", "id", "roles"]),
    ("set_password", &["surface", "new"]),
];

/// Keys that every served route may have and no other.
const OF_ALL: &[&str] = &[
    "body",
    "unknown_field",
    "unknown_fields",
    "forms",
    "unreadable_body",
    "answer",
    "hook",
];

/// Reads what a route serves; `None` if it forwards.
#[must_use]
pub fn read(section: &Section<'_>) -> Option<WrittenServe> {
    if section.raw("serve").is_none() {
        for name in KEYS.iter().map(|(name, _)| name).chain(OF_ALL).filter(|n| section.raw(n).is_some()) {
            section.report().error(
                &section.place_of(name),
                format!("`{name}` belongs to routes with `serve`"),
                Some("a route without it forwards to its service".to_owned()),
            );
        }
        return None;
    }
    let action = section.choice("serve");
    check_keys(section, action.value);
    let answer = section.section("answer");
    Some(WrittenServe {
        at: section.at(),
        tenant: section.text("tenant"),
        surface: section.text("surface"),
        id: source::read(section, "id"),
        reach: read_reach(section),
        grants: section.texts("grants"),
        grace: section.duration("grace"),
        roles: section.text("roles"),
        extent: section.choice("extent").value,
        current: section.text("current"),
        new: section.text("new"),
        sessions: section.choice("sessions").value,
        mints: section.some_sections("mint").iter().map(mint::read).collect(),
        body: section.named("body").into_iter().map(|(name, s)| body::read(name, &s)).collect(),
        unknown_field: section.text("unknown_field"),
        unknown_fields: section.choice("unknown_fields").value,
        forms: section.flag("forms"),
        unreadable_body: section.choice("unreadable_body"),
        answer: WrittenAnswer {
            at: answer.as_ref().map_or_else(|| section.at(), Section::at),
            status: answer
                .as_ref()
                .and_then(|s| s.count("status"))
                .map(|n| n.map(|n| u16::try_from(n).unwrap_or(200))),
            body: answer.as_ref().and_then(|s| s.text("body")),
            headers: answer.map(|s| s.pairs("headers")).unwrap_or_default(),
        },
        hook: section.section("hook").map(|section| hook::read(&section)),
        action,
    })
}

fn check_keys(section: &Section<'_>, action: &str) {
    if !ACTIONS.contains(&action) {
        return;
    }
    for (name, _) in KEYS
        .iter()
        .filter(|(name, of)| section.raw(name).is_some() && !of.contains(&action))
    {
        section.report().error(
            &section.place_of(name),
            format!("`{name}` has no meaning with `serve = \"{action}\"`"),
            None,
        );
    }
    let needed = NEEDED.iter().find(|(own, _)| *own == action).map_or(&[][..], |(_, names)| names);
    for name in needed.iter().filter(|n| section.raw(n).is_none()) {
        section
            .report()
            .error(&section.at(), format!("`serve = \"{action}\"` needs `{name}`"), None);
    }
}

fn read_reach(section: &Section<'_>) -> Option<Located<WrittenReach>> {
    let value = section.raw("reach")?;
    let at = section.place(value);
    let reach = match value.get_ref() {
        DeValue::String(word) => WrittenReach::Word(word.clone().into_owned()),
        DeValue::Table(_) => {
            let table = section.section("reach")?;
            let (claim, from) = (table.text("claim"), source::read(&table, "from"));
            WrittenReach::Claim(claim?, from?)
        }
        other => return section.wrong("reach", value, other),
    };
    Some(Located { value: reach, at })
}
