//! The identity provider of a sign-on, as the store has it now.

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::ids::CredentialId;
use crate::base::principal::{CredentialRecord, RoleRecord, TenantRecord};
use crate::decide::validity;
use crate::issue::call::IssueError;
use crate::issue::engine::{Engine, unavailable};
use crate::sign_on::fault::SignOnFault;
use crate::sign_on::provider::ProviderSettings;
use crate::sign_on::records::settings_fingerprint;
use crate::store::{RestsOn, StoredFacts};

use super::refused_by;

/// A provider that is in force, with its settings. All of it was read in one step.
pub(in crate::issue::engine) struct FoundProvider {
    /// The record of the settings. The provider's own record stands above it.
    facts: StoredFacts,
    record: CredentialRecord,
    pub(in crate::issue::engine) settings: ProviderSettings,
}

impl FoundProvider {
    /// The provider's own record.
    pub(in crate::issue::engine) const fn record(&self) -> &CredentialRecord {
        &self.record
    }

    /// The roles of the store that the provider names.
    pub(in crate::issue::engine) fn roles(&self) -> &[RoleRecord] {
        &self.facts.roles
    }

    pub(in crate::issue::engine) const fn tenant(&self) -> &TenantRecord {
        &self.facts.tenant
    }

    /// What a change rests on that was judged by this provider and these settings.
    pub(in crate::issue::engine) fn rests_on(&self) -> RestsOn {
        RestsOn::found(&self.facts)
    }

    /// Whether provider, settings and tenant are the ones that were read before.
    pub(in crate::issue::engine) fn is_unchanged_since(&self, before: &Self) -> bool {
        let epochs = |found: &Self| (found.record.epoch, found.facts.credential.epoch, found.facts.tenant.epoch);
        self.record.id == before.record.id && epochs(self) == epochs(before)
    }
}

impl Engine {
    /// Reads a provider and its settings from the store. A provider that was ended is refused, and one that never was looks
    /// the same.
    pub(in crate::issue::engine) async fn find_provider(&self, id: &CredentialId, now: UnixMillis) -> Result<FoundProvider, IssueError> {
        let fingerprint = settings_fingerprint(id).ok_or(Denial::Internal)?;
        let facts = self.find_facts(fingerprint).await?;
        let Some((facts, record)) = facts.and_then(|facts| Some((facts.clone(), facts.ancestors.into_iter().next()?))) else {
            return Err(refused_by(&SignOnFault::NoProvider, id));
        };
        match validity::check_found(&facts.credential, &facts.ancestors, &facts.tenant, now) {
            Ok(()) => {}
            Err(Denial::InactiveTenant) => return Err(Denial::InactiveTenant.into()),
            Err(_) => return Err(refused_by(&SignOnFault::ProviderEnded, id)),
        }
        let settings = ProviderSettings::of_record(&facts.credential).map_err(|error| unavailable(&error))?;
        Ok(FoundProvider { facts, record, settings })
    }
}
