//! The rows about a store that answers, but not the truth: errors, garbage, wrong records (F9 to F11, F14, F16).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use durward::base::clock;
use serde_json::json;

use crate::support::wait::{PATIENCE, until};

use super::scene::{Caller, Scene, Which, scale};
use super::watch::Watch;

/// Known callers must not notice any of this: their facts stay young for the whole test.
const YOUNG: &str = "max_age = \"30s\"\n";

/// Answers of a server that is there and cannot serve (docs/threats.md F9).
const ERRORS: [&str; 9] = [
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down",
    "READONLY You can't write against a read only replica.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "BUSY Redis is busy running a script.",
    "MOVED 1 127.0.0.1:1",
    "CLUSTERDOWN The cluster is down",
    "NOAUTH Authentication required.",
    "NOPERM this user has no permissions to run the 'evalsha' command",
];

/// A scene with a known caller who asks all the time, and must be served all the time.
fn open() -> (Scene, Watch) {
    let scene = Scene::with(YOUNG);
    let hot = scene.key();
    let watch = Watch::start(&scene.near, &hot, Duration::from_millis(15));
    until("the caller to be known", PATIENCE, || {
        watch.last().filter(|tick| tick.status == 200).map(drop)
    });
    (scene, watch)
}

fn close(scene: &Scene, hot: Watch) {
    let ticks: Vec<_> = hot.finish().into_iter().skip_while(|tick| tick.status != 200).collect();
    assert!(!ticks.is_empty());
    assert!(ticks.iter().all(|tick| tick.status == 200), "a known caller noticed");
    scene.assert_identities();
}

/// The answer to a look-up that brought no truth.
fn assert_unavailable(scene: &Scene, caller: &Caller, what: &str) {
    let response = scene.call(Which::Near, caller);
    assert_eq!(response.status, 503, "{what}: {response:?}");
    assert!(response.field("retry-after").is_some(), "{what}");
    assert_eq!(response.json()["code"], "unavailable", "{what}");
}

/// With the truth back, it is told: what was said meanwhile was not remembered.
fn assert_recovers(scene: &Scene, caller: &Caller, what: &str) {
    until(&format!("service after {what}"), PATIENCE, || {
        match scene.call(Which::Near, caller).status {
            503 => None,
            200 => Some(()),
            other => panic!("{what}: {other}"),
        }
    });
}

#[test]
fn f9_no_error_of_the_server_is_an_absence() {
    let (scene, hot) = open();
    for error in ERRORS {
        let unseen = scene.key();
        scene
            .proxy
            .rewrite(move |seen, _| seen.lookup.as_ref().map(|_| format!("-{error}\r\n").into_bytes()));
        assert_unavailable(&scene, &unseen, error);
        assert_unavailable(&scene, &Caller::nobody(), error);
        scene.proxy.pass();
        assert_recovers(&scene, &unseen, error);
    }
    assert!(
        scene.said(Which::Near, "store_credentials") >= 1,
        "an alarm of its own, at most every 10 s"
    );
    assert_eq!(scene.said(Which::Near, "'evalsha'"), 0, "the server's text is not repeated");
    close(&scene, hot);
}

#[test]
fn f9_a_server_that_refuses_this_gateway_is_an_alarm_and_nobody_gets_401() {
    let (scene, hot) = open();
    scene.redis.command::<()>(&["ACL", "SETUSER", "durward", "-evalsha"]);
    let unseen = Caller::nobody();
    assert_unavailable(&scene, &unseen, "no permission");
    until("the alarm", PATIENCE, || {
        (scene.said(Which::Near, "store_credentials") > 0).then_some(())
    });
    scene.redis.command::<()>(&["ACL", "SETUSER", "durward", "+evalsha"]);
    until("service", PATIENCE, || {
        (scene.call(Which::Near, &unseen).status == 401).then_some(())
    });
    close(&scene, hot);
}

#[test]
fn f10_garbage_costs_a_connection_and_503_and_no_memory() {
    let garbage: [(&str, Vec<u8>); 9] = [
        ("a string of half a gigabyte", b"$536870912\r\n".to_vec()),
        ("an array of a thousand millions", b"*1000000000\r\n".to_vec()),
        ("arrays in arrays", b"*1\r\n".repeat(100_000)),
        ("a number", b":1\r\n".to_vec()),
        ("nothing", b"*0\r\n".to_vec()),
        ("a push in the middle", b">2\r\n$7\r\nmessage\r\n$1\r\nx\r\n*0\r\n".to_vec()),
        ("a page", b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        (
            "bytes",
            (0..4_096_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect(),
        ),
        ("an endless line", vec![b'+'; 100_000]),
    ];
    let (scene, hot) = open();
    let (before, connected, lies) = (scene.near.resident(), scene.proxy.connects().len(), garbage.len());
    for (what, bytes) in garbage {
        let unseen = scene.key();
        let connects = scene.proxy.connects().len();
        scene.proxy.rewrite(move |seen, _| seen.lookup.as_ref().map(|_| bytes.clone()));
        assert_unavailable(&scene, &unseen, what);
        scene.proxy.pass();
        assert_recovers(&scene, &unseen, what);
        until("the connection to be replaced", PATIENCE, || {
            (scene.proxy.connects().len() > connects).then_some(())
        });
    }
    let spent = scene.proxy.connects().len() - connected;
    let unseen = scene.key();
    scene.proxy.cut_lookups(2);
    assert_unavailable(&scene, &unseen, "half a reply on both connections");
    assert_recovers(&scene, &unseen, "half a reply");
    let grown = scene.near.resident().saturating_sub(before);
    eprintln!(
        "F10: {lies} kinds of garbage cost {spent} connections; memory grew by {} KiB",
        grown / 1024
    );
    // One each; a machine under load may lose one to its own slowness.
    assert!(spent <= lies + 2, "{spent} connections");
    assert!(grown < 8 * 1024 * 1024, "memory grew by {grown} bytes");
    close(&scene, hot);
}

#[test]
fn f11_an_answer_about_somebody_else_lends_nobody_an_identity() {
    let (scene, hot) = open();
    scene.operate(Which::Far, "/v1/tenants", &json!({ "id": "globex" }));
    let (one, other) = (scene.key(), scene.key_of("globex"));
    let kept: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
    scene.proxy.rewrite(move |seen, reply| {
        seen.lookup.as_ref()?;
        let mut kept = kept.lock().unwrap();
        Some(kept.get_or_insert_with(|| reply.to_vec()).clone())
    });
    assert_eq!(scene.call(Which::Near, &one).status, 200);
    let connects = scene.proxy.connects().len();
    assert_unavailable(&scene, &other, "a swapped answer");
    // Its line may still be on its way when the answer is here.
    until("an alarm", PATIENCE, || {
        (scene.said(Which::Near, "corrupt_record") > 0).then_some(())
    });
    until("the connection to be replaced", PATIENCE, || {
        (scene.proxy.connects().len() > connects).then_some(())
    });
    scene.proxy.pass();
    assert_recovers(&scene, &other, "a swapped answer");
    close(&scene, hot);
}

#[test]
fn f11_a_record_that_cannot_be_trusted_is_503_and_an_alarm() {
    let (scene, hot) = open();
    let somebody_else = scene.key();
    let stored = |id: &str| scene.redis.command::<Vec<u8>>(&["HGET", "{durward}:c", id]);
    let foreign = stored(&somebody_else.id);
    type Damage = fn(&[u8], &[u8]) -> Vec<u8>;
    let damages: [(&str, Damage); 6] = [
        ("nothing", |_, _| Vec::new()),
        ("garbage", |_, _| b"{\"tenant\":".to_vec()),
        ("an unknown version", |record, _| [b"\xfe", &record[1..]].concat()),
        ("half of it", |record, _| record[..record.len() / 2].to_vec()),
        ("a tenant with a line end", |record, _| {
            let at = memchr::memmem::rfind(record, b"acme").expect("the tenant in its record");
            [&record[..at], b"ac\r\n", &record[at + 4..]].concat()
        }),
        ("somebody else's", |_, foreign| foreign.to_vec()),
    ];
    for (what, damage) in damages {
        let unseen = scene.key();
        let whole = stored(&unseen.id);
        let alarms = scene.metric(Which::Near, "durward_store_corrupt");
        let set = |bytes: &[u8]| scene.redis.command_with_bytes(&["HSET", "{durward}:c", &unseen.id], bytes);
        set(&damage(&whole, &foreign));
        assert_unavailable(&scene, &unseen, what);
        assert!(scene.metric(Which::Near, "durward_store_corrupt") > alarms, "{what}");
        set(&whole);
        assert_recovers(&scene, &unseen, what);
    }
    close(&scene, hot);
}

/// Copies every key to the second database, and back.
const KEEP: &str = "for _, k in ipairs(redis.call('KEYS', '*')) do redis.call('COPY', k, k, 'DB', 1, 'REPLACE') end";
const BRING_BACK: &str =
    "redis.call('SELECT', 1) for _, k in ipairs(redis.call('KEYS', '*')) do redis.call('COPY', k, k, 'DB', 0, 'REPLACE') end";

#[test]
fn f14_a_store_that_lost_its_data_is_503_and_not_401_for_everybody() {
    let (scene, hot) = open();
    for (what, loss) in [("a flush", vec!["FLUSHDB"]), ("an eviction", vec!["DEL", "{durward}:f"])] {
        let unseen = scene.key();
        scene.redis.command::<()>(&["EVAL", KEEP, "0"]);
        scene.redis.command::<()>(&loss);
        assert_unavailable(&scene, &unseen, what);
        assert_unavailable(&scene, &Caller::nobody(), what);
        scene.redis.command::<()>(&["EVAL", BRING_BACK, "0"]);
        assert_recovers(&scene, &unseen, what);
    }
    close(&scene, hot);
}

#[test]
fn f16_a_flooded_and_forged_event_stream_ends_nobody_and_stops_no_revocation() {
    let (scene, hot) = open();
    let step = |what: &str, words: &[&str], last: &[u8]| {
        scene.redis.command_with_bytes(words, last);
        let gone = scene.key();
        let near = Watch::start(&scene.near, &gone, Duration::from_millis(15));
        until("the caller to be known", PATIENCE, || {
            near.last().filter(|tick| tick.status == 200).map(drop)
        });
        scene.revoke(&gone);
        let revoked = clock::instant();
        until("the revocation to arrive", PATIENCE, || {
            near.last().filter(|tick| tick.status == 401).map(drop)
        });
        eprintln!("F16: after {what}, a revocation took {:?}", revoked.elapsed());
        // Long before age ends it, which is after 15 s.
        assert!(revoked.elapsed() < Duration::from_secs(10), "{what}");
    };
    let forged = ["XADD", "{durward}:events", "*", "p", "99999999", "e"];
    step("a forged event", &forged, b"tenant acme");
    step("an event of a megabyte", &forged, &vec![b'x'; 1024 * 1024]);
    // Events in their order as so many changes make them, in one moment.
    let events = scale("DURWARD_TEST_FLOOD", 4_000).to_string();
    let flood = "local e = redis.call('XREVRANGE', '{durward}:events', '+', '-', 'COUNT', 1)[1][2][4] \
                 for i = 1, ARGV[1] do local p = redis.call('HINCRBY', '{durward}:meta', 'position', 1) \
                 redis.call('XADD', '{durward}:events', '*', 'p', p, 'e', e) end";
    step(&format!("{events} events"), &["EVAL", flood, "0"], events.as_bytes());
    close(&scene, hot);
}
