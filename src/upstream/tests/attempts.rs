//! What is sent, and what may be sent again.

use super::*;

#[test]
fn the_head_is_what_it_was_told_to_be() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let (head, answer) = both(async { peer.accept().await.answer(OK).await }, fetch(&pool)).await;
        assert_eq!(head, "GET /a?b=c HTTP/1.1\r\nHost: api.example\r\nX-Tenant-Id: t1\r\n\r\n");
        assert_eq!(answer.unwrap(), (200, "ok".into()));
    });
}

#[test]
fn host_is_the_clients_the_endpoints_or_a_fixed_one() {
    run(async {
        let peer = Peer::listen().await;
        let endpoint = format!("127.0.0.1:{}", peer.port);
        for (rule, expected) in [
            (HostHeader::Client, "api.example"),
            (HostHeader::Endpoint, endpoint.as_str()),
            (HostHeader::Fixed("inner.example".into()), "inner.example"),
        ] {
            let pool = pool_of(UpstreamSpec {
                host: rule,
                ..spec(&[peer.port])
            });
            let (head, _) = both(async { peer.accept().await.answer(OK).await }, fetch(&pool)).await;
            assert!(head.contains(&format!("\r\nHost: {expected}\r\n")), "{head}");
        }
    });
}

#[test]
fn a_small_body_has_its_declared_length_and_a_method_that_expects_one_says_zero() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let server = async {
            let mut talk = peer.accept().await;
            let first = talk.read_until("\r\n\r\nhello").await;
            talk.write(OK).await;
            (first, talk.answer(OK).await, talk.answer(OK).await)
        };
        let client = async {
            let body = Script::data(&["hel", "lo"]);
            let mut answer = send(&pool, request(Method::Post, Framing::Length(5)), body).await.unwrap();
            collect(&mut answer.body).await.unwrap();
            for method in [Method::Post, Method::Delete] {
                let mut answer = send(&pool, request(method, Framing::None), NoBody).await.unwrap();
                collect(&mut answer.body).await.unwrap();
            }
        };
        let ((first, post, delete), ()) = both(server, client).await;
        assert!(first.contains("\r\nContent-Length: 5\r\n"), "{first}");
        assert!(post.contains("\r\nContent-Length: 0\r\n"), "{post}");
        assert!(!delete.contains("Content-Length"), "{delete}");
    });
}

#[test]
fn a_body_of_unknown_length_is_chunked_by_us_and_its_trailers_pass_only_if_allowed() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        for (rule, end) in [(Trailers::Dropped, "0\r\n\r\n"), (Trailers::Forwarded, "0\r\nX-Sum: 1\r\n\r\n")] {
            let mut trailers = Fields::default();
            trailers.push(b"X-Sum", b"1");
            let steps = [
                Step::Data(Bytes::from_static(b"hello")),
                Step::Data(Bytes::from(vec![b'z'; 10_000])),
                Step::Trailers(trailers),
            ];
            let server = async {
                let mut talk = peer.accept().await;
                let head = talk.read_head().await;
                let body = talk.read_until(end).await;
                talk.write("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
                (head, body)
            };
            let outgoing = Outgoing {
                trailers: rule,
                ..request(Method::Post, Framing::Chunked)
            };
            let ((head, body), answer) = both(server, send(&pool, outgoing, Script::of(steps))).await;
            assert_eq!(answer.unwrap().head.status, 204);
            assert!(
                head.contains("\r\nTransfer-Encoding: chunked\r\n") && !head.contains("Content-Length"),
                "{head}"
            );
            assert_eq!(body, format!("5\r\nhello\r\n2710\r\n{}\r\n{end}", "z".repeat(10_000)));
        }
    });
}

#[test]
fn refused_endpoint_is_replaced_by_another_even_for_post() {
    run(async {
        let peer = Peer::listen().await;
        let absent = Peer::absent().await;
        // Both orders, so that the refused one is first in one of them.
        for ports in [[absent, peer.port], [peer.port, absent]] {
            let pool = pool(&ports);
            let client = async {
                for _ in 0..2 {
                    let body = Script::data(&["hello"]);
                    let mut answer = send(&pool, request(Method::Post, Framing::Length(5)), body).await.unwrap();
                    assert_eq!(collect(&mut answer.body).await.unwrap().0, b"ok");
                }
            };
            let server = async {
                let mut talk = peer.accept().await;
                for _ in 0..2 {
                    talk.read_until("\r\n\r\nhello").await;
                    talk.write(OK).await;
                }
            };
            both(server, client).await;
            assert!(pool.counters().connect_failures.value() >= 1);
            assert_eq!(pool.counters().retries.value(), pool.counters().connect_failures.value());
        }
    });
}

#[test]
fn unreachable_gives_up_after_three_attempts() {
    run(async {
        let pool = pool(&[Peer::absent().await]);
        let error = error_of(send(&pool, get(), NoBody).await);
        assert!(matches!(error, UpstreamError::Unreachable), "{error:?}");
        assert_eq!(pool.counters().attempts.value(), 3);
        assert_eq!(pool.counters().open.value(), 0);
    });
}

/// Serves one request so that a connection is idle, then takes the next and closes unanswered.
async fn lose_second_request(peer: &Peer) -> String {
    let mut talk = peer.accept().await;
    talk.answer(OK).await;
    talk.read_head().await
}

#[test]
fn keep_alive_race_is_retried_for_get() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let server = async {
            lose_second_request(&peer).await;
            peer.accept().await.answer(OK).await
        };
        let client = async {
            fetch(&pool).await.unwrap();
            let mut second = send(&pool, get(), NoBody).await.unwrap();
            assert_eq!(second.attempts, 2);
            collect(&mut second.body).await.unwrap();
        };
        both(server, client).await;
        assert_eq!(pool.counters().stale.value(), 1);
        assert_eq!(pool.counters().invalid.value(), 0, "a race is nobody's failure");
    });
}

#[test]
fn keep_alive_race_is_retried_for_a_body_of_no_length() {
    run(async {
        for method in [Method::Get, Method::Head, Method::Put, Method::Delete] {
            let peer = Peer::listen().await;
            let pool = pool(&[peer.port]);
            let server = async {
                lose_second_request(&peer).await;
                peer.accept().await.answer("HTTP/1.1 204 No Content\r\n\r\n").await;
            };
            let client = async {
                fetch(&pool).await.unwrap();
                let second = send(&pool, request(method, Framing::Length(0)), NoBody).await.unwrap();
                assert_eq!((second.head.status, second.attempts), (204, 2), "{method:?}");
            };
            both(server, client).await;
        }
    });
}

#[test]
fn keep_alive_race_is_not_retried_for_post_nor_with_a_body() {
    run(async {
        let peer = Peer::listen().await;
        for (method, framing) in [
            (Method::Post, Framing::None),
            (Method::Post, Framing::Length(0)),
            (Method::Put, Framing::Length(2)),
        ] {
            let pool = pool(&[peer.port]);
            let client = async {
                fetch(&pool).await.unwrap();
                error_of(send(&pool, request(method, framing), Script::data(&["hi"])).await)
            };
            let (_, error) = both(lose_second_request(&peer), client).await;
            assert!(matches!(error, UpstreamError::Invalid), "{method:?}: {error:?}");
            assert_eq!(pool.counters().retries.value(), 0);
        }
    });
}

#[test]
fn idle_connection_that_was_closed_is_found_before_a_post_is_written() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let server = async {
            peer.accept().await.answer(OK).await;
            // The first connection is closed here; the second request must come on another.
            let mut talk = peer.accept().await;
            talk.read_until("\r\n\r\nhello").await;
            talk.write(OK).await;
        };
        let client = async {
            fetch(&pool).await.unwrap();
            // The runtime learns of the close when it next looks at its sockets.
            while pool.endpoint_is_quiet(0) {
                tokio::task::yield_now().await;
            }
            let body = Script::data(&["hello"]);
            let answer = send(&pool, request(Method::Post, Framing::Length(5)), body).await.unwrap();
            assert_eq!(answer.attempts, 1, "it was found dead, not tried");
        };
        both(server, client).await;
    });
}

#[test]
fn post_of_which_nothing_was_written_is_repeated_with_its_body() {
    run(async {
        for (framing, sent) in [
            (Framing::Length(5), "\r\n\r\nhello"),
            (Framing::Chunked, "\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ] {
            let peer = Peer::listen().await;
            let pool = pool(&[peer.port]);
            // The runtime has no chance to tell of it before the request is written.
            idle_connection(&peer, &pool).await.reset();
            let serve = async {
                let mut talk = peer.accept().await;
                let got = talk.read_until(sent).await;
                talk.write(OK).await;
                got
            };
            let body = Script::data(&["hello"]);
            let (got, answer) = both(serve, send(&pool, request(Method::Post, framing), body)).await;
            assert_eq!(answer.unwrap().attempts, 2, "it was not found dead before");
            assert_eq!(got.matches("hello").count(), 1);
            assert!(got.starts_with("POST /a?b=c HTTP/1.1\r\n"));
        }
    });
}

#[test]
fn all_attempts_together_have_the_time_of_one() {
    run(async {
        let peers = [Peer::listen().await, Peer::listen().await];
        let pool = pool(&peers.each_ref().map(|p| p.port));
        let allowed = Duration::from_millis(600);
        // Whichever is asked first closes late; the other never answers.
        let server = async {
            let (mut first, other) = first_asked(&peers).await;
            first.read_head().await;
            tokio::time::sleep(allowed * 5 / 6).await;
            drop(first);
            other.accept().await.read_rest().await
        };
        let outgoing = Outgoing {
            response_timeout: allowed,
            ..get()
        };
        let began = crate::base::clock::instant();
        let client = async { error_of(send(&pool, outgoing, NoBody).await) };
        let (_, error) = both(server, client).await;
        assert!(matches!(error, UpstreamError::Timeout), "{error:?}");
        assert_eq!(pool.counters().retries.value(), 1);
        assert!(began.elapsed() < allowed * 5 / 3, "{:?}", began.elapsed());
    });
}

#[test]
fn host_names_are_resolved_when_connecting() {
    run(async {
        let peer = Peer::listen().await;
        for (host, reachable) in [("localhost", true), ("no-such-host.invalid", false)] {
            let mut spec = spec(&[peer.port]);
            spec.endpoints[0].host = host.into();
            let pool = pool_of(spec);
            let result = tokio::select! {
                result = fetch(&pool) => result,
                _ = async { peer.accept().await.answer(OK).await; std::future::pending::<()>().await } => unreachable!(),
            };
            assert_eq!(result.is_ok(), reachable, "{host}");
        }
    });
}

#[test]
fn fresh_connection_closed_without_an_answer_is_retried_only_if_idempotent() {
    run(async {
        let peers = [Peer::listen().await, Peer::listen().await];
        for (method, attempts) in [(Method::Get, Some(2)), (Method::Post, None)] {
            let pool = pool(&peers.each_ref().map(|p| p.port));
            let server = async {
                let (mut deaf, well) = first_asked(&peers).await;
                let lost = deaf.read_head().await;
                assert!(lost.starts_with(method.as_str()));
                drop(deaf);
                if attempts.is_some() {
                    well.accept().await.answer(OK).await;
                }
            };
            let (_, answer) = both(server, send(&pool, request(method, Framing::None), NoBody)).await;
            assert_eq!(answer.ok().map(|a| a.attempts), attempts, "{method:?}");
        }
    });
}

#[test]
fn the_body_comes_back_with_the_error_when_nothing_was_sent() {
    run(async {
        let pool = pool(&[Peer::absent().await]);
        let (_, body) = forward::forward(&pool, request(Method::Post, Framing::Length(5)), Script::data(&["hello"]))
            .await
            .err()
            .unwrap();
        assert_eq!(body.0.len(), 1, "untouched");
    });
}
