//! The contract of `RecordStore::take_once`: of all who take a mark, one is the first.

use durward::base::clock::UnixMillis;
use durward::base::fingerprint::Fingerprint;
use durward::store::{ChangeError, MAX_MARK_AGE, MAX_MARKS, MarkRoom, RecordStore};
use futures_util::future::join_all;

use super::fixture::{Fixture, NOW, fingerprint, open_redis, record, run, tenant, until};
use crate::support::redis::RedisServer;

super::contract::suite! {
    a_mark_is_taken_once
    of_many_who_take_a_mark_at_once_one_is_the_first
    a_mark_is_no_change
    a_mark_of_a_store_that_does_not_answer_is_nobodys
}

async fn in_an_hour(fixture: &Fixture) -> UnixMillis {
    fixture.store.time().await.unwrap().plus(std::time::Duration::from_secs(3_600))
}

async fn a_mark_is_taken_once(fixture: Fixture) {
    fixture.store.create_tenant(tenant("acme"), NOW).await.unwrap();
    let hour = in_an_hour(&fixture).await;
    for until in [hour, UnixMillis(0), UnixMillis(i64::MAX)] {
        let mark = fingerprint(&format!("mark-{}", until.0));
        assert!(fixture.store.take_once(mark, until, MarkRoom::Unproven).await.unwrap(), "{until:?}");
        for again in [hour, UnixMillis(0), UnixMillis(i64::MAX)] {
            assert!(
                !fixture.store.take_once(mark, again, MarkRoom::Unproven).await.unwrap(),
                "{until:?} {again:?}"
            );
        }
    }
    assert!(
        fixture
            .store
            .take_once(fingerprint("another"), hour, MarkRoom::Unproven)
            .await
            .unwrap()
    );
}

async fn of_many_who_take_a_mark_at_once_one_is_the_first(fixture: Fixture) {
    fixture.store.create_tenant(tenant("acme"), NOW).await.unwrap();
    let hour = in_an_hour(&fixture).await;
    for round in 0..5 {
        let mark = fingerprint(&format!("mark-{round}"));
        let taken = join_all((0..20).map(|_| fixture.store.take_once(mark, hour, MarkRoom::Unproven))).await;
        let first = taken.into_iter().filter(|taken| *taken.as_ref().unwrap()).count();
        assert_eq!(first, 1, "round {round}");
    }
}

async fn a_mark_is_no_change(fixture: Fixture) {
    fixture.store.create_tenant(tenant("acme"), NOW).await.unwrap();
    let made = fixture.store.create_credential(record("key-1", "acme")).await.unwrap();
    let before = fixture.store.find(made.fingerprint).await.unwrap();
    let hour = in_an_hour(&fixture).await;
    assert!(
        fixture
            .store
            .take_once(fingerprint("mark"), hour, MarkRoom::Unproven)
            .await
            .unwrap()
    );
    let after = fixture.store.find(made.fingerprint).await.unwrap();
    assert_eq!((after.position, after.facts), (before.position, before.facts));
    assert_eq!(fixture.find(fingerprint("mark")).await.unwrap(), None, "a mark finds no record");
    fixture.store.create_credential(record("key-2", "acme")).await.unwrap();
    let events = fixture.recorder.wait_for(3).await;
    assert_eq!(events.len(), 3, "{events:?}");
}

async fn a_mark_of_a_store_that_does_not_answer_is_nobodys(mut fixture: Fixture) {
    fixture.store.create_tenant(tenant("acme"), NOW).await.unwrap();
    fixture.stop();
    until("it to say that nothing was taken", async || {
        let taken = fixture.store.take_once(fingerprint("mark"), NOW, MarkRoom::Unproven).await;
        matches!(taken, Err(ChangeError::NotMade(_)))
    })
    .await;
}

#[test]
fn two_gateways_take_from_one_store() {
    run(async {
        let server = RedisServer::start();
        let (one, other) = (open_redis(&server, 0).await.unwrap(), open_redis(&server, 0).await.unwrap());
        one.create_tenant(tenant("acme"), NOW).await.unwrap();
        let hour = one.time().await.unwrap().plus(MAX_MARK_AGE);
        for round in 0..10 {
            let mark = fingerprint(&format!("mark-{round}"));
            let (left, right) = tokio::join!(
                one.take_once(mark, hour, MarkRoom::Unproven),
                other.take_once(mark, hour, MarkRoom::Unproven)
            );
            assert_ne!(left.unwrap(), right.unwrap(), "round {round}");
        }
    });
}

#[test]
fn a_mark_that_no_replica_has_admits_nobody() {
    run(async {
        let server = RedisServer::start();
        let (alone, careful) = (open_redis(&server, 0).await.unwrap(), open_redis(&server, 1).await.unwrap());
        alone.create_tenant(tenant("acme"), NOW).await.unwrap();
        let taken = careful.take_once(fingerprint("mark"), NOW, MarkRoom::Unproven).await;
        assert!(matches!(taken, Err(ChangeError::Unconfirmed(_))), "{taken:?}");
        assert!(
            !careful.take_once(fingerprint("mark"), NOW, MarkRoom::Unproven).await.unwrap(),
            "and nobody else"
        );
        assert!(
            alone.take_once(fingerprint("another"), NOW, MarkRoom::Unproven).await.unwrap(),
            "the twin"
        );
    });
}

/// Plants a mark whose time is over, as Redis keeps it.
fn plant(server: &RedisServer, mark: &Fingerprint, ends: i64) {
    let mark = mark.to_hex();
    server.command::<u64>(&["HSET", "{durward}:o", &mark, &ends.to_string()]);
    server.command::<u64>(&["ZADD", "{durward}:oe", "0", &format!("{ends:015}:{mark}")]);
    server.command::<i64>(&["HINCRBY", "{durward}:meta", "marks", "1"]);
}

#[test]
fn marks_whose_time_is_over_are_removed_and_no_others() {
    run(async {
        let server = RedisServer::start();
        let store = open_redis(&server, 0).await.unwrap();
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        let now = store.time().await.unwrap();
        for i in 0..20 {
            plant(&server, &fingerprint(&format!("old-{i}")), now.0 - 1_000 - i);
        }
        plant(&server, &fingerprint("living"), now.0 + 600_000);
        assert!(
            !store.take_once(fingerprint("old-0"), now, MarkRoom::Unproven).await.unwrap(),
            "until it is removed, it is taken"
        );
        for (new, left) in [("new-1", 6), ("new-2", 3)] {
            assert!(store.take_once(fingerprint(new), now, MarkRoom::Unproven).await.unwrap());
            assert_eq!(server.command::<u64>(&["HLEN", "{durward}:o"]), left, "{new}");
            assert_eq!(server.command::<u64>(&["ZCARD", "{durward}:oe"]), left, "{new}");
        }
        assert_eq!(server.command::<u64>(&["HGET", "{durward}:meta", "marks"]), 3);
        assert!(store.take_once(fingerprint("old-0"), now, MarkRoom::Unproven).await.unwrap());
        for kept in ["living", "new-1", "new-2"] {
            assert!(
                !store.take_once(fingerprint(kept), now, MarkRoom::Unproven).await.unwrap(),
                "{kept}"
            );
        }
        let ends: i64 = server.command(&["HGET", "{durward}:o", &fingerprint("new-1").to_hex()]);
        assert!(ends >= now.0 + 300_000, "a clock that is five minutes behind is no harm");
        assert!(
            store
                .take_once(fingerprint("far"), UnixMillis(i64::MAX), MarkRoom::Unproven)
                .await
                .unwrap()
        );
        let ends: i64 = server.command(&["HGET", "{durward}:o", &fingerprint("far").to_hex()]);
        assert!(ends < now.0 + 25 * 3_600_000, "no mark is kept for longer than a day");
    });
}

#[test]
fn f11_lost_marks_are_an_error_and_not_an_absence() {
    run(async {
        for lost in ["{durward}:o", "{durward}:oe"] {
            let server = RedisServer::start();
            let store = open_redis(&server, 0).await.unwrap();
            store.create_tenant(tenant("acme"), NOW).await.unwrap();
            let hour = store.time().await.unwrap().plus(std::time::Duration::from_secs(3_600));
            assert!(store.take_once(fingerprint("mark"), hour, MarkRoom::Unproven).await.unwrap());
            server.command::<u64>(&["DEL", lost]);
            let taken = store.take_once(fingerprint("mark-2"), hour, MarkRoom::Unproven).await;
            assert!(
                matches!(taken, Err(ChangeError::Store(_) | ChangeError::NotMade(_))),
                "{lost}: {taken:?}"
            );
        }
    });
}

#[test]
fn b50_the_number_of_marks_is_bounded_and_unproven_ones_leave_room() {
    run(async {
        let server = RedisServer::start();
        let store = open_redis(&server, 0).await.unwrap();
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        let hour = store.time().await.unwrap().plus(std::time::Duration::from_secs(3_600));
        let most = MarkRoom::Unproven.most();
        server.fill_marks(0, most - 1);
        assert!(store.take_once(fingerprint("last"), hour, MarkRoom::Unproven).await.unwrap());
        let taken = store.take_once(fingerprint("mark"), hour, MarkRoom::Unproven).await;
        assert!(matches!(taken, Err(ChangeError::Full(_))), "{taken:?}");
        // Whoever begins sign-ons and never ends them keeps no provider from ending sessions.
        assert!(store.take_once(fingerprint("mark"), hour, MarkRoom::Proven).await.unwrap());
        server.fill_marks(most + 1, MAX_MARKS);
        let taken = store.take_once(fingerprint("another"), hour, MarkRoom::Proven).await;
        assert!(matches!(taken, Err(ChangeError::Full(_))), "{taken:?}");
    });
}
