//! Both directions at once: uploads, early answers, back-pressure, failing clients.

use std::cell::Cell;

use super::*;

fn flood(bytes: usize) -> (Flood, Rc<Cell<usize>>) {
    let taken = Rc::new(Cell::new(0));
    let body = Flood {
        left: bytes,
        taken: Rc::clone(&taken),
    };
    (body, taken)
}

#[test]
fn early_answer_does_not_wait_for_the_upload_and_its_connection_is_not_reused() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let server = async {
            let mut talk = peer.accept().await;
            talk.read_head().await;
            talk.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!").await;
            talk.read_rest().await
        };
        let client = async {
            let body = Script::of([Step::Data(Bytes::from_static(b"hel")), Step::Stall]);
            let mut answer = send(&pool, request(Method::Post, Framing::Length(1_000)), body).await.unwrap();
            assert_eq!(answer.head.status, 413);
            assert_eq!(collect(&mut answer.body).await.unwrap().0, b"no!");
        };
        let (rest, ()) = both(server, client).await;
        assert_eq!(rest, b"hel", "closed, so the request cannot look complete");
        assert_eq!((pool.counters().idle.value(), pool.counters().open.value()), (0, 0));
    });
}

#[test]
fn early_answer_is_read_even_if_the_endpoint_stops_reading_and_closes() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let server = async {
            let mut talk = peer.accept().await;
            talk.read_head().await;
            talk.write("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await;
        };
        let (body, _) = flood(64 << 20);
        let ((), answer) = both(server, send(&pool, request(Method::Post, Framing::Chunked), body)).await;
        assert_eq!(answer.unwrap().head.status, 401);
    });
}

#[test]
fn echo_larger_than_every_buffer_flows_both_ways() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let size: usize = 64 << 20;
        let server = async {
            let mut talk = peer.accept().await;
            talk.read_head().await;
            talk.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")).await;
            let (mut from, mut to) = talk.stream.split();
            tokio::io::copy(&mut (&mut from).take(size as u64), &mut to).await.unwrap();
            talk
        };
        let client = async {
            let (body, taken) = flood(size);
            let mut answer = send(&pool, request(Method::Post, Framing::Length(size as u64)), body)
                .await
                .unwrap();
            let mut received = 0;
            while let Some(chunk) = next(&mut answer.body).await {
                let Ok(Chunk::Data(data)) = chunk else { panic!("{chunk:?}") };
                assert!(data.len() <= 128 << 10, "the read buffer is bounded");
                received += data.len();
                // What was taken from the client and is not back yet sits in socket buffers.
                assert!(taken.get() - received < 32 << 20);
            }
            assert_eq!(received, size);
        };
        let (_talk, ()) = both(server, client).await;
        assert_eq!(pool.counters().open.value(), 0, "it answered before the request was whole");
    });
}

#[test]
fn endpoint_that_does_not_read_stops_the_upload_and_times_out() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let (body, taken) = flood(256 << 20);
        let outgoing = Outgoing {
            idle_timeout: SHORT * 4,
            ..request(Method::Post, Framing::Chunked)
        };
        let client = async { error_of(send(&pool, outgoing, body).await) };
        let (_talk, error) = both(peer.accept(), client).await;
        assert!(matches!(error, UpstreamError::Timeout), "{error:?}");
        assert!(taken.get() < 32 << 20, "{} bytes were taken for nobody", taken.get());
    });
}

#[test]
fn silent_client_is_its_own_fault() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let outgoing = Outgoing {
            idle_timeout: SHORT,
            ..request(Method::Post, Framing::Length(9))
        };
        let body = Script::of([Step::Data(Bytes::from_static(b"hel")), Step::Stall]);
        let server = async { peer.accept().await.read_rest().await };
        let client = async { error_of(send(&pool, outgoing, body).await) };
        let (rest, error) = both(server, client).await;
        assert!(matches!(error, UpstreamError::RequestBody(BodyError::Timeout)), "{error:?}");
        assert!(rest.ends_with(b"\r\n\r\nhel"));
        assert_eq!(pool.counters().timeouts.value(), 0, "not the endpoint's");
    });
}

#[test]
fn failing_or_short_or_long_request_body_closes_the_connection_and_never_looks_complete() {
    run(async {
        let hello = || Step::Data(Bytes::from_static(b"hello"));
        let cases: [(Framing, Vec<Step>, BodyError); 5] = [
            (
                Framing::Length(9),
                vec![hello(), Step::Fail(BodyError::Aborted)],
                BodyError::Aborted,
            ),
            (
                Framing::Chunked,
                vec![hello(), Step::Fail(BodyError::TooLarge)],
                BodyError::TooLarge,
            ),
            (Framing::Chunked, vec![Step::Fail(BodyError::Framing)], BodyError::Framing),
            (Framing::Length(9), vec![hello()], BodyError::Framing),
            (Framing::Length(4), vec![hello()], BodyError::Framing),
        ];
        for (framing, steps, expected) in cases {
            let peer = Peer::listen().await;
            let pool = pool(&[peer.port]);
            let server = async { peer.accept().await.read_rest().await };
            let client = async { error_of(send(&pool, request(Method::Post, framing), Script::of(steps)).await) };
            let (rest, error) = both(server, client).await;
            assert!(matches!(error, UpstreamError::RequestBody(e) if e == expected), "{error:?}");
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", rest.escape_ascii());
            assert!(framing != Framing::Length(4) || !rest.ends_with(b"hell"), "{}", rest.escape_ascii());
            assert_eq!(pool.counters().open.value(), 0);
        }
    });
}

#[test]
fn request_body_that_fails_during_the_answer_ends_the_answer() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let body = Script::of([Step::Data(Bytes::from(vec![b'z'; 32 << 20])), Step::Fail(BodyError::Aborted)]);
        let server = async {
            let mut talk = peer.accept().await;
            talk.read_head().await;
            talk.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").await;
            talk.read_rest().await.len()
        };
        let client = async {
            let mut answer = send(&pool, request(Method::Post, Framing::Chunked), body).await.unwrap();
            collect(&mut answer.body).await.unwrap_err()
        };
        let (_, (error, got)) = both(server, client).await;
        assert_eq!((error, got.as_slice()), (BodyError::Aborted, b"ok".as_slice()));
        assert_eq!(pool.counters().open.value(), 0);
    });
}

#[test]
fn answer_chunked_in_any_way_arrives_whole_with_trailers_if_allowed() {
    run(async {
        for (rule, trailed) in [(Trailers::Dropped, false), (Trailers::Forwarded, true)] {
            let peer = Peer::listen().await;
            let pool = pool(&[peer.port]);
            let server = async {
                let mut talk = peer.accept().await;
                talk.read_head().await;
                let response =
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nGrpc-Status: 0\r\n\r\n";
                for byte in response {
                    talk.write([*byte]).await;
                    tokio::task::yield_now().await;
                }
                talk
            };
            let client = async {
                let mut answer = send(&pool, Outgoing { trailers: rule, ..get() }, NoBody).await.unwrap();
                collect(&mut answer.body).await.unwrap()
            };
            let (_talk, (data, trailers)) = both(server, client).await;
            assert_eq!(data, b"hello!");
            assert_eq!(trailers.is_some(), trailed);
            assert_eq!(pool.counters().idle.value(), 1);
        }
    });
}
