//! Who an e-mail domain belongs to, by a store with providers of two tenants.

use super::*;
use crate::base::clock::{ManualClock, Now, UnixMillis};
use crate::base::fingerprint::{PepperCheck, PepperChecks};
use crate::base::scope::ScopeSet;
use crate::sign_on::provider::tests::oidc;
use crate::sign_on::records::{NewProvider, new_provider_id, provider_records};
use crate::store::embedded::EmbeddedStore;
use crate::store::{CredentialChange, NewRecords};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

struct Bench {
    store: Arc<EmbeddedStore>,
    clock: Arc<ManualClock>,
    directory: ProviderDirectory,
    _folder: tempfile::TempDir,
}

fn tenant(id: &str) -> TenantId {
    TenantId::parse(id).unwrap()
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let checks = PepperChecks::one(PepperCheck::from_bytes([7; 32]));
        let store = Arc::new(EmbeddedStore::open(&folder.path().join("store.redb"), &checks).unwrap());
        for id in ["acme", "globex"] {
            store.create_tenant(tenant(id), NOW).await.unwrap();
        }
        let clock = Arc::new(ManualClock::new(Now {
            wall: NOW,
            boot: BootMillis(1_000),
        }));
        Self {
            directory: ProviderDirectory::new(store.clone(), clock.clone()),
            store,
            clock,
            _folder: folder,
        }
    }

    async fn provider(&self, owner: &str, domains: &[&str]) -> CredentialId {
        let id = new_provider_id(NOW).unwrap();
        let records = provider_records(NewProvider {
            id: id.clone(),
            tenant: tenant(owner),
            name: format!("of {owner}"),
            scopes: ScopeSet::default(),
            roles: Vec::new(),
            settings: oidc(domains).to_text().unwrap(),
            now: NOW,
        });
        let new = NewRecords {
            credentials: records.unwrap().into(),
            ..NewRecords::default()
        };
        self.store.create(new, NOW).await.unwrap();
        id
    }

    async fn change(&self, id: &CredentialId, change: CredentialChange) {
        self.store.change_credential(id.clone(), change, NOW).await.unwrap();
    }

    /// The owner by a reading that is made now.
    async fn owner(&self, address: &str) -> DomainOwner {
        self.clock.advance(USED_FOR);
        self.directory.find_owner(address).await.unwrap()
    }
}

#[tokio::test]
async fn a_domain_leads_to_the_active_providers_of_its_tenant() {
    let bench = Bench::new().await;
    let one = bench.provider("acme", &["acme.example", "acme.test"]).await;
    let other = bench.provider("globex", &["globex.example"]).await;
    for address in ["ann@acme.example", "Ann@ACME.Example", "odd@name@acme.test"] {
        let DomainOwner::Tenant { tenant: owner, providers } = bench.owner(address).await else {
            panic!("{address} is somebody's")
        };
        assert_eq!((owner, providers), (tenant("acme"), vec![one.clone()]), "{address}");
    }
    for address in [
        "ann@sub.acme.example",
        "ann@example",
        "acme.example",
        "ann@",
        "",
        "ann@acme.example.",
        "ann@acme.example\n",
    ] {
        assert_eq!(bench.owner(address).await, DomainOwner::Nobody, "{address}");
    }
    let listed = bench.directory.list_active(&tenant("globex")).await.unwrap();
    assert_eq!(listed.iter().map(|provider| &provider.id).collect::<Vec<_>>(), [&other]);
    assert_eq!((listed[0].kind, listed[0].name.as_str()), ("oidc", "of globex"));
}

#[tokio::test]
async fn a_domain_of_two_tenants_leads_to_neither() {
    let bench = Bench::new().await;
    let one = bench.provider("acme", &["shared.example"]).await;
    let second = bench.provider("acme", &["shared.example"]).await;
    let DomainOwner::Tenant { mut providers, .. } = bench.owner("a@shared.example").await else {
        panic!("two providers of one tenant are no contest")
    };
    providers.sort();
    let mut both = vec![one, second];
    both.sort();
    assert_eq!(providers, both);
    let other = bench.provider("globex", &["shared.example"]).await;
    assert_eq!(bench.owner("a@shared.example").await, DomainOwner::Several);
    bench.change(&other, CredentialChange::Disable).await;
    assert!(matches!(bench.owner("a@shared.example").await, DomainOwner::Tenant { .. }));
}

#[tokio::test]
async fn a_disabled_provider_is_listed_for_operators_only_and_a_revoked_one_not_at_all() {
    let bench = Bench::new().await;
    let id = bench.provider("acme", &["acme.example"]).await;
    bench.change(&id, CredentialChange::Disable).await;
    assert_eq!(bench.owner("a@acme.example").await, DomainOwner::Nobody);
    assert_eq!(bench.directory.list_active(&tenant("acme")).await.unwrap(), []);
    let listed = list_providers(&*bench.store, Some(&tenant("acme"))).await.unwrap();
    assert_eq!((listed.len(), listed[0].state), (1, CredentialState::Disabled));
    assert_eq!(list_providers(&*bench.store, Some(&tenant("globex"))).await.unwrap(), []);
    bench.change(&id, CredentialChange::Revoke).await;
    assert_eq!(list_providers(&*bench.store, None).await.unwrap(), []);
}

#[tokio::test]
async fn the_store_is_read_at_most_every_ten_seconds() {
    let bench = Bench::new().await;
    assert_eq!(bench.owner("a@acme.example").await, DomainOwner::Nobody);
    bench.provider("acme", &["acme.example"]).await;
    bench.clock.advance(USED_FOR - Duration::from_millis(1));
    assert_eq!(
        bench.directory.find_owner("a@acme.example").await,
        Ok(DomainOwner::Nobody),
        "what was read is used"
    );
    bench.clock.advance(Duration::from_millis(1));
    assert!(matches!(
        bench.directory.find_owner("a@acme.example").await,
        Ok(DomainOwner::Tenant { .. })
    ));
}

#[tokio::test]
async fn a_store_that_fails_is_an_error_and_not_an_absence() {
    let bench = Bench::new().await;
    bench.provider("acme", &["acme.example"]).await;
    bench.store.close();
    assert!(matches!(
        bench.directory.find_owner("a@acme.example").await,
        Err(StoreError::Unavailable(_))
    ));
    assert_eq!(
        bench.directory.find_owner("no address").await,
        Ok(DomainOwner::Nobody),
        "this needs no store"
    );
}
