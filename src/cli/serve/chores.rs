//! Tasks that a gateway runs beside requests until it stops.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::reload::Reloader;
use crate::admin::Operations;
use crate::admin::probes::watch_store;
use crate::admin::readiness::Readiness;
use crate::audit::trail::Trail;
use crate::base::clock::SystemClock;
use crate::base::ids::GatewayId;
use crate::snapshot::StoreSettings;
use crate::store::announce::{Announcer, Identity};
use crate::store::cached::CachedStore;
use crate::store::receipts::MAX_GATEWAYS;
use crate::store::{CredentialStore, PublishedCheckpoint, RecordStore, activity, sweep};

/// Longest time for which a gateway that stops writes to the store which credentials were in use. It takes much less. If the
/// time is over, the next start has less to read ahead.
pub(super) const TELLING_TIME: Duration = Duration::from_secs(1);

/// Shortest time between two exchanges of checkpoints: each reads the checkpoints of all gateways.
const SHORTEST_EXCHANGE: Duration = Duration::from_secs(1);

/// Starts two tasks: one reads ahead what was in use before the start, and readiness waits for it; the other one tells the store
/// what is in use, until it is aborted.
fn warm_up(store: &StoreSettings, cached: &Arc<CachedStore>, readiness: &Arc<Readiness>) -> Vec<JoinHandle<()>> {
    if store.warm_start == 0 {
        return Vec::new();
    }
    readiness.warming();
    let (reading, telling, readiness, within) = (cached.clone(), cached.clone(), readiness.clone(), store.warm_start_time);
    vec![
        tokio::spawn(async move {
            reading.read_ahead(within, &readiness.ahead).await;
            readiness.warm();
        }),
        tokio::spawn(async move { telling.report_in_use_for_ever().await }),
    ]
}

/// Starts the tasks that run beside requests until they are aborted.
pub(super) fn start_chores(
    operations: &Arc<Operations>,
    reloader: &Arc<Reloader>,
    cached: &Arc<CachedStore>,
    announcer: &Arc<Announcer>,
    store: &StoreSettings,
) -> Vec<JoinHandle<()>> {
    let mut chores = warm_up(store, cached, &operations.readiness);
    chores.extend([
        tokio::spawn(watch_store(operations.clone())),
        tokio::spawn(reloader.clone().poll()),
        tokio::spawn(write_uses(cached.clone(), operations.store.clone())),
        tokio::spawn(announcer.clone().run()),
        tokio::spawn(sweep_store(operations.store.clone(), store.keep_ended)),
    ]);
    chores
}

/// Publishes this gateway's newest checkpoint and keeps those of the other gateways, until it is aborted.
pub(super) async fn exchange_checkpoints(trail: Arc<Trail>, store: Arc<dyn CredentialStore>, own: Identity) {
    let interval = trail.settings().checkpoint.max(SHORTEST_EXCHANGE);
    // What was said last about each gateway, so that it is said once.
    let mut refused: BTreeMap<GatewayId, String> = BTreeMap::new();
    let mut failed = false;
    loop {
        tokio::time::sleep(interval).await;
        let published = trail.published_checkpoint();
        let others = match store.exchange_checkpoints(own.id.clone(), own.run, published).await {
            Ok(others) => others,
            Err(error) => {
                if !failed {
                    tracing::warn!(%error, "checkpoints of audit trails are not exchanged: no other gateway can witness for this one until they are");
                }
                failed = true;
                continue;
            }
        };
        failed = false;
        let keeper = trail.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let keep = |other: PublishedCheckpoint| (other.gateway, keeper.keep_other(&other.text));
            others.into_iter().map(keep).collect::<Vec<_>>()
        });
        for (gateway, kept) in kept.await.unwrap_or_default() {
            match kept {
                Ok(_) => drop(refused.remove(&gateway)),
                Err(error) => {
                    let said = error.to_string();
                    if refused.get(&gateway) != Some(&said) {
                        tracing::error!(alarm = "other_checkpoint_refused", %gateway, %error, "the audit checkpoint of another gateway is not kept");
                        refused.insert(gateway, said);
                    }
                }
            }
        }
        while refused.len() > MAX_GATEWAYS {
            refused.pop_first();
        }
    }
}

/// Forgets what ended long ago, until it is aborted.
async fn sweep_store(records: Arc<dyn RecordStore>, keep: Duration) {
    sweep::sweep_for_ever(&*records, keep, &SystemClock).await;
}

/// Writes when sliding sessions were last used, until it is aborted.
async fn write_uses(cached: Arc<CachedStore>, records: Arc<dyn RecordStore>) {
    activity::write_behind(cached.activity(), &*records, &SystemClock).await;
}
