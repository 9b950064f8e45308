//! An old primary that goes on believing, and a gateway that nobody can tell: its sentinels are held. What it
//! reads there is no younger than the last word of a majority, so a key that was revoked on the new primary is
//! admitted for `max_age` after the acknowledgement, and not for the time that gateway trusts its primary besides.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use durward::base::clock;
use serde_json::{Value, json};

use crate::support::fault_proxy::FaultProxy;
use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::redis::RedisServer;
use crate::support::redis_sets::{SERVICE, Sentinels};
use crate::support::site::{Plan, ROUTES, Site, Store};
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, pause, until};
use crate::support::websocket::{self, Seen, TEXT, WebSocket};

use super::scene::{Caller, TENANT, make_key, operate, probe};
use super::watch::{Tick, Watch};

/// A route of streams that stay open.
const LIVE: &str = r#"
[[routes]]
path = "/ws/**"
methods = ["GET"]
access = { surfaces = ["api"], scopes = ["orders:read"] }
upgrade = "websocket"
"#;

/// Ages to try: 5 s, or as `scripts/faults trust` asks, one after the other.
fn ages() -> Vec<u64> {
    let asked = std::env::var("DURWARD_TEST_TRUST_AGES").unwrap_or_else(|_| "5".to_owned());
    asked.split(',').map(|age| age.trim().parse().expect("seconds")).collect()
}

/// Two gateways over a primary, a replica and three sentinels; what `near` asks the sentinels can be held.
struct House {
    old: RedisServer,
    new: RedisServer,
    sentinels: Sentinels,
    proxies: Vec<FaultProxy>,
    _upstream: Upstream,
    near: Gateway,
    _near_site: Site,
    far: Gateway,
    far_site: Site,
    _folder: tempfile::TempDir,
}

impl House {
    fn open(store_lines: &str) -> Self {
        let old = RedisServer::start();
        let new = RedisServer::replica_of(&old);
        let sentinels = Sentinels::watching(&old, 3, 1);
        let straight = sentinels.addresses();
        let proxies: Vec<FaultProxy> = straight.iter().map(|at| FaultProxy::to(at.parse().unwrap())).collect();
        let through = proxies.iter().map(|proxy| proxy.address().to_string()).collect();
        let upstream = Upstream::scripted(When::Head, |asked, stream| {
            if websocket::is_handshake(asked) {
                return websocket::echo(stream, &Seen::default());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            Ok(Then::Keep)
        });
        let folder = tempfile::tempdir().unwrap();
        let pepper = folder.path().join("pepper");
        std::fs::write(&pepper, "pepper-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
        let site = |id: &str, addresses: Vec<String>| {
            let store = Store::Sentinels {
                addresses,
                service: SERVICE.to_owned(),
                pepper: pepper.clone(),
            };
            let plan = Plan {
                store,
                store_lines: store_lines.to_owned(),
                upstream: format!("{ROUTES}{LIVE}"),
                ..Plan::usual()
            };
            let site = Site::of(&plan, upstream.address);
            site.write("gateway.toml", &format!("id = \"{id}\"\n{}", site.read("gateway.toml")));
            site
        };
        let (near_site, far_site) = (site("near", through), site("far", straight));
        let house = Self {
            near: Gateway::start(&near_site),
            far: Gateway::start(&far_site),
            old,
            new,
            sentinels,
            proxies,
            _upstream: upstream,
            _near_site: near_site,
            far_site,
            _folder: folder,
        };
        operate(&house.far_socket(), "/v1/tenants", &json!({ "id": TENANT })).unwrap();
        house
    }

    fn far_socket(&self) -> std::path::PathBuf {
        self.far_site.folder().join("state/admin.sock")
    }

    fn key(&self) -> Caller {
        make_key(&self.far_socket(), TENANT)
    }

    /// Revokes a key through the gateway that is well; what the answer says of the gateways.
    fn revoke(&self, caller: &Caller) -> Value {
        let path = format!("/v1/keys/{}/revoke?wait=0", caller.id);
        // Its connections to the new primary may be a moment from being ready.
        until("the revocation", PATIENCE, || {
            match operate(&self.far_socket(), &path, &Value::Null) {
                Ok(answer) => Some(answer),
                // Made, and not confirmed by all gateways.
                Err(answer) if answer.starts_with("HTTP/1.1 202") => Some(serde_json::from_str(answer.split_once("\r\n\r\n")?.1).unwrap()),
                Err(answer) => {
                    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
                    None
                }
            }
        })
    }

    /// Nothing that `near` asks the sentinels arrives any more, and nobody is told.
    fn hold(&self) {
        self.proxies.iter().for_each(FaultProxy::partition);
    }

    fn let_go(&self) {
        self.proxies.iter().for_each(FaultProxy::pass);
    }

    /// Promotes the replica, and waits until the other gateway is there with every connection.
    fn fail_over(&self) {
        self.sentinels.promote();
        self.sentinels.until_named(&self.new);
        until("the other gateway on the new primary", PATIENCE, || {
            let clients: String = self.new.command(&["CLIENT", "LIST"]);
            let of_ours = |line: &&str| ["cmd=role", "cmd=evalsha", "cmd=xread"].iter().any(|cmd| line.contains(cmd));
            // Two for look-ups, one for operators, one for changes, one for events.
            (clients.lines().filter(of_ours).count() >= 5).then_some(())
        });
    }
}

/// Somebody who tells a server again and again that it is a primary.
struct Believer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Believer {
    fn at(server: &RedisServer) -> Self {
        let url = server.url();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let client = redis::Client::open(url).unwrap();
            while !stopped.load(Ordering::Relaxed) {
                // A sentinel that demotes the server ends its connections.
                let Ok(mut connection) = client.get_connection() else { continue };
                while !stopped.load(Ordering::Relaxed) && redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut connection).is_ok() {
                    pause(Duration::from_millis(5));
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Believer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Opens a stream, and answers when it last answered once it has been ended.
fn keep_open(gateway: &Gateway, caller: &Caller) -> std::thread::JoinHandle<Instant> {
    let bearer = format!("Bearer {}", caller.bearer);
    let client = Client::connect(gateway.address("plain"));
    let opened = WebSocket::open(client, "/ws/x?tenant=acme", &[("Authorization", &bearer)]);
    let Ok((mut socket, _)) = opened else { panic!("not opened") };
    std::thread::spawn(move || {
        let mut last = clock::instant();
        loop {
            socket.send(TEXT, b"are you there");
            if !matches!(socket.read(), Some((TEXT, _))) {
                return last;
            }
            last = clock::instant();
            pause(Duration::from_millis(20));
        }
    })
}

/// How long after this moment the last request was sent that was admitted.
fn last_admission(ticks: &[Tick], after: Instant) -> Duration {
    let last = ticks.iter().filter(|tick| tick.status == 200).map(|tick| tick.at).max().unwrap();
    last.saturating_duration_since(after)
}

/// How long from now a gateway may go on, by what the operator is told.
fn time_left(told: &Value, id: &str) -> Duration {
    let gateways = told["gateways"].as_array().unwrap();
    let row = gateways.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("{told}"));
    let stopped_by: jiff::Timestamp = row["stopped_by"].as_str().unwrap_or_else(|| panic!("{told}")).parse().unwrap();
    Duration::try_from(stopped_by.duration_since(jiff::Timestamp::now())).unwrap()
}

fn play(age: u64) {
    let house = House::open(&format!("max_age = \"{age}s\"\n"));
    let (gone, hot) = (house.key(), house.key());
    let watch = |gateway: &Gateway, caller: &Caller| Watch::start(gateway, caller, Duration::from_millis(10));
    let (ending, near_hot, far_hot) = (watch(&house.near, &gone), watch(&house.near, &hot), watch(&house.far, &hot));
    for known in [&ending, &near_hot, &far_hot] {
        until("callers to be known", PATIENCE, || {
            known.last().filter(|tick| tick.status == 200).map(drop)
        });
    }
    let stream = keep_open(&house.near, &gone);
    let believer = Believer::at(&house.old);
    house.hold();
    let held = clock::instant();
    house.fail_over();
    let told = house.revoke(&gone);
    let acknowledged = clock::instant();
    let stopped_by = time_left(&told, "near");

    pause(Duration::from_secs(age + 1));
    let ended = ending.last().unwrap();
    let ticks = ending.finish();
    let last = last_admission(&ticks, acknowledged);
    assert!(stream.is_finished(), "the stream is open still");
    let stream = stream.join().unwrap().saturating_duration_since(acknowledged);
    eprintln!(
        "F13 held sentinels, max_age {age} s: acknowledged {:.2} s after the hold, last admission {:.2} s after the acknowledgement, \
         last word on a stream {:.2} s, told to have stopped {:.2} s after it",
        (acknowledged - held).as_secs_f64(),
        last.as_secs_f64(),
        stream.as_secs_f64(),
        stopped_by.as_secs_f64(),
    );
    assert!(last.max(stream) <= stopped_by, "the operator was told {stopped_by:?}");
    assert!(last <= Duration::from_secs(age), "admitted {last:?} after the acknowledgement");
    assert_ne!(ended.status, 200);
    assert!(ticks.iter().all(|tick| [200, 401, 503].contains(&tick.status)));

    // Whoever can ask the sentinels serves all the while.
    let far: Vec<_> = far_hot.finish().into_iter().filter(|tick| tick.status != 200).collect();
    assert!(far.is_empty(), "{far:?}");
    // Known callers of the gateway that cannot are served while their facts are young, and nobody is a stranger.
    for tick in near_hot.ticks() {
        let young = tick.at.saturating_duration_since(held) < Duration::from_secs(age) / 2 - Duration::from_millis(300);
        assert!(tick.status == 200 || (tick.status == 503 && !young), "{tick:?}");
    }
    drop(believer);
    house.let_go();
    until("everybody to be served again", PATIENCE, || {
        near_hot.last().filter(|tick| tick.status == 200).map(drop)
    });
}

#[test]
fn f13_a_gateway_that_no_sentinel_can_tell_admits_what_ended_no_longer_than_its_facts_are_old() {
    ages().into_iter().for_each(play);
}

#[test]
fn with_facts_of_a_second_and_sentinels_that_answer_everybody_is_served_and_reads_are_few() {
    let house = House::open("max_age = \"1s\"\n");
    let hot = house.key();
    let watch = Watch::start(&house.near, &hot, Duration::from_millis(5));
    until("the caller to be known", PATIENCE, || {
        watch.last().filter(|tick| tick.status == 200).map(drop)
    });
    let metric = || {
        let text = String::from_utf8(probe(&house.near, "/metrics").body).unwrap();
        let rows = text.lines().filter(|line| line.starts_with("durward_store_reads_total"));
        rows.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum::<u64>()
    };
    let (before, start) = (metric(), clock::instant());
    pause(Duration::from_secs(4));
    let (reads, took) = (metric() - before, start.elapsed());
    let ticks = watch.finish();
    let refused: Vec<_> = ticks.iter().filter(|tick| tick.status != 200).collect();
    assert!(refused.is_empty(), "{refused:?}");
    eprintln!("{} requests, {reads} reads in {took:?}", ticks.len());
    // Facts are read again at half a second, counted from a word that is up to a quarter of a second old.
    assert!((4..=30).contains(&reads), "{reads} reads in {took:?}");
    let questions = house.proxies[0].commands().iter().filter(|seen| seen.name == "SENTINEL").count();
    assert!((12..=40).contains(&questions), "{questions} questions to a sentinel");
}
