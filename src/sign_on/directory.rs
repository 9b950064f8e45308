//! Which identity provider the people of an e-mail domain sign on through, and which providers a tenant has.
//!
//! The settings of providers lie in the store, which has no index by domain. So each process reads all of them at most every ten
//! seconds, when somebody asks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::base::clock::{BootMillis, Clock};
use crate::base::ids::{CredentialId, TenantId};
use crate::base::key::IdKind;
use crate::base::principal::{CredentialRecord, CredentialState};
use crate::store::{CredentialFilter, IdFilter, MAX_LIST, RecordStore, StoreError};

use super::provider::ProviderSettings;
use super::provider::mistakes::is_domain;

#[cfg(test)]
mod tests;

/// How long a reading is used. A new provider is found after this time at the latest. One that was disabled is found no longer
/// than this, and refused at once all the same, since a sign-on looks the provider itself up.
const USED_FOR: Duration = Duration::from_secs(10);

/// Most providers of a store. Reading as many takes a second, and 40 MiB at the largest settings that are usual.
pub const MAX_PROVIDERS: usize = 10_000;

/// Most providers of a tenant. People choose among them on one page, and a tenant has one for each of its companies.
pub const MAX_PROVIDERS_OF_TENANT: usize = 16;

/// A provider, without what only a sign-on needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedProvider {
    pub id: CredentialId,
    pub tenant: TenantId,
    /// The name that people see.
    pub name: String,
    /// `oidc` or `saml`.
    pub kind: &'static str,
    pub state: CredentialState,
    pub domains: Vec<String>,
}

/// Whose an e-mail domain is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainOwner {
    Nobody,
    /// Of one tenant; active providers of it, in order of id.
    Tenant {
        tenant: TenantId,
        providers: Vec<CredentialId>,
    },
    /// Providers of several tenants claim it. Nobody is sent to any of them.
    Several,
}

/// The providers of the store, as this process knows them.
pub struct ProviderDirectory {
    store: Arc<dyn RecordStore>,
    clock: Arc<dyn Clock>,
    /// Held while the store is read, so that one reading serves all who wait.
    reading: Mutex<Option<Arc<DirectoryReading>>>,
}

impl std::fmt::Debug for ProviderDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderDirectory").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct DirectoryReading {
    at: BootMillis,
    /// In order of id.
    providers: Vec<ListedProvider>,
    owners: HashMap<String, DomainOwner>,
}

impl ProviderDirectory {
    #[must_use]
    pub fn new(store: Arc<dyn RecordStore>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            reading: Mutex::new(None),
        }
    }

    /// Whose the domain of an e-mail address is. An address without a domain belongs to nobody.
    ///
    /// # Errors
    /// [`StoreError`]: the providers are not known.
    pub async fn find_owner(&self, address: &str) -> Result<DomainOwner, StoreError> {
        let Some(domain) = domain_of(address) else {
            return Ok(DomainOwner::Nobody);
        };
        let reading = self.read().await?;
        Ok(reading.owners.get(&domain).cloned().unwrap_or(DomainOwner::Nobody))
    }

    /// The active providers of a tenant, in order of id: the newest first.
    ///
    /// # Errors
    /// [`StoreError`]: the providers are not known.
    pub async fn list_active(&self, tenant: &TenantId) -> Result<Vec<ListedProvider>, StoreError> {
        let reading = self.read().await?;
        let own = reading.providers.iter().filter(|provider| provider.tenant == *tenant);
        Ok(own.filter(|provider| provider.state == CredentialState::Active).cloned().collect())
    }

    /// The newest reading. Cancel-safe: whoever waits next reads.
    async fn read(&self) -> Result<Arc<DirectoryReading>, StoreError> {
        let mut reading = self.reading.lock().await;
        let now = self.clock.now().boot;
        if let Some(known) = reading.as_ref()
            && now.since(known.at) < USED_FOR
        {
            return Ok(Arc::clone(known));
        }
        let providers = list_providers(&*self.store, None).await?;
        let fresh = Arc::new(DirectoryReading {
            at: now,
            owners: owners_of(&providers),
            providers,
        });
        *reading = Some(Arc::clone(&fresh));
        Ok(fresh)
    }
}

/// The domain of an e-mail address as settings name it.
fn domain_of(address: &str) -> Option<String> {
    let (_, domain) = address.rsplit_once('@')?;
    Some(domain.to_ascii_lowercase()).filter(|domain| is_domain(domain))
}

fn owners_of(providers: &[ListedProvider]) -> HashMap<String, DomainOwner> {
    let mut owners: HashMap<String, DomainOwner> = HashMap::new();
    for provider in providers.iter().filter(|provider| provider.state == CredentialState::Active) {
        for domain in &provider.domains {
            let owner = owners.entry(domain.clone()).or_insert_with(|| DomainOwner::Tenant {
                tenant: provider.tenant.clone(),
                providers: Vec::new(),
            });
            match owner {
                DomainOwner::Tenant { tenant, providers } if *tenant == provider.tenant => providers.push(provider.id.clone()),
                _ => *owner = DomainOwner::Several,
            }
        }
    }
    owners
}

/// All providers that are not revoked, in order of id; those of one tenant if it is given. Records that cannot be read are left
/// out, with an alarm that names each.
///
/// # Errors
/// [`StoreError`]: the store did not answer, or holds more than [`MAX_PROVIDERS`].
pub async fn list_providers(store: &dyn RecordStore, tenant: Option<&TenantId>) -> Result<Vec<ListedProvider>, StoreError> {
    let mut providers: Vec<ListedProvider> = Vec::new();
    let mut last: Option<CredentialRecord> = None;
    let mut after = None;
    loop {
        let filter = CredentialFilter {
            tenant: tenant.cloned(),
            ids: IdFilter::Beginning(IdKind::Provider.prefix()),
            passes_over_broken: true,
            after,
            limit: MAX_LIST,
            ..CredentialFilter::default()
        };
        let page = store.page_credentials(filter).await?;
        for record in page.records {
            if record.is_provider() {
                last = Some(record);
                continue;
            }
            // The id of the settings begins with that of the provider, so they follow it in the list.
            let parent = record.parent().map(|parent| &parent.id);
            let provider = last.take().filter(|provider| Some(&provider.id) == parent);
            providers.extend(provider.and_then(|provider| listed(provider, &record)));
            if providers.len() > MAX_PROVIDERS {
                return Err(StoreError::Unavailable(format!(
                    "it has more than {MAX_PROVIDERS} identity providers"
                )));
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(providers);
        }
    }
}

fn listed(provider: CredentialRecord, settings: &CredentialRecord) -> Option<ListedProvider> {
    if matches!(provider.state, CredentialState::Revoked { .. }) {
        return None;
    }
    let own = match ProviderSettings::of_record(settings) {
        Ok(own) => own,
        Err(error) => {
            tracing::error!(alarm = "corrupt_record", provider = %provider.id, %error, "an identity provider is left out");
            return None;
        }
    };
    Some(ListedProvider {
        kind: own.kind(),
        domains: own.domains,
        id: provider.id,
        tenant: provider.tenant,
        name: provider.name.unwrap_or_default(),
        state: provider.state,
    })
}
