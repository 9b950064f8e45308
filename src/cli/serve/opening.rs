//! Opens the store of a gateway that starts.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::process::StartError;
use crate::base::clock::Clock;
use crate::base::fingerprint::PepperChecks;
use crate::snapshot::{Settings, StoreKind, StoreSettings};
use crate::store::CredentialStore;
use crate::store::announce::Identity;
use crate::store::cached::CacheSettings;
use crate::store::embedded::EmbeddedStore;
use crate::store::embedded::first_start::{self, PepperLocation, StoreStart};
use crate::store::redis::{Endpoint, RedisAccess, RedisSettings, RedisStore, Registered, Servers, SharedCounts};

/// Kind and place of a store, for the log; without a password.
pub(super) fn name_of(store: &StoreKind) -> String {
    let list = |all: &[Endpoint]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    match store {
        StoreKind::Embedded { path } => format!("embedded {}", path.display()),
        StoreKind::Redis { access, .. } => match &access.servers {
            Servers::One(endpoint) => format!("redis {endpoint}"),
            Servers::Cluster(seeds) => format!("redis cluster {}", list(seeds)),
            Servers::Sentinels(sentinels) => format!("redis `{}` by sentinels {}", sentinels.service, list(&sentinels.addresses)),
        },
    }
}

/// The store, and where rate limits are counted by all gateways together, if it is a shared one.
pub(super) type Opened = (Arc<dyn CredentialStore>, Option<SharedCounts>);

pub(super) async fn open_store(settings: &Settings, gateway: &Identity, clock: Arc<dyn Clock>) -> Result<Opened, StartError> {
    let peppers = settings.peppers.checks();
    match &settings.store.kind {
        StoreKind::Embedded { path } => Ok((Arc::new(open_embedded(path, settings.store.pepper, &peppers)?), None)),
        StoreKind::Redis {
            access,
            key_prefix,
            wait_replicas,
        } => {
            let redis = RedisSettings {
                access: RedisAccess::clone(access),
                key_prefix: key_prefix.clone(),
                wait_replicas: *wait_replicas,
                lookup_timeout: settings.store.lookup_timeout,
                max_age: settings.store.max_age,
                peppers,
                registered: Some(Registered {
                    id: gateway.id.clone(),
                    run: gateway.run,
                }),
            };
            let store = RedisStore::open(redis, clock, Handle::current()).await?;
            let counts = store.counts();
            Ok((Arc::new(store), Some(counts)))
        }
    }
}

/// Opens the file. An empty one is made where that is permitted, and where it may be the first one. In the second case look-ups
/// fail until an operator has made a tenant in it.
fn open_embedded(path: &Path, pepper: PepperLocation, peppers: &PepperChecks) -> Result<EmbeddedStore, StartError> {
    let start = first_start::check(path, pepper).map_err(StartError::NoStore)?;
    let mut store = EmbeddedStore::open(path, peppers)?;
    match start {
        StoreStart::Existing => {}
        StoreStart::Permitted => {
            tracing::info!(path = %path.display(), "a new store was begun: it knows no tenant and no key");
            unmark(
                &first_start::unconfirmed_marker(path),
                "as long as it is there, callers get 503 after a start",
            );
        }
        StoreStart::Unconfirmed => {
            tracing::warn!(
                alarm = "store_unconfirmed",
                path = %path.display(),
                "an empty store was begun. Its pepper was there already, so it may have taken the place of another store: callers get 503 \
                 until `durward tenants create`. If there was a store, stop, and mount its volume or bring back a copy"
            );
            store.await_confirmation(path);
        }
    }
    unmark(
        &first_start::permission_marker(path),
        "as long as it is there, a store that is lost is replaced by an empty one",
    );
    Ok(store)
}

fn unmark(mark: &Path, otherwise: &str) {
    if let Err(error) = first_start::remove_marker(mark) {
        tracing::warn!(%error, file = %mark.display(), "cannot be removed: {otherwise}");
    }
}

pub(super) fn cache_settings(store: &StoreSettings) -> CacheSettings {
    CacheSettings {
        max_age: store.max_age,
        absent_age: store.absent_age,
        lookup_timeout: store.lookup_timeout,
        max_lookups: store.max_lookups,
        unknown_lookups: store.unknown_lookups,
        // The standard library's hash keys are random and need no generator of our own.
        seed: RandomState::new().hash_one(0),
        cache_entries: store.cache_entries,
        read_ahead: store.warm_start.min(usize::try_from(store.cache_entries).unwrap_or(usize::MAX)),
        absent_entries: store.absent_entries,
        ..CacheSettings::default()
    }
}
