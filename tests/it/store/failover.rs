//! F13: a failover to a replica that lagged. What `wait_replicas` buys, what is lost without it, and
//! what gateways that saw a revocation do about its loss.

use std::sync::Arc;

use durward::base::principal::CredentialState;
use durward::store::redis::WaitReplicas;
use durward::store::{ChangeError, CredentialChange, CredentialStore, TenantState};

use super::fixture::{NOW, PEPPER, credential_id, fingerprint, open_access, record, run, tenant, until};
use super::sentinel::access;
use crate::support::redis::RedisServer;
use crate::support::redis_sets::Sentinels;

/// A primary, a replica that has everything so far and receives no more, and a sentinel.
struct Site {
    primary: RedisServer,
    replica: RedisServer,
    sentinels: Sentinels,
}

impl Site {
    /// Makes tenants and keys through `store`-to-be, then cuts the replica off.
    async fn lagging() -> Self {
        let primary = RedisServer::start();
        let replica = RedisServer::replica_of(&primary);
        let sentinels = Sentinels::watching(&primary, 1, 1);
        let site = Self {
            primary,
            replica,
            sentinels,
        };
        let store = site.gateway(1).await;
        for owner in ["acme", "globex"] {
            store.create_tenant(tenant(owner), NOW).await.unwrap();
        }
        for (id, owner) in [("key-1", "acme"), ("key-2", "acme"), ("key-3", "globex")] {
            store.create_credential(record(id, owner)).await.unwrap();
        }
        site.cut_off();
        site
    }

    /// A gateway that has heard of everything so far.
    async fn gateway(&self, wait_replicas: impl Into<WaitReplicas>) -> Arc<dyn CredentialStore> {
        Arc::new(open_access(access(&self.sentinels), wait_replicas, PEPPER).await.unwrap())
    }

    /// Lets the replica follow a server that does not exist: it keeps what it has.
    fn cut_off(&self) {
        self.replica.command::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    }

    fn join_again(&self) {
        let port = self.primary.port().to_string();
        self.replica.command::<()>(&["REPLICAOF", "127.0.0.1", &port]);
    }

    /// The primary dies and the replica takes its place.
    fn fail_over(&mut self) {
        self.primary.kill();
        self.sentinels.until_named(&self.replica);
    }
}

async fn state_of(store: &dyn CredentialStore, id: &str) -> Option<(CredentialState, bool)> {
    let facts = store.find(fingerprint(id)).await.ok()?.facts?;
    Some((facts.credential.state, facts.tenant.active))
}

fn is_revoked(found: Option<(CredentialState, bool)>) -> bool {
    matches!(found, Some((CredentialState::Revoked { .. }, _)))
}

#[test]
fn f13_without_wait_a_failover_loses_an_acknowledged_revocation() {
    run(async {
        let mut site = Site::lagging().await;
        let store = site.gateway(0).await;
        store
            .change_credential(credential_id("key-1"), CredentialChange::Revoke, NOW)
            .await
            .expect("acknowledged although no replica has it");
        drop(store);
        site.fail_over();
        // Nobody who saw it is left: this is what the documentation warns of.
        let fresh = site.gateway(0).await;
        until("the loss", async || {
            matches!(state_of(&*fresh, "key-1").await, Some((CredentialState::Active, true)))
        })
        .await;
    });
}

#[test]
fn f13_with_wait_what_was_acknowledged_holds_after_the_failover() {
    run(async {
        let mut site = Site::lagging().await;
        let store = site.gateway(1).await;
        let revoke = || store.change_credential(credential_id("key-1"), CredentialChange::Revoke, NOW);
        let unconfirmed = revoke().await;
        assert!(matches!(unconfirmed, Err(ChangeError::Unconfirmed(_))), "{unconfirmed:?}");
        assert!(is_revoked(state_of(&*store, "key-1").await), "it was made");
        site.join_again();
        until("the confirmation", async || revoke().await.is_ok()).await;
        drop(store);
        site.fail_over();
        let fresh = site.gateway(0).await;
        until("the new primary", async || state_of(&*fresh, "key-1").await.is_some()).await;
        assert!(is_revoked(state_of(&*fresh, "key-1").await));
    });
}

#[test]
fn c7_what_a_gateway_saw_end_stays_ended_and_is_written_again() {
    run(async {
        let mut site = Site::lagging().await;
        // One gateway makes the changes, another one only hears of them; none waits for replicas.
        let (maker, witness) = (site.gateway(0).await, site.gateway(0).await);
        until("the witness", async || state_of(&*witness, "key-1").await.is_some()).await;
        maker
            .change_credential(credential_id("key-1"), CredentialChange::Revoke, NOW)
            .await
            .unwrap();
        maker
            .change_credential(credential_id("key-2"), CredentialChange::Disable, NOW)
            .await
            .unwrap();
        maker.set_tenant_active(tenant("globex"), TenantState::Inactive).await.unwrap();
        // Heard, not read: what a look-up shows is not remembered.
        let counted: u64 = site.primary.command(&["HGET", "{durward}:meta", "position"]);
        until("the witness to hear", async || {
            // Above the counter stands the generation.
            witness.status().applied.0 & 0xff_ffff_ffff == counted
        })
        .await;
        drop(maker);
        site.fail_over();
        // Never active again here, from the first answer of the new primary on.
        let mut answers = 0;
        until("answers of the new primary", async || {
            for (id, holds) in [
                ("key-1", |found| is_revoked(Some(found))),
                ("key-2", |found: (CredentialState, bool)| found.0 == CredentialState::Disabled),
                ("key-3", |found: (CredentialState, bool)| !found.1),
            ] as [(&str, fn((CredentialState, bool)) -> bool); 3]
            {
                if let Some(found) = state_of(&*witness, id).await {
                    assert!(holds(found), "{id} lives again: {found:?}");
                    answers += 1;
                }
            }
            answers >= 30
        })
        .await;
        // And for everybody: a gateway that saw nothing finds it written.
        until("the new primary to have them again", async || {
            let stored: Vec<u8> = site.replica.command(&["HGET", "{durward}:c", "key-1"]);
            String::from_utf8_lossy(&stored).contains("revoked")
        })
        .await;
        let fresh = site.gateway(0).await;
        until("all three", async || {
            is_revoked(state_of(&*fresh, "key-1").await)
                && matches!(state_of(&*fresh, "key-2").await, Some((CredentialState::Disabled, _)))
                && matches!(state_of(&*fresh, "key-3").await, Some((_, false)))
        })
        .await;
    });
}

#[test]
fn c7_a_change_of_an_older_record_goes_over_what_was_seen_to_end() {
    run(async {
        let site = Site::lagging().await;
        let store = site.gateway(0).await;
        let before: Vec<u8> = site.primary.command(&["HGET", "{durward}:c", "key-2"]);
        let change = async |what| store.change_credential(credential_id("key-2"), what, NOW).await.unwrap();
        change(CredentialChange::Disable).await;
        // The store has lost that, and nobody has looked the key up since.
        site.primary.command_with_bytes(&["HSET", "{durward}:c", "key-2"], &before);
        let changed = change(CredentialChange::EndIssued).await;
        assert_eq!(
            changed.state,
            CredentialState::Disabled,
            "another change does not make it live again"
        );
        assert!(changed.valid_after.is_some());
        site.primary.command_with_bytes(&["HSET", "{durward}:c", "key-2"], &before);
        // What is so already, by what was seen, is written all the same.
        assert_eq!(change(CredentialChange::Disable).await.state, CredentialState::Disabled);
        let stored: Vec<u8> = site.primary.command(&["HGET", "{durward}:c", "key-2"]);
        assert!(String::from_utf8_lossy(&stored).contains("disabled"));
        // An operator who switches it on again is obeyed.
        assert_eq!(change(CredentialChange::Enable).await.state, CredentialState::Active);
        until("the key to live", async || {
            matches!(state_of(&*store, "key-2").await, Some((CredentialState::Active, _)))
        })
        .await;
    });
}
