//! The gateway's end of the simulated network: streams of bytes whose other end the simulation holds.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use durward::store::BoxFuture;
use durward::store::redis::{ByteStream, Network};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Names a connection in the whole simulation.
pub(crate) type ConnId = u64;

/// What a gateway does to a connection.
#[derive(Debug, Clone)]
pub(crate) enum Sent {
    /// To the host of this name.
    Connect(String),
    Bytes(Vec<u8>),
    Close,
}

/// What a connection does to a gateway.
#[derive(Debug, Clone)]
pub(crate) enum Arrived {
    Accepted,
    Refused,
    Bytes(Vec<u8>),
    /// The answer to somebody else's look-up.
    Astray(Vec<u8>),
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    Broken,
}

#[derive(Debug)]
struct End {
    state: State,
    inbound: VecDeque<u8>,
    waker: Option<Waker>,
}

/// All connections of one gateway, over all its restarts.
#[derive(Debug)]
pub(crate) struct Wires {
    shared: Mutex<Shared>,
}

#[derive(Debug)]
struct Shared {
    next: ConnId,
    ends: BTreeMap<ConnId, End>,
    sent: Vec<(ConnId, Sent)>,
}

impl Wires {
    pub(crate) fn new(first: ConnId) -> Self {
        Self {
            shared: Mutex::new(Shared {
                next: first,
                ends: BTreeMap::new(),
                sent: Vec::new(),
            }),
        }
    }

    /// What the gateway sent since this was last asked, in order.
    pub(crate) fn take_sent(&self) -> Vec<(ConnId, Sent)> {
        std::mem::take(&mut self.shared.lock().unwrap().sent)
    }

    /// Lets something arrive at the gateway; nothing happens if it has closed the connection.
    pub(crate) fn arrive(&self, conn: ConnId, what: Arrived) {
        let mut shared = self.shared.lock().unwrap();
        let Some(end) = shared.ends.get_mut(&conn) else { return };
        match what {
            Arrived::Accepted => end.state = State::Open,
            Arrived::Refused | Arrived::Reset => end.state = State::Broken,
            Arrived::Bytes(bytes) | Arrived::Astray(bytes) => end.inbound.extend(bytes),
        }
        let waker = end.waker.take();
        drop(shared);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The network of one gateway.
pub(crate) struct SimulatedNetwork(pub(crate) Arc<Wires>);

impl Network for SimulatedNetwork {
    fn connect(&self, host: &str, _: u16) -> BoxFuture<'_, io::Result<Box<dyn ByteStream>>> {
        let wires = Arc::clone(&self.0);
        let mut shared = self.0.shared.lock().unwrap();
        let conn = shared.next;
        shared.next += 1;
        let end = End {
            state: State::Opening,
            inbound: VecDeque::new(),
            waker: None,
        };
        shared.ends.insert(conn, end);
        shared.sent.push((conn, Sent::Connect(host.to_owned())));
        drop(shared);
        let pipe = Pipe { wires, conn };
        Box::pin(async move {
            poll_fn(|cx| pipe.poll_open(cx)).await?;
            Ok(Box::new(pipe) as Box<dyn ByteStream>)
        })
    }
}

struct Pipe {
    wires: Arc<Wires>,
    conn: ConnId,
}

impl Pipe {
    fn poll_open(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.with(|end, _| match end.state {
            State::Opening => {
                end.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Open => Poll::Ready(Ok(())),
            State::Broken => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut End, &mut Vec<(ConnId, Sent)>) -> T) -> T {
        let mut shared = self.wires.shared.lock().unwrap();
        let Shared { ends, sent, .. } = &mut *shared;
        work(ends.get_mut(&self.conn).unwrap(), sent)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut shared = self.wires.shared.lock().unwrap();
        shared.ends.remove(&self.conn);
        shared.sent.push((self.conn, Sent::Close));
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|end, _| {
            if !end.inbound.is_empty() {
                let taken = buf.remaining().min(end.inbound.len());
                let bytes: Vec<u8> = end.inbound.drain(..taken).collect();
                buf.put_slice(&bytes);
                return Poll::Ready(Ok(()));
            }
            if end.state == State::Broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            end.waker = Some(cx.waker().clone());
            Poll::Pending
        })
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|end, sent| {
            if end.state == State::Broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            sent.push((self.conn, Sent::Bytes(buf.to_vec())));
            Poll::Ready(Ok(buf.len()))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
