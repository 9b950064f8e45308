//! Opens the store of a gateway that starts, and permits one to begin empty.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tokio::runtime::Handle;

use crate::base::clock::Clock;
use crate::base::fingerprint::PepperChecks;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Printer, style};
use crate::config::{self, Purpose};
use crate::snapshot::{Settings, StoreKind, StoreSettings};
use crate::store::announce::Identity;
use crate::store::cached::CacheSettings;
use crate::store::embedded::EmbeddedStore;
use crate::store::embedded::first_start::{self, PepperLocation, StoreFileState, StoreStart};
use crate::store::redis::{Endpoint, RedisAccess, RedisSettings, RedisStore, Registered, Servers, SharedCounts};
use crate::store::{CredentialStore, StoreError};

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

/// Why the store was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("the store cannot be opened: {}", reason(.0))]
    Store(#[from] StoreError),
    #[error("{0}")]
    Missing(String),
}

/// The reason in the words of the store, without "unavailable", which the message says already.
fn reason(error: &StoreError) -> String {
    match error {
        StoreError::Unavailable(why) => why.clone(),
        StoreError::Corrupt(_) | StoreError::Foreign(_) => error.to_string(),
    }
}

/// The store, and where rate limits are counted by all gateways together, if it is a shared one.
pub(super) struct OpenedStore {
    pub(super) store: Arc<dyn CredentialStore>,
    pub(super) shared_counts: Option<SharedCounts>,
}

pub(super) async fn open_store(settings: &Settings, gateway: &Identity, clock: Arc<dyn Clock>) -> Result<OpenedStore, OpenError> {
    let peppers = settings.peppers.checks();
    match &settings.store.kind {
        StoreKind::Embedded { path } => Ok(OpenedStore {
            store: Arc::new(open_embedded(path, settings.store.pepper, &peppers)?),
            shared_counts: None,
        }),
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
            Ok(OpenedStore {
                shared_counts: Some(store.counts()),
                store: Arc::new(store),
            })
        }
    }
}

/// Opens the file. An empty one is made where that is permitted, and where it may be the first one. In the second case look-ups
/// fail until an operator has made a tenant in it.
fn open_embedded(path: &Path, pepper: PepperLocation, peppers: &PepperChecks) -> Result<EmbeddedStore, OpenError> {
    let start = first_start::check(path, pepper).map_err(OpenError::Missing)?;
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
        // The hash keys of the standard library are random.
        seed: RandomState::new().hash_one(0),
        cache_entries: store.cache_entries,
        read_ahead: store.warm_start.min(usize::try_from(store.cache_entries).unwrap_or(usize::MAX)),
        read_ahead_rate: store.warm_start_rate,
        absent_entries: store.absent_entries,
        ..CacheSettings::default()
    }
}

#[derive(Serialize)]
struct NewStorePermitted {
    store: String,
}

/// `durward new-store`: permits the next start to begin with an empty store.
pub(crate) fn permit_new_store(config: &Path, printer: &Printer) -> Result<(), Failure> {
    let loaded = config::load(config, Purpose::Check).map_err(|errors| printer.mistakes(config, &errors.problems, style()))?;
    let StoreKind::Embedded { path } = &loaded.settings.store.kind else {
        let why = "a Redis store is begun by the first tenant that is made in it; nothing was changed";
        return Err(Failure::new(Exit::Usage, why));
    };
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, format!("{}: {error}", path.display()));
    if first_start::inspect(path).map_err(failed)? == StoreFileState::Store {
        let why = format!("the store {} is there: move it away first; nothing was changed", path.display());
        return Err(Failure::new(Exit::Failed, why));
    }
    first_start::create_marker(&first_start::permission_marker(path)).map_err(failed)?;
    let permitted = NewStorePermitted {
        store: path.display().to_string(),
    };
    printer.print(&permitted, |out| {
        writeln!(out, "the next `durward serve` begins an empty store at {}", permitted.store)
    })
}
