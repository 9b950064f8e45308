//! Which replicas a change waits for: with a number an acknowledged revocation is lost when another one is
//! promoted, with `all` it is not; and who cannot be promoted holds nothing up.

use std::sync::Arc;

use durward::base::principal::State;
use durward::store::redis::WaitReplicas;
use durward::store::{ChangeError, CredentialChange, CredentialStore, TenantState};

use super::fixture::{NOW, PEPPER, credential_id, fingerprint, open_access, record, run, tenant, until};
use super::sentinel::access;
use crate::support::redis::RedisServer;
use crate::support::redis_sets::{SERVICE, Sentinels};

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
    async fn state_for_a_new_gateway(&self) -> State {
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
        State::Active,
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
    assert!(matches!(state, State::Revoked { .. }), "{state:?}");
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
