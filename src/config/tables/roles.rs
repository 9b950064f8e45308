//! Roles of the configuration, and scopes wherever they are written.

use crate::base::clock::UnixMillis;
use crate::base::ids::RoleId;
use crate::base::principal::{RoleRecord, Roles};
use crate::base::scope::{InvalidScope, Scope, ScopeSet};
use crate::config::declare::{Member, Named, absent, required, table};
use crate::config::reader::shorten;
use crate::config::source::Located;

use super::Builder;

table! {
    /// Records refer to a role by its id. A change reaches every gateway with its configuration.
    pub struct RoleTable = "`[roles.<name>]`" {
        /// Its id, a UUID. Write it down before you rename a role: records keep the id.
        id: Option<Located<String>> = absent("a UUID made from the name");
        /// What it is for.
        description: Option<Located<String>> = absent("none");
        /// What its holders may do.
        scopes: Vec<Located<String>> = required();
    }
}

/// Longest description of a role.
const MAX_DESCRIPTION: usize = 256;

impl Builder<'_> {
    /// Every role, with an id of its own.
    pub(super) fn roles(&self, written: &Named<RoleTable>) -> Roles {
        let mut ids: Vec<RoleId> = Vec::new();
        let roles: Vec<RoleRecord> = written
            .iter()
            .filter_map(|role| {
                self.check_name(&role.name, "a role");
                let id = self.role_id(role)?;
                if ids.contains(&id) {
                    let at = role.id.as_ref().map_or(&role.name.at, |i| &i.at);
                    self.report.error(at, "this is the id of another role already", None);
                }
                ids.push(id.clone());
                if let Some(text) = role.description.as_ref().filter(|d| !is_description(&d.value)) {
                    self.report.error(
                        &text.at,
                        format!("a description has 1 to {MAX_DESCRIPTION} bytes without control characters"),
                        None,
                    );
                }
                if role.scopes.is_empty() {
                    self.report.warning(
                        &role.name.at,
                        format!("the role `{}` allows nothing", shorten(&role.name.value)),
                        None,
                    );
                }
                Some(RoleRecord {
                    id,
                    tenant: None,
                    name: role.name.value.clone(),
                    description: role.description.as_ref().map(|d| d.value.clone()),
                    scopes: self.scopes(&role.scopes),
                    created_at: UnixMillis(0),
                    epoch: 0,
                })
            })
            .collect();
        Roles::new(roles)
    }

    fn role_id(&self, role: &Member<RoleTable>) -> Option<RoleId> {
        let Some(id) = &role.id else {
            return Some(RoleId::of_name(&role.name.value));
        };
        if is_uuid(&id.value) {
            return RoleId::parse(&id.value).ok();
        }
        self.report.error(
            &id.at,
            format!("`{}` is not a UUID", shorten(&id.value)),
            Some(format!(
                "for example \"{}\", which it has without `id`",
                RoleId::of_name(&role.name.value).as_str()
            )),
        );
        None
    }

    /// Scopes of a list; what is none is reported.
    pub(super) fn scopes(&self, written: &[Located<String>]) -> ScopeSet {
        written
            .iter()
            .filter_map(|scope| {
                let parsed = Scope::parse(&scope.value).ok();
                if parsed.is_none() {
                    self.report.error(
                        &scope.at,
                        format!("`{}` is not a scope", shorten(&scope.value)),
                        Some(InvalidScope.to_string()),
                    );
                }
                parsed
            })
            .collect()
    }
}

fn is_description(text: &str) -> bool {
    (1..=MAX_DESCRIPTION).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// The lower-case text form of RFC 9562, section 4.
fn is_uuid(text: &str) -> bool {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}
