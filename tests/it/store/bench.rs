//! A cache over a store that fails on demand, and the moves its tests make.

use std::sync::Arc;
use std::time::Duration;

use durward::base::clock::Clock;
use durward::base::principal::{CredentialState, Facts};
use durward::store::cached::{CacheEntry, CacheSettings, CachedStore, LookupOrigin, Recalled};
use durward::store::{CredentialChange, StoreError};

use super::fixture::{Fixture, NOW, control, credential_id, fingerprint, record, settings, tenant, until};
use super::wrapper::{Behaviour, Wrapper};

/// A cache over a wrapper over an embedded store with tenant `acme` and credential `key-1`.
pub(super) struct Bench {
    pub(super) cache: Arc<CachedStore>,
    pub(super) wrapper: Arc<Wrapper>,
    pub(super) fixture: Fixture,
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::with(settings()).await
    }

    pub(super) async fn with(settings: CacheSettings) -> Self {
        let fixture = Fixture::embedded().await;
        fixture.store.create_tenant(tenant("acme"), NOW).await.unwrap();
        fixture.store.create_credential(record("key-1", "acme")).await.unwrap();
        let wrapper = Arc::new(Wrapper::new(fixture.store.clone()));
        let cache = CachedStore::new(wrapper.clone(), &settings, fixture.clock.clone(), control());
        Self { cache, wrapper, fixture }
    }

    pub(super) fn recall(&self, name: &str) -> Recalled {
        self.cache.recall(&fingerprint(name), self.fixture.clock.now())
    }

    /// What a worker would keep.
    pub(super) fn held(&self, name: &str) -> Arc<CacheEntry> {
        match self.recall(name) {
            Recalled::Present(held) => held,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn is_current(&self, name: &str, held: &CacheEntry) -> bool {
        self.cache.is_current(&fingerprint(name), held, self.fixture.clock.now())
    }

    pub(super) fn present(&self, name: &str) -> Option<Arc<Facts>> {
        match self.recall(name) {
            Recalled::Present(held) => Some(Arc::clone(held.facts())),
            _ => None,
        }
    }

    pub(super) async fn load(&self, name: &str) -> Result<Option<Arc<Facts>>, StoreError> {
        self.cache.load(fingerprint(name), LookupOrigin::Proven).await
    }

    pub(super) fn start_load(&self, name: &str) -> tokio::task::JoinHandle<Result<Option<Arc<Facts>>, StoreError>> {
        let cache = self.cache.clone();
        let by = fingerprint(name);
        tokio::spawn(async move { cache.load(by, LookupOrigin::Proven).await })
    }

    pub(super) fn advance(&self, millis: u64) {
        self.fixture.clock.advance(Duration::from_millis(millis));
    }

    pub(super) async fn revoke(&self) {
        let revoked = self
            .fixture
            .store
            .change_credential(credential_id("key-1"), CredentialChange::Revoke, NOW)
            .await;
        revoked.unwrap();
    }

    pub(super) async fn until_held(&self, count: u64) {
        until("a held look-up", async || self.wrapper.held() >= count).await;
    }
}

pub(super) fn is_revoked(facts: &Facts) -> bool {
    matches!(facts.credential.state, CredentialState::Revoked { .. })
}

pub(super) fn unavailable() -> Behaviour {
    Behaviour::Fail(StoreError::Unavailable("on demand".into()))
}
