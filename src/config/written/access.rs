//! `access` of a route: who may use it.

use toml::de::DeValue;

use crate::config::reader::{Section, shorten};
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::source::Located;

/// `access` of a route, as a table.
pub const ACCESS: Schema = Schema {
    parts: &[],
    name: "`access`",
    about: "A caller of one of the surfaces who holds all the scopes.",
    keys: &[
        Key {
            name: "surfaces",
            kind: Kind::Texts,
            default: Fallback::Required,
            about: "Accepted surfaces; at least one.",
        },
        Key {
            name: "scopes",
            kind: Kind::Texts,
            default: Fallback::Absent("none: the credential is enough"),
            about: "Scopes the caller must hold, all of them.",
        },
        Key {
            name: "tenant",
            kind: Kind::Text,
            default: Fallback::Absent("the path names no tenant"),
            about: "`path.<parameter>`: where the path names a tenant, which must be the caller's own; another is `foreign_tenant`.",
        },
        Key {
            name: "unknown_tenant",
            kind: Kind::Choice(&["refuse", "forward"]),
            default: Fallback::Value("refuse"),
            about: "With `tenant`: what happens to a text there that is no tenant's id. `forward` lets it pass if it consists of `a-z 0-9 _ -`, as in `/tenants/add-user` beside `/tenants/{id}`; the gateway asks the store, and answers 503 if the store cannot say. Everything else is `foreign_tenant`. Use it only if the service compares ids by their exact spelling.",
        },
    ],
};

/// Who may use a route, as written.
#[derive(Debug)]
pub enum WrittenAccess {
    /// Anybody.
    Public,
    /// Callers of these surfaces with these scopes.
    Surfaces {
        /// Surface names.
        surfaces: Vec<Located<String>>,
        /// Scopes.
        scopes: Vec<Located<String>>,
        /// `path.<parameter>`
        tenant: Option<Located<String>>,
        /// What becomes of a text there that is no tenant's id; `None`: not written.
        unknown_tenant: Option<Located<&'static str>>,
    },
}

/// Reads who may use a route.
#[must_use]
pub fn read(section: &Section<'_>) -> Option<WrittenAccess> {
    let value = section.raw("access")?;
    match value.get_ref() {
        DeValue::String(word) if word == "public" => Some(WrittenAccess::Public),
        DeValue::String(word) => {
            section.report().error(
                &section.place(value),
                format!("`access` cannot be `{}`", shorten(word)),
                Some("write `access = \"public\"`, or `access = { surfaces = [\"…\"], scopes = [\"…\"] }`".to_owned()),
            );
            None
        }
        DeValue::Table(_) => {
            let access = section.section("access")?;
            let (surfaces, scopes) = (access.texts("surfaces"), access.texts("scopes"));
            if surfaces.is_empty() && access.raw("surfaces").is_some() {
                section.report().error(
                    &access.place_of("surfaces"),
                    "`surfaces` names nobody",
                    Some("name at least one surface, or say `access = \"public\"`".to_owned()),
                );
            }
            Some(WrittenAccess::Surfaces {
                surfaces,
                scopes,
                tenant: access.text("tenant"),
                unknown_tenant: access.raw("unknown_tenant").map(|_| access.choice("unknown_tenant")),
            })
        }
        other => section.wrong("access", value, other),
    }
}
