//! Tasks that a gateway runs beside requests until it stops.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::reload::Reloader;
use crate::admin::Operations;
use crate::admin::probes::watch_store;
use crate::admin::readiness::Readiness;
use crate::base::clock::SystemClock;
use crate::snapshot::StoreSettings;
use crate::store::announce::Announcer;
use crate::store::cached::CachedStore;
use crate::store::{RecordStore, activity, sweep};

/// Longest time for which a gateway that stops writes to the store which credentials were in use. It takes much less. If the
/// time is over, the next start has less to read ahead.
pub(super) const TELLING_TIME: Duration = Duration::from_secs(1);

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

/// Forgets what ended long ago, until it is aborted.
async fn sweep_store(records: Arc<dyn RecordStore>, keep: Duration) {
    sweep::sweep_for_ever(&*records, keep, &SystemClock).await;
}

/// Writes when sliding sessions were last used, until it is aborted.
async fn write_uses(cached: Arc<CachedStore>, records: Arc<dyn RecordStore>) {
    activity::write_behind(cached.activity(), &*records, &SystemClock).await;
}
