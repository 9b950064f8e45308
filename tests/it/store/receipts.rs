//! Receipts and the event log, for every implementation.

use std::time::Duration;

use durward::base::clock::UnixMillis;
use durward::base::ids::GatewayId;
use durward::store::events::ReaderState;
use durward::store::receipts::{HEARTBEAT, MAX_EVENTS, MAX_PUBLISHED};
use durward::store::{Announcement, CredentialChange, EventSubject, Receipt, StoreError};

use super::contract::suite;
use super::fixture::{Backend, Fixture, NOW, credential_id, record, run, tenant, until};

suite! {
    an_announced_gateway_is_listed_as_it_described_itself
    a_receipt_confirms_what_its_gateway_has_applied_and_nothing_later
    the_same_standing_keeps_its_time_and_a_new_one_has_its_own
    a_gateway_that_stops_takes_its_receipt_away_and_only_its_own
    two_processes_of_one_id_do_not_speak_for_each_other
    only_registered_gateways_exchange_checkpoints
    events_are_told_in_order_with_what_changed_and_when
    events_are_read_from_any_position_in_pages
    an_empty_store_has_no_events_and_says_so
}

fn announcement(fixture: &Fixture, id: &str, run: u64) -> Announcement {
    Announcement {
        id: GatewayId::parse(id).unwrap(),
        run,
        version: "0.4.0 with a blank".into(),
        applied: fixture.store.status().applied,
        reader: ReaderState::Live,
        max_age: Duration::from_secs(30),
        stream_interval: Duration::from_secs(15),
    }
}

async fn announce(fixture: &Fixture, id: &str, run: u64) -> Result<UnixMillis, StoreError> {
    fixture.store.announce(announcement(fixture, id, run)).await
}

async fn only_receipt(fixture: &Fixture) -> Receipt {
    let listed = fixture.store.receipts().await.unwrap();
    let [only] = listed.gateways.as_slice() else {
        panic!("{listed:?}");
    };
    only.clone()
}

/// A change that every process hears of; answers when this one has.
async fn change(fixture: &Fixture, id: &str) {
    let heard = fixture.recorder.events().len();
    fixture.store.create_tenant(tenant(id), NOW).await.unwrap();
    fixture.recorder.wait_for(heard + 1).await;
    until("the position", async || {
        fixture.store.status().applied >= fixture.recorder.events().last().unwrap().position
    })
    .await;
}

async fn an_announced_gateway_is_listed_as_it_described_itself(fixture: Fixture) {
    change(&fixture, "acme").await;
    let told = announce(&fixture, "gw-1", 1).await.unwrap();
    announce(&fixture, "gw-0", 2).await.unwrap();
    let listed = fixture.store.receipts().await.unwrap();
    let ids: Vec<&str> = listed.gateways.iter().map(|g| g.id.as_str()).collect();
    assert_eq!(ids, ["gw-0", "gw-1"], "in order of id");
    let receipt = &listed.gateways[1];
    assert_eq!((receipt.heard_at, receipt.since), (told, told));
    assert_eq!((receipt.reader, receipt.version.as_str()), (ReaderState::Live, "0.4.0withablank"));
    assert_eq!(
        (receipt.max_age, receipt.bound()),
        (Duration::from_secs(30), Duration::from_secs(45))
    );
    assert!(receipt.is_heard(listed.now));
    assert!(!receipt.is_heard(told.plus(HEARTBEAT * 4)), "three missed heartbeats are silence");
}

async fn a_receipt_confirms_what_its_gateway_has_applied_and_nothing_later(fixture: Fixture) {
    change(&fixture, "acme").await;
    let before = announcement(&fixture, "gw-1", 1);
    fixture.store.announce(before.clone()).await.unwrap();
    let first = fixture.store.receipts().await.unwrap();
    assert!(first.gateways[0].applied.contains(&first.head), "{first:?}");
    change(&fixture, "globex").await;
    let after = fixture.store.receipts().await.unwrap().head;
    assert_eq!(after.count, first.head.count + 1);
    fixture.store.announce(before).await.unwrap();
    assert!(
        !only_receipt(&fixture).await.applied.contains(&after),
        "it has not said that it applied this"
    );
    announce(&fixture, "gw-1", 1).await.unwrap();
    assert!(only_receipt(&fixture).await.applied.contains(&after));
}

async fn the_same_standing_keeps_its_time_and_a_new_one_has_its_own(fixture: Fixture) {
    change(&fixture, "acme").await;
    let first = announce(&fixture, "gw-1", 1).await.unwrap();
    until("a later time", async || announce(&fixture, "gw-1", 1).await.unwrap() > first).await;
    let repeated = only_receipt(&fixture).await;
    assert_eq!(repeated.since, first, "a heartbeat is no news");
    assert!(repeated.heard_at > first);
    change(&fixture, "globex").await;
    let second = announce(&fixture, "gw-1", 1).await.unwrap();
    assert_eq!(only_receipt(&fixture).await.since, second);
}

async fn a_gateway_that_stops_takes_its_receipt_away_and_only_its_own(fixture: Fixture) {
    announce(&fixture, "gw-1", 1).await.unwrap();
    let id = GatewayId::parse("gw-1").unwrap();
    fixture.store.withdraw(id.clone(), 2).await.unwrap();
    assert_eq!(only_receipt(&fixture).await.id, id, "another process took nothing away");
    fixture.store.withdraw(id.clone(), 1).await.unwrap();
    assert!(fixture.store.receipts().await.unwrap().gateways.is_empty());
    fixture.store.withdraw(id, 1).await.unwrap();
}

async fn two_processes_of_one_id_do_not_speak_for_each_other(fixture: Fixture) {
    announce(&fixture, "gw-1", 1).await.unwrap();
    // The store may list the later one until it has heard of the earlier one again.
    let _ = announce(&fixture, "gw-1", 2).await;
    until("the later one to be refused", async || {
        announce(&fixture, "gw-1", 1).await.unwrap();
        let second = announce(&fixture, "gw-1", 2).await;
        matches!(&second, Err(StoreError::Unavailable(why)) if why.contains("same id"))
    })
    .await;
    assert_eq!(only_receipt(&fixture).await.run, 1);
    fixture.store.withdraw(GatewayId::parse("gw-1").unwrap(), 1).await.unwrap();
    announce(&fixture, "gw-1", 2).await.unwrap();
    assert_eq!(only_receipt(&fixture).await.run, 2);
}

async fn only_registered_gateways_exchange_checkpoints(fixture: Fixture) {
    let id = |id: &str| GatewayId::parse(id).unwrap();
    let exchange = async |gateway: &str, run: u64, own: Option<&str>| {
        let others = fixture
            .store
            .exchange_checkpoints(id(gateway), run, own.map(str::to_owned))
            .await
            .unwrap();
        others
            .into_iter()
            .map(|other| format!("{}={}", other.gateway, other.text))
            .collect::<Vec<_>>()
    };
    announce(&fixture, "gw-1", 1).await.unwrap();
    announce(&fixture, "gw-2", 2).await.unwrap();
    assert!(exchange("gw-1", 1, Some("first")).await.is_empty());
    assert_eq!(exchange("gw-2", 2, Some("second")).await, ["gw-1=first"]);
    assert_eq!(exchange("gw-1", 1, Some("third")).await, ["gw-2=second"]);
    assert_eq!(
        exchange("gw-2", 2, None).await,
        ["gw-1=third"],
        "the newest; and without one of its own it reads all the same"
    );
    // Whoever is not registered, or is another process, publishes nothing; neither does a text that is too long.
    assert_eq!(exchange("gw-3", 3, Some("stranger")).await.len(), 2);
    exchange("gw-1", 9, Some("another process")).await;
    exchange("gw-1", 1, Some(&"x".repeat(MAX_PUBLISHED + 1))).await;
    assert_eq!(exchange("gw-2", 2, None).await, ["gw-1=third"]);
    // What a gateway published goes with its registration.
    fixture.store.withdraw(id("gw-1"), 1).await.unwrap();
    assert!(exchange("gw-2", 2, None).await.is_empty());
}

async fn events_are_told_in_order_with_what_changed_and_when(fixture: Fixture) {
    change(&fixture, "acme").await;
    fixture.store.create_credential(record("key-1", "acme")).await.unwrap();
    fixture
        .store
        .change_credential(credential_id("key-1"), CredentialChange::Revoke, NOW)
        .await
        .unwrap();
    let page = fixture.store.events_after(None, 10).await.unwrap();
    assert_eq!((page.oldest, page.head.count), (Some(1), 3));
    let counts: Vec<u64> = page.events.iter().map(|event| event.count).collect();
    assert_eq!(counts, [1, 2, 3]);
    assert_eq!(page.events[0].subject, EventSubject::Tenant { id: tenant("acme") });
    // This store was opened for no gateway.
    assert!(page.events.iter().all(|event| event.gateway.is_none()));
    for event in &page.events[1..] {
        assert!(
            matches!(&event.subject, EventSubject::Credential { id, .. } if *id == credential_id("key-1")),
            "{event:?}"
        );
    }
    let times: Vec<UnixMillis> = page.events.iter().map(|event| event.at.expect("a time")).collect();
    assert!(times.is_sorted(), "{times:?}");
    let now = fixture.store.receipts().await.unwrap().now;
    assert!(
        times.iter().all(|at| *at <= now && at.plus(Duration::from_secs(60)) > now),
        "{times:?}, {now:?}"
    );
}

async fn events_are_read_from_any_position_in_pages(fixture: Fixture) {
    const EVENTS: u64 = 40;
    for i in 0..EVENTS {
        fixture.store.create_tenant(tenant(&format!("t-{i}")), NOW).await.unwrap();
    }
    let count = async |after, limit| -> Vec<u64> {
        let page = fixture.store.events_after(after, limit).await.unwrap();
        page.events.iter().map(|event| event.count).collect()
    };
    for after in 0..=EVENTS + 1 {
        let expected: Vec<u64> = (after + 1..=EVENTS).take(7).collect();
        assert_eq!(count(Some(after), 7).await, expected, "after {after}");
    }
    assert_eq!(count(None, 3).await, [EVENTS - 2, EVENTS - 1, EVENTS], "the newest");
    assert_eq!(count(Some(0), 0).await, [1], "a page is never empty for no reason");
    assert_eq!(count(Some(u64::MAX), 7).await, [0; 0]);
    assert_eq!(count(Some(0), MAX_EVENTS + 1).await.len(), 40);
}

async fn an_empty_store_has_no_events_and_says_so(fixture: Fixture) {
    let page = fixture.store.events_after(None, 10).await.unwrap();
    assert_eq!((page.oldest, page.head.count, page.events.len()), (None, 0, 0));
    announce(&fixture, "gw-1", 1).await.unwrap();
    assert_eq!(only_receipt(&fixture).await.applied.count, 0);
}

#[test]
fn events_that_were_trimmed_away_are_told_to_be_gone() {
    run(async {
        let fixture = Fixture::redis().await;
        for i in 0..10 {
            fixture.store.create_tenant(tenant(&format!("t-{i}")), NOW).await.unwrap();
        }
        let Backend::Redis(server) = &fixture.backend else { unreachable!() };
        let _: u64 = server.command(&["XTRIM", "{durward}:events", "MAXLEN", "4"]);
        let page = fixture.store.events_after(Some(2), 10).await.unwrap();
        assert_eq!(page.trimmed(2), Some((3, 6)));
        let counts: Vec<u64> = page.events.iter().map(|event| event.count).collect();
        assert_eq!(counts, [7, 8, 9, 10]);
        assert_eq!(fixture.store.events_after(Some(6), 10).await.unwrap().trimmed(6), None);
    });
}
