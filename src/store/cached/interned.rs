//! Values that many records share are in memory once, so that the processor's caches still hold the surface and the scopes of the
//! last caller when the next caller has the same ones.

use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use crate::base::ids::SurfaceName;
use crate::base::interned::ValueSet;
use crate::base::principal::{CredentialRecord, TenantRecord};
use crate::base::scope::ScopeSet;

/// Most values of a kind that are shared; a record keeps its own copy of any further value. A configuration has tens of
/// surfaces, and callers get their scopes from tens of templates.
const MAX_VALUES: usize = 1_024;

/// The shared values. Used when a record has been read from the store, never on the request path.
pub(super) struct Interned {
    surfaces: Mutex<ValueSet<SurfaceName>>,
    scopes: Mutex<ValueSet<ScopeSet>>,
}

impl Default for Interned {
    fn default() -> Self {
        Self {
            surfaces: Mutex::new(ValueSet::new(MAX_VALUES)),
            scopes: Mutex::new(ValueSet::new(MAX_VALUES)),
        }
    }
}

impl Interned {
    /// Replaces the record's surface, scopes and tenant id by equal values that are in memory already: those of other records,
    /// and the id of `tenant`.
    pub(super) fn intern(&self, record: &mut CredentialRecord, tenant: &TenantRecord) {
        intern(&self.surfaces, &mut record.surface);
        intern(&self.scopes, &mut record.scopes);
        if record.tenant == tenant.id {
            record.tenant = tenant.id.clone();
        }
    }
}

fn intern<T: Clone + Eq + Hash>(values: &Mutex<ValueSet<T>>, value: &mut T) {
    values.lock().unwrap_or_else(PoisonError::into_inner).intern(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TenantId;
    use crate::store::codec::tests::{facts_of, sample};

    /// Its tenant as another read brings it: equal, and elsewhere in memory.
    fn tenant_of(record: &CredentialRecord) -> TenantRecord {
        let mut tenant = facts_of(record.clone()).tenant;
        tenant.id = TenantId::parse(tenant.id.as_str()).unwrap();
        tenant
    }

    #[test]
    fn equal_values_are_one_in_memory_and_others_stay_as_they_are() {
        let interned = Interned::default();
        let (mut first, mut second) = (sample(), sample());
        let tenant = tenant_of(&first);
        interned.intern(&mut first, &tenant);
        interned.intern(&mut second, &tenant);
        assert_eq!(second, sample());
        assert!(!first.scopes.joined().is_empty());
        assert_eq!(first.scopes.joined().as_ptr(), second.scopes.joined().as_ptr());
        assert_eq!(first.surface.as_str().as_ptr(), second.surface.as_str().as_ptr());
        assert_eq!(second.tenant.as_str().as_ptr(), tenant.id.as_str().as_ptr());
        let mut other = sample();
        other.surface = SurfaceName::parse("another").unwrap();
        other.tenant = TenantId::parse("another").unwrap();
        other.scopes = ScopeSet::default();
        let before = other.clone();
        interned.intern(&mut other, &tenant);
        assert_eq!(other, before);
    }

    #[test]
    fn no_more_than_so_many_values_are_shared() {
        let interned = Interned::default();
        let tenant = tenant_of(&sample());
        for number in 0..2 * MAX_VALUES {
            let mut record = sample();
            record.surface = SurfaceName::parse(&format!("s-{number}")).unwrap();
            interned.intern(&mut record, &tenant);
            assert_eq!(record.surface.as_str(), format!("s-{number}"));
        }
        assert_eq!(interned.surfaces.lock().unwrap().count(), MAX_VALUES);
    }
}
