//! Effective scopes: which scopes a record may use now. They are derived from facts on every request, never copied
//! from another record.

use std::borrow::Cow;

use crate::base::ids::SurfaceName;
use crate::base::principal::{CredentialRecord, Facts, RoleRecord, Roles};
use crate::base::scope::{Mode, ScopeSet};

use super::surface::Surface;

/// The roles of the configuration and the scopes that its routes grant. Effective scopes are derived from them and
/// from the facts.
#[derive(Debug, Clone, Default)]
pub struct ScopeGrants {
    /// The roles of the configuration.
    pub roles: Roles,
    /// By surface: every scope that some route gives by `grants` to what it makes there. It is needed for records
    /// that were made before granted scopes were stored with them.
    grants: Vec<(SurfaceName, ScopeSet)>,
}

impl ScopeGrants {
    /// The roles of a configuration, and pairs of a surface and the scopes that one mint of a route grants there.
    #[must_use]
    pub fn new<'s>(roles: Roles, granted: impl IntoIterator<Item = (&'s Surface, &'s ScopeSet)>) -> Self {
        let mut grants: Vec<(SurfaceName, ScopeSet)> = Vec::new();
        for (surface, scopes) in granted {
            match grants.iter_mut().find(|(name, _)| *name == surface.name) {
                Some((_, all)) => *all = all.union(scopes),
                None => grants.push((surface.name.clone(), scopes.clone())),
            }
        }
        Self { roles, grants }
    }

    /// The scopes that the record of these facts may use now:
    ///
    /// - its own scopes, and those of its roles as they are now,
    /// - reduced to the effective scopes of each record above it (those of a sign-on are those of its person; those of a linked
    ///   account are reduced to what its link may do),
    /// - and the scopes that the route which made it gave by `grants`, which no parent bounds.
    ///
    /// `None` if these are exactly the record's own scopes, as for every record without roles and parent.
    #[must_use]
    pub fn effective_scopes(&self, facts: &Facts) -> Option<ScopeSet> {
        let record = &facts.credential;
        record.extras.as_ref()?;
        match self.effective_scopes_of(record, &facts.ancestors, &facts.roles) {
            Cow::Borrowed(_) => None,
            Cow::Owned(scopes) => Some(scopes),
        }
    }

    /// The effective scopes of a record with the records above it, its parent first, and with the roles of the store
    /// that any of them names.
    #[must_use]
    pub fn effective_scopes_of<'r>(
        &self,
        record: &'r CredentialRecord,
        above: &'r [CredentialRecord],
        stored: &[RoleRecord],
    ) -> Cow<'r, ScopeSet> {
        let own = self.own_grant(record, stored);
        // A linked account names no parent, and in this chain its link stands above it.
        let link = above.first().filter(|next| next.is_link());
        if record.parent().is_none() && !record.is_sign_on() && link.is_none() {
            return own;
        }
        // At most MAX_ANCESTORS records stand above a record, which bounds the recursion. If the parent that a record
        // names is missing, it has no scopes.
        let bound = match above.split_first() {
            Some((parent, above)) => self.effective_scopes_of(parent, above, stored),
            None => Cow::default(),
        };
        // A sign-on is the person's session elsewhere and has no scopes of its own.
        if record.is_sign_on() {
            return bound;
        }
        if bound.covers(&own) {
            return own;
        }
        // No route granted an account what it may do by way of an identity provider.
        let granted = if link.is_some() { Cow::default() } else { self.granted(record) };
        Cow::Owned(
            own.iter()
                .filter(|scope| bound.contains(scope) || granted.contains(scope))
                .cloned()
                .collect(),
        )
    }

    /// The scopes of a record and of its roles, both of the store and of the configuration. A role that no longer
    /// exists adds nothing.
    fn own_grant<'r>(&self, record: &'r CredentialRecord, stored: &[RoleRecord]) -> Cow<'r, ScopeSet> {
        let named = record.roles();
        if named.is_empty() {
            return Cow::Borrowed(&record.scopes);
        }
        let stored = stored.iter().filter(|role| named.contains(&role.id));
        let roles = stored.chain(named.iter().filter_map(|id| self.roles.find(id)));
        let scopes = record.scopes.iter().chain(roles.flat_map(|role| role.scopes.iter()));
        Cow::Owned(scopes.cloned().collect())
    }

    /// The scopes that the route which made a record gave it. A record from before these were stored has what routes
    /// grant on its surface today. So it goes on, and a scope that no route grants reaches only as far as that of its
    /// parent.
    fn granted<'r>(&self, record: &'r CredentialRecord) -> Cow<'r, ScopeSet> {
        if let Some(granted) = record.granted() {
            return Cow::Borrowed(granted);
        }
        let of_surface = self.grants.iter().find(|(name, _)| *name == record.surface);
        of_surface.map_or_else(Cow::default, |(_, grants)| Cow::Owned(record.scopes.intersection(grants)))
    }
}

/// Whether a record of the mode `own` may make, see, change or carry a record of the mode `other`: test and live
/// never meet. A record without a mode is bound by none.
#[must_use]
pub fn mode_reaches(own: Option<Mode>, other: Option<Mode>) -> bool {
    own.is_none_or(|own| other.is_none_or(|other| own == other))
}

#[cfg(test)]
mod tests;
