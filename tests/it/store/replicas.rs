//! Which replicas a change waits for: with a number an acknowledged revocation is lost when another one is
//! promoted, with `all` it is not; and who cannot be promoted holds nothing up.

use std::sync::Arc;

use durward::base::principal::CredentialState;
use durward::store::concerns::Concern;
use durward::store::redis::{Endpoint, RedisAccess, RedisUser, Servers, WaitReplicas};
use durward::store::{ChangeError, CredentialChange, CredentialStore, FactStore, RecordStore, TenantState};
use futures_util::future::join_all;

use super::fixture::{NOW, PEPPER, credential_id, fingerprint, open_access, open_redis, record, run, tenant, until};
use super::sentinel::access;
use crate::support::redis::RedisServer;
use crate::support::redis_sets::{Cluster, SERVICE, Sentinels};

/// A primary, a replica that sentinels would promote, one that they would promote after it, and three sentinels.
struct Site {
    primary: RedisServer,
    preferred: RedisServer,
    _other: RedisServer,
    sentinels: Sentinels,
}

/// How the primary is followed by another one.
#[derive(Debug, Clone, Copy)]
enum Switch {
    Planned,
    Killed,
}

fn replica(primary: &RedisServer, priority: &str) -> RedisServer {
    let port = primary.port().to_string();
    RedisServer::start_with(&["--replicaof", "127.0.0.1", &port, "--replica-priority", priority])
}

impl Site {
    async fn new() -> Self {
        let primary = RedisServer::start();
        let preferred = replica(&primary, "10");
        let other = replica(&primary, "100");
        let sentinels = Sentinels::watching(&primary, 3, 2);
        let site = Self {
            primary,
            preferred,
            _other: other,
            sentinels,
        };
        // What a sentinel has not yet asked of a replica it takes for the usual.
        for sentinel in 0..3 {
            until("the sentinels to know who is preferred", async || {
                let replicas: Vec<Vec<String>> = site.sentinels.ask(sentinel, &["SENTINEL", "REPLICAS", SERVICE]);
                let priority = |fields: &Vec<String>| {
                    fields
                        .iter()
                        .position(|word| word == "slave-priority")
                        .map(|at| fields[at + 1].clone())
                };
                let mut priorities: Vec<_> = replicas.iter().filter_map(priority).collect();
                priorities.sort();
                priorities == ["10", "100"]
            })
            .await;
        }
        let store = site.gateway(WaitReplicas::All).await;
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        store.create_credential(record("key-1", "acme")).await.unwrap();
        site
    }

    async fn gateway(&self, wait_replicas: impl Into<WaitReplicas>) -> Arc<dyn CredentialStore> {
        Arc::new(open_access(access(&self.sentinels), wait_replicas, PEPPER).await.unwrap())
    }

    /// The preferred replica keeps what it has: it follows a server that does not exist.
    async fn cut_off_the_preferred(&self) {
        self.preferred.command::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
        let listed = format!("port={},", self.preferred.port());
        until("the primary to notice", async || {
            !self.primary.command::<String>(&["INFO", "replication"]).contains(&listed)
        })
        .await;
    }

    fn join_again(&self) {
        let port = self.primary.port().to_string();
        self.preferred.command::<()>(&["REPLICAOF", "127.0.0.1", &port]);
    }

    /// The preferred replica takes the primary's place.
    fn switch(&mut self, how: Switch) {
        match how {
            Switch::Planned => self.sentinels.promote(),
            Switch::Killed => self.primary.kill(),
        }
        self.sentinels.until_named(&self.preferred);
    }

    /// What a gateway finds that was started after the switch and has seen nothing of what was before.
    async fn state_for_a_new_gateway(&self) -> CredentialState {
        let fresh = self.gateway(0).await;
        let mut state = None;
        until("the new primary", async || {
            let found = fresh.find(fingerprint("key-1")).await.ok().and_then(|found| found.facts);
            state = found.map(|facts| facts.credential.state);
            state.is_some()
        })
        .await;
        state.unwrap()
    }
}

async fn revoke(store: &dyn CredentialStore) -> Result<(), ChangeError> {
    let revoked = store.change_credential(credential_id("key-1"), CredentialChange::Revoke, NOW).await;
    revoked.map(drop)
}

async fn one_of_two_loses_it(how: Switch) {
    let mut site = Site::new().await;
    site.cut_off_the_preferred().await;
    let store = site.gateway(1).await;
    revoke(&*store).await.expect("acknowledged: one replica has it");
    drop(store);
    site.switch(how);
    assert_eq!(
        site.state_for_a_new_gateway().await,
        CredentialState::Active,
        "this is what the documentation warns of"
    );
}

async fn all_keeps_it(how: Switch) {
    let mut site = Site::new().await;
    site.cut_off_the_preferred().await;
    let store = site.gateway(WaitReplicas::All).await;
    let unconfirmed = revoke(&*store).await.unwrap_err();
    let lacking = format!("127.0.0.1:{}", site.preferred.port());
    assert!(matches!(unconfirmed, ChangeError::Unconfirmed(_)), "{unconfirmed:?}");
    assert!(unconfirmed.to_string().contains(&lacking), "{unconfirmed}");
    site.join_again();
    until("the confirmation", async || revoke(&*store).await.is_ok()).await;
    drop(store);
    site.switch(how);
    let state = site.state_for_a_new_gateway().await;
    assert!(matches!(state, CredentialState::Revoked { .. }), "{state:?}");
    // The old primary is a replica now: it confirms, or is found down.
    let store = site.gateway(WaitReplicas::All).await;
    until("a confirmation of the new primary", async || revoke(&*store).await.is_ok()).await;
}

#[test]
fn f13_one_of_two_replicas_loses_an_acknowledged_revocation_in_a_planned_failover() {
    run(one_of_two_loses_it(Switch::Planned));
}

#[test]
fn f13_one_of_two_replicas_loses_an_acknowledged_revocation_when_the_primary_is_killed() {
    run(one_of_two_loses_it(Switch::Killed));
}

#[test]
fn f13_all_replicas_keep_what_was_acknowledged_in_a_planned_failover() {
    run(all_keeps_it(Switch::Planned));
}

#[test]
fn f13_all_replicas_keep_what_was_acknowledged_when_the_primary_is_killed() {
    run(all_keeps_it(Switch::Killed));
}

#[test]
fn a_replica_that_nobody_would_promote_neither_confirms_nor_holds_up() {
    run(async {
        let site = Site::new().await;
        let store = site.gateway(WaitReplicas::All).await;
        // A third one that sentinels never promote.
        let never = replica(&site.primary, "0");
        until("all sentinels to know it", async || {
            (0..3).all(|sentinel| {
                let known: Vec<Vec<String>> = site.sentinels.ask(sentinel, &["SENTINEL", "REPLICAS", SERVICE]);
                known.len() == 3
                    && known
                        .iter()
                        .any(|fields| fields.windows(2).any(|pair| pair == ["slave-priority", "0"]))
            })
        })
        .await;
        until("its first copy", async || never.command::<bool>(&["EXISTS", "{durward}:meta"])).await;
        // It hangs: nobody waits for it.
        never.pause();
        revoke(&*store).await.expect("those that could be promoted have it");
        never.resume();
        // It answers: it does not stand for one that could be promoted and is away.
        site.cut_off_the_preferred().await;
        let unconfirmed = store.set_tenant_active(tenant("acme"), TenantState::Inactive).await;
        assert!(matches!(unconfirmed, Err(ChangeError::Unconfirmed(_))), "{unconfirmed:?}");
    });
}

#[test]
fn a_replica_that_was_shut_down_holds_changes_up_until_sentinels_have_noticed() {
    run(async {
        let mut site = Site::new().await;
        let store = site.gateway(WaitReplicas::All).await;
        site.preferred.kill();
        until("a confirmation without it", async || revoke(&*store).await.is_ok()).await;
        // Back again, it must have everything once more.
        site.preferred.restart();
        until("the replica", async || {
            site.preferred.command::<bool>(&["EXISTS", "{durward}:meta"])
        })
        .await;
        until("a confirmation with it", async || revoke(&*store).await.is_ok()).await;
    });
}

/// The words of what is to be changed about a store, once it has been looked at.
fn concerns(store: &dyn CredentialStore) -> Vec<&'static str> {
    store.concerns().iter().map(Concern::word).collect()
}

#[test]
fn a_number_below_what_could_be_promoted_is_a_concern_and_all_is_none() {
    run(async {
        let site = Site::new().await;
        let one = site.gateway(1).await;
        until("the concern", async || concerns(&*one).contains(&"fewer_than_all")).await;
        let none = site.gateway(0).await;
        until("the concern", async || concerns(&*none).contains(&"nothing_awaited")).await;
        let all = site.gateway(WaitReplicas::All).await;
        // Without persistence each of these servers is a concern: when that is told, the look is over.
        until("the look", async || concerns(&*all).contains(&"not_persistent")).await;
        assert_eq!(concerns(&*all), ["not_persistent"]);
    });
}

#[test]
fn a_sentinel_user_without_the_right_to_ask_confirms_nothing_and_is_told_which() {
    run(async {
        let primary = RedisServer::start();
        let replica = RedisServer::replica_of(&primary);
        let sentinels = Sentinels::watching(&primary, 3, 1);
        // The documented user, without this right and with it.
        let document = include_str!("../../../docs/redis.md");
        let (_, user) = document.split_once("Sentinels have users of their own: `user ").unwrap();
        let words: Vec<&str> = user.split_once('`').unwrap().0.split(' ').collect();
        assert_eq!(words.last(), Some(&"+sentinel|replicas"));
        let rights = |words: &[&str]| {
            for sentinel in 0..3 {
                sentinels.ask::<()>(sentinel, &[&["ACL", "SETUSER"], words].concat());
            }
        };
        rights(&words[..words.len() - 1]);
        let mut access = access(&sentinels);
        if let Servers::Sentinels(sentinels) = &mut access.servers {
            sentinels.user = RedisUser {
                name: Some("durward".into()),
                password: Some("CHANGE-ME".into()),
            };
        }
        let store = open_access(access, WaitReplicas::All, PEPPER).await.unwrap();
        let unconfirmed = store.create_tenant(tenant("acme"), NOW).await.unwrap_err();
        assert!(matches!(unconfirmed, ChangeError::Unconfirmed(_)), "{unconfirmed:?}");
        assert!(unconfirmed.to_string().contains("+sentinel|replicas"), "{unconfirmed}");
        until("the concern", async || {
            let told = store
                .concerns()
                .iter()
                .map(ToString::to_string)
                .find(|told| told.contains("not confirmed"));
            told.is_some_and(|told| told.contains("+sentinel|replicas"))
        })
        .await;
        assert!(concerns(&store).contains(&"replicas_unknown"));
        // With it, at once.
        rights(&words);
        store.create_credential(record("key-1", "acme")).await.expect("the replica has it");
        assert!(replica.command::<bool>(&["HEXISTS", "{durward}:c", "key-1"]));
    });
}

#[test]
fn a_majority_of_sentinels_must_say_who_could_be_promoted() {
    run(async {
        let site = Site::new().await;
        let store = site.gateway(WaitReplicas::All).await;
        site.sentinels.pause(0);
        revoke(&*store).await.expect("two of three answer");
        site.sentinels.pause(1);
        let unconfirmed = revoke(&*store).await.unwrap_err();
        assert!(matches!(unconfirmed, ChangeError::Unconfirmed(_)), "{unconfirmed:?}");
        // Who is the primary and who could be promoted is asked at the same time; either answer is too few.
        let told = unconfirmed.to_string();
        let too_few = ["1 of 3 sentinels said", "2 of 3 sentinels did not answer"];
        assert!(too_few.iter().any(|words| told.contains(words)), "{told}");
        site.sentinels.resume(0);
        until("a majority", async || revoke(&*store).await.is_ok()).await;
        site.sentinels.resume(1);
    });
}

#[test]
fn behind_one_address_a_change_waits_for_each_replica_that_the_primary_lists() {
    run(async {
        let primary = RedisServer::start();
        let store = open_redis(&primary, WaitReplicas::All).await.unwrap();
        store.create_tenant(tenant("acme"), NOW).await.expect("there is no replica");
        store.create_credential(record("key-1", "acme")).await.expect("nor now");
        let mut replica = RedisServer::replica_of(&primary);
        until("its first copy", async || {
            replica.command::<bool>(&["HEXISTS", "{durward}:c", "key-1"])
        })
        .await;
        until("a confirmation with it", async || revoke(&store).await.is_ok()).await;
        replica.pause();
        let unconfirmed = revoke(&store).await.unwrap_err();
        assert!(matches!(unconfirmed, ChangeError::Unconfirmed(_)), "{unconfirmed:?}");
        assert!(
            unconfirmed.to_string().contains(&format!("127.0.0.1:{}", replica.port())),
            "{unconfirmed}"
        );
        replica.resume();
        until("a confirmation", async || revoke(&store).await.is_ok()).await;
        replica.kill();
        until("a confirmation without it", async || revoke(&store).await.is_ok()).await;
    });
}

#[test]
fn in_a_cluster_a_change_waits_for_the_replicas_of_its_slot() {
    run(async {
        let cluster = Cluster::start();
        let owner = cluster.owner("{durward}:meta");
        let of_ours = cluster.start_replica(owner);
        let of_others = cluster.start_replica((owner + 1) % 3);
        let access = RedisAccess {
            servers: Servers::Cluster(vec![Endpoint::parse(&cluster.addresses()[owner]).unwrap()]),
            user: RedisUser::default(),
            database: 0,
            tls: None,
        };
        let store = open_access(access, WaitReplicas::All, PEPPER).await.unwrap();
        until("a first change", async || store.create_tenant(tenant("acme"), NOW).await.is_ok()).await;
        of_others.pause();
        store
            .create_credential(record("key-1", "acme"))
            .await
            .expect("it is no replica of this slot");
        of_ours.pause();
        let unconfirmed = revoke(&store).await.unwrap_err();
        assert!(matches!(unconfirmed, ChangeError::Unconfirmed(_)), "{unconfirmed:?}");
        // As soon as the cluster finds it down, nobody would promote it.
        until("a confirmation without it", async || revoke(&store).await.is_ok()).await;
    });
}

#[test]
fn f13_what_was_acknowledged_while_a_failover_was_under_way_holds() {
    run(async {
        let site = Site::new().await;
        let store = site.gateway(WaitReplicas::All).await;
        // More than can be revoked one after the other before the switch.
        let keys: Vec<String> = (0..1_200).map(|i| format!("k-{i}")).collect();
        for some in keys.chunks(100) {
            let made = join_all(some.iter().map(|key| store.create_credential(record(key, "acme")))).await;
            assert!(made.iter().all(Result::is_ok), "{made:?}");
        }
        site.sentinels.promote();
        let mut acknowledged = Vec::new();
        for key in &keys {
            // Gateways are restarted at the switch: none that saw these revocations writes them again.
            if site.sentinels.have_named(&site.preferred) {
                break;
            }
            let revoked = store.change_credential(credential_id(key), CredentialChange::Revoke, NOW).await;
            acknowledged.extend(revoked.is_ok().then_some(key));
        }
        drop(store);
        assert!((1..keys.len()).contains(&acknowledged.len()), "{}", acknowledged.len());
        site.sentinels.until_named(&site.preferred);
        until("the demotion", async || {
            let info: String = site.primary.try_command(&["INFO", "replication"]).unwrap_or_default();
            info.contains("role:slave")
        })
        .await;
        let fresh = site.gateway(0).await;
        for key in acknowledged {
            let mut state = None;
            until("an answer", async || {
                let found = fresh.find(fingerprint(key)).await.ok().and_then(|found| found.facts);
                state = found.map(|facts| facts.credential.state);
                state.is_some()
            })
            .await;
            assert!(matches!(state, Some(CredentialState::Revoked { .. })), "{key}: {state:?}");
        }
    });
}
