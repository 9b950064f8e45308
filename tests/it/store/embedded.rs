//! What only the embedded store promises: durable, private, one process, one pepper.

use std::os::unix::fs::PermissionsExt;

use durward::store::embedded::EmbeddedStore;
use durward::store::{CredentialChange, FactStore, RecordStore, StoreError, StoredFacts};

use super::fixture::{NOW, PEPPER, credential_id, fingerprint, peppers, record, run, tenant};

#[test]
fn what_was_acknowledged_is_there_after_a_reopen() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/durward.redb");
        let store = EmbeddedStore::open(&path, PEPPER).unwrap();
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        store.create_credential(record("key-1", "acme")).await.unwrap();
        let revoked = store
            .change_credential(credential_id("key-1"), CredentialChange::Revoke, NOW)
            .await
            .unwrap();
        let position = store.find(fingerprint("key-1")).await.unwrap().position;
        drop(store);
        let store = EmbeddedStore::open(&path, PEPPER).unwrap();
        let found = store.find(fingerprint("key-1")).await.unwrap();
        assert_eq!(found.facts.unwrap().credential, revoked);
        assert_eq!(found.position, position);
        assert_eq!(store.status().applied, position);
    });
}

#[test]
fn nobody_else_can_read_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/durward.redb");
    let _store = EmbeddedStore::open(&path, PEPPER).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_second_opener_is_told_why_it_cannot() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("durward.redb");
    let store = EmbeddedStore::open(&path, PEPPER).unwrap();
    let error = EmbeddedStore::open(&path, PEPPER).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
    drop(store);
    assert!(EmbeddedStore::open(&path, PEPPER).is_ok());
}

#[test]
fn a_store_of_another_pepper_is_refused_and_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("durward.redb");
    drop(EmbeddedStore::open(&path, PEPPER).unwrap());
    let error = EmbeddedStore::open(&path, &peppers(0x0b, &[])).unwrap_err();
    assert!(matches!(error, StoreError::Foreign(_)), "{error}");
    assert!(error.to_string().contains("pepper file"), "{error}");
    assert!(EmbeddedStore::open(&path, PEPPER).is_ok(), "the refusal changed nothing");
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("durward.redb");
    std::fs::write(&path, "not a store, but somebody's notes").unwrap();
    assert!(EmbeddedStore::open(&path, PEPPER).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"not a store, but somebody's notes");
}

#[test]
fn a_flipped_byte_is_never_read_as_a_record() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("durward.redb");
        let store = EmbeddedStore::open(&path, PEPPER).unwrap();
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        let made = store.create_credential(record("key-1", "acme")).await.unwrap();
        drop(store);
        let mut bytes = std::fs::read(&path).unwrap();
        let needle = br#""scopes":["orders:read"]"#;
        let at = bytes
            .windows(needle.len())
            .rposition(|w| w == needle)
            .expect("the record is in the file");
        bytes[at + 11] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        // Refused, or repaired to what was committed before; never the altered record.
        if let Ok(store) = EmbeddedStore::open(&path, PEPPER)
            && let Ok(found) = store.find(fingerprint("key-1")).await
            && let Some(StoredFacts { credential: record, .. }) = found.facts
        {
            assert_eq!(record, made);
        }
    });
}

#[test]
fn changes_that_wait_together_are_all_made_and_refusals_stay_refusals() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let store = std::sync::Arc::new(EmbeddedStore::open(&directory.path().join("durward.redb"), PEPPER).unwrap());
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        let changes: Vec<_> = (0..100)
            .map(|i| {
                let store = store.clone();
                // Every tenth is refused: its tenant does not exist.
                let owner = if i % 10 == 0 { "nobody" } else { "acme" };
                tokio::spawn(async move { store.create_credential(record(&format!("key-{i}"), owner)).await })
            })
            .collect();
        let mut made = 0;
        for (i, change) in changes.into_iter().enumerate() {
            let outcome = change.await.unwrap();
            assert_eq!(outcome.is_ok(), i % 10 != 0, "{outcome:?}");
            made += u64::from(outcome.is_ok());
        }
        let position = store.find(fingerprint("key-1")).await.unwrap().position;
        assert_eq!(position.0, made + 1);
    });
}
