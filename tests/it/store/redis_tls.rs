//! TLS with authorities, certificates and names of our own, and a user that may do no more than is
//! documented; by way of the configuration, as an operator has it.

use std::path::Path;

use durward::base::ids::RoleId;
use durward::base::principal::RoleRecord;
use durward::base::scope::{Scope, ScopeSet};
use durward::config::{self, Purpose};
use durward::snapshot::StoreKind;
use durward::store::events::ReaderState;
use durward::store::redis::RedisAccess;
use durward::store::{CredentialChange, CredentialFilter, FactStore, ReceiptStore, RecordStore, RoleChange, StoreError, TenantState};

use super::fixture::{NOW, PEPPER, credential_id, fingerprint, open_access, record, run, tenant, until};
use crate::support::redis::{RedisServer, documented_user, free_port};

const GATEWAY: &str =
    "[[listeners]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n\n[store]\nkind = \"redis\"\npepper = \"file:pepper\"\n";

/// What the configuration makes of these lines of `[store]`.
fn configured(directory: &Path, store: &str) -> RedisAccess {
    std::fs::create_dir_all(directory.join("upstreams")).unwrap();
    std::fs::write(directory.join("pepper"), "p".repeat(32)).unwrap();
    std::fs::write(directory.join("gateway.toml"), format!("{GATEWAY}{store}")).unwrap();
    let loaded = config::load(&directory.join("gateway.toml"), Purpose::Serve).unwrap_or_else(|errors| panic!("{errors}"));
    match loaded.settings.store.kind {
        StoreKind::Redis { access, .. } => *access,
        StoreKind::Embedded { .. } => panic!("a redis store was asked for"),
    }
}

/// An authority, and certificates of it: `server` for the name `redis.test`, `client`.
fn certificates(directory: &Path) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(authority, rcgen::KeyPair::generate().unwrap()).unwrap();
    std::fs::write(directory.join("ca.pem"), authority.as_ref().pem()).unwrap();
    for (name, usage) in [
        ("server", rcgen::ExtendedKeyUsagePurpose::ServerAuth),
        ("client", rcgen::ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let mut parameters = rcgen::CertificateParams::new(vec!["redis.test".to_owned()]).unwrap();
        parameters.extended_key_usages = vec![usage];
        // Another name than the authority's, or it would pass for one that signed itself.
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &authority).unwrap();
        std::fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// A server that also speaks TLS, to clients with a certificate only; and its port.
fn start_with_tls(directory: &Path) -> (RedisServer, u16) {
    let mut port = 0;
    let file = |name: &str| directory.join(name).display().to_string();
    let server = RedisServer::start_choosing(|| {
        port = free_port();
        [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", file("server.pem")),
            ("--tls-key-file", file("server.key")),
            ("--tls-ca-cert-file", file("ca.pem")),
            ("--tls-auth-clients", "yes".to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    });
    (server, port)
}

async fn answer(access: RedisAccess) -> Result<(), String> {
    let store = open_access(access, 0, PEPPER).await.unwrap();
    match store.time().await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn tls_verifies_authority_and_name_and_shows_the_client_certificate() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        certificates(directory.path());
        let other = tempfile::tempdir().unwrap();
        certificates(other.path());
        std::fs::copy(other.path().join("ca.pem"), directory.path().join("other-ca.pem")).unwrap();
        let (_server, port) = start_with_tls(directory.path());
        let url = format!("url = \"rediss://127.0.0.1:{port}\"\n[store.tls]\n");
        let good = "ca = \"ca.pem\"\nclient_cert = \"client.pem\"\nclient_key = \"file:client.key\"\nserver_name = \"redis.test\"\n";
        let access = |tls: &str| configured(directory.path(), &format!("{url}{tls}"));
        for bad in [
            good.replace("\"ca.pem\"", "\"other-ca.pem\""),
            good.replace("server_name = \"redis.test\"\n", ""),
            good.replace("redis.test", "another.test"),
            "ca = \"ca.pem\"\nserver_name = \"redis.test\"\n".to_owned(),
        ] {
            let refused = answer(access(&bad)).await;
            assert!(refused.is_err(), "connected with {bad}");
        }
        assert_eq!(answer(access(good)).await, Ok(()));
    });
}

#[test]
fn the_documented_user_may_do_all_that_is_needed_and_nothing_else() {
    run(async {
        let server = RedisServer::start();
        let user = documented_user();
        let mut words = vec!["ACL", "SETUSER"];
        words.extend(user.iter().copied());
        server.command::<()>(&words);
        let password = user.iter().find_map(|word| word.strip_prefix('>')).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("password"), password).unwrap();
        let access = configured(
            directory.path(),
            &format!(
                "url = \"redis://127.0.0.1:{}\"\nusername = \"durward\"\npassword = \"file:password\"\n",
                server.port()
            ),
        );
        let _replica = RedisServer::replica_of(&server);
        let store = open_access(access, 1, PEPPER).await.unwrap();
        until("the replica", async || store.create_tenant(tenant("acme"), NOW).await.is_ok()).await;
        use_everything(&store).await;

        let url = format!("redis://durward:{password}@127.0.0.1:{}", server.port());
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        for refused in [
            &["FLUSHALL"] as &[&str],
            &["FLUSHDB"],
            &["CONFIG", "SET", "maxmemory", "1"],
            &["CONFIG", "GET", "maxmemory"],
            &["KEYS", "*"],
            &["DEL", "{durward}:meta"],
            &["GET", "another-key"],
            &["HGETALL", "{other}:c"],
            &["SHUTDOWN"],
            &["REPLICAOF", "NO", "ONE"],
            &["ACL", "LIST"],
            &["SCRIPT", "FLUSH"],
        ] {
            let mut command = redis::cmd(refused[0]);
            refused[1..].iter().for_each(|word| {
                command.arg(word);
            });
            let error = command.query::<redis::Value>(&mut connection).unwrap_err();
            assert_eq!(error.code(), Some("NOPERM"), "{refused:?}: {error}");
        }
    });
}

/// Every command the store sends.
async fn use_everything(store: &durward::store::redis::RedisStore) {
    until("the event reader", async || store.status().reader == ReaderState::Live).await;
    store.create_credential(record("key-1", "acme")).await.unwrap();
    assert!(store.find(fingerprint("key-1")).await.unwrap().facts.is_some());
    assert!(store.find(fingerprint("nobody")).await.unwrap().facts.is_none());
    store.touch(vec![(credential_id("key-1"), NOW)]).await.unwrap();
    let mut account = record("account", "acme");
    account.extras_mut().login = Some("ann@example.com".into());
    store.create_credential(account).await.unwrap();
    store.move_login(credential_id("account"), fingerprint("moved")).await.unwrap();
    let peppers = store.peppers().await.unwrap();
    assert!(store.set_peppers(peppers.clone(), peppers).await.unwrap());
    let id = credential_id("key-1");
    store.change_credential(id.clone(), CredentialChange::Disable, NOW).await.unwrap();
    store.change_credential(id.clone(), CredentialChange::Disable, NOW).await.unwrap();
    assert!(store.find_credential(id).await.unwrap().is_some());
    assert_eq!(
        store
            .list_credentials(CredentialFilter {
                limit: 10,
                ..CredentialFilter::default()
            })
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(store.list_tenants(None, 10).await.unwrap().len(), 1);
    store.set_tenant_active(tenant("acme"), TenantState::Inactive).await.unwrap();
    let role = RoleRecord {
        id: RoleId::of_random([7; 16]),
        tenant: Some(tenant("acme")),
        name: "viewer".into(),
        description: None,
        scopes: ScopeSet::default(),
        created_at: NOW,
        epoch: 1,
    };
    store.create_role(role.clone()).await.unwrap();
    let scopes = std::iter::once(Scope::parse("a:read").unwrap()).collect();
    store.change_role(role.id.clone(), RoleChange::SetScopes(scopes)).await.unwrap();
    assert_eq!(store.list_roles(tenant("acme")).await.unwrap().len(), 1);
    store.delete_role(role.id).await.unwrap();
    store.receipts().await.unwrap();
    store.events_after(None, 10).await.unwrap();
    store.probe(std::time::Duration::from_secs(5)).await.unwrap();
    until("the inspection", async || !store.concerns().is_empty()).await;
    let words: Vec<_> = store.concerns().iter().map(|concern| concern.word()).collect();
    assert!(words.contains(&"not_persistent"), "a server without persistence: {words:?}");
    assert!(!words.contains(&"settings_hidden"), "it may be looked at: {words:?}");
}

#[test]
fn f9_a_user_without_rights_is_an_error_that_says_so() {
    run(async {
        let server = RedisServer::start();
        server.command::<()>(&["ACL", "SETUSER", "poor", "on", ">secret", "+ping"]);
        let url = format!("redis://poor:secret@127.0.0.1:{}", server.port());
        let access = durward::store::redis::RedisUrl::parse(&url.into()).unwrap().into_access(None);
        let store = open_access(access, 0, PEPPER).await.unwrap();
        let found = store.find(fingerprint("key-1")).await;
        assert!(
            matches!(&found, Err(StoreError::Unavailable(why)) if why.contains("NOPERM") && !why.contains("secret")),
            "{found:?}"
        );
    });
}
