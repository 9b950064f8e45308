//! Which connections are used again, and which never.

use super::*;
use crate::base::clock;

#[test]
fn one_connection_serves_request_after_request() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let server = async {
            let mut talk = peer.accept().await;
            for response in [
                OK,
                "HTTP/1.1 204 No Content\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 700\r\n\r\n",
                OK,
            ] {
                talk.answer(response).await;
            }
            talk
        };
        let client = async {
            for status in [200, 204, 200, 304, 200] {
                assert_eq!(fetch(&pool).await.unwrap().0, status);
            }
        };
        both(server, client).await;
        let counters = pool.counters();
        assert_eq!((counters.connects.value(), counters.reuses.value()), (1, 4));
        assert_eq!((counters.open.value(), counters.idle.value()), (1, 1));
    });
}

#[test]
fn a_request_leaves_after_what_else_is_ready() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let talk = idle_connection(&peer, &pool).await;
        // The connection is there: nothing else is waited for.
        let mut sending = std::pin::pin!(send(&pool, get(), NoBody));
        let has_come = || {
            socket2::SockRef::from(&talk.stream)
                .peek(&mut [std::mem::MaybeUninit::uninit()])
                .is_ok()
        };
        assert!(poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await.is_pending());
        assert!(!has_come(), "the others first");
        assert!(poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await.is_pending());
        assert!(has_come());
    });
}

#[test]
fn is_end_is_known_with_the_last_chunk() {
    run(async {
        for response in [OK, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"] {
            let peer = Peer::listen().await;
            let pool = pool(&[peer.port]);
            let server = async {
                let mut talk = peer.accept().await;
                talk.answer(response).await;
                talk
            };
            let (_talk, answer) = both(server, send(&pool, get(), NoBody)).await;
            let mut body = answer.unwrap().body;
            assert!(!body.is_end());
            assert!(matches!(next(&mut body).await, Some(Ok(Chunk::Data(data))) if data == "ok"));
            assert!(body.is_end());
            assert_eq!(pool.counters().idle.value(), 1, "given back before the last chunk is handed out");
        }
    });
}

/// Whether the connection is kept after this answer to this method.
async fn is_kept(method: Method, response: &str) -> (bool, Rc<UpstreamPool>) {
    let peer = Peer::listen().await;
    let pool = pool(&[peer.port]);
    let server = async {
        let mut talk = peer.accept().await;
        talk.answer(response).await;
        talk
    };
    let client = async {
        let mut answer = send(&pool, request(method, Framing::None), NoBody).await.unwrap();
        collect(&mut answer.body).await.unwrap();
    };
    both(server, client).await;
    (pool.counters().idle.value() == 1, pool)
}

#[test]
fn surplus_bytes_condemn_a_connection() {
    run(async {
        for (method, response) in [
            (Method::Get, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n"),
            (Method::Get, "HTTP/1.1 204 No Content\r\n\r\nx"),
            (Method::Get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok"),
            (Method::Head, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            (Method::Get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\r\n"),
        ] {
            let (kept, pool) = is_kept(method, response).await;
            assert!(!kept, "{response}");
            assert_eq!((pool.counters().surplus.value(), pool.counters().open.value()), (1, 0));
        }
    });
}

#[test]
fn keep_alive_follows_the_version_and_the_connection_field() {
    run(async {
        for (response, expected) in [
            (OK, true),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", true),
        ] {
            assert_eq!(is_kept(Method::Get, response).await.0, expected, "{response}");
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        assert!(is_kept(Method::Head, head).await.0, "HEAD has no body whatever it declares");
    });
}

#[test]
fn bytes_that_come_while_idle_condemn_a_connection() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let server = async {
            let mut talk = peer.accept().await;
            talk.answer(OK).await;
            talk.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").await;
            let _kept = talk;
            peer.accept().await.answer(OK).await
        };
        let client = async {
            fetch(&pool).await.unwrap();
            while pool.endpoint_is_quiet(0) {
                tokio::task::yield_now().await;
            }
            assert_eq!(fetch(&pool).await.unwrap().1, "ok");
        };
        both(server, client).await;
        assert_eq!(pool.counters().connects.value(), 2);
    });
}

#[test]
fn body_dropped_early_closes_its_connection() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let server = async {
            let mut talk = peer.accept().await;
            talk.answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
            talk.read_rest().await
        };
        let client = async {
            let mut answer = send(&pool, get(), NoBody).await.unwrap();
            assert!(next(&mut answer.body).await.is_some());
            drop(answer);
        };
        both(server, client).await;
        assert_eq!(pool.counters().open.value(), 0);
    });
}

#[test]
fn dropped_forward_closes_its_connection() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let mut talk = {
            let forward = send(&pool, get(), NoBody);
            tokio::pin!(forward);
            tokio::select! {
                _ = &mut forward => panic!("nobody answered"),
                talk = async { let mut talk = peer.accept().await; talk.read_head().await; talk } => talk,
            }
        };
        assert!(talk.read_rest().await.is_empty());
        assert_eq!(pool.counters().open.value(), 0);
    });
}

#[test]
fn idle_connections_are_swept_when_old_or_dead_and_kept_otherwise() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let talk = idle_connection(&peer, &pool).await;
        let now = clock::instant();
        pool.sweep(now);
        assert_eq!(pool.counters().idle.value(), 1);
        pool.sweep(now + Duration::from_secs(5));
        assert_eq!((pool.counters().idle.value(), pool.counters().open.value()), (0, 0));
        drop(talk);

        let serve = async { peer.accept().await.answer(OK).await };
        let _ = both(serve, fetch(&pool)).await;
        while pool.counters().idle.value() == 1 {
            tokio::task::yield_now().await;
            pool.sweep(now);
        }
        assert_eq!(pool.counters().open.value(), 0);
    });
}

#[test]
fn connection_idle_for_too_long_is_not_used() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool_of(UpstreamSpec {
            keep_alive: SHORT,
            ..spec(&[peer.port])
        });
        let server = async {
            let mut first = peer.accept().await;
            first.answer(OK).await;
            let mut second = peer.accept().await;
            second.answer(OK).await;
        };
        let client = async {
            fetch(&pool).await.unwrap();
            tokio::time::sleep(SHORT).await;
            fetch(&pool).await.unwrap();
        };
        both(server, client).await;
        assert_eq!((pool.counters().connects.value(), pool.counters().open.value()), (2, 1));
    });
}

#[test]
fn connection_that_carried_an_unexpected_body_is_never_used_again() {
    run(async {
        for (method, framing, kept) in [
            (Method::Get, Framing::Length(5), false),
            (Method::Options, Framing::Chunked, false),
            (Method::Delete, Framing::Length(0), true),
            (Method::Put, Framing::Length(5), true),
            (Method::Patch, Framing::Chunked, true),
        ] {
            let peer = Peer::listen().await;
            let pool = pool(&[peer.port]);
            let (end, body) = match framing {
                Framing::Length(0) => ("\r\n\r\n", Script::default()),
                Framing::Chunked => ("0\r\n\r\n", Script::data(&["hello"])),
                _ => ("hello", Script::data(&["hello"])),
            };
            let server = async {
                let mut talk = peer.accept().await;
                talk.read_until(end).await;
                talk.write(OK).await;
                talk
            };
            let client = async {
                let mut answer = send(&pool, request(method, framing), body).await.unwrap();
                collect(&mut answer.body).await.unwrap();
            };
            both(server, client).await;
            assert_eq!(pool.counters().idle.value() == 1, kept, "{method:?} {framing:?}");
        }
    });
}

#[test]
fn full_upstream_makes_requests_wait_in_turn_and_refuses_after_the_deadline() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool_of(UpstreamSpec {
            max_connections: 1,
            connect_timeout: SHORT * 3,
            ..spec(&[peer.port])
        });
        let server = async {
            let mut talk = peer.accept().await;
            for _ in 0..3 {
                talk.answer(OK).await;
            }
            // The fourth keeps the only connection.
            talk.read_head().await;
            talk
        };
        let client = async {
            let (a, b, c) = tokio::join!(fetch(&pool), fetch(&pool), fetch(&pool));
            assert!(a.is_ok() && b.is_ok() && c.is_ok());
            let busy = tokio::select! {
                biased;
                _ = fetch(&pool) => panic!("nobody answered"),
                error = async { fetch(&pool).await.unwrap_err() } => error,
            };
            assert!(matches!(busy, UpstreamError::Busy), "{busy:?}");
        };
        both(server, client).await;
        assert_eq!((pool.counters().connects.value(), pool.counters().busy.value()), (1, 1));
    });
}

#[test]
fn queue_is_bounded_and_who_leaves_it_gives_up_its_place() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool_of(UpstreamSpec {
            max_connections: 1,
            ..spec(&[peer.port])
        });
        let held = async {
            let answer = send(&pool, get(), NoBody).await.unwrap();
            let refused = async {
                // The queue is full before this one is asked.
                tokio::task::yield_now().await;
                fetch(&pool).await.unwrap_err()
            };
            let error = {
                let crowd = std::iter::repeat_with(|| Box::pin(fetch(&pool))).take(1_024);
                let mut crowd: Vec<_> = crowd.collect();
                let all = poll_fn(|cx| {
                    for one in &mut crowd {
                        assert!(one.as_mut().poll(cx).is_pending());
                    }
                    Poll::<()>::Pending
                });
                tokio::select! {
                    biased;
                    () = all => panic!(),
                    error = refused => error,
                }
            };
            assert!(matches!(error, UpstreamError::Busy), "{error:?}");
            drop(answer);
            // The crowd is gone: the next is served.
            assert!(fetch(&pool).await.is_ok());
        };
        let server = async {
            let mut first = peer.accept().await;
            first.answer(OK).await;
            peer.accept().await.answer(OK).await;
        };
        both(server, held).await;
    });
}
