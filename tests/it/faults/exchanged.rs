//! A wrong record harms itself only; a wrong connection harms nobody.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::wait::{PATIENCE, until};

use super::scene::{Caller, Scene, Which, scale};
use super::watch::Watch;

/// Exchanges what the index of fingerprints says of two credentials.
const EXCHANGE: &str = "local f = redis.call('HGETALL', '{durward}:f') \
    for i = 1, #f, 2 do local id, tenant = string.match(f[i + 1], '^(%S+) (%S+)$') \
      if id == ARGV[1] then redis.call('HSET', '{durward}:f', f[i], ARGV[2] .. ' ' .. tenant) end \
      if id == ARGV[2] then redis.call('HSET', '{durward}:f', f[i], ARGV[1] .. ' ' .. tenant) end end";

/// Has what the index says of a credential replaced.
const POINT: &str = "local f = redis.call('HGETALL', '{durward}:f') \
    for i = 1, #f, 2 do if string.match(f[i + 1], '^(%S+)') == ARGV[1] then redis.call('HSET', '{durward}:f', f[i], ARGV[2]) end end";

/// Connections of a gateway to Redis: for look-ups two, for operators, for changes, for events.
const LINKS: usize = 5;

/// A scene whose near gateway has all its connections, with a deadline of look-ups that a loaded machine keeps.
fn open() -> Scene {
    let scene = Scene::with("max_age = \"30s\"\nlookup_timeout = \"5s\"\n");
    until("all connections", PATIENCE, || {
        (scene.proxy.connects().len() >= LINKS).then_some(())
    });
    scene
}

fn serve(scene: &Scene, callers: &[Caller], what: &str) {
    for caller in callers {
        let response = scene.call(Which::Near, caller);
        assert_eq!(response.status, 200, "{what}: {response:?}");
    }
}

/// Nobody but the damaged has noticed: the connections stay and the breaker is closed.
fn assert_nobody_noticed(scene: &Scene, connects: usize, what: &str) {
    assert_eq!(scene.proxy.connects().len(), connects, "{what}: a connection was replaced");
    assert_eq!(
        scene.said(Which::Near, "the store does not answer"),
        0,
        "{what}: the breaker opened"
    );
    assert_eq!(scene.said(Which::Near, "store_answers_swapped"), 0, "{what}");
}

#[test]
fn two_exchanged_entries_are_503_for_those_two_and_nothing_for_others() {
    let scene = open();
    let others: Vec<_> = (0..scale("DURWARD_TEST_CALLERS", 300)).map(|_| scene.key()).collect();
    let (one, other) = (scene.key(), scene.key());
    let exchange = || scene.redis.command::<()>(&["EVAL", EXCHANGE, "0", &one.id, &other.id]);
    exchange();
    let connects = scene.proxy.connects().len();
    let harmed = [&one, &other].map(|caller| Watch::start(&scene.near, caller, Duration::from_millis(20)));
    serve(&scene, &others, "a caller that nobody has asked for yet");
    for _ in 0..20 {
        serve(&scene, &[scene.key()], "a new key");
    }
    until("both to be named", PATIENCE, || {
        [&one, &other]
            .iter()
            .all(|caller| scene.said(Which::Near, &format!("leads to the credential {}", caller.id)) > 0)
            .then_some(())
    });
    assert!(scene.said(Which::Near, "corrupt_record") > 0);
    for watch in harmed {
        let ticks = watch.finish();
        assert!(ticks.len() > 20, "{}", ticks.len());
        assert!(
            ticks.iter().all(|tick| tick.status == 503 && tick.retry_after),
            "{:?}",
            ticks.last()
        );
    }
    assert_nobody_noticed(&scene, connects, "two exchanged entries");
    exchange();
    serve(&scene, &[one, other], "as soon as the index is right");
    scene.assert_identities();
}

#[test]
fn no_single_record_costs_anybody_else_a_connection_or_opens_the_breaker() {
    let scene = open();
    let connects = scene.proxy.connects().len();
    let hash = |key: &str, id: &str, bytes: &[u8]| scene.redis.command_with_bytes(&["HSET", key, id], bytes);
    let point = |victim: &Caller, to: &str| scene.redis.command::<()>(&["EVAL", POINT, "0", &victim.id, to]);
    let huge = vec![b'x'; 2 * 1024 * 1024];
    let orphan = |victim: &Caller| {
        let record: Vec<u8> = scene.redis.command(&["HGET", "{durward}:c", &victim.id]);
        let at = memchr::memchr(b'\n', &record).expect("the first line of a record");
        hash("{durward}:c", &victim.id, &[&record[..1], b"nobody", &record[at..]].concat());
    };
    type Damage<'a> = (&'a str, &'a dyn Fn(&Caller));
    let one_line = vec![b'x'; 32_000];
    let roles = ["\u{1}-".to_owned(), " role".repeat(6_000), "\n{}".to_owned()].concat();
    let damages: [Damage<'_>; 12] = [
        ("garbage", &|victim| hash("{durward}:c", &victim.id, b"garbage")),
        ("one long line", &|victim| hash("{durward}:c", &victim.id, &one_line)),
        ("a record with thousands of roles", &|victim| {
            hash("{durward}:c", &victim.id, roles.as_bytes())
        }),
        ("an entry of the index larger than an answer may be", &|victim| {
            point(victim, &format!("{} {}", "x".repeat(1_000_000), "y".repeat(1_000_000)));
        }),
        ("a record larger than an answer may be", &|victim| {
            hash("{durward}:c", &victim.id, &huge)
        }),
        ("a last use larger than an answer may be", &|victim| {
            hash("{durward}:u", &victim.id, &huge)
        }),
        ("a last use that is no time", &|victim| hash("{durward}:u", &victim.id, b"soon")),
        ("no record", &|victim| {
            scene.redis.command::<()>(&["HDEL", "{durward}:c", &victim.id])
        }),
        ("no tenant", &|victim| point(victim, &format!("{} nobody", victim.id))),
        ("an index that is none", &|victim| point(victim, "garbage")),
        ("an index that names a tenant", &|victim| point(victim, "= acme")),
        ("no parent", &orphan),
    ];
    for (what, damage) in damages {
        let victim = scene.key();
        damage(&victim);
        for _ in 0..10 {
            let response = scene.call(Which::Near, &victim);
            assert_eq!(response.status, 503, "{what}: {response:?}");
        }
        serve(&scene, &[scene.key()], what);
        assert_nobody_noticed(&scene, connects, what);
    }
    scene.assert_identities();
}

/// The connections on which look-ups are sent.
fn lookup_connections(scene: &Scene) -> BTreeSet<usize> {
    until("look-ups on both connections", PATIENCE, || {
        serve(scene, &[scene.key()], "a look-up");
        let asked: BTreeSet<_> = scene.proxy.lookups().iter().map(|seen| seen.connection).collect();
        (asked.len() == 2).then_some(asked)
    })
}

/// An answer with what `kept` is about, and with the question and the position of `reply`.
fn about(kept: &[u8], reply: &[u8]) -> Vec<u8> {
    // The history and the position, each with its length, after the number of elements; then that of the look-up's elements, and the
    // question with its length.
    let split = |bytes: &[u8]| {
        let ends: Vec<usize> = memchr::memmem::find_iter(bytes, b"\r\n").map(|at| at + 2).collect();
        (ends[4], ends[5], ends[7])
    };
    let ((kept_head, kept_size, kept_asked), (head, size, asked)) = (split(kept), split(reply));
    [
        &reply[..head],
        &kept[kept_head..kept_size],
        &reply[size..asked],
        &kept[kept_asked..],
    ]
    .concat()
}

#[test]
fn a_connection_that_swaps_answers_goes_and_its_callers_are_served_as_themselves() {
    for repeats_the_question in [false, true] {
        let scene = open();
        scene.operate(Which::Far, "/v1/tenants", &serde_json::json!({ "id": "globex" }));
        let wrong = *lookup_connections(&scene).first().unwrap();
        let (kept, seen) = std::sync::mpsc::channel();
        scene.proxy.rewrite(move |asked, reply| {
            asked.lookup.as_ref()?;
            let _ = kept.send(reply.to_vec());
            None
        });
        serve(&scene, &[scene.key()], "whose answer is kept");
        let kept = seen.recv_timeout(PATIENCE).expect("a look-up");
        let connects = scene.proxy.connects().len();
        scene.proxy.rewrite(move |seen, reply| {
            seen.lookup.as_ref().filter(|_| seen.connection == wrong)?;
            Some(if repeats_the_question { about(&kept, reply) } else { kept.clone() })
        });
        for _ in 0..6 {
            serve(&scene, &[scene.key_of("globex")], "a caller whose answer was swapped");
        }
        until("the connection to be replaced", PATIENCE, || {
            (scene.proxy.connects().len() > connects).then_some(())
        });
        until("the alarm", PATIENCE, || {
            (scene.said(Which::Near, "store_answers_swapped") > 0).then_some(())
        });
        assert_eq!(scene.said(Which::Near, "corrupt_record"), 0, "the store is right");
        assert_eq!(scene.said(Which::Near, "the store does not answer"), 0);
        scene.assert_identities();
    }
}
