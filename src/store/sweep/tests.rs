//! When a credential ends by itself.

use std::time::Duration;

use super::*;
use crate::base::clock::SystemClock;
use crate::base::principal::{Idle, State};
use crate::store::codec::tests::sample;
use crate::store::embedded::EmbeddedStore;

#[test]
fn the_earlier_of_expiry_and_idleness_is_the_natural_end() {
    let mut record = sample();
    record.expires_at = None;
    record.extras = None;
    assert_eq!(natural_end(&record), None, "it lasts");
    record.state = State::Revoked { at: UnixMillis(1) };
    assert_eq!(natural_end(&record), None, "and stays as a tombstone");
    record.expires_at = Some(UnixMillis(5_000));
    assert_eq!(natural_end(&record), Some(UnixMillis(5_000)));
    record.extras_mut().idle = Some(Idle {
        timeout: Duration::from_secs(1),
        last_used: UnixMillis(1_000),
    });
    assert_eq!(natural_end(&record), Some(UnixMillis(2_000)));
    record.expires_at = None;
    assert_eq!(natural_end(&record), Some(UnixMillis(2_000)));
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the runtime's own time, which is what passes here")]
async fn a_process_sweeps_by_itself_and_not_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("store"), "check").unwrap();
    let now = SystemClock.now().wall;
    let mut record = sample();
    record.extras = None;
    record.expires_at = Some(UnixMillis(now.0 - 2_000));
    store.create_tenant(record.tenant.clone(), now).await.unwrap();
    let id = store.create_credential(record).await.unwrap().id;
    // The disk answers in real time: what is made before is waited for; what the sweep writes is done
    // also when its deadline in virtual time has passed, and a question is asked again.
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let sweeping = sweep_for_ever(&store, Duration::from_secs(1), &SystemClock);
    let watching = async {
        while !matches!(store.find_credential(id.clone()).await, Ok(None)) {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        began.elapsed()
    };
    let took = tokio::select! {
        () = sweeping => Duration::ZERO,
        took = watching => took,
    };
    assert!(took >= FIRST, "{took:?}");
}
