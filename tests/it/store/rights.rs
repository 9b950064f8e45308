//! What this gateway's user at Redis may do: all that is documented is needed, what is missing is named, and what it
//! refuses has changed nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use durward::base::clock::{Clock, SystemClock, UnixMillis};
use durward::base::ids::{GatewayId, RoleId};
use durward::base::principal::{CredentialRecord, Parent, RoleRecord};
use durward::base::scope::{Scope, ScopeSet};
use durward::decide::rate::{CountedIn, LimitBy, Rate, RateLimit, WhenUnavailable};
use durward::store::events::ReaderState;
use durward::store::redis::{Endpoint, RedisAccess, RedisSettings, RedisStore, RedisUrl, SentinelAccess, Servers};
use durward::store::{
    Announcement, ChangeError, CredentialChange, CredentialFilter, FactStore, NewRecords, ReceiptStore, RecordStore, RoleChange,
    StoreError, TenantState,
};

use super::fixture::{NOW, PEPPER, control, credential_id, fingerprint, record, run, surface, tenant, until};
use crate::support::redis::{RedisServer, documented_user};
use crate::support::redis_sets::{SERVICE, Sentinels};

const LATER: UnixMillis = UnixMillis(NOW.0 + 1_000);

/// The words of the documented line without its name.
fn words() -> Vec<String> {
    documented_user().into_iter().skip(1).map(str::to_owned).collect()
}

/// The rights of the documented line.
fn rights() -> Vec<String> {
    let rights: Vec<String> = words()
        .iter()
        .filter_map(|word| word.strip_prefix('+'))
        .map(str::to_owned)
        .collect();
    assert!(rights.len() > 20, "{rights:?}");
    rights
}

/// Makes the documented user under another name, with keys of that prefix, and with these words besides.
fn make_user(server: &RedisServer, name: &str, more: &[&str]) {
    let words: Vec<String> = words()
        .iter()
        .map(|word| word.replace("{durward}", &format!("{{{name}}}")))
        .collect();
    let mut command = vec!["ACL", "SETUSER", name];
    command.extend(words.iter().map(String::as_str));
    command.extend(more);
    server.command::<()>(&command);
}

fn access(server: &RedisServer, name: &str, database: &str) -> RedisAccess {
    let words = words();
    let password = words.iter().find_map(|word| word.strip_prefix('>')).unwrap();
    let url = format!("redis://{name}:{password}@127.0.0.1:{}{database}", server.port());
    RedisUrl::parse(&url.into()).unwrap().into_access(None)
}

async fn open(access: RedisAccess, prefix: &str, wait_replicas: u32) -> Result<RedisStore, StoreError> {
    let settings = RedisSettings {
        access,
        key_prefix: prefix.into(),
        wait_replicas: durward::store::redis::WaitReplicas::Count(wait_replicas),
        max_age: std::time::Duration::from_secs(30),
        registered: None,
        lookup_timeout: Duration::from_secs(5),
        peppers: PEPPER.clone(),
    };
    RedisStore::open(settings, Arc::new(SystemClock), control()).await
}

fn role(name: &str, owner: &str) -> RoleRecord {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(name.bytes().rev()).for_each(|(to, from)| *to = from);
    RoleRecord {
        id: RoleId::of_random(bytes),
        tenant: Some(tenant(owner)),
        name: name.into(),
        description: None,
        scopes: [Scope::parse("orders:read").unwrap()].into_iter().collect(),
        created_at: NOW,
        epoch: 1,
    }
}

/// One change of the store, and what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Tenant,
    Key,
    Child,
    Revoke,
    TenantOff,
    Role,
    RoleScopes,
    RoleGone,
    Move,
    Forget,
    Peppers,
}

const STEPS: [Step; 11] = [
    Step::Tenant,
    Step::Key,
    Step::Child,
    Step::Revoke,
    Step::TenantOff,
    Step::Role,
    Step::RoleScopes,
    Step::RoleGone,
    Step::Move,
    Step::Forget,
    Step::Peppers,
];

fn first_records(round: &str, owner: &str) -> [CredentialRecord; 3] {
    ["parent", "revoked", "account"].map(|name| {
        let mut made = record(&format!("{name}{round}"), owner);
        if name == "account" {
            made.extras_mut().login = Some("ann@example.com".into());
        }
        made
    })
}

/// What the steps of a round begin with.
async fn prepare(store: &RedisStore, round: &str) {
    let owner = format!("t{round}");
    store.create_tenant(tenant(&owner), NOW).await.unwrap();
    store.create_tenant(tenant(&format!("off{round}")), NOW).await.unwrap();
    for made in first_records(round, &owner) {
        store.create_credential(made).await.unwrap();
    }
    let mut brief = record(&format!("brief{round}"), &owner);
    brief.expires_at = Some(NOW);
    brief.extras_mut().parent = Some(parent(round));
    store.create_credential(brief).await.unwrap();
    store.touch(vec![(credential_id(&format!("brief{round}")), NOW)]).await.unwrap();
    for name in ["scopes", "gone"] {
        store.create_role(role(&format!("{name}{round}"), &owner)).await.unwrap();
    }
}

fn parent(round: &str) -> Parent {
    Parent {
        surface: surface(),
        id: credential_id(&format!("parent{round}")),
    }
}

async fn step(store: &RedisStore, step: Step, round: &str) -> Result<(), ChangeError> {
    let owner = format!("t{round}");
    let name = |what: &str| format!("{what}{round}");
    match step {
        Step::Tenant => store.create_tenant(tenant(&name("new")), NOW).await.map(drop),
        Step::Key => store.create_credential(record(&name("key"), &owner)).await.map(drop),
        Step::Child => {
            let mut child = record(&name("child"), &owner);
            child.extras_mut().parent = Some(parent(round));
            let new = NewRecords {
                credentials: vec![child],
                changes: vec![(credential_id(&name("parent")), CredentialChange::Disable)],
                ..NewRecords::default()
            };
            store.create(new, NOW).await.map(drop)
        }
        Step::Revoke => store
            .change_credential(credential_id(&name("revoked")), CredentialChange::Revoke, LATER)
            .await
            .map(drop),
        Step::TenantOff => store.set_tenant_active(tenant(&name("off")), TenantState::Inactive).await.map(drop),
        Step::Role => store.create_role(role(&name("role"), &owner)).await.map(drop),
        Step::RoleScopes => {
            let change = RoleChange::SetScopes(ScopeSet::default());
            store.change_role(role(&name("scopes"), &owner).id, change).await.map(drop)
        }
        Step::RoleGone => store.delete_role(role(&name("gone"), &owner).id).await,
        Step::Move => store
            .move_login(credential_id(&name("account")), fingerprint(&name("moved")))
            .await
            .map(drop),
        Step::Forget => store.forget(vec![credential_id(&name("brief"))], LATER).await.map(drop),
        Step::Peppers => {
            let list = store.peppers().await.map_err(ChangeError::NotMade)?;
            store.set_peppers(list.clone(), list).await.map(drop)
        }
    }
}

/// Every key and what it holds.
fn dump(server: &RedisServer) -> BTreeMap<String, String> {
    let keys: Vec<String> = server.command(&["KEYS", "*"]);
    let read = |key: &String| {
        let kind: String = server.command(&["TYPE", key]);
        match kind.as_str() {
            "hash" => format!("{:?}", server.command::<BTreeMap<Vec<u8>, Vec<u8>>>(&["HGETALL", key])),
            "zset" => format!("{:?}", server.command::<Vec<String>>(&["ZRANGE", key, "0", "-1", "WITHSCORES"])),
            "stream" => format!("{:?}", server.command::<redis::Value>(&["XRANGE", key, "-", "+"])),
            _ => server.command(&["GET", key]),
        }
    };
    keys.iter().map(|key| (key.clone(), read(key))).collect()
}

fn assert_same(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>, what: &str) {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed: Vec<_> = keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).collect();
    assert!(changed.is_empty(), "{what}: has changed {changed:?}");
}

#[test]
fn whatever_right_is_refused_in_the_middle_of_a_change_nothing_was_changed() {
    run(async {
        let server = RedisServer::start();
        make_user(&server, "durward", &[]);
        let store = open(access(&server, "durward", ""), "durward", 0).await.unwrap();
        let mut refused = BTreeSet::new();
        for (number, right) in rights().into_iter().enumerate() {
            // Needed for a connection, not for a change on one.
            if ["role", "select", "script|load", "cluster|slots", "evalsha"].contains(&right.as_str()) {
                continue;
            }
            let round = number.to_string();
            prepare(&store, &round).await;
            for change in STEPS {
                make_user(&server, "durward", &[&format!("-{right}")]);
                let (before, outcome, after) = loop {
                    let before = dump(&server);
                    match step(&store, change, &round).await {
                        // A loaded machine that answers too late, which is another test's.
                        Err(ChangeError::NotMade(StoreError::Unavailable(why))) if !why.contains("NOPERM") => {}
                        outcome => break (before, outcome, dump(&server)),
                    }
                };
                make_user(&server, "durward", &[]);
                let Err(error) = outcome else { continue };
                assert!(matches!(error, ChangeError::NotMade(_)), "{change:?} without {right}: {error:?}");
                assert!(error.to_string().starts_with("nothing was changed: "), "{error}");
                assert!(
                    error.to_string().contains(&format!("+{right}")),
                    "{change:?} without {right}: {error}"
                );
                assert_same(&before, &after, &format!("{change:?} without {right}: {error}"));
                refused.insert((right.clone(), format!("{change:?}")));
                assert!(step(&store, change, &round).await.is_ok(), "{change:?} with {right} again");
            }
        }
        let by = |right: &str| refused.iter().filter(|(named, _)| named == right).count();
        for (right, steps) in [("xadd", 10), ("hset", 11), ("hincrby", 10), ("hdel", 3), ("zrem", 2), ("zadd", 4)] {
            assert_eq!(by(right), steps, "{right}: {refused:?}");
        }
    });
}

#[test]
fn a_key_of_the_wrong_type_is_found_before_anything_is_changed() {
    run(async {
        let server = RedisServer::start();
        make_user(&server, "durward", &[]);
        let store = open(access(&server, "durward", ""), "durward", 0).await.unwrap();
        let mut wrong = 0;
        for (number, key) in ["c", "f", "t", "r", "u", "n", "ids", "tids", "events", "ids:t?", "rids:t?"]
            .into_iter()
            .enumerate()
        {
            let round = number.to_string();
            prepare(&store, &round).await;
            let key = format!("{{durward}}:{}", key.replace('?', &round));
            for change in STEPS {
                if server.command::<u64>(&["EXISTS", &key]) == 0 {
                    continue;
                }
                server.command::<()>(&["RENAME", &key, "kept"]);
                server.command::<()>(&["SET", &key, "text"]);
                let before = dump(&server);
                let outcome = step(&store, change, &round).await;
                let after = dump(&server);
                server.command::<()>(&["RENAME", "kept", &key]);
                let Err(error) = outcome else { continue };
                assert_same(&before, &after, &format!("{change:?} with another {key}: {error}"));
                wrong += 1;
                assert!(step(&store, change, &round).await.is_ok(), "{change:?} with {key} again");
            }
        }
        assert!(wrong > 40, "{wrong}");
    });
}

/// Does whatever the store can do; answers what failed.
async fn everything(store: &RedisStore) -> Vec<String> {
    let mut failed = Vec::new();
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
    let owner = "t";
    attempt!(store.create_tenant(tenant(owner), NOW));
    attempt!(store.create_tenant(tenant("off"), NOW));
    for made in first_records("", owner) {
        attempt!(store.create_credential(made));
    }
    let mut brief = record("brief", owner);
    brief.expires_at = Some(NOW);
    attempt!(store.create_credential(brief));
    for name in ["scopes", "gone"] {
        attempt!(store.create_role(role(name, owner)));
    }
    for change in STEPS {
        attempt!(step(store, change, ""));
    }
    attempt!(store.find(fingerprint("nobody")));
    attempt!(store.find(fingerprint("key")));
    attempt!(store.time());
    attempt!(store.touch(vec![(credential_id("key"), NOW)]));
    attempt!(store.find_credential(credential_id("key")));
    attempt!(store.list_credentials(CredentialFilter {
        limit: 10,
        ..CredentialFilter::default()
    }));
    attempt!(store.list_tenants(None, 10));
    attempt!(store.list_roles(tenant(owner)));
    let gateway = Announcement {
        id: GatewayId::parse("gateway").unwrap(),
        run: 1,
        version: "1".into(),
        applied: store.status().applied,
        reader: ReaderState::Live,
        max_age: Duration::from_secs(30),
        stream_interval: Duration::from_secs(15),
    };
    attempt!(store.announce(gateway));
    attempt!(store.receipts());
    attempt!(store.withdraw(GatewayId::parse("gateway").unwrap(), 1));
    attempt!(store.exchange_checkpoints(GatewayId::parse("gateway").unwrap(), 1, None));
    attempt!(store.events_after(None, 10));
    attempt!(store.probe(Duration::from_secs(5)));
    attempt!(count(store));
    failed
}

async fn count(store: &RedisStore) -> Result<(), StoreError> {
    let rate = Rate::new(5, Duration::from_secs(60)).unwrap();
    let counted = CountedIn::Together(WhenUnavailable::Refuse);
    let key = RateLimit::new("a route", "a limit".into(), LimitBy::Route, rate, counted).key_of_route();
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

/// What a user without this right is told, of a store of its own.
async fn told_without(server: &RedisServer, right: &str) -> (Vec<String>, BTreeSet<String>) {
    let name = format!("no-{}", right.replace('|', "-"));
    make_user(server, &name, &[&format!("-{right}")]);
    let mut access = access(server, &name, if right == "select" { "/1" } else { "" });
    if right == "cluster|slots" {
        access.servers = Servers::Cluster(vec![Endpoint::parse(&format!("127.0.0.1:{}", server.port())).unwrap()]);
    }
    let store = match open(access, &name, 1).await {
        Ok(store) => store,
        Err(error) => return (vec![error.to_string()], BTreeSet::new()),
    };
    let failed = everything(&store).await;
    let shown = || {
        store
            .concerns()
            .iter()
            .flat_map(|concern| concern.refused_rights().to_vec())
            .collect::<BTreeSet<_>>()
    };
    until(&format!("the right {right} to be shown"), async || shown().contains(right)).await;
    (failed, shown())
}

#[test]
fn each_documented_right_is_needed_and_a_missing_one_is_named() {
    run(async {
        // Scripts that one user has loaded are there for all others, so there is another server for this right.
        let (server, empty) = (RedisServer::start(), RedisServer::start());
        let _replicas = (RedisServer::replica_of(&server), RedisServer::replica_of(&empty));
        make_user(&server, "whole", &[]);
        let whole = open(access(&server, "whole", ""), "whole", 1).await.unwrap();
        until("the replica", async || whole.create_tenant(tenant("acme"), NOW).await.is_ok()).await;
        assert_eq!(everything(&whole).await, Vec::<String>::new());
        until("the event reader", async || whole.status().reader == ReaderState::Live).await;
        let missing: Vec<_> = whole
            .concerns()
            .iter()
            .flat_map(|concern| concern.refused_rights().to_vec())
            .collect();
        assert_eq!(missing, Vec::<String>::new());
        let rights = rights();
        let all = rights.iter().map(async |right| {
            let server = if right == "script|load" { &empty } else { &server };
            (right, told_without(server, right).await)
        });
        for (right, (failed, shown)) in futures_util::future::join_all(all).await {
            let named = |error: &String| error.contains("NOPERM") && error.split([' ', ')', ';', ':', '+']).any(|word| word == right);
            // These two are missed by what nobody waits for.
            if !["xread", "info"].contains(&right.as_str()) {
                assert!(failed.iter().any(named), "without +{right}: {failed:?}");
            }
            assert_eq!(shown, BTreeSet::from([right.clone()]), "without +{right}: {failed:?}");
        }
    });
}

#[test]
fn keys_that_may_not_be_used_are_named_and_a_right_that_is_given_is_shown_no_more() {
    run(async {
        let server = RedisServer::start();
        make_user(&server, "durward", &["resetkeys", "~other:*"]);
        let store = open(access(&server, "durward", ""), "durward", 0).await.unwrap();
        let error = store.find(fingerprint("key")).await.unwrap_err().to_string();
        assert!(error.contains("to its keys (~{key_prefix}:*)"), "{error}");
        let missing = || {
            store
                .concerns()
                .iter()
                .flat_map(|concern| concern.refused_rights().to_vec())
                .collect::<Vec<_>>()
        };
        assert_eq!(missing(), ["~keys"]);
        make_user(&server, "durward", &[]);
        until("the store", async || store.create_tenant(tenant("acme"), NOW).await.is_ok()).await;
        until("no right to be missing", async || missing().is_empty()).await;
    });
}

#[test]
fn a_sentinel_that_refuses_its_user_is_named_too() {
    run(async {
        let server = RedisServer::start();
        make_user(&server, "durward", &[]);
        let sentinels = Sentinels::watching(&server, 1, 0);
        let documented = include_str!("../../../docs/redis.md");
        let (_, line) = documented
            .split_once("Sentinels have users of their own: `user ")
            .expect("the documented line");
        let user: Vec<&str> = line.split('`').next().unwrap().split(' ').collect();
        let set = |more: &[&str]| sentinels.ask::<()>(0, &[&["ACL", "SETUSER"], &user[..], more].concat());
        let reach = async |password: &str| {
            let mut found = access(&server, "durward", "");
            let mut sentinel_user = found.user.clone();
            sentinel_user.password = Some(password.to_owned().into());
            found.servers = Servers::Sentinels(Box::new(SentinelAccess {
                addresses: sentinels
                    .addresses()
                    .iter()
                    .map(|address| Endpoint::parse(address).unwrap())
                    .collect(),
                service: SERVICE.into(),
                user: sentinel_user,
                tls: None,
            }));
            let store = open(found, "durward", 0).await.unwrap();
            let time = store.time().await.map(drop).map_err(|error| error.to_string());
            let missing: Vec<_> = store
                .concerns()
                .iter()
                .flat_map(|concern| concern.refused_rights().to_vec())
                .collect();
            (time, missing)
        };
        set(&[]);
        assert_eq!(reach("CHANGE-ME").await, (Ok(()), vec![]));
        let (time, _) = reach("another").await;
        assert!(time.as_ref().is_err_and(|why| why.contains("name or password")), "{time:?}");
        set(&["-sentinel|get-master-addr-by-name"]);
        let (time, missing) = reach("CHANGE-ME").await;
        assert!(
            time.as_ref().is_err_and(|why| why.contains("+sentinel|get-master-addr-by-name")),
            "{time:?}"
        );
        assert_eq!(missing, ["sentinel|get-master-addr-by-name"]);
    });
}
