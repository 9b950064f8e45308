//! Who gets a connection when there are few: shares, turns, and what is taken from whoever stalls.

use std::cell::Cell;
use std::net::IpAddr;
use std::time::Instant;

use super::*;
use crate::upstream::quota::{QuotaHolder, QuotaKey};

/// A request's other end: what stalls, and is ended by dropping its answer.
#[derive(Default)]
struct Client {
    stalled: Cell<Option<Instant>>,
    displaced: Cell<bool>,
    ended: tokio::sync::Notify,
}

impl QuotaHolder for Client {
    fn stalled_since(&self) -> Option<Instant> {
        self.stalled.get().filter(|_| !self.displaced.get())
    }

    fn displace(&self) {
        self.displaced.set(true);
        self.ended.notify_one();
    }
}

fn client() -> (Rc<Client>, Rc<dyn QuotaHolder>) {
    let client = Rc::<Client>::default();
    (client.clone(), client)
}

fn caller(last: u8, mark: u64) -> QuotaKey {
    QuotaKey::at(IpAddr::from([192, 0, 2, last])).with_credential(mark)
}

const SHARES: QuotaShares = QuotaShares {
    address: 75,
    credential: 50,
};

/// A pool of four connections with an endpoint that answers each with the beginning of a body.
async fn scarce(peer: &Peer) -> Rc<UpstreamPool> {
    let spec = UpstreamSpec {
        max_connections: 4,
        connect_timeout: Duration::from_millis(300),
        ..spec(&[peer.port])
    };
    UpstreamPool::new(Arc::new(spec), Arc::default(), SHARES)
}

const BEGUN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok";

async fn ask(pool: &Rc<UpstreamPool>, who: QuotaKey, holder: &Rc<dyn QuotaHolder>) -> Result<Forwarded<NoBody>, UpstreamError> {
    let outgoing = Outgoing {
        holder: Some((who, holder)),
        ..get()
    };
    send(pool, outgoing, NoBody).await
}

/// An endpoint that begins to answer whoever connects, for as long as it is polled.
async fn begin_answers(peer: &Peer) {
    let mut talks = Vec::new();
    loop {
        let mut talk = peer.accept().await;
        talk.answer(BEGUN).await;
        talks.push(talk);
    }
}

/// Runs a client beside an endpoint that goes on for ever.
async fn beside<T>(endpoint: impl Future<Output = ()>, client: impl Future<Output = T>) -> T {
    tokio::select! {
        () = endpoint => panic!("the endpoint ended"),
        done = client => done,
    }
}

#[test]
fn a_credential_and_an_address_leave_connections_to_others() {
    run(async {
        let peer = Peer::listen().await;
        let pool = scarce(&peer).await;
        beside(begin_answers(&peer), async {
            let (_, holder) = client();
            let mut kept = Vec::new();
            for _ in 0..2 {
                kept.push(ask(&pool, caller(1, 7), &holder).await.unwrap());
            }
            let third = ask(&pool, caller(1, 7), &holder).await;
            assert!(matches!(error_of(third), UpstreamError::Busy), "half is its share");
            kept.push(ask(&pool, caller(1, 8), &holder).await.unwrap());
            let fourth = ask(&pool, caller(1, 9), &holder).await;
            assert!(matches!(error_of(fourth), UpstreamError::Busy), "three quarters are its address's");
            kept.push(ask(&pool, caller(2, 9), &holder).await.unwrap());
            kept.remove(0);
            ask(&pool, caller(1, 7), &holder).await.unwrap();
        })
        .await;
    });
}

#[test]
fn a_connection_that_comes_free_goes_to_one_that_may_have_it() {
    run(async {
        let peer = Peer::listen().await;
        let pool = scarce(&peer).await;
        beside(begin_answers(&peer), async {
            let (_, holder) = client();
            let mut kept = Vec::new();
            for (last, mark) in [(1, 7), (1, 7), (2, 8), (3, 9)] {
                kept.push(ask(&pool, caller(last, mark), &holder).await.unwrap());
            }
            let mut greedy = std::pin::pin!(ask(&pool, caller(1, 7), &holder));
            let mut modest = std::pin::pin!(ask(&pool, caller(4, 10), &holder));
            poll_fn(|cx| {
                assert!(greedy.as_mut().poll(cx).is_pending() && modest.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            drop(kept.pop());
            let _modest = modest.await.unwrap();
            assert!(matches!(error_of(greedy.await), UpstreamError::Busy));
        })
        .await;
    });
}

/// Four connections that are held by clients of their own, of which these stall since then.
async fn held(pool: &Rc<UpstreamPool>, stalled: [Option<Instant>; 4]) -> Vec<(Rc<Client>, Forwarded<NoBody>)> {
    let mut held = Vec::new();
    for (n, since) in stalled.into_iter().enumerate() {
        let (one, holder) = client();
        one.stalled.set(since);
        let last = u8::try_from(n).unwrap();
        held.push((one, ask(pool, caller(last, 100 + u64::from(last)), &holder).await.unwrap()));
    }
    held
}

#[test]
fn whoever_waits_is_served_before_whoever_stalls() {
    run(async {
        let peer = Peer::listen().await;
        let pool = scarce(&peer).await;
        beside(begin_answers(&peer), async {
            let ago = |seconds| clock::instant().checked_sub(Duration::from_secs(seconds));
            let mut held = held(&pool, [None, ago(5), ago(9), ago(0)]).await;
            let (longest, answer) = held.remove(2);
            let (_, holder) = client();
            let end_it = async {
                longest.ended.notified().await;
                drop(answer);
            };
            let ((), served) = both(end_it, ask(&pool, caller(9, 1), &holder)).await;
            assert!(served.is_ok());
            assert!(held.iter().all(|(client, _)| !client.displaced.get()), "one is enough");
            assert_eq!(pool.counters().displaced.value(), 1);
        })
        .await;
    });
}

#[test]
fn while_nobody_stalls_for_long_whoever_waits_ends_nobody() {
    run(async {
        let peer = Peer::listen().await;
        let pool = scarce(&peer).await;
        beside(begin_answers(&peer), async {
            let held = held(&pool, [None, None, None, Some(clock::instant())]).await;
            let (_, holder) = client();
            let refused = ask(&pool, caller(9, 1), &holder).await;
            assert!(matches!(error_of(refused), UpstreamError::Busy));
            assert!(held.iter().all(|(client, _)| !client.displaced.get()));
            assert_eq!(pool.counters().displaced.value(), 0);
        })
        .await;
    });
}
