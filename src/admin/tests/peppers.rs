//! What depends on a pepper, and what becomes of it when another one is first.

use std::sync::Arc;

use crate::admin::import::ImportKey;
use crate::admin::keys::CreateKey;
use crate::admin::{OperationError, Operations};
use crate::base::clock::UnixMillis;
use crate::base::fingerprint::{Fingerprint, Pepper, Peppers, sha256};
use crate::base::ids::CredentialId;
use crate::base::principal::CredentialRecord;
use crate::store::embedded::EmbeddedStore;
use crate::store::{CredentialChange, RecordStore};

use super::fixture::{NOW, key, operations, pepper, with_acme};

/// The pepper of these tests behind a new one, which is 08…08.
fn both() -> Peppers {
    Peppers::new(vec![Pepper::new(&[8; 32]).unwrap(), pepper()]).unwrap()
}

/// Over a file in which the key `old` was made under the old pepper; the new one is first.
async fn rotated(folder: &tempfile::TempDir) -> (Arc<EmbeddedStore>, Operations, String) {
    let path = folder.path().join("store");
    let (_, mut operations) = operations();
    let old = Peppers::new(vec![pepper()]).unwrap();
    let store = Arc::new(EmbeddedStore::open(&path, &old.checks()).unwrap());
    operations.store = store;
    let create = crate::admin::tenants::CreateTenant { id: "acme".into() };
    operations.create_tenant(&create).await.unwrap();
    let id = operations.create_key(&key("api")).await.unwrap().credential.id;
    let (_, mut after) = super::fixture::operations();
    drop(operations);
    let store = Arc::new(EmbeddedStore::open(&path, &both().checks()).unwrap());
    after.store = store.clone();
    after.peppers = both();
    (store, after, id)
}

fn mark() -> String {
    pepper().check().mark().to_string()
}

#[tokio::test]
async fn an_imported_key_does_not_come_back_under_another_pepper() {
    let (store, mut operations) = with_acme().await;
    let import = |text: &str| ImportKey {
        surface: "old".into(),
        tenant: "acme".into(),
        sha256: Fingerprint::from_bytes(sha256(text.as_bytes())).to_hex(),
        ..ImportKey::default()
    };
    let id = operations.import_key(&import("leaked")).await.unwrap().id;
    let revoke = store.change_credential(CredentialId::parse(&id).unwrap(), CredentialChange::Revoke, UnixMillis(NOW));
    revoke.await.unwrap();
    operations.peppers = both();
    let again = operations.import_key(&import("leaked")).await;
    assert!(matches!(again, Err(OperationError::Conflict(_))), "{again:?}");
    operations.import_key(&import("another")).await.unwrap();
}

#[tokio::test]
async fn what_is_in_force_and_needs_a_pepper_is_counted_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (store, operations, old) = rotated(&folder).await;
    let lasting = operations.list_peppers().await.unwrap();
    let [first, second] = &lasting.peppers[..] else {
        panic!("{lasting:?}")
    };
    assert_eq!((first.credentials, first.lasting, &first.droppable), (1, 1, &None));
    assert_eq!((second.first, second.credentials, lasting.unlisted), (true, 0, 0));
    // A session is found by its id; a disabled key may be enabled again.
    let mut session = CredentialRecord {
        id: CredentialId::parse("ses_1").unwrap(),
        ..store.find_credential(CredentialId::parse(&old).unwrap()).await.unwrap().unwrap()
    };
    session.fingerprint = Fingerprint::of_id(&session.surface, &session.id);
    store.create_credential(session).await.unwrap();
    operations.change_key(&old, CredentialChange::Disable).await.unwrap();
    let request = CreateKey {
        expires: Some("1d".into()),
        ..key("api")
    };
    let new = operations.create_key(&request).await.unwrap().credential;
    let uses = operations.list_peppers().await.unwrap();
    assert_eq!(uses.peppers[0].credentials, 1, "{uses:?}");
    assert_eq!((uses.peppers[1].credentials, uses.peppers[1].lasting), (1, 0));
    assert_eq!(uses.peppers[1].latest_expiry, new.expires_at);
    // It ends at a time, then now.
    let end = UnixMillis(NOW + 60_000);
    operations.change_key(&old, CredentialChange::ExpireAt(end)).await.unwrap();
    let uses = operations.list_peppers().await.unwrap();
    assert_eq!(uses.peppers[0].droppable, Some(crate::admin::text::write(end)));
    operations
        .change_key(&old, CredentialChange::ExpireAt(UnixMillis(NOW)))
        .await
        .unwrap();
    let uses = operations.list_peppers().await.unwrap();
    assert_eq!(uses.peppers[0].droppable.as_deref(), Some("now"));
    let under = operations.list_keys_under(&mark(), None, None, None, None).await.unwrap();
    assert!(under.keys.is_empty(), "what has ended needs nobody's attention");
}

#[tokio::test]
async fn a_pepper_is_dropped_only_when_nothing_depends_on_it_and_then_once() {
    let folder = tempfile::tempdir().unwrap();
    let (store, operations, old) = rotated(&folder).await;
    let before = store.peppers().await.unwrap();
    let refused = operations.drop_pepper(&mark()).await;
    assert!(
        matches!(&refused, Err(OperationError::Conflict(why)) if why.contains("1 keys")),
        "{refused:?}"
    );
    assert_eq!(store.peppers().await.unwrap(), before, "as it was");
    let own = both().first().check().mark().to_string();
    assert!(matches!(operations.drop_pepper(&own).await, Err(OperationError::Conflict(_))));
    operations.change_key(&old, CredentialChange::Revoke).await.unwrap();
    // One that was broken off in the middle is finished by the next, and cannot go on itself.
    let broken_off = before.leaving(pepper().check(), Some("word"));
    assert!(store.set_peppers(before.clone(), broken_off.clone()).await.unwrap());
    assert!(operations.list_peppers().await.unwrap().peppers[0].leaving);
    let left = operations.drop_pepper(&mark()).await.unwrap();
    assert_eq!(left.peppers.len(), 1);
    let stale = store.set_peppers(broken_off.clone(), broken_off.without(pepper().check()));
    assert!(!stale.await.unwrap());
    assert!(matches!(operations.drop_pepper(&mark()).await, Err(OperationError::NotFound(_))));
}
