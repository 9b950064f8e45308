//! Upstreams that break, lie, stall or babble.

use super::*;

/// What a GET gets from a peer that says this and closes.
async fn told(response: &[u8]) -> (Result<Forwarded<NoBody>, UpstreamError>, Rc<UpstreamPool>) {
    let peer = Peer::listen().await;
    let pool = pool(&[peer.port]);
    let server = async {
        let mut talk = peer.accept().await;
        talk.read_head().await;
        talk.write(response).await;
    };
    let ((), result) = both(server, send(&pool, get(), NoBody)).await;
    (result, pool)
}

#[test]
fn garbage_is_invalid_and_never_repeated() {
    run(async {
        let corpus: [&[u8]; 12] = [
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Len",
            b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/1.1 999 No\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
            b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
            b"\0\0\0\x12\x04\0\0\0\0\0\0",
        ];
        for response in corpus {
            let (result, pool) = told(response).await;
            let error = error_of(result);
            assert!(matches!(error, UpstreamError::Invalid), "{}: {error:?}", response.escape_ascii());
            assert_eq!(pool.counters().attempts.value(), 1, "an answer had begun");
            assert_eq!((pool.counters().invalid.value(), pool.counters().open.value()), (1, 0));
        }
    });
}

#[test]
fn endless_head_is_invalid_before_it_is_held() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let server = async {
            let mut talk = peer.accept().await;
            talk.read_head().await;
            talk.write("HTTP/1.1 200 OK\r\n").await;
            // Ends when the client closes.
            while talk
                .stream
                .write_all(b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")
                .await
                .is_ok()
            {}
        };
        let client = async { error_of(send(&pool, get(), NoBody).await) };
        let ((), error) = both(server, client).await;
        assert!(matches!(error, UpstreamError::Oversized), "{error:?}");
    });
}

#[test]
fn five_interim_answers_are_dropped_and_the_sixth_ends_it() {
    run(async {
        for (interim, passes) in [
            ("HTTP/1.1 100 Continue\r\n\r\n".repeat(5), true),
            ("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(5), true),
            ("HTTP/1.1 100 Continue\r\n\r\n".repeat(6), false),
        ] {
            let (result, _) = told(format!("{interim}{OK}").as_bytes()).await;
            match result {
                Ok(mut answer) => {
                    assert!(passes);
                    assert_eq!(answer.head.status, 200);
                    assert!(answer.head.fields.one("link").unwrap().is_none());
                    assert_eq!(collect(&mut answer.body).await.unwrap().0, b"ok");
                }
                Err(error) => assert!(!passes && matches!(error, UpstreamError::Oversized), "{error:?}"),
            }
        }
    });
}

#[test]
fn unasked_switch_of_protocols_is_invalid_and_closes() {
    run(async {
        let response = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        let (result, pool) = told(response).await;
        assert!(matches!(error_of(result), UpstreamError::Invalid));
        assert_eq!(pool.counters().open.value(), 0);
    });
}

#[test]
fn silence_is_a_timeout_and_is_not_repeated() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let outgoing = Outgoing {
            response_timeout: SHORT,
            ..get()
        };
        let server = async { peer.accept().await.read_rest().await };
        let client = async { error_of(send(&pool, outgoing, NoBody).await) };
        let (got, error) = both(server, client).await;
        assert!(matches!(error, UpstreamError::Timeout), "{error:?}");
        assert!(got.starts_with(b"GET "), "the connection was closed by us");
        assert_eq!((pool.counters().timeouts.value(), pool.counters().attempts.value()), (1, 1));
    });
}

#[test]
fn head_dripping_in_does_not_extend_the_deadline() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let outgoing = Outgoing {
            response_timeout: SHORT,
            ..get()
        };
        let server = async {
            let mut talk = peer.accept().await;
            talk.read_head().await;
            talk.write("HTTP/1.1 200 OK\r\n").await;
            let mut tick = tokio::time::interval(SHORT / 10);
            while talk.stream.write_all(b"X: a\r\n").await.is_ok() {
                tick.tick().await;
            }
        };
        let client = async { error_of(send(&pool, outgoing, NoBody).await) };
        let ((), error) = both(server, client).await;
        assert!(matches!(error, UpstreamError::Timeout), "{error:?}");
    });
}

#[test]
fn answer_that_ends_within_its_body_at_once_is_invalid() {
    run(async {
        for response in [
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf",
        ] {
            let (result, pool) = told(response.as_bytes()).await;
            let error = error_of(result);
            assert!(matches!(error, UpstreamError::Invalid), "{response}: {error:?}");
            assert_eq!((pool.counters().open.value(), pool.counters().invalid.value()), (0, 1));
        }
        for whole in [
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhalf",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX-Sum: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nhalf",
        ] {
            let mut answer = told(whole.as_bytes()).await.0.unwrap();
            assert_eq!(collect(&mut answer.body).await.unwrap().0, b"half", "{whole}");
        }
    });
}

#[test]
fn what_is_over_a_limit_of_ours_is_no_fault_of_the_endpoint() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let long = |bytes: usize| format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 2\r\n\r\nok", "a".repeat(bytes));
        for response in [long(70_000), long(66_000), long(80_000), long(90_000), long(8_300)] {
            let server = async {
                let mut talk = peer.accept().await;
                talk.read_head().await;
                let _ = talk.stream.write_all(response.as_bytes()).await;
            };
            let ((), answer) = both(server, fetch(&pool)).await;
            match answer {
                Ok((status, _)) => assert_eq!((status, response.len()), (200, long(8_300).len())),
                Err(error) => assert!(matches!(error, UpstreamError::Oversized), "{error:?}"),
            }
        }
        assert_eq!((pool.counters().oversized.value(), pool.counters().ejections.value()), (4, 0));
        assert_eq!(pool.counters().invalid.value(), 0);
    });
}

#[test]
fn limits_of_answers_are_those_of_the_upstream() {
    run(async {
        for (head, fields, passes) in [(8_192, 300, true), (8_192, 200, false), (1_000, 300, false)] {
            let peer = Peer::listen().await;
            let pool = pool_of(UpstreamSpec {
                answers: ResponseLimits { head, fields },
                ..spec(&[peer.port])
            });
            let server = async {
                let mut talk = peer.accept().await;
                talk.read_head().await;
                let answer = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok", "a: b\r\n".repeat(299));
                let _ = talk.stream.write_all(answer.as_bytes()).await;
            };
            let ((), answer) = both(server, fetch(&pool)).await;
            assert_eq!(answer.is_ok(), passes, "{head} {fields}");
        }
    });
}

#[test]
fn body_cut_off_is_an_error_in_every_framing_that_can_tell() {
    run(async {
        for response in [
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
        ] {
            let peer = Peer::listen().await;
            let pool = super::pool(&[peer.port]);
            let server = async {
                let mut talk = peer.accept().await;
                talk.read_head().await;
                talk.write(response).await;
                talk
            };
            let (talk, result) = both(server, send(&pool, get(), NoBody)).await;
            let mut answer = result.unwrap();
            // It ends when the answer has been passed on already.
            drop(talk);
            let (error, got) = collect(&mut answer.body).await.unwrap_err();
            assert_eq!((error, got.as_slice()), (BodyError::Aborted, b"half".as_slice()), "{response}");
            assert_eq!((pool.counters().open.value(), pool.counters().invalid.value()), (0, 1));
        }
    });
}

#[test]
fn body_until_close_ends_cleanly_and_a_reset_does_not() {
    run(async {
        let (result, pool) = told(b"HTTP/1.1 200 OK\r\n\r\nall of it").await;
        let mut answer = result.unwrap();
        assert_eq!(answer.framing, Framing::UntilClose);
        assert_eq!(collect(&mut answer.body).await.unwrap().0, b"all of it");
        assert_eq!(pool.counters().open.value(), 0, "its connection cannot be used again");

        let peer = Peer::listen().await;
        let pool = super::pool(&[peer.port]);
        let server = async {
            let mut talk = peer.accept().await;
            talk.read_head().await;
            talk.write("HTTP/1.1 200 OK\r\n\r\npart").await;
            talk
        };
        let (talk, answer) = both(server, send(&pool, get(), NoBody)).await;
        talk.reset();
        let (error, _) = collect(&mut answer.unwrap().body).await.unwrap_err();
        assert_eq!(error, BodyError::Aborted);
    });
}

#[test]
fn reset_in_the_middle_of_a_body_is_an_error() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let server = async {
            let mut talk = peer.accept().await;
            talk.read_head().await;
            talk.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
            talk
        };
        let (talk, answer) = both(server, send(&pool, get(), NoBody)).await;
        talk.reset();
        let (error, _) = collect(&mut answer.unwrap().body).await.unwrap_err();
        assert_eq!(error, BodyError::Aborted);
        assert_eq!(pool.counters().open.value(), 0);
    });
}

#[test]
fn broken_chunks_are_a_framing_error() {
    run(async {
        let (result, _) = told(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n").await;
        let (error, got) = collect(&mut result.unwrap().body).await.unwrap_err();
        assert_eq!((error, got.len()), (BodyError::Framing, 0));
    });
}

#[test]
fn body_that_stands_still_is_a_timeout_and_a_slow_client_is_not() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool(&[peer.port]);
        let outgoing = Outgoing {
            idle_timeout: SHORT,
            ..get()
        };
        let server = async {
            let mut talk = peer.accept().await;
            talk.read_head().await;
            talk.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
            talk.read_rest().await
        };
        let client = async {
            let mut answer = send(&pool, outgoing, NoBody).await.unwrap();
            // The client takes its time: the endpoint is not to blame for that.
            tokio::time::sleep(SHORT * 2).await;
            assert!(matches!(next(&mut answer.body).await, Some(Ok(Chunk::Data(_)))));
            collect(&mut answer.body).await.unwrap_err().0
        };
        let (_, error) = both(server, client).await;
        assert_eq!(error, BodyError::Timeout);
        assert_eq!(pool.counters().timeouts.value(), 1);
    });
}
