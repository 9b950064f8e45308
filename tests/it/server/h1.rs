//! HTTP/1.1 over raw sockets.

use std::time::Duration;

use durward::base::denial::Denial;
use durward::snapshot::Limits;
use durward::wire::body::BodyError;

use super::stub::Event;
use super::{PATIENCE, field, plain, quick};

const GET: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";

fn post(target: &str, extra: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\n{extra}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_request_after_request() {
    let bench = plain(quick());
    let mut client = bench.connect();
    for _ in 0..3 {
        let (status, head, body) = client.send(GET).answer();
        assert_eq!((status, body.as_str()), (200, "hello"), "{head}");
        assert!(field(&head, "date").is_some_and(|d| d.ends_with(" GMT")), "{head}");
        assert_eq!(field(&head, "connection"), None);
    }
    assert_eq!((bench.count("connections"), bench.count("h1_requests")), (1, 3));
    bench.stub.wait_for(&Event::Finished(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let bench = plain(quick());
    let mut client = bench.connect();
    client.send(format!("{}abc{GET}{GET}", post("/count", "Content-Length: 3\r\n")));
    assert_eq!(client.answer().2, "3");
    assert_eq!(client.answer().2, "hello");
    assert_eq!(client.answer().2, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_may_come_byte_by_byte() {
    let bench = plain(quick());
    let mut client = bench.connect();
    for byte in GET.bytes() {
        client.send([byte]);
    }
    assert_eq!(client.answer().2, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_end_is_answered_408_and_closed() {
    let bench = plain(quick());
    let mut client = bench.connect();
    client.send("GET /hello HTTP/1.1\r\n");
    let (status, head, _) = client.answer();
    assert_eq!((status, field(&head, "connection")), (408, Some("close")));
    client.rest();
    assert!(bench.stub.saw(&Event::Refused(Denial::RequestTimeout)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_byte_is_closed_in_silence() {
    let bench = plain(quick());
    let mut client = bench.connect();
    assert_eq!(client.rest(), "");
    let used = &mut bench.connect();
    used.send(GET).answer();
    assert_eq!(used.rest(), "", "an idle one too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_head_is_answered_and_then_closed_without_a_reset() {
    let bench = plain(quick());
    let mut client = bench.connect();
    client.send(format!("GET /hello HTTP/1.1\r\nno colon\r\n\r\n{GET}{}", "x".repeat(100_000)));
    let (status, head, body) = client.answer();
    assert_eq!(
        (status, body.as_str(), field(&head, "connection")),
        (400, "malformed_request", Some("close"))
    );
    assert_eq!(client.finish_sending().rest(), "", "nothing behind it is served");
    assert_eq!(bench.count("malformed"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn continue_is_sent_when_the_body_is_wanted() {
    let bench = plain(quick());
    let mut client = bench.connect();
    client.send(post("/count", "Content-Length: 3\r\nExpect: 100-continue\r\n"));
    assert_eq!(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.send("abc").answer().2, "3");
    assert_eq!(client.send(GET).answer().2, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn continue_is_not_sent_when_the_body_is_refused() {
    let bench = plain(quick());
    let mut client = bench.connect();
    client.send(post("/early", "Content-Length: 3\r\nExpect: 100-continue\r\n"));
    let (status, head, _) = client.answer();
    assert_eq!((status, field(&head, "connection")), (401, Some("close")));
    assert_eq!(client.rest(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_upload_is_echoed_as_it_comes() {
    let bench = plain(quick());
    let mut client = bench.connect();
    client.send(post("/echo", "Transfer-Encoding: chunked\r\n")).send("3\r\nabc\r\n");
    let head = client.read_until("\r\n\r\n");
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
    assert_eq!(client.read_until("abc\r\n"), "3\r\nabc\r\n");
    client.send("2;ext=1\r\nde\r\n0\r\nX-Dropped: 1\r\n\r\n");
    assert_eq!(
        client.read_until("\r\n\r\n"),
        "2\r\nde\r\n0\r\nX-Dropped: 1\r\n\r\n",
        "what to keep is the gateway's to say"
    );
    assert_eq!(client.send(GET).answer().2, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_whose_framing_breaks_ends_the_connection() {
    let bench = plain(quick());
    let mut client = bench.connect();
    client
        .send(post("/count", "Transfer-Encoding: chunked\r\n"))
        .send(format!("0x3\r\nabc\r\n0\r\n\r\n{GET}"));
    let (status, head, _) = client.answer();
    assert_eq!((status, field(&head, "connection")), (400, Some("close")));
    assert_eq!(client.finish_sending().rest(), "");
    assert!(bench.stub.saw(&Event::Body(Err(BodyError::Framing))));
}

#[tokio::test(flavor = "multi_thread")]
async fn head_answers_declare_a_length_and_send_no_body() {
    let bench = plain(quick());
    let mut client = bench.connect();
    let head = client.send("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n").read_until("\r\n\r\n");
    assert_eq!(field(&head, "content-length"), Some("5"));
    assert_eq!(client.send(GET).answer().2, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_closes_unless_asked_and_gets_no_chunks() {
    let bench = plain(quick());
    let text = bench
        .connect()
        .send("GET /until-close HTTP/1.0\r\nConnection: keep-alive\r\nHost: a\r\n\r\n")
        .rest();
    assert!(
        text.contains("Connection: close\r\n") && text.ends_with("\r\n\r\nab") && !text.contains("chunked"),
        "{text}"
    );
    let text = bench.connect().send("GET /hello HTTP/1.0\r\nHost: a\r\n\r\n").rest();
    assert!(text.contains("Connection: close\r\n") && text.ends_with("hello"), "{text}");
    let mut kept = bench.connect();
    for _ in 0..2 {
        let (_, head, _) = kept
            .send("GET /hello HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
            .answer();
        assert_eq!(field(&head, "connection"), Some("keep-alive"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_length_is_chunked_and_trailers_pass() {
    let bench = plain(quick());
    let mut client = bench.connect();
    let text = client.send("GET /until-close HTTP/1.1\r\nHost: a\r\n\r\n").read_until("0\r\n\r\n");
    assert!(text.ends_with("\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"), "{text}");
    let text = client.send("GET /trailers HTTP/1.1\r\nHost: a\r\n\r\n").read_until("7\r\n\r\n");
    assert!(text.ends_with("1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n"), "{text}");
    let (status, head, _) = client.send("GET /empty HTTP/1.1\r\nHost: a\r\n\r\n").answer();
    assert_eq!((status, field(&head, "content-length")), (204, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_unread_body_is_drained_and_a_long_one_closes() {
    let bench = plain(quick());
    let mut client = bench.connect();
    client.send(post("/early", "Content-Length: 1000\r\n"));
    assert_eq!(client.answer().0, 401);
    client.send("x".repeat(1_000)).send(GET);
    assert_eq!(client.answer().2, "hello");
    client.send(post("/early", "Content-Length: 1000000\r\n"));
    let (status, head, _) = client.answer();
    assert_eq!((status, field(&head, "connection")), (401, Some("close")));
    assert_eq!(client.finish_sending().rest(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_body_that_does_not_come_closes_within_a_second_or_two() {
    let bench = plain(quick());
    let mut client = bench.connect();
    client.send(post("/early", "Content-Length: 1000\r\n")).answer();
    assert!(client.time_to_close() < Duration::from_secs(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_writes_forty_megabytes_before_it_reads_gets_its_refusal() {
    let bench = plain(quick());
    let mut client = bench.connect();
    let length = 40 << 20;
    client.send(post("/early", &format!("Content-Length: {length}\r\n")));
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..40 {
        client.send(&piece);
    }
    let (status, head, _) = client.answer();
    assert_eq!((status, field(&head, "connection")), (401, Some("close")));
    assert_eq!(client.finish_sending().rest(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_on_writing_for_ever_is_cut_off() {
    let bench = plain(quick());
    let mut client = bench.connect();
    client.send(post("/early", "Content-Length: 100000000000\r\n"));
    let piece = vec![b'x'; 1 << 20];
    let written = (0..200)
        .take_while(|_| std::io::Write::write_all(&mut client.0, &piece).is_ok())
        .count();
    assert!((40..150).contains(&written), "{written} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dribbles_on_is_cut_off_too() {
    let bench = plain(quick());
    let mut client = bench.connect();
    client.send(post("/early", "Content-Length: 100000\r\n")).answer();
    client.send("x".repeat(100));
    assert!(client.time_to_close() < Duration::from_secs(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stands_still_is_cut_off() {
    let bench = plain(quick());
    let mut client = bench.connect();
    client.send(post("/count", "Content-Length: 10\r\n")).send("abc");
    bench.stub.wait_for(&Event::Body(Err(BodyError::Timeout))).await;
    let (status, head, _) = client.answer();
    assert_eq!((status, field(&head, "connection")), (400, Some("close")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_its_limit_is_refused_and_one_at_it_is_not() {
    let bench = plain(quick());
    for framing in [
        "Content-Length: 11\r\n\r\n01234567890",
        "Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n",
    ] {
        let mut client = bench.connect();
        let (status, _, body) = client.send(format!("POST /limited HTTP/1.1\r\nHost: a\r\n{framing}")).answer();
        assert_eq!((status, body.as_str()), (400, "the body is larger than allowed"));
        client.rest();
    }
    let mut client = bench.connect();
    assert_eq!(
        client
            .send(post("/limited", "Content-Length: 10\r\n"))
            .send("0123456789")
            .answer()
            .2,
        "10"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_finished_sending_still_gets_its_answer() {
    let bench = plain(quick());
    let mut client = bench.connect();
    client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").finish_sending();
    bench.stub.wait_for(&Event::Request("GET /wait".into())).await;
    bench.stub.open_gate();
    assert_eq!(client.answer().2, "done");
    assert_eq!(client.rest(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_cancels_the_request() {
    let bench = plain(quick());
    let mut client = bench.connect();
    client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    bench.stub.wait_for(&Event::Request("GET /wait".into())).await;
    socket2::SockRef::from(&client.0).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    bench.stub.wait_for(&Event::Cancelled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_leave_as_they_come() {
    let bench = plain(quick());
    let mut client = bench.connect();
    let head = client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").read_until("\r\n\r\n");
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
    for _ in 0..3 {
        bench.stub.release_piece();
        assert_eq!(client.read_until("piece\r\n"), "5\r\npiece\r\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_never_looks_complete() {
    let bench = plain(quick());
    for target in ["/break", "/short", "/long"] {
        let text = bench
            .connect()
            .send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .try_rest()
            .unwrap_or_default();
        assert!(!text.contains("0\r\n\r\n") && !text.ends_with("shortxxxxx"), "{text}");
        bench.stub.wait_for(&Event::Aborted).await;
    }
    let reset = bench.connect().send("GET /break HTTP/1.0\r\nHost: a\r\n\r\n").try_rest();
    assert!(
        reset.is_err(),
        "an answer that ends with the connection must end with a reset: {reset:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut_off() {
    let bench = plain(quick());
    let mut client = bench.connect();
    client.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n");
    bench.wait_for("stalled_writes", 1).await;
    assert!(bench.stub.saw(&Event::Aborted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_one_connection_only() {
    let bench = plain(Limits {
        keep_alive: PATIENCE,
        ..quick()
    });
    let mut other = bench.connect();
    other.send(GET).answer();
    assert_eq!(
        bench
            .connect()
            .send("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n")
            .try_rest()
            .unwrap_or_default(),
        ""
    );
    bench.wait_for("panics", 1).await;
    assert_eq!(other.send(GET).answer().2, "hello");
    assert_eq!(bench.connect().send(GET).answer().2, "hello");
}
