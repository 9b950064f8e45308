//! When a credential ends by itself.

use std::time::Duration;

use super::*;
use crate::base::clock::SystemClock;
use crate::base::fingerprint::{PepperCheck, PepperChecks};
use crate::base::principal::{CredentialState, IdleTimeout};
use crate::store::codec::tests::sample;
use crate::store::embedded::EmbeddedStore;

#[test]
fn the_earlier_of_expiry_and_idleness_is_the_natural_end() {
    let mut record = sample();
    record.expires_at = None;
    record.extras = None;
    assert_eq!(natural_end(&record), None, "it lasts");
    record.state = CredentialState::Revoked { at: UnixMillis(1) };
    assert_eq!(natural_end(&record), None, "and stays as a tombstone");
    record.expires_at = Some(UnixMillis(5_000));
    assert_eq!(natural_end(&record), Some(UnixMillis(5_000)));
    record.extras_mut().idle = Some(IdleTimeout {
        timeout: Duration::from_secs(1),
        last_used: UnixMillis(1_000),
    });
    assert_eq!(natural_end(&record), Some(UnixMillis(2_000)));
    record.expires_at = None;
    assert_eq!(natural_end(&record), Some(UnixMillis(2_000)));
}

#[tokio::test]
async fn a_process_sweeps_by_itself_and_forgets_only_what_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("store"), &PepperChecks::one(PepperCheck::from_bytes([7; 32]))).unwrap();
    let now = SystemClock.now().wall;
    let mut ended = sample();
    ended.extras = None;
    ended.expires_at = Some(UnixMillis(now.0 - 60_000));
    let mut lasting = ended.clone();
    lasting.id = CredentialId::parse("lasting").unwrap();
    lasting.fingerprint = crate::base::fingerprint::Fingerprint::from_bytes([9; 32]);
    lasting.secret_fingerprint = None;
    lasting.expires_at = None;
    store.create_tenant(ended.tenant.clone(), now).await.unwrap();
    for record in [&ended, &lasting] {
        store.create_credential(record.clone()).await.unwrap();
    }
    let soon = Duration::from_millis(20);
    let sweeping = sweep_every(soon, soon, &store, Duration::from_secs(1), &SystemClock);
    let forgotten = async {
        while store.find_credential(ended.id.clone()).await.unwrap().is_some() {
            tokio::time::sleep(soon).await;
        }
    };
    tokio::select! {
        () = sweeping => panic!("it sweeps for ever"),
        () = forgotten => {}
    }
    assert!(store.find_credential(lasting.id).await.unwrap().is_some());
}
