//! The client against a peer that says exactly what a test tells it to, byte by byte.

mod attempts;
mod balance;
mod duplex;
mod faults;
mod pooling;
mod shares;
mod tls;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::quota::QuotaShares;
use super::spec::{Ejection, EndpointSpec, HostHeader, UpstreamSpec};
use super::{Forwarded, Outgoing, UpstreamError, UpstreamPool, forward};
use crate::base::clock;
use crate::decide::method::Method;
use crate::decide::route::Trailers;
use crate::wire::body::{BodyError, BodySource, Chunk, NoBody};
use crate::wire::fields::Fields;
use crate::wire::framing::Framing;
use crate::wire::head::ResponseLimits;

/// Far above what any test needs, so that one that hangs fails instead.
const PATIENCE: Duration = Duration::from_secs(20);
/// For deadlines that are meant to pass.
const SHORT: Duration = Duration::from_millis(60);

/// Runs a test on one thread with its peers beside it.
fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        tokio::time::timeout(PATIENCE, test).await.expect("the test hangs")
    });
}

struct Peer {
    listener: TcpListener,
    port: u16,
}

impl Peer {
    async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    /// A port nobody listens on.
    async fn absent() -> u16 {
        Self::listen().await.port
    }

    async fn accept(&self) -> Talk<TcpStream> {
        Talk {
            stream: self.listener.accept().await.unwrap().0,
        }
    }
}

/// One connection as the peer sees it.
struct Talk<S> {
    stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    /// Reads up to and with this; panics if it does not come.
    async fn read_until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            read.push(self.stream.read_u8().await.expect("the client closed"));
        }
        String::from_utf8(read).unwrap()
    }

    async fn read_head(&mut self) -> String {
        self.read_until("\r\n\r\n").await
    }

    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Answers one request without a body.
    async fn answer(&mut self, response: &str) -> String {
        let head = self.read_head().await;
        self.write(response).await;
        head
    }

    /// Everything until the client closes; a reset counts as closing.
    async fn read_rest(&mut self) -> Vec<u8> {
        let mut read = Vec::new();
        let _ = self.stream.read_to_end(&mut read).await;
        read
    }
}

impl Talk<TcpStream> {
    fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }
}

/// A connection that has carried one request and is idle now, as the peer sees it.
async fn idle_connection(peer: &Peer, pool: &Rc<UpstreamPool>) -> Talk<TcpStream> {
    let server = async {
        let mut talk = peer.accept().await;
        talk.answer(OK).await;
        talk
    };
    let (talk, answered) = both(server, fetch(pool)).await;
    answered.unwrap();
    talk
}

/// The endpoint that is asked first, and the other one: which is which differs from pool to pool.
async fn first_asked(peers: &[Peer; 2]) -> (Talk<TcpStream>, &Peer) {
    tokio::select! {
        talk = peers[0].accept() => (talk, &peers[1]),
        talk = peers[1].accept() => (talk, &peers[0]),
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn spec(ports: &[u16]) -> UpstreamSpec {
    UpstreamSpec {
        answers: ResponseLimits::default(),
        name: "orders".into(),
        endpoints: ports
            .iter()
            .map(|port| EndpointSpec {
                host: "127.0.0.1".into(),
                port: *port,
                authority: format!("127.0.0.1:{port}"),
                server_name: None,
            })
            .collect(),
        connect_timeout: Duration::from_secs(2),
        keep_alive: Duration::from_secs(4),
        max_connections: 64,
        host: HostHeader::Client,
        ejection: Ejection {
            failures: 3,
            duration: Duration::from_secs(30),
        },
        tls: None,
    }
}

fn pool_of(spec: UpstreamSpec) -> Rc<UpstreamPool> {
    UpstreamPool::new(Arc::new(spec), Arc::default(), QuotaShares::ALL)
}

fn pool(ports: &[u16]) -> Rc<UpstreamPool> {
    pool_of(spec(ports))
}

fn request(method: Method, framing: Framing) -> Outgoing<'static> {
    Outgoing {
        upgrade: None,
        now: clock::instant(),
        holder: None,
        method,
        target: b"/a?b=c",
        client_host: b"api.example",
        fields: b"X-Tenant-Id: t1\r\n",
        framing,
        response_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(10),
        trailers: Trailers::Dropped,
    }
}

fn get() -> Outgoing<'static> {
    request(Method::Get, Framing::None)
}

async fn send<B: BodySource + Unpin>(pool: &Rc<UpstreamPool>, request: Outgoing<'_>, body: B) -> Result<Forwarded<B>, UpstreamError> {
    forward::forward(pool, request, body)
        .await
        .map_err(|(unanswered, _)| unanswered.error)
}

/// Forwards a GET and reads its whole answer.
async fn fetch(pool: &Rc<UpstreamPool>) -> Result<(u16, String), UpstreamError> {
    let mut forwarded = send(pool, get(), NoBody).await?;
    let body = collect(&mut forwarded.body).await.expect("whole body").0;
    Ok((forwarded.head.status, String::from_utf8(body).unwrap()))
}

async fn next<B: BodySource>(body: &mut B) -> Option<Result<Chunk, BodyError>> {
    poll_fn(|cx| body.poll_chunk(cx)).await
}

/// The whole body, or how far it came.
async fn collect<B: BodySource>(body: &mut B) -> Result<(Vec<u8>, Option<Fields>), (BodyError, Vec<u8>)> {
    let mut data = Vec::new();
    let mut trailers = None;
    loop {
        match next(body).await {
            Some(Ok(Chunk::Data(bytes))) => data.extend_from_slice(&bytes),
            Some(Ok(Chunk::Trailers(fields))) => trailers = Some(*fields),
            Some(Err(error)) => return Err((error, data)),
            None => {
                assert!(body.is_end(), "a body that ended says so");
                return Ok((data, trailers));
            }
        }
    }
}

fn error_of<B>(result: Result<Forwarded<B>, UpstreamError>) -> UpstreamError {
    result.err().expect("no answer")
}

/// A request body that does what it is told.
#[derive(Default)]
struct Script(VecDeque<Step>);

enum Step {
    Data(Bytes),
    Trailers(Fields),
    Fail(BodyError),
    /// Nothing more comes, and no end either.
    Stall,
}

impl Script {
    fn of(steps: impl IntoIterator<Item = Step>) -> Self {
        Self(steps.into_iter().collect())
    }

    fn data(parts: &[&'static str]) -> Self {
        Self::of(parts.iter().map(|part| Step::Data(Bytes::from_static(part.as_bytes()))))
    }
}

impl BodySource for Script {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        match self.0.front() {
            Some(Step::Stall) => Poll::Pending,
            Some(_) => match self.0.pop_front() {
                Some(Step::Data(data)) => Poll::Ready(Some(Ok(Chunk::Data(data)))),
                Some(Step::Trailers(fields)) => Poll::Ready(Some(Ok(Chunk::Trailers(Box::new(fields))))),
                Some(Step::Fail(error)) => Poll::Ready(Some(Err(error))),
                Some(Step::Stall) | None => Poll::Pending,
            },
            None => Poll::Ready(None),
        }
    }

    fn is_end(&self) -> bool {
        self.0.is_empty()
    }
}

/// This many bytes in chunks of 16 KiB, made as they are taken; counts how many were.
struct Flood {
    left: usize,
    taken: Rc<std::cell::Cell<usize>>,
}

impl BodySource for Flood {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        static ZEROS: [u8; 16 * 1024] = [b'z'; 16 * 1024];
        let n = self.left.min(ZEROS.len());
        if n == 0 {
            return Poll::Ready(None);
        }
        self.left -= n;
        self.taken.set(self.taken.get() + n);
        Poll::Ready(Some(Ok(Chunk::Data(Bytes::from_static(&ZEROS[..n])))))
    }

    fn is_end(&self) -> bool {
        self.left == 0
    }
}

/// Runs the peer's side and the client's side of a test together.
async fn both<A, C>(peer: impl Future<Output = A>, client: impl Future<Output = C>) -> (A, C) {
    tokio::join!(peer, client)
}
