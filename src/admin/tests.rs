//! Rules of operations, over a store that remembers, counts and fails on command.

use std::path::Path;
use std::time::Duration;

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::{CredentialPart, Fingerprint, sha256};
use crate::base::ids::SurfaceName;
use crate::base::scope::Scope;
use crate::config::{Purpose, load};
use crate::store::{CredentialChange, FactStore};

use super::import::ImportKey;
use super::keys::CreateKey;
use super::rotate::RotateKey;
use super::surfaces::{find_key_surface, unused_scopes};
use super::tenants::CreateTenant;
use super::*;

mod fixture;
mod peppers;
mod record;

use fixture::{NOW, key, operations, pepper, with_acme};

fn usage_of<T: fmt::Debug>(result: Result<T, OperationError>) -> String {
    match result {
        Err(OperationError::Usage(text)) => text,
        other => panic!("not a usage error: {other:?}"),
    }
}

#[tokio::test]
async fn a_made_key_is_the_documented_json_and_found_by_its_fingerprint() {
    let (store, operations) = with_acme().await;
    let made = operations.create_key(&key("api")).await.unwrap();
    let json = serde_json::to_value(&made.credential).unwrap();
    let names: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "expires_at",
            "id",
            "key",
            "last4",
            "mode",
            "name",
            "parent",
            "prefix",
            "roles",
            "scopes",
            "subject",
            "surface",
            "tenant"
        ]
    );
    let text = json["key"].as_str().unwrap();
    assert_eq!(
        (text.len(), &text[..6], &text[text.len() - 4..]),
        (6 + 55, "hlive_", json["last4"].as_str().unwrap())
    );
    assert_eq!(
        (&json["prefix"], &json["mode"], &json["scopes"][0]),
        (&"hlive_".into(), &"live".into(), &"orders:read".into())
    );
    let surface = SurfaceName::parse("api").unwrap();
    let found = store
        .find(pepper().fingerprint(&surface, CredentialPart::Key, text.as_bytes()))
        .await
        .unwrap();
    assert_eq!(found.facts.unwrap().credential.id.as_str(), json["id"]);
    assert!(
        !format!("{:?} {made:?}", store.credentials.lock().unwrap()).contains(text),
        "the store and Debug hold no key"
    );
    assert_eq!(made.warnings, Vec::<String>::new());
}

#[tokio::test]
async fn a_pair_shows_both_halves_once_and_keeps_both_fingerprints() {
    let (store, operations) = with_acme().await;
    let made = operations.create_key(&key("pair")).await.unwrap().credential;
    let secret = made.secret.unwrap();
    assert!(made.key.starts_with("pk_live_") && secret.starts_with("sk_live_"));
    let surface = SurfaceName::parse("pair").unwrap();
    let record = store.credentials.lock().unwrap().values().next().unwrap().clone();
    assert_eq!(
        record.fingerprint,
        pepper().fingerprint(&surface, CredentialPart::Key, made.key.as_bytes())
    );
    assert_eq!(
        record.secret_fingerprint,
        Some(pepper().fingerprint(&surface, CredentialPart::Secret, secret.as_bytes()))
    );
    let view = serde_json::to_string(&operations.show_key(&made.id).await.unwrap()).unwrap();
    assert!(!view.contains(&made.key) && !view.contains(&secret), "{view}");
}

#[tokio::test]
async fn a_wrong_request_is_told_what_would_have_been_right() {
    let (_, operations) = with_acme().await;
    type Change = dyn Fn(&mut CreateKey);
    let try_key = async |change: &Change| {
        let mut request = key("api");
        change(&mut request);
        usage_of(operations.create_key(&request).await)
    };
    let cases: [(&Change, &str); 9] = [
        (&|r| r.surface = "apj".into(), "api, pair, old"),
        (&|r| r.surface = "portal".into(), "hangs on a credential of surface `api`"),
        (&|r| r.mode = None, "--mode test or live"),
        (&|r| r.mode = Some("prod".into()), "--mode test or live"),
        (&|r| r.surface = "old".into(), "leave --mode out"),
        (&|r| r.scopes = vec!["a b".into()], "is not a scope"),
        (&|r| r.expires = Some("soon".into()), "30d"),
        (&|r| r.expires = Some("2001-01-01T00:00:00Z".into()), "not in the future"),
        (&|r| r.name = Some("a\nb".into()), "is not a name"),
    ];
    for (change, want) in cases {
        let text = try_key(change).await;
        assert!(text.contains(want), "{text}");
    }
}

#[tokio::test]
async fn a_key_needs_its_tenant_to_exist() {
    let (_, operations) = operations();
    assert!(
        matches!(operations.create_key(&key("api")).await, Err(OperationError::NotFound(text)) if text.contains("tenants create acme"))
    );
    operations.create_tenant(&CreateTenant { id: "acme".into() }).await.unwrap();
    assert!(operations.create_key(&key("api")).await.is_ok());
    assert!(matches!(
        operations.create_tenant(&CreateTenant { id: "acme".into() }).await,
        Err(OperationError::Conflict(_))
    ));
    usage_of(operations.create_tenant(&CreateTenant { id: "a\r\nx: y".into() }).await);
}

#[tokio::test]
async fn a_scope_no_route_needs_is_warned_of() {
    let (_, operations) = with_acme().await;
    let mut request = key("api");
    request.scopes = vec!["orders:raed".into(), "orders:read".into(), "portal:view".into()];
    let warnings = operations.create_key(&request).await.unwrap().warnings;
    assert_eq!(warnings, ["no route of surface `api` needs the scope `orders:raed`"]);
}

#[test]
fn a_scope_that_only_what_is_minted_needs_is_not_warned_of() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/heldsway/gateway.toml");
    let snapshot = load(&example, Purpose::Check).unwrap().snapshot;
    let surface = find_key_surface(&snapshot, "credentials").unwrap();
    let warnings = |scope: &str| unused_scopes(&snapshot, &surface, &std::iter::once(Scope::parse(scope).unwrap()).collect());
    assert_eq!(warnings("reports:read"), [""; 0]);
    assert_eq!(
        warnings("reports:raed"),
        ["no route of surface `credentials` needs the scope `reports:raed`"]
    );
}

#[tokio::test]
async fn a_rotation_makes_the_new_one_and_ends_the_old_one_after_the_grace_in_one_step() {
    let (store, operations) = with_acme().await;
    let old = operations.create_key(&key("pair")).await.unwrap().credential;
    store.steps.lock().unwrap().clear();
    let grace = |text: &str| RotateKey {
        grace: Some(text.into()),
        expires: None,
    };
    let new = operations.rotate_key(&old.id, &grace("90m")).await.unwrap();
    let steps = store.steps.lock().unwrap().clone();
    let end = UnixMillis(NOW + 5_400_000);
    assert_eq!(
        steps,
        [format!("create {}", new.credential.id), format!("ExpireAt({end:?}) {}", old.id)]
    );
    assert_eq!(new.replaces.expires_at.as_deref(), Some("2026-11-22T02:07:18Z"));
    let (a, b) = (
        operations.show_key(&old.id).await.unwrap(),
        operations.show_key(&new.credential.id).await.unwrap(),
    );
    assert_eq!(
        (&a.tenant, &a.surface, &a.mode, &a.scopes),
        (&b.tenant, &b.surface, &b.mode, &b.scopes)
    );
    assert_ne!(old.secret, new.credential.secret);
    let newer = operations.rotate_key(&new.credential.id, &grace("0")).await.unwrap();
    assert_eq!(
        newer.replaces.expires_at.as_deref(),
        Some("2026-11-22T00:37:18Z"),
        "no grace ends it now"
    );
    usage_of(operations.rotate_key(&newer.credential.id, &grace("soon")).await);
}

#[tokio::test]
async fn a_rotation_that_breaks_changes_nothing_and_says_so() {
    let (store, operations) = with_acme().await;
    let old = operations.create_key(&key("api")).await.unwrap().credential;
    *store.fail_changes.lock().unwrap() = 1;
    let failed = operations.rotate_key(&old.id, &RotateKey::default()).await;
    assert!(
        matches!(&failed, Err(OperationError::Unavailable(text)) if text.contains("nothing was changed")),
        "{failed:?}"
    );
    let all = store.credentials.lock().unwrap();
    assert_eq!(all.keys().map(|id| id.as_str()).collect::<Vec<_>>(), [&*old.id]);
}

#[tokio::test]
async fn a_credential_that_was_made_and_not_confirmed_is_shown_with_what_is_not_known() {
    let (store, operations) = with_acme().await;
    *store.unconfirmed.lock().unwrap() = true;
    let made = operations.create_key(&key("api")).await.unwrap();
    assert!(
        made.doubt.as_deref().is_some_and(|doubt| doubt.contains("was made, but")),
        "{made:?}"
    );
    *store.unconfirmed.lock().unwrap() = true;
    let rotated = operations.rotate_key(&made.credential.id, &RotateKey::default()).await.unwrap();
    assert!(rotated.doubt.is_some(), "{rotated:?}");
    assert_ne!(
        rotated.credential.key, made.credential.key,
        "whoever asked has the one that goes on"
    );
    assert!(rotated.replaces.expires_at.is_some());
    let sure = operations.rotate_key(&rotated.credential.id, &RotateKey::default()).await.unwrap();
    assert_eq!(sure.doubt, None);
}

#[tokio::test]
async fn only_a_credential_in_use_is_rotated() {
    let (_, operations) = with_acme().await;
    for change in [
        CredentialChange::Disable,
        CredentialChange::Revoke,
        CredentialChange::ExpireAt(UnixMillis(NOW)),
    ] {
        let id = operations.create_key(&key("api")).await.unwrap().credential.id;
        operations.change_key(&id, change.clone()).await.unwrap();
        assert!(
            matches!(
                operations.rotate_key(&id, &RotateKey::default()).await,
                Err(OperationError::Conflict(_))
            ),
            "{change:?}"
        );
    }
    assert!(matches!(
        operations.rotate_key("nobody", &RotateKey::default()).await,
        Err(OperationError::NotFound(_))
    ));
}

#[tokio::test]
async fn imported_hashes_are_found_by_the_key_they_are_of() {
    let (store, operations) = with_acme().await;
    let hex = |text: &str| Fingerprint::from_bytes(sha256(text.as_bytes())).to_hex();
    let request = ImportKey {
        surface: "old".into(),
        tenant: "acme".into(),
        sha256: hex("old_secret").to_uppercase(),
        id: Some("legacy-7".into()),
        last4: Some("cret".into()),
        ..ImportKey::default()
    };
    assert_eq!(operations.import_key(&request).await.unwrap().id, "legacy-7");
    let surface = SurfaceName::parse("old").unwrap();
    let fingerprint = pepper().fingerprint_of_sha256(&surface, CredentialPart::Key, &sha256(b"old_secret"));
    assert_eq!(
        store.find(fingerprint).await.unwrap().facts.unwrap().credential.id.as_str(),
        "legacy-7"
    );
    assert!(matches!(operations.import_key(&request).await, Err(OperationError::Conflict(_))));
    let other = |change: &dyn Fn(&mut ImportKey)| {
        let mut other = request.clone();
        change(&mut other);
        other
    };
    let generated_only = other(&|r| (r.surface, r.mode) = ("api".into(), Some("live".into())));
    assert!(usage_of(operations.import_key(&generated_only).await).contains("generated keys only"));
    let raw_key = other(&|r| r.sha256 = "old_secret".into());
    let told = usage_of(operations.import_key(&raw_key).await);
    assert!(told.contains("64 hexadecimal") && !told.contains("old_secret"), "{told}");
    let half = other(&|r| (r.surface, r.mode) = ("pair".into(), Some("live".into())));
    assert!(usage_of(operations.import_key(&half).await).contains("secret_sha256"));
    let too_much = other(&|r| r.secret_sha256 = Some(hex("x")));
    assert!(usage_of(operations.import_key(&too_much).await).contains("leave secret_sha256 out"));
}

#[tokio::test]
async fn lists_page_by_id() {
    let (_, operations) = with_acme().await;
    for _ in 0..5 {
        operations.create_key(&key("api")).await.unwrap();
    }
    let first = operations.list_keys(Some("acme"), Some("api"), None, Some(3)).await.unwrap();
    let rest = operations.list_keys(None, None, first.next.as_deref(), Some(3)).await.unwrap();
    assert_eq!((first.keys.len(), rest.keys.len(), rest.next), (3, 2, None));
    assert!(first.keys.iter().all(|k| rest.keys.iter().all(|r| r.id > k.id)));
    assert!(
        operations
            .list_keys(Some("globex"), None, None, None)
            .await
            .unwrap()
            .keys
            .is_empty()
    );
}

#[tokio::test]
async fn readiness_says_which_check_failed() {
    let (_, operations) = operations();
    let ready = |operations: &Operations| operations.status();
    assert_eq!(ready(&operations).checks.configuration, "not loaded yet");
    operations.readiness.configured();
    assert_eq!(ready(&operations).checks.store, "no answer");
    operations.readiness.store_answered(operations.clock.now().boot);
    assert!(ready(&operations).ready);
    operations.readiness.draining();
    assert_eq!(
        (ready(&operations).ready, ready(&operations).checks.serving.as_str()),
        (false, "shutting down")
    );
    let late = operations.clock.now().boot.plus(Duration::from_secs(4));
    assert!(!operations.readiness.store_is_up(late), "an old answer does not count");
}

#[tokio::test]
async fn a_bad_reload_is_a_configuration_error() {
    let (_, operations) = operations();
    assert_eq!(
        operations.reload(crate::audit::action::Actor::Cli).await,
        Err(OperationError::Configuration("gateway.toml:1:1: wrong".into()))
    );
}
