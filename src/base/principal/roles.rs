//! Roles: named sets of scopes. A role of the configuration is for every tenant, a role of the store for one.

use aws_lc_rs::digest;

use crate::base::clock::UnixMillis;
use crate::base::ids::{RoleId, TenantId};
use crate::base::scope::ScopeSet;

/// Most roles of one record. All are read with it in one step.
pub const MAX_ROLES: usize = 16;

/// A named set of scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRecord {
    /// Its own name; what records refer to.
    pub id: RoleId,
    /// The tenant of the role; `None` for a role of the configuration, which every tenant may use.
    pub tenant: Option<TenantId>,
    /// The name people give it.
    pub name: String,
    /// What people say about it.
    pub description: Option<String>,
    /// What its holders may do.
    pub scopes: ScopeSet,
    /// When it was made; zero for those of the configuration.
    pub created_at: UnixMillis,
    /// Counts the changes of this record.
    pub epoch: u64,
}

impl RoleId {
    /// The id of a role of the configuration without a configured id: a UUID (version 8, RFC 9562, section 5.8) of
    /// SHA-256 over its name. The same name has the same id everywhere.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"durward role\0");
        context.update(name.as_bytes());
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Self::of_uuid(bytes, 8)
    }

    /// A UUID of version 4 of these random bytes.
    #[must_use]
    pub fn of_random(bytes: [u8; 16]) -> Self {
        Self::of_uuid(bytes, 4)
    }

    fn of_uuid(mut bytes: [u8; 16], version: u8) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | (version << 4);
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let mut text = String::with_capacity(36);
        for (i, byte) in bytes.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
            }
        }
        Self::of_valid(&text)
    }
}

/// The roles of the configuration, found by id. Empty where none are configured.
#[derive(Debug, Clone, Default)]
pub struct Roles(Vec<RoleRecord>);

impl Roles {
    /// The roles by id. Of two roles with the same id the first counts.
    #[must_use]
    pub fn new(roles: impl IntoIterator<Item = RoleRecord>) -> Self {
        let mut all: Vec<RoleRecord> = roles.into_iter().collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all.dedup_by(|later, first| later.id == first.id);
        Self(all)
    }

    /// The role of this id.
    #[must_use]
    pub fn find(&self, id: &RoleId) -> Option<&RoleRecord> {
        let place = self.0.binary_search_by(|role| role.id.cmp(id)).ok()?;
        self.0.get(place)
    }

    /// The role of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&RoleRecord> {
        self.0.iter().find(|role| role.name == name)
    }

    /// All roles in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &RoleRecord> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_configured_role_is_a_uuid_of_its_name() {
        let id = RoleId::of_name("admin");
        assert_eq!(id, RoleId::of_name("admin"));
        assert_ne!(id, RoleId::of_name("viewer"));
        for id in [id, RoleId::of_random([0xff; 16])] {
            let text = id.as_str();
            assert_eq!(text.len(), 36);
            let dashes: Vec<usize> = text.match_indices('-').map(|(at, _)| at).collect();
            assert_eq!(dashes, [8, 13, 18, 23]);
            assert!(
                matches!(&text[14..15], "8" | "4") && matches!(&text[19..20], "8" | "9" | "a" | "b"),
                "{text}"
            );
        }
    }

    #[test]
    fn configured_roles_are_found_by_id_and_by_name() {
        let role = |name: &str| RoleRecord {
            id: RoleId::of_name(name),
            tenant: None,
            name: name.into(),
            description: None,
            scopes: ScopeSet::default(),
            created_at: UnixMillis(0),
            epoch: 0,
        };
        let roles = Roles::new(["viewer", "admin", "clerk"].map(role));
        for name in ["admin", "viewer", "clerk"] {
            assert_eq!(roles.find(&RoleId::of_name(name)).unwrap().name, name);
            assert_eq!(roles.named(name).unwrap().name, name);
        }
        assert_eq!(roles.find(&RoleId::of_name("nobody")), None);
        assert!(roles.named("nobody").is_none());
    }
}
