//! Which endpoint is used: the less loaded, in turn, and not the ill one.

use super::*;

/// Serves every request of every connection until dropped.
async fn serve(peer: &Peer) {
    let mut talks = tokio::task::JoinSet::new();
    loop {
        let mut talk = peer.accept().await;
        talks.spawn_local(async move {
            loop {
                talk.answer(OK).await;
            }
        });
    }
}

#[test]
fn equals_take_turns() {
    run(async {
        let peers = [Peer::listen().await, Peer::listen().await, Peer::listen().await];
        let pool = pool(&peers.each_ref().map(|p| p.port));
        let mut seen = [0; 3];
        let client = async {
            for _ in 0..9 {
                let mut answer = send(&pool, get(), NoBody).await.unwrap();
                seen[answer.endpoint] += 1;
                collect(&mut answer.body).await.unwrap();
            }
        };
        tokio::select! {
            _ = async { tokio::join!(serve(&peers[0]), serve(&peers[1]), serve(&peers[2])) } => {}
            () = client => {}
        }
        assert_eq!(seen, [3, 3, 3]);
    });
}

#[test]
fn busy_endpoint_gets_less() {
    run(async {
        let (a, b) = (Peer::listen().await, Peer::listen().await);
        let pool = pool(&[a.port, b.port]);
        let client = async {
            // An answer that is not read keeps its connection in flight.
            let held = send(&pool, get(), NoBody).await.unwrap();
            for _ in 0..10 {
                let mut answer = send(&pool, get(), NoBody).await.unwrap();
                assert_ne!(answer.endpoint, held.endpoint);
                collect(&mut answer.body).await.unwrap();
            }
        };
        tokio::select! {
            _ = async { tokio::join!(serve(&a), serve(&b)) } => {}
            () = client => {}
        }
    });
}

#[test]
fn failing_endpoint_is_ejected_and_returns_after_a_probe() {
    run(async {
        let (ill, well) = (Peer::listen().await, Peer::listen().await);
        let pool = pool_of(UpstreamSpec {
            ejection: Ejection {
                failures: 2,
                duration: SHORT * 4,
            },
            ..spec(&[ill.port, well.port])
        });
        let babble = async {
            loop {
                let mut talk = ill.accept().await;
                talk.read_head().await;
                talk.write("garbage\r\n").await;
            }
        };
        let client = async {
            let mut invalid = 0;
            for _ in 0..40 {
                invalid += u32::from(fetch(&pool).await.is_err());
            }
            assert_eq!(invalid, 2, "two failures, then nobody is sent there");
        };
        tokio::select! {
            () = babble => {}
            () = serve(&well) => {}
            () = client => {}
        }
        assert_eq!(pool.counters().ejections.value(), 1);

        tokio::time::sleep(SHORT * 5).await;
        let client = async {
            let mut returned = 0;
            for _ in 0..10 {
                let mut answer = send(&pool, get(), NoBody).await.unwrap();
                returned += usize::from(answer.endpoint == 0);
                collect(&mut answer.body).await.unwrap();
            }
            assert!(returned > 3, "well again, it has its share");
        };
        tokio::select! {
            () = serve(&ill) => {}
            () = serve(&well) => {}
            () = client => {}
        }
    });
}

#[test]
fn when_everybody_is_ejected_somebody_is_still_tried() {
    run(async {
        let peer = Peer::listen().await;
        let pool = pool_of(UpstreamSpec {
            ejection: Ejection {
                failures: 1,
                duration: Duration::from_secs(600),
            },
            ..spec(&[peer.port])
        });
        let server = async {
            let mut talk = peer.accept().await;
            talk.answer("garbage\r\n").await;
            peer.accept().await.answer(OK).await;
        };
        let client = async {
            assert!(fetch(&pool).await.is_err());
            assert_eq!(pool.counters().ejections.value(), 1);
            assert!(fetch(&pool).await.is_ok());
        };
        both(server, client).await;
    });
}
