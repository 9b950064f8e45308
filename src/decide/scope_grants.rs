//! What a record may do now: derived on every request from facts, never copied from another record.

use std::borrow::Cow;

use crate::base::ids::SurfaceName;
use crate::base::principal::{CredentialRecord, Facts, RoleRecord, Roles};
use crate::base::scope::{Mode, ScopeSet};

use super::surface::Surface;

/// What the configuration adds to facts when authority is derived.
#[derive(Debug, Clone, Default)]
pub struct ScopeGrants {
    /// The roles of the configuration.
    pub roles: Roles,
    /// By surface: every scope that some route gives by `grants` to what it makes there. Records made before
    /// their own granted scopes were kept are read by it.
    grants: Vec<(SurfaceName, ScopeSet)>,
}

impl ScopeGrants {
    /// The roles of a configuration, and what its routes grant: pairs of a surface and the scopes of one mint.
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

    /// What the record of these facts may do now:
    ///
    /// - its own grant, which is its scopes and those of its roles as they are now,
    /// - cut to what each record it hangs on may do now,
    /// - and the scopes that the route which made it gave by `grants`, which no parent bounds.
    ///
    /// `None` where that is exactly its own scopes, as it is for every record without roles and parent.
    #[must_use]
    pub fn effective_scopes(&self, facts: &Facts) -> Option<ScopeSet> {
        let record = &facts.credential;
        record.extras.as_ref()?;
        match self.effective_scopes_of(record, &facts.ancestors, &facts.roles) {
            Cow::Borrowed(_) => None,
            Cow::Owned(scopes) => Some(scopes),
        }
    }

    /// The same of a record with what it hangs on, its parent first, and the roles of the store that any of
    /// them names.
    #[must_use]
    pub fn effective_scopes_of<'r>(
        &self,
        record: &'r CredentialRecord,
        above: &'r [CredentialRecord],
        stored: &[RoleRecord],
    ) -> Cow<'r, ScopeSet> {
        let own = self.own_grant(record, stored);
        if record.parent().is_none() {
            return own;
        }
        // At most three records stand above one, so the recursion is as deep. Without the parent that it names
        // there is nothing to go by.
        let bound = match above.split_first() {
            Some((parent, above)) => self.effective_scopes_of(parent, above, stored),
            None => Cow::default(),
        };
        if bound.covers(&own) {
            return own;
        }
        let granted = self.granted(record);
        Cow::Owned(
            own.iter()
                .filter(|scope| bound.contains(scope) || granted.contains(scope))
                .cloned()
                .collect(),
        )
    }

    /// A record's scopes together with those of its roles: of the store, and of the configuration. A role that
    /// is nowhere any more adds nothing.
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

    /// What the route that made a record gave it. A record from before that was kept holds what routes grant
    /// on its surface today: so it goes on, and a scope that no route grants goes only as far as its parent's.
    fn granted<'r>(&self, record: &'r CredentialRecord) -> Cow<'r, ScopeSet> {
        if let Some(granted) = record.granted() {
            return Cow::Borrowed(granted);
        }
        let of_surface = self.grants.iter().find(|(name, _)| *name == record.surface);
        of_surface.map_or_else(Cow::default, |(_, grants)| Cow::Owned(record.scopes.intersection(grants)))
    }
}

/// Whether what has this mode may make, see, touch or carry what has that one: test and live never meet. Who
/// has no mode is bound by none.
#[must_use]
pub fn mode_reaches(own: Option<Mode>, other: Option<Mode>) -> bool {
    own.is_none_or(|own| other.is_none_or(|other| own == other))
}

#[cfg(test)]
mod tests;
