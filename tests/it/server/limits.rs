//! Caps, ages and drain over raw sockets.

use std::time::Duration;

use durward::base::denial::Denial;
use durward::snapshot::Limits;

use super::stub::Event;
use super::{PATIENCE, field, plain, quick};

const GET: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
const WAIT: &str = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_cap_are_closed_at_once_until_one_leaves() {
    let bench = plain(Limits {
        connections: 1,
        keep_alive: PATIENCE,
        ..quick()
    });
    let mut first = bench.connect();
    first.send(GET).answer();
    assert_eq!(bench.connect().try_rest().unwrap_or_default(), "");
    assert_eq!(bench.count("refused_total"), 1);
    assert_eq!(first.send(GET).answer().0, 200);
    drop(first);
    bench.wait_for("open", 0).await;
    assert_eq!(bench.connect().send(GET).answer().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_its_own_cap() {
    let bench = plain(Limits {
        connections_per_address: 1,
        keep_alive: PATIENCE,
        ..quick()
    });
    let mut first = bench.connect();
    first.send(GET).answer();
    assert_eq!(bench.connect().try_rest().unwrap_or_default(), "");
    assert_eq!(bench.count("refused_address"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_the_share_are_refused_at_once_and_the_connection_lives() {
    let bench = plain(Limits { requests: 1, ..quick() });
    let (mut busy, mut excess) = (bench.connect(), bench.connect());
    busy.send(WAIT);
    bench.stub.wait_for(&Event::Request("GET /wait".into())).await;
    assert_eq!(excess.send(GET).answer().0, 503);
    assert!(bench.stub.saw(&Event::Refused(Denial::Overloaded)));
    bench.stub.open_gate();
    assert_eq!(busy.answer().2, "done");
    assert_eq!(excess.send(GET).answer().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_after_its_last_request_or_its_age() {
    let bench = plain(Limits {
        requests_per_connection: 2,
        ..quick()
    });
    let mut client = bench.connect();
    assert_eq!(field(&client.send(GET).answer().1, "connection"), None);
    assert_eq!(field(&client.send(GET).answer().1, "connection"), Some("close"));
    assert_eq!(client.rest(), "");
    let aged = plain(Limits {
        connection_age: Duration::ZERO,
        ..quick()
    });
    assert_eq!(field(&aged.connect().send(GET).answer().1, "connection"), Some("close"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_closes_idle_connections_and_lets_busy_ones_finish() {
    let bench = plain(Limits {
        keep_alive: PATIENCE,
        ..quick()
    });
    let (mut idle, mut busy) = (bench.connect(), bench.connect());
    idle.send(GET).answer();
    busy.send(WAIT);
    bench.stub.wait_for(&Event::Request("GET /wait".into())).await;
    let (address, stub) = (bench.address(), bench.stub.clone());
    let draining = tokio::spawn(bench.running.drain());
    let idle = tokio::task::spawn_blocking(move || idle.rest()).await.unwrap();
    assert_eq!(idle, "");
    assert!(std::net::TcpStream::connect(address).is_err(), "the listener is closed");
    stub.open_gate();
    let (_, head, body) = busy.answer();
    assert_eq!((body.as_str(), field(&head, "connection")), ("done", Some("close")));
    drop(busy);
    let report = draining.await.unwrap();
    assert_eq!((report.aborted, report.lost_workers), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_accepted_at_the_end_of_the_delay_is_answered() {
    let bench = plain(Limits {
        head_timeout: PATIENCE,
        ..quick()
    });
    let (mut late, mut silent) = (bench.connect(), bench.connect());
    bench.wait_for("connections", 2).await;
    let address = bench.address();
    let draining = tokio::spawn(bench.running.drain());
    while std::net::TcpStream::connect(address).is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // The listener is closed by now; these two connections were accepted before.
    let (status, head, body) = late.send(GET).answer();
    assert_eq!((status, body.as_str(), field(&head, "connection")), (200, "hello", Some("close")));
    assert_eq!(late.rest(), "");
    assert!(
        silent.time_to_close() < Duration::from_secs(4),
        "who sends nothing does not hold the drain up"
    );
    assert_eq!(draining.await.unwrap().aborted, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_cuts_off_what_is_left_at_its_deadline() {
    let bench = plain(Limits {
        drain_timeout: Duration::from_millis(100),
        ..quick()
    });
    let mut stuck = bench.connect();
    stuck.send(WAIT);
    bench.stub.wait_for(&Event::Request("GET /wait".into())).await;
    let stub = bench.stub.clone();
    let report = bench.running.drain().await;
    assert_eq!((report.aborted, report.lost_workers), (1, 0));
    assert!(stub.saw(&Event::Cancelled));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_leaving_new_connections_are_served_and_told_to_close() {
    let bench = plain(Limits {
        drain_delay: Duration::from_millis(500),
        ..quick()
    });
    let mut client = bench.connect();
    client.send(GET).answer();
    let address = bench.address();
    let draining = tokio::spawn(bench.running.drain());
    let mut told = false;
    while !told {
        let mut client = super::Client::connect(address);
        let (status, head, _) = client.send(GET).answer();
        assert_eq!(status, 200);
        told = field(&head, "connection") == Some("close");
    }
    draining.await.unwrap();
}
