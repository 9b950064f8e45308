//! HTTP/2 over TLS.

use durward::base::denial::Denial;
use durward::snapshot::Limits;
use durward::wire::body::BodyError;
use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stub::Event;
use super::tls::{connect, connect_h2, get, post, secure, soon, text};
use super::{PATIENCE, quick};

#[tokio::test(flavor = "multi_thread")]
async fn h2_requests_are_answered_with_bodies_both_ways() {
    let (bench, _) = secure(quick());
    let (sender, _driver) = connect_h2(bench.address()).await;
    let response = sender.clone().send_request(get("/hello")).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-length"]),
        (200, &"5".parse().unwrap())
    );
    assert!(response.headers().contains_key("date"));
    assert_eq!(text(response).await, "hello");
    assert_eq!(
        text(sender.clone().send_request(post("/count", vec![b'x'; 300_000])).await.unwrap()).await,
        "300000"
    );
    let echoed = text(sender.clone().send_request(post("/echo", vec![b'x'; 300_000])).await.unwrap()).await;
    assert_eq!(echoed.len(), 300_000);
    let response = sender.clone().send_request(get("/trailers")).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().map(|t| &t["x-sum"]), Some(&"7".parse().unwrap()));
    assert_eq!(bench.count("h2_requests"), 4);
    bench.stub.wait_for(&Event::Finished(300_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h2_cookie_crumbs_arrive_one_by_one_and_count() {
    let (bench, _) = secure(quick());
    let (sender, _driver) = connect_h2(bench.address()).await;
    let with_crumbs = |n: usize| {
        let mut request = get("/crumbs");
        for _ in 0..n {
            request.headers_mut().append("cookie", "a=1".parse().unwrap());
        }
        request
    };
    assert_eq!(text(sender.clone().send_request(with_crumbs(3)).await.unwrap()).await, "3");
    let refused = sender.clone().send_request(with_crumbs(101)).await.unwrap();
    assert_eq!(refused.status().as_u16(), 431);
    assert!(bench.stub.saw(&Event::Refused(Denial::HeadTooLarge)));
}

#[tokio::test(flavor = "multi_thread")]
async fn h2_connect_is_refused() {
    let (bench, _) = secure(quick());
    let (mut sender, _driver) = connect_h2(bench.address()).await;
    let request = http::Request::connect("b.test:443").body(Empty::new().boxed()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status().as_u16(), 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_h2_answer_that_breaks_off_is_reset() {
    let (bench, _) = secure(quick());
    let (mut sender, _driver) = connect_h2(bench.address()).await;
    for path in ["/break", "/short", "/long"] {
        // The reset may overtake the head.
        let whole = async { sender.send_request(get(path)).await?.into_body().collect().await };
        assert!(whole.await.is_err(), "{path}");
    }
    bench.stub.wait_for(&Event::Aborted).await;
    assert_eq!(text(sender.send_request(get("/hello")).await.unwrap()).await, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_one_stream_only() {
    let (bench, _) = secure(quick());
    let (mut sender, _driver) = connect_h2(bench.address()).await;
    assert!(sender.send_request(get("/panic")).await.is_err());
    assert_eq!(text(sender.send_request(get("/hello")).await.unwrap()).await, "hello");
    bench.wait_for("panics", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_h2_stream_cancels_its_request() {
    let (bench, _) = secure(quick());
    let (mut sender, _driver) = connect_h2(bench.address()).await;
    let waiting = tokio::spawn(sender.send_request(get("/wait")));
    bench.stub.wait_for(&Event::Request("GET /wait".into())).await;
    waiting.abort();
    bench.stub.wait_for(&Event::Cancelled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h2_requests_over_the_share_are_refused() {
    let (bench, _) = secure(Limits { requests: 1, ..quick() });
    let (sender, _driver) = connect_h2(bench.address()).await;
    let waiting = tokio::spawn(sender.clone().send_request(get("/wait")));
    bench.stub.wait_for(&Event::Request("GET /wait".into())).await;
    assert_eq!(sender.clone().send_request(get("/hello")).await.unwrap().status().as_u16(), 503);
    bench.stub.open_gate();
    assert_eq!(text(waiting.await.unwrap().unwrap()).await, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_h2_connection_ends_when_idle_or_worn() {
    let (bench, _) = secure(quick());
    let (mut sender, driver) = connect_h2(bench.address()).await;
    text(sender.send_request(get("/hello")).await.unwrap()).await;
    soon(driver).await.unwrap();
    let (bench, _) = secure(Limits {
        requests_per_connection: 1,
        keep_alive: PATIENCE * 2,
        ..quick()
    });
    let (mut sender, driver) = connect_h2(bench.address()).await;
    assert_eq!(text(sender.send_request(get("/hello")).await.unwrap()).await, "hello");
    soon(driver).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_h2_client_that_says_nothing_is_cut_off() {
    let (bench, _) = secure(Limits {
        keep_alive: PATIENCE * 2,
        ..quick()
    });
    for sent in [b"".as_slice(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut tls = connect(bench.address(), "b.test", &["h2"]).await;
        tls.write_all(sent).await.unwrap();
        let mut rest = Vec::new();
        _ = soon(tls.read_to_end(&mut rest)).await;
    }
    assert_eq!(bench.count("timed_out"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_h2_header_block_that_does_not_end_is_cut_off() {
    let (bench, _) = secure(Limits {
        keep_alive: PATIENCE * 2,
        ..quick()
    });
    let mut tls = connect(bench.address(), "b.test", &["h2"]).await;
    tls.write_all(PREFACE).await.unwrap();
    tls.write_all(&[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]).await.unwrap();
    let mut rest = Vec::new();
    _ = soon(tls.read_to_end(&mut rest)).await;
    assert_eq!(bench.count("timed_out"), 1);
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// `GET https:/// /hello`-like head from the static table: GET, https, "/".
fn headers(stream: u8) -> Vec<u8> {
    vec![0, 0, 3, 1, 5, 0, 0, 0, stream, 0x82, 0x87, 0x84]
}

/// Whether a GOAWAY with this error code is among the frames.
fn said_goodbye(mut frames: &[u8], code: u32) -> bool {
    while frames.len() >= 9 {
        let length = usize::from(frames[0]) << 16 | usize::from(frames[1]) << 8 | usize::from(frames[2]);
        let (kind, payload) = (frames[3], frames.get(9..9 + length).unwrap_or_default());
        if kind == 7 && payload.get(4..8) == Some(&code.to_be_bytes()) {
            return true;
        }
        frames = frames.get(9 + length..).unwrap_or_default();
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_the_connection_with_a_reason() {
    let (bench, _) = secure(Limits {
        keep_alive: PATIENCE * 2,
        ..quick()
    });
    let (mut reader, mut writer) = tokio::io::split(connect(bench.address(), "b.test", &["h2"]).await);
    let flood = tokio::spawn(async move {
        _ = writer.write_all(PREFACE).await;
        for round in 0..10_000_u32 {
            let stream = (round * 2 + 1).to_be_bytes();
            let mut bytes = headers(0);
            bytes[5..9].copy_from_slice(&stream);
            bytes.extend_from_slice(&[0, 0, 4, 3, 0]);
            bytes.extend_from_slice(&stream);
            bytes.extend_from_slice(&8_u32.to_be_bytes());
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
            // Each in a record of its own, so that the streams are accepted before they are reset.
            tokio::task::yield_now().await;
        }
    });
    let mut received = Vec::new();
    _ = soon(reader.read_to_end(&mut received)).await;
    assert!(said_goodbye(&received, 0x0b), "no ENHANCE_YOUR_CALM");
    assert!(bench.stub.events().len() < 1_000, "{} events", bench.stub.events().len());
    flood.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_control_frames_ends_the_connection() {
    let (bench, _) = secure(Limits {
        keep_alive: PATIENCE * 2,
        ..quick()
    });
    let mut tls = connect(bench.address(), "b.test", &["h2"]).await;
    tls.write_all(PREFACE).await.unwrap();
    let priority = [0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
    _ = tls.write_all(&priority.repeat(2_000)).await;
    let mut rest = Vec::new();
    _ = soon(tls.read_to_end(&mut rest)).await;
    assert_eq!(bench.count("h2_abuse"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_client_does_not_take_its_answer_is_reset() {
    let (bench, _) = secure(Limits {
        keep_alive: PATIENCE * 2,
        ..quick()
    });
    let (sender, _driver) = connect_h2(bench.address()).await;
    // The client's window fills, since nobody reads the body.
    let response = sender.clone().send_request(get("/endless")).await.unwrap();
    bench.stub.wait_for(&Event::Aborted).await;
    assert_eq!(bench.count("stalled_writes"), 1);
    let mut body = response.into_body();
    let broke = async { while !matches!(body.frame().await, Some(Err(_)) | None) {} };
    soon(broke).await;
    assert_eq!(text(sender.clone().send_request(get("/hello")).await.unwrap()).await, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_whose_stream_is_reset_without_an_error_is_not_complete() {
    let (bench, _) = secure(quick());
    let mut tls = connect(bench.address(), "b.test", &["h2"]).await;
    tls.write_all(PREFACE).await.unwrap();
    tls.write_all(b"\x00\x00\x0a\x01\x04\x00\x00\x00\x01\x83\x87\x04\x06/count")
        .await
        .unwrap();
    tls.write_all(b"\x00\x00\x03\x00\x00\x00\x00\x00\x01abc").await.unwrap();
    bench.stub.wait_for(&Event::Request("POST /count".into())).await;
    tls.write_all(&[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0]).await.unwrap();
    bench.stub.wait_for(&Event::Body(Err(BodyError::Aborted))).await;
}

/// A small response fits into one piece. If the library took that piece before the client's window has room, nobody would notice
/// that the client takes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_answer_for_which_the_client_opens_no_window_is_reset() {
    let (bench, _) = secure(Limits {
        keep_alive: PATIENCE * 2,
        ..quick()
    });
    let mut tls = connect(bench.address(), "b.test", &["h2"]).await;
    // With the first 24 bytes alone, since SETTINGS follow: SETTINGS_INITIAL_WINDOW_SIZE is 0.
    tls.write_all(&PREFACE[..24]).await.unwrap();
    tls.write_all(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]).await.unwrap();
    tls.write_all(b"\x00\x00\x0a\x01\x05\x00\x00\x00\x01\x82\x87\x04\x06/hello")
        .await
        .unwrap();
    bench.stub.wait_for(&Event::Aborted).await;
    bench.wait_for("stalled_writes", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_says_goaway_and_lets_streams_finish() {
    let (bench, _) = secure(Limits {
        keep_alive: PATIENCE * 2,
        ..quick()
    });
    let (sender, driver) = connect_h2(bench.address()).await;
    let (_idle, idle_driver) = connect_h2(bench.address()).await;
    let waiting = tokio::spawn(sender.clone().send_request(get("/wait")));
    bench.stub.wait_for(&Event::Request("GET /wait".into())).await;
    let stub = bench.stub.clone();
    let draining = tokio::spawn(bench.running.drain());
    soon(idle_driver).await.unwrap();
    stub.open_gate();
    assert_eq!(text(waiting.await.unwrap().unwrap()).await, "done");
    soon(driver).await.unwrap();
    let report = soon(draining).await.unwrap();
    assert_eq!((report.aborted, report.lost_workers), (0, 0));
}
