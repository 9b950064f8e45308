//! Reading again what was read before: a store that has not changed at all may say just that.

use std::sync::Arc;
use std::time::Duration;

use durward::base::clock::{Clock, UnixMillis};
use durward::base::fingerprint::{Pepper, Peppers};
use durward::base::principal::{Extras, Facts, IdleTimeout};
use durward::resolver::{CachedFacts, Resolver};
use durward::store::cached::Recalled;
use durward::store::{CredentialChange, LookupQuery, RefreshReply};

use super::bench::{Bench, is_revoked};
use super::fixture::{Fixture, NOW, credential_id, fingerprint, record, run, tenant, until};
use super::wrapper::Behaviour;

/// A credential whose uses keep it alive.
fn sliding(name: &str) -> durward::base::principal::CredentialRecord {
    let mut record = record(name, "acme");
    let extras = Extras {
        idle: Some(IdleTimeout {
            timeout: Duration::from_secs(3_600),
            last_used: NOW,
        }),
        ..Extras::default()
    };
    record.extras = extras.boxed();
    record
}

/// A bench whose facts of `key-1` are old enough to be read again.
async fn aged() -> (Bench, Arc<Facts>) {
    let bench = Bench::new().await;
    let facts = bench.load("key-1").await.unwrap().unwrap();
    bench.wrapper.set(Behaviour::Together);
    bench.advance(18_100);
    (bench, facts)
}

#[test]
fn every_store_answers_what_find_does_or_that_nothing_has_changed() {
    run(async {
        for fixture in [Fixture::embedded().await, Fixture::redis().await] {
            let store = &fixture.store;
            store.create_tenant(tenant("acme"), NOW).await.unwrap();
            store.create_credential(record("key-1", "acme")).await.unwrap();
            let found = store.find(fingerprint("key-1")).await.unwrap();
            let again = |known| LookupQuery {
                fingerprint: fingerprint("key-1"),
                known,
            };
            let asked = vec![again(Some(found.position)), again(None)];
            let [known, unknown] = store.find_many(asked).await.try_into().unwrap();
            match known.unwrap() {
                RefreshReply::Unchanged(position) => assert_eq!(position, found.position),
                RefreshReply::Read(read) => assert_eq!((read.position, read.facts), (found.position, found.facts)),
            }
            assert!(matches!(unknown.unwrap(), RefreshReply::Read(read) if read.facts.is_some()));
            store
                .change_credential(credential_id("key-1"), CredentialChange::Revoke, NOW)
                .await
                .unwrap();
            let [revoked] = store.find_many(vec![again(Some(found.position))]).await.try_into().unwrap();
            match revoked.unwrap() {
                RefreshReply::Read(read) => assert!(read.position > found.position && is_revoked_in(&read)),
                unchanged @ RefreshReply::Unchanged(_) => panic!("{unchanged:?}"),
            }
        }
    });
}

fn is_revoked_in(found: &durward::store::LookupReply) -> bool {
    let state = found.facts.as_ref().map(|facts| facts.credential.state);
    matches!(state, Some(durward::base::principal::CredentialState::Revoked { .. }))
}

#[test]
fn facts_are_confirmed_where_nothing_has_changed() {
    run(async {
        let (bench, facts) = aged().await;
        let read_at = facts.sent_at();
        assert!(bench.present("key-1").is_some());
        until("the refresh", async || facts.sent_at() > read_at).await;
        assert_eq!(facts.sent_at(), bench.fixture.clock.now().boot);
        assert_eq!((bench.wrapper.reads(), bench.wrapper.unchanged()), (1, 1));
        bench.advance(29_999);
        assert!(bench.present("key-1").is_some(), "age counts from the refresh");
    });
}

#[test]
fn any_change_of_anything_has_them_read() {
    run(async {
        let (bench, facts) = aged().await;
        let read_at = facts.sent_at();
        bench.fixture.store.create_tenant(tenant("globex"), NOW).await.unwrap();
        assert!(bench.present("key-1").is_some());
        until("the refresh", async || facts.sent_at() > read_at).await;
        assert_eq!((bench.wrapper.reads(), bench.wrapper.unchanged()), (2, 0));
        assert_eq!(facts.position(), bench.fixture.store.status().applied);
    });
}

#[test]
fn what_was_revoked_is_not_confirmed() {
    run(async {
        let (bench, facts) = aged().await;
        let read_at = facts.sent_at();
        bench.wrapper.set(Behaviour::HoldTogether);
        assert!(bench.present("key-1").is_some());
        bench.until_held(1).await;
        // The answer that nothing has changed is on its way when the revocation comes.
        bench.revoke().await;
        bench.wrapper.release();
        until("the answer", async || bench.cache.figures().outdated == 1).await;
        assert_eq!((bench.wrapper.unchanged(), facts.sent_at()), (1, read_at));
        assert!(matches!(bench.recall("key-1"), Recalled::Nothing));
        bench.wrapper.set(Behaviour::Together);
        assert!(is_revoked(&bench.load("key-1").await.unwrap().unwrap()));
    });
}

#[test]
fn facts_with_lines_of_other_rules_are_read_although_nothing_has_changed() {
    run(async {
        let (bench, facts) = aged().await;
        facts.lines.keep(1, b"X-Tenant-Id: acme\r\n");
        assert!(facts.lines.written_by(2).is_none(), "a reload has made other rules");
        assert!(bench.present("key-1").is_some());
        until("the refresh", async || !Arc::ptr_eq(&bench.present("key-1").unwrap(), &facts)).await;
        assert!(!bench.present("key-1").unwrap().lines.are_outdated());
        assert_eq!((bench.wrapper.reads(), bench.wrapper.unchanged()), (2, 0));
    });
}

#[test]
fn uses_make_no_event_so_what_slides_is_always_read() {
    run(async {
        let bench = Bench::new().await;
        bench.fixture.store.create_credential(sliding("slides")).await.unwrap();
        let facts = bench.load("slides").await.unwrap().unwrap();
        bench.wrapper.set(Behaviour::Together);
        let used = UnixMillis(NOW.0 + 60_000);
        bench.fixture.store.touch(vec![(credential_id("slides"), used)]).await.unwrap();
        bench.advance(18_100);
        assert!(bench.present("slides").is_some());
        until("the use", async || {
            bench.present("slides").unwrap().credential.idle().unwrap().last_used == used
        })
        .await;
        assert_eq!(facts.credential.idle().unwrap().last_used, NOW);
        assert_eq!(bench.wrapper.unchanged(), 0);
    });
}

#[test]
fn whoever_only_wants_to_know_leaves_no_trace() {
    run(async {
        let bench = Bench::new().await;
        bench.fixture.store.create_credential(sliding("slides")).await.unwrap();
        let clock = &bench.fixture.clock;
        let peppers = Peppers::new(vec![Pepper::new(&[7; 32]).unwrap()]).unwrap();
        let looking = Resolver::without_traces(bench.cache.clone(), peppers.clone(), clock.clone());
        let before = bench.cache.figures();
        let facts = looking.load_since(fingerprint("slides"), clock.now()).await.unwrap().unwrap();
        assert!(
            matches!(looking.find_cached(fingerprint("slides"), clock.now()), CachedFacts::Nothing),
            "nothing is remembered"
        );
        assert!(looking.load_since(fingerprint("no-such-key"), clock.now()).await.unwrap().is_none());
        looking.note_use(&facts, clock.now());
        assert_eq!(bench.cache.activity().last_use(&facts.credential.id), None);
        assert_eq!(bench.cache.figures(), before, "nothing is counted");

        // The resolver of requests leaves all of these.
        let serving = Resolver::with_table(bench.cache.clone(), peppers, clock.clone(), 64);
        let facts = serving.load_since(fingerprint("slides"), clock.now()).await.unwrap().unwrap();
        assert!(matches!(
            looking.find_cached(fingerprint("slides"), clock.now()),
            CachedFacts::Present(_)
        ));
        serving.note_use(&facts, clock.now());
        assert!(bench.cache.activity().last_use(&facts.credential.id).is_some());
        assert_ne!(bench.cache.figures(), before);

        // Facts that are due to be read again are left as they are.
        bench.advance(20_000);
        let reads = bench.cache.figures().refreshes;
        assert!(matches!(
            looking.find_cached(fingerprint("slides"), clock.now()),
            CachedFacts::Present(_)
        ));
        bench.advance(20_000);
        let again = looking.load_since(fingerprint("slides"), clock.now()).await.unwrap().unwrap();
        assert_eq!(again.sent_at(), clock.now().boot);
        assert_eq!(bench.cache.figures().refreshes, reads);
    });
}
