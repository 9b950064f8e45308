//! What this gateway's user at Redis may do: all that is documented is needed, and what is missing is named.

use std::time::Duration;

use durward::base::clock::SystemClock;
use durward::base::clock::{Clock, UnixMillis};
use durward::base::ids::{GatewayId, RoleId};
use durward::base::principal::RoleRecord;
use durward::base::scope::ScopeSet;
use durward::decide::rate::{By, Counted, Limit, Rate, WhenUnavailable};
use durward::store::events::ReaderState;
use durward::store::redis::{RedisAccess, RedisStore, RedisUrl};
use durward::store::{Announcement, ChangeError, CredentialChange, CredentialFilter, CredentialStore, StoreError, TenantState};

use super::fixture::{NOW, PEPPER, credential_id, fingerprint, open_access, record, run, tenant, until};
use super::redis_tls::documented_user;
use crate::support::redis::RedisServer;

fn access(server: &RedisServer, user: &[String]) -> RedisAccess {
    let password = user.iter().find_map(|word| word.strip_prefix('>')).unwrap();
    let url = format!("redis://durward:{password}@127.0.0.1:{}", server.port());
    RedisUrl::parse(&url.into()).unwrap().into_access(None)
}

fn set_user(server: &RedisServer, user: &[String], more: &[&str]) {
    let mut words = vec!["ACL", "SETUSER"];
    words.extend(user.iter().map(String::as_str));
    words.extend(more);
    server.command::<()>(&words);
}

/// Does whatever the store can do, in tenant `t<round>`; answers what failed.
async fn everything(store: &RedisStore, round: usize) -> Vec<String> {
    let mut failed = Vec::new();
    let name = |what: &str| format!("{what}-{round}");
    let (owner, key) = (name("t"), name("key"));
    macro_rules! attempt {
        ($what:expr) => {
            match $what.await {
                Ok(done) => Some(done),
                Err(error) => {
                    failed.push(error.to_string());
                    None
                }
            }
        };
    }
    attempt!(store.create_tenant(tenant(&owner), NOW));
    attempt!(store.create_credential(record(&key, &owner)));
    let mut account = record(&name("account"), &owner);
    account.extras_mut().login = Some("ann@example.com".into());
    attempt!(store.create_credential(account));
    let mut brief = record(&name("brief"), &owner);
    brief.expires_at = Some(NOW);
    attempt!(store.create_credential(brief));
    attempt!(store.find(fingerprint("nobody")));
    attempt!(store.time());
    attempt!(store.find(fingerprint(&key)));
    attempt!(store.touch(vec![(credential_id(&key), NOW)]));
    attempt!(store.move_login(credential_id(&name("account")), fingerprint(&name("moved"))));
    if let Some(peppers) = attempt!(store.peppers()) {
        attempt!(store.set_peppers(peppers.clone(), peppers));
    }
    attempt!(store.change_credential(credential_id(&key), CredentialChange::Disable, NOW));
    attempt!(store.change_credential(credential_id(&key), CredentialChange::Disable, NOW));
    attempt!(store.find_credential(credential_id(&key)));
    attempt!(store.list_credentials(CredentialFilter {
        limit: 10,
        ..CredentialFilter::default()
    }));
    attempt!(store.list_tenants(None, 10));
    let role = RoleRecord {
        id: RoleId::of_random([u8::try_from(round).unwrap(); 16]),
        tenant: Some(tenant(&owner)),
        name: "viewer".into(),
        description: None,
        scopes: ScopeSet::default(),
        created_at: NOW,
        epoch: 1,
    };
    attempt!(store.create_role(role.clone()));
    attempt!(store.list_roles(tenant(&owner)));
    attempt!(store.delete_role(role.id));
    attempt!(store.forget(vec![credential_id(&name("brief"))], NOW.plus(Duration::from_secs(1))));
    attempt!(store.set_tenant_active(tenant(&owner), TenantState::Inactive));
    let gateway = Announcement {
        id: GatewayId::parse(&name("gateway")).unwrap(),
        run: 1,
        version: "1".into(),
        applied: store.status().applied,
        reader: ReaderState::Live,
        max_age: Duration::from_secs(30),
        stream_interval: Duration::from_secs(15),
    };
    attempt!(store.announce(gateway));
    attempt!(store.receipts());
    attempt!(store.withdraw(GatewayId::parse(&name("gateway")).unwrap(), 1));
    attempt!(store.events_after(None, 10));
    attempt!(store.probe(Duration::from_secs(5)));
    attempt!(count(store));
    failed
}

async fn count(store: &RedisStore) -> Result<(), StoreError> {
    let rate = Rate::new(5, Duration::from_secs(60)).unwrap();
    let counted = Counted::Together(WhenUnavailable::Refuse);
    let key = Limit::new("a route", "a limit".into(), By::Route, rate, counted).key_of_route();
    let counts = store.counts();
    let began = SystemClock.now().boot;
    loop {
        match counts.admit(key, rate).await {
            // Its connection follows the others.
            Err(error) if error.to_string().contains("no connection to Redis yet") && SystemClock.now().boot.0 < began.0 + 5_000 => {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            done => return done.map(drop),
        }
    }
}

/// Rights of which no error can tell: they are needed by another setting, or only looked at.
fn is_seen_otherwise(right: &str) -> bool {
    // Only a cluster is asked for its slots, and only a database other than 0 is selected.
    ["+cluster|slots", "+select", "+xread", "+info"].contains(&right)
}

#[test]
fn each_documented_right_is_needed_and_a_missing_one_is_named() {
    run(async {
        let server = RedisServer::start();
        let _replica = RedisServer::replica_of(&server);
        let user = documented_user();
        set_user(&server, &user, &[]);
        let whole = open_access(access(&server, &user), 1, PEPPER).await.unwrap();
        until("the replica", async || whole.create_tenant(tenant("acme"), NOW).await.is_ok()).await;
        assert_eq!(everything(&whole, 0).await, Vec::<String>::new());
        until("the event reader", async || whole.status().reader == ReaderState::Live).await;
        drop(whole);
        let rights: Vec<_> = user.iter().filter(|word| word.starts_with('+')).collect();
        assert!(rights.len() > 20, "{rights:?}");
        for (round, right) in rights.into_iter().enumerate() {
            if is_seen_otherwise(right) {
                continue;
            }
            // What a change leaves that was refused in its middle must not be met by the next.
            server.command::<()>(&["FLUSHALL"]);
            server.command::<()>(&["SCRIPT", "FLUSH"]);
            set_user(&server, &user, &[&right.replace('+', "-")]);
            let failed = match open_access(access(&server, &user), 1, PEPPER).await {
                Ok(store) => everything(&store, round + 1).await,
                Err(error) => vec![error.to_string()],
            };
            let named =
                |error: &String| error.contains("NOPERM") && error.split(' ').any(|word| word.trim_end_matches([')', ';', ':']) == right);
            assert!(failed.iter().any(named), "without {right}: {failed:?}");
        }
    });
}

#[test]
fn a_right_to_read_events_is_needed_and_one_to_look_at_settings_is_a_concern() {
    run(async {
        let server = RedisServer::start();
        let user = documented_user();
        set_user(&server, &user, &["-xread", "-info"]);
        let store = open_access(access(&server, &user), 0, PEPPER).await.unwrap();
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        until("the inspection", async || !store.concerns().is_empty()).await;
        assert_eq!(store.concerns()[0].word(), "settings_hidden");
        let heard = store.status().applied;
        store.create_tenant(tenant("globex"), NOW).await.unwrap();
        assert_eq!(store.status().applied, heard, "no event was heard");
        set_user(&server, &user, &[]);
        until("the events", async || store.status().applied > heard).await;
    });
}

#[test]
fn a_password_that_was_changed_is_an_error_that_says_so() {
    run(async {
        let server = RedisServer::start();
        let user = documented_user();
        set_user(&server, &user, &["resetpass", ">another"]);
        let store = open_access(access(&server, &user), 0, PEPPER).await.unwrap();
        let found = store.find(fingerprint("key-1")).await;
        assert!(
            matches!(&found, Err(StoreError::Unavailable(why)) if why.contains("name or password")),
            "{found:?}"
        );
    });
}

#[test]
fn a_refused_event_changes_nothing_and_nothing_goes_back() {
    run(async {
        let server = RedisServer::start();
        let user = documented_user();
        set_user(&server, &user, &[]);
        let store = open_access(access(&server, &user), 0, PEPPER).await.unwrap();
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        store.create_credential(record("key-1", "acme")).await.unwrap();
        let position = || server.command::<u64>(&["HGET", "{durward}:meta", "position"]);
        let before = position();
        for right in ["xadd", "hincrby"] {
            set_user(&server, &user, &[&format!("-{right}")]);
            let refused = store
                .change_credential(credential_id("key-1"), CredentialChange::Revoke, UnixMillis(NOW.0 + 1))
                .await;
            let error = refused.unwrap_err();
            assert!(matches!(error, ChangeError::NotMade(_)), "{error:?}");
            assert!(error.to_string().contains(&format!("+{right}")), "{error}");
            assert_eq!(position(), before);
        }
        set_user(&server, &user, &[]);
        store
            .change_credential(credential_id("key-1"), CredentialChange::Revoke, NOW)
            .await
            .unwrap();
        assert_eq!(position(), before + 1);
    });
}
