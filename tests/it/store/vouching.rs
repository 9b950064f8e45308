//! Who says that a server is the primary, and what becomes of reads and changes when nobody does.

use std::sync::Arc;
use std::time::Duration;

use durward::base::clock::{self, BootMillis, Clock, ManualClock, SystemClock};
use durward::store::redis::{Endpoint, RedisAccess, RedisSettings, RedisStore, RedisUser, SentinelAccess, Servers, WaitReplicas};
use durward::store::{ChangeError, CredentialChange, FactStore, RecordStore, StoreError, TenantState};

use super::fixture::{NOW, PEPPER, control, credential_id, fingerprint, open_redis, record, run, tenant, until};
use crate::support::fault_proxy::FaultProxy;
use crate::support::redis::RedisServer;
use crate::support::redis_sets::{Cluster, SERVICE, Sentinels};
use crate::support::stopwatch::Stopwatch;

/// Sentinels, each behind a proxy.
struct Watched {
    primary: RedisServer,
    replica: RedisServer,
    sentinels: Sentinels,
    proxies: Vec<FaultProxy>,
}

impl Watched {
    fn start() -> Self {
        let primary = RedisServer::start();
        let replica = RedisServer::replica_of(&primary);
        let sentinels = Sentinels::watching(&primary, 3, 1);
        let proxies = sentinels.addresses().iter().map(|at| FaultProxy::to(at.parse().unwrap())).collect();
        Self {
            primary,
            replica,
            sentinels,
            proxies,
        }
    }

    async fn open(&self, max_age: Duration) -> RedisStore {
        open(self.servers(), max_age).await
    }

    fn servers(&self) -> Servers {
        let addresses = self.proxies.iter().map(|proxy| proxy.address().to_string());
        Servers::Sentinels(Box::new(SentinelAccess {
            addresses: addresses.map(|at| Endpoint::parse_sentinel(&at).unwrap()).collect(),
            service: SERVICE.into(),
            user: RedisUser::default(),
            tls: None,
        }))
    }

    /// Two of three name this address.
    fn have_named(&self, port: u16) {
        let port = port.to_string();
        let answer = format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len());
        for proxy in &self.proxies[..2] {
            let answer = answer.clone().into_bytes();
            proxy.rewrite(move |seen, _| (seen.name == "SENTINEL").then(|| answer.clone()));
        }
    }
}

async fn open(servers: Servers, max_age: Duration) -> RedisStore {
    open_by(Arc::new(SystemClock), servers, max_age).await
}

async fn open_by(clock: Arc<dyn Clock>, servers: Servers, max_age: Duration) -> RedisStore {
    let settings = RedisSettings {
        access: RedisAccess {
            servers,
            user: RedisUser::default(),
            database: 0,
            tls: None,
        },
        key_prefix: "durward".into(),
        wait_replicas: WaitReplicas::Count(0),
        lookup_timeout: Duration::from_secs(5),
        max_age,
        peppers: PEPPER.clone(),
        registered: None,
    };
    RedisStore::open(settings, clock, control()).await.unwrap()
}

fn boot() -> BootMillis {
    SystemClock.now().boot
}

async fn revoke(store: &RedisStore, id: &str) -> Result<(), ChangeError> {
    let revoked = store.change_credential(credential_id(id), CredentialChange::Revoke, NOW).await;
    revoked.map(drop)
}

fn is_unconfirmed(made: &Result<(), ChangeError>) -> bool {
    matches!(made, Err(ChangeError::Unconfirmed(why)) if why.contains("still the primary"))
}

#[test]
fn what_is_read_counts_from_the_last_word_of_a_majority_and_ends_with_it() {
    run(async {
        let watched = Watched::start();
        let store = watched.open(Duration::from_secs(3)).await;
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        store.create_credential(record("key-1", "acme")).await.unwrap();
        let asked = boot();
        let counts_from = async || store.find(fingerprint("key-1")).await.map(|found| found.primary_at.unwrap());
        until("a word from after the change", async || counts_from().await.unwrap() > asked).await;

        watched.proxies.iter().for_each(FaultProxy::partition);
        let held = boot();
        let (mut answers, mut last) = (0, held);
        let why = loop {
            match counts_from().await {
                // A question may have been on its way.
                Ok(at) => assert!(at <= held.plus(Duration::from_millis(50)), "{at:?} is after {held:?}"),
                Err(StoreError::Unavailable(why)) => break why,
                Err(error) => panic!("{error}"),
            }
            (answers, last) = (answers + 1, boot());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(answers > 20, "{answers} answers");
        let went_on = last.since(held);
        assert!(went_on <= Duration::from_millis(3_300), "it went on for {went_on:?}");
        assert!(
            why.contains("no majority has said for") && why.contains("3 of 3 sentinels did not answer"),
            "{why}"
        );

        watched.proxies.iter().for_each(FaultProxy::pass);
        until("service", async || store.find(fingerprint("key-1")).await.is_ok()).await;
        assert!(counts_from().await.unwrap() > held);
    });
}

#[test]
fn after_a_suspend_the_first_look_up_asks_who_is_the_primary_and_is_answered() {
    run(async {
        let watched = Watched::start();
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let store = open_by(clock.clone(), watched.servers(), Duration::from_secs(30)).await;
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        store.create_credential(record("key-1", "acme")).await.unwrap();
        for _ in 0..20 {
            clock.advance(Duration::from_secs(3_600));
            let found = store.find(fingerprint("key-1")).await.expect("nothing is wrong");
            assert_eq!(found.primary_at, Some(clock.now().boot));
        }
        // The connections are what they were.
        assert!(watched.proxies.iter().all(|proxy| proxy.connects().len() == 1));
    });
}

#[test]
fn a_change_is_acknowledged_only_when_a_majority_names_its_server_afterwards() {
    run(async {
        let watched = Watched::start();
        let store = watched.open(Duration::from_secs(30)).await;
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        store.create_credential(record("key-1", "acme")).await.unwrap();

        watched.proxies.iter().for_each(FaultProxy::partition);
        let made = revoke(&store, "key-1").await;
        assert!(is_unconfirmed(&made), "{made:?}");
        let again = revoke(&store, "key-1").await;
        assert!(is_unconfirmed(&again), "it is so already, and nobody says where: {again:?}");
        let made = store.set_tenant_active(tenant("acme"), TenantState::Inactive).await.map(drop);
        assert!(is_unconfirmed(&made), "{made:?}");

        watched.proxies.iter().for_each(FaultProxy::pass);
        until("the confirmation", async || revoke(&store, "key-1").await.is_ok()).await;

        // They answer, and with another name: what was made here a moment ago is not kept there.
        store.set_tenant_active(tenant("acme"), TenantState::Active).await.unwrap();
        watched.have_named(watched.replica.port());
        revoke(&store, "key-1").await.expect_err("another server is named");
    });
}

#[test]
fn a_sentinel_that_hangs_delays_no_change() {
    run(async {
        let watched = Watched::start();
        let store = watched.open(Duration::from_secs(30)).await;
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        watched.proxies[0].partition();
        for number in 0..20 {
            let start = Stopwatch::start();
            store.create_credential(record(&format!("key-{number}"), "acme")).await.unwrap();
            let took = start.elapsed();
            // If this change waited for the one that hangs, it would take a second.
            assert!(took < Duration::from_secs(1), "{took:?}");
        }
        assert!(watched.proxies[0].connects().len() <= 3, "{:?}", watched.proxies[0].connects());
    });
}

#[test]
fn connections_to_sentinels_are_kept_and_replaced_when_they_end() {
    run(async {
        let watched = Watched::start();
        let store = watched.open(Duration::from_secs(30)).await;
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        for number in 0..20 {
            store.create_credential(record(&format!("key-{number}"), "acme")).await.unwrap();
        }
        assert!(watched.proxies.iter().all(|proxy| proxy.connects().len() == 1 && proxy.open() == 1));
        watched.proxies.iter().for_each(FaultProxy::sever);
        revoke(&store, "key-1").await.expect("on new connections, at once");
    });
}

#[test]
fn where_a_majority_names_what_is_no_primary_nobody_is_unknown() {
    run(async {
        let watched = Watched::start();
        let store = watched.open(Duration::from_secs(30)).await;
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        store.create_credential(record("key-1", "acme")).await.unwrap();
        until("replication", async || {
            watched.replica.command::<bool>(&["HEXISTS", "{durward}:c", "key-1"])
        })
        .await;
        let sentinel: Endpoint = Endpoint::parse_sentinel(&watched.sentinels.addresses()[2]).unwrap();
        let Endpoint::Tcp { port: sentinel, .. } = sentinel else { panic!() };
        let (empty, closed) = (RedisServer::start(), crate::support::redis::free_port());
        for (what, port) in [
            ("a replica", watched.replica.port()),
            ("a sentinel", sentinel),
            ("nobody", closed),
            ("a server without our data", empty.port()),
        ] {
            watched.have_named(port);
            until("the store to notice", async || {
                let found = store.find(fingerprint("key-1")).await;
                // Whoever is not there is unknown to nobody: facts as they are, or none.
                assert!(found.as_ref().map_or(true, |found| found.facts.is_some()), "{what}: {found:?}");
                found.is_err()
            })
            .await;
            let stranger = store.find(fingerprint("nobody")).await;
            assert!(matches!(stranger, Err(StoreError::Unavailable(_))), "{what}: {stranger:?}");
            let changed = revoke(&store, "key-1").await;
            assert!(changed.is_err(), "{what}");
            watched.proxies.iter().for_each(FaultProxy::pass);
            until("the primary again", async || store.find(fingerprint("key-1")).await.is_ok()).await;
        }
    });
}

#[test]
fn a_store_of_the_same_pepper_that_a_majority_names_is_the_store() {
    run(async {
        let watched = Watched::start();
        let store = watched.open(Duration::from_secs(30)).await;
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        store.create_credential(record("key-1", "acme")).await.unwrap();
        let another = RedisServer::start();
        let there = open_redis(&another, 0).await.unwrap();
        there.create_tenant(tenant("acme"), NOW).await.unwrap();
        there.create_credential(record("key-2", "acme")).await.unwrap();
        watched.have_named(another.port());
        until("the other store", async || {
            store.find(fingerprint("key-2")).await.is_ok_and(|found| found.facts.is_some())
        })
        .await;
        assert!(store.find(fingerprint("key-1")).await.unwrap().facts.is_none());
    });
}

#[test]
fn a_sentinel_that_names_another_store_is_one_of_three() {
    run(async {
        let watched = Watched::start();
        let store = watched.open(Duration::from_secs(30)).await;
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        store.create_credential(record("key-1", "acme")).await.unwrap();
        let another = RedisServer::start();
        watched.have_named(another.port());
        watched.proxies[1].pass();
        for _ in 0..100 {
            assert!(store.find(fingerprint("key-1")).await.unwrap().facts.is_some());
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        revoke(&store, "key-1").await.expect("two of three name it");
        assert_eq!(another.command::<i64>(&["DBSIZE"]), 0);
        drop(watched.primary);
    });
}

async fn open_cluster(cluster: &Cluster) -> (RedisStore, usize) {
    let seeds = cluster.addresses().iter().map(|seed| Endpoint::parse(seed).unwrap()).collect();
    let store = open(Servers::Cluster(seeds), Duration::from_secs(30)).await;
    store.create_tenant(tenant("acme"), NOW).await.unwrap();
    store.create_credential(record("key-1", "acme")).await.unwrap();
    (store, cluster.owner("{durward}:meta"))
}

#[test]
fn a_primary_of_a_cluster_whose_fellows_are_silent_is_read_from_and_makes_nothing_younger() {
    run(async {
        let cluster = Cluster::start_with_timeout(15_000);
        let (store, owner) = open_cluster(&cluster).await;
        let [one, other] = [1, 2].map(|next| &cluster.nodes[(owner + next) % 3]);
        let counts_from = async || store.find(fingerprint("key-1")).await.map(|found| found.primary_at.unwrap());

        // With one of two others it is in the majority; but the one that is silent may have another owner.
        one.pause();
        let paused = boot();
        let made = revoke(&store, "key-1").await;
        assert!(is_unconfirmed(&made), "{made:?}");
        until("a word of a majority", async || counts_from().await.unwrap() > paused).await;

        other.pause();
        let alone = boot();
        let start = clock::instant();
        while start.elapsed() < Duration::from_secs(3) {
            let at = counts_from().await.expect("it answers");
            assert!(at <= alone.plus(Duration::from_millis(50)), "{at:?} is after {alone:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }

        other.resume();
        one.resume();
        until("the confirmation", async || revoke(&store, "key-1").await.is_ok()).await;
        assert!(counts_from().await.unwrap() > alone);
    });
}

#[test]
fn a_cluster_of_one_primary_has_nobody_to_ask() {
    run(async {
        let cluster = Cluster::of_one();
        let (store, _) = open_cluster(&cluster).await;
        revoke(&store, "key-1").await.expect("itself is all there is");
        assert!(store.find(fingerprint("key-1")).await.unwrap().facts.is_some());
    });
}
