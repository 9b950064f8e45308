//! A stand-in for the gateway: the path says what happens.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use durward::base::clock;
use durward::base::denial::Denial;
use durward::gateway::{ConnectionInfo, Persistence, Response, StreamControl};
use durward::server::service::{ResponseObserver, Service};
use durward::server::tls::CertificateSource;
use durward::snapshot::CertificateSet;
use durward::telemetry::StreamEnd;
use durward::wire::body::{BodyError, BodySource, Chunk, RequestBody};
use durward::wire::fields::Fields;
use durward::wire::framing::Framing;
use durward::wire::head::{RequestHead, ResponseHead};
use tokio::sync::Semaphore;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A request came in: method, target and how its body went.
    Request(String),
    /// A request's body: its length, or why it broke.
    Body(Result<usize, BodyError>),
    /// An answer was sent to its end.
    Finished(u64),
    /// An answer broke off.
    Aborted,
    /// The service was asked to refuse.
    Refused(Denial),
    /// A handler was dropped before it answered.
    Cancelled,
}

#[derive(Clone)]
pub(super) struct Stub(Arc<Shared>);

struct Shared {
    events: Mutex<Vec<Event>>,
    gate: Arc<Semaphore>,
    /// Trickles into the body of `/stream`, one piece for each permit.
    stream_gate: Arc<Semaphore>,
}

impl Default for Stub {
    fn default() -> Self {
        Self(Arc::new(Shared {
            events: Mutex::default(),
            gate: Arc::new(Semaphore::new(0)),
            stream_gate: Arc::new(Semaphore::new(0)),
        }))
    }
}

impl Stub {
    pub(super) fn factory(&self) -> impl FnOnce() -> Self + Send + use<> {
        let stub = self.clone();
        move || stub
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.0.events.lock().unwrap().clone()
    }

    pub(super) fn saw(&self, event: &Event) -> bool {
        self.events().contains(event)
    }

    pub(super) async fn wait_for(&self, event: &Event) {
        let waiting = async {
            while !self.saw(event) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(super::PATIENCE, waiting).await;
        assert!(waited.is_ok(), "no {event:?} among {:?}", self.events());
    }

    /// Lets one `/wait` go on.
    pub(super) fn open_gate(&self) {
        self.0.gate.add_permits(1);
    }

    /// Lets one piece of a `/stream` go.
    pub(super) fn release_piece(&self) {
        self.0.stream_gate.add_permits(1);
    }

    fn note(&self, event: Event) {
        self.0.events.lock().unwrap().push(event);
    }
}

pub(super) enum Body<B> {
    Bytes(Bytes),
    Echo(B),
    Pieces(VecDeque<Result<Chunk, BodyError>>),
    Gated(std::pin::Pin<Box<dyn Future<Output = ()>>>, Arc<Semaphore>),
    Endless,
}

impl<B: BodySource> BodySource for Body<B> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        match self {
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Chunk::Data(std::mem::take(bytes))))),
            Self::Echo(body) => body.poll_chunk(cx),
            Self::Pieces(pieces) => Poll::Ready(pieces.pop_front()),
            Self::Gated(wait, gate) => {
                std::task::ready!(wait.as_mut().poll(cx));
                *wait = Box::pin(pass(Arc::clone(gate)));
                Poll::Ready(Some(Ok(Chunk::Data(Bytes::from_static(b"piece")))))
            }
            Self::Endless => Poll::Ready(Some(Ok(Chunk::Data(Bytes::from_static(&[b'x'; 16_384]))))),
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Echo(body) => body.is_end(),
            Self::Pieces(pieces) => pieces.is_empty(),
            Self::Gated(..) | Self::Endless => false,
        }
    }
}

async fn pass(gate: Arc<Semaphore>) {
    gate.acquire_owned().await.unwrap().forget();
}

pub(super) struct Went(Option<Stub>);

impl ResponseObserver for Went {
    fn recycle(&self, _: ResponseHead) {}

    fn began(&self) -> Instant {
        clock::instant()
    }

    fn finish(mut self, bytes_out: u64, _: Instant) {
        if let Some(stub) = self.0.take() {
            stub.note(Event::Finished(bytes_out));
        }
    }

    fn abort(self, _: u64, _: Option<StreamEnd>) {}

    fn end_tunnel(self, _: StreamEnd, _: u64, _: u64) {}
}

impl Drop for Went {
    fn drop(&mut self) {
        if let Some(stub) = self.0.take() {
            stub.note(Event::Aborted);
        }
    }
}

struct Cancel(Stub, bool);

impl Drop for Cancel {
    fn drop(&mut self) {
        if !self.1 {
            self.0.note(Event::Cancelled);
        }
    }
}

impl Service for Stub {
    type Body<B: RequestBody + Unpin + 'static> = Body<B>;
    type Observer = Went;

    async fn handle<B: RequestBody + Unpin + 'static>(
        &self,
        connection: &ConnectionInfo,
        _: &std::rc::Rc<dyn StreamControl>,
        head: &RequestHead,
        mut body: B,
    ) -> Response<Body<B>, Went> {
        let target = String::from_utf8_lossy(&head.target).into_owned();
        self.note(Event::Request(format!("{} {target}", String::from_utf8_lossy(&head.method))));
        let mut cancel = Cancel(self.clone(), false);
        let (status, framing, body) = match target.as_str() {
            "/hello" => (200, Framing::Length(5), Body::Bytes(Bytes::from_static(b"hello"))),
            "/empty" => (204, Framing::None, Body::Bytes(Bytes::new())),
            "/sni" => {
                let sni = connection.sni.as_deref().unwrap_or("none").to_owned();
                (200, Framing::Length(sni.len() as u64), Body::Bytes(sni.into()))
            }
            "/crumbs" => {
                let crumbs = head.fields.all("cookie").count().to_string();
                (200, Framing::Length(crumbs.len() as u64), Body::Bytes(crumbs.into()))
            }
            "/echo" => (
                200,
                if head.framing == Framing::None {
                    Framing::Length(0)
                } else {
                    Framing::Chunked
                },
                Body::Echo(body),
            ),
            "/count" | "/limited" => {
                if target == "/limited" {
                    body.limit(10);
                }
                let counted = count(&mut body).await;
                self.note(Event::Body(counted));
                let text = counted.map_or_else(|e| e.to_string(), |n| n.to_string());
                let status = if counted.is_ok() { 200 } else { 400 };
                (status, Framing::Length(text.len() as u64), Body::Bytes(text.into()))
            }
            "/early" => (401, Framing::Length(2), Body::Bytes(Bytes::from_static(b"no"))),
            "/wait" => {
                pass(Arc::clone(&self.0.gate)).await;
                (200, Framing::Length(4), Body::Bytes(Bytes::from_static(b"done")))
            }
            "/stream" => (
                200,
                Framing::Chunked,
                Body::Gated(Box::pin(pass(Arc::clone(&self.0.stream_gate))), Arc::clone(&self.0.stream_gate)),
            ),
            "/endless" => (200, Framing::Chunked, Body::Endless),
            "/until-close" => (200, Framing::UntilClose, pieces([data("a"), data("b")])),
            "/trailers" => {
                let mut trailers = Fields::default();
                trailers.push(b"X-Sum", b"7");
                (200, Framing::Chunked, pieces([data("a"), Ok(Chunk::Trailers(Box::new(trailers)))]))
            }
            "/break" => (200, Framing::Chunked, pieces([data("part"), Err(BodyError::Aborted)])),
            "/short" => (200, Framing::Length(10), pieces([data("short")])),
            "/long" => (200, Framing::Length(2), pieces([data("long")])),
            "/panic" => panic!("on purpose"),
            _ => (404, Framing::None, Body::Bytes(Bytes::new())),
        };
        cancel.1 = true;
        self.answer(status, framing, body)
    }

    fn refuse<B: RequestBody + Unpin + 'static>(&self, _: &ConnectionInfo, denial: Denial) -> Response<Body<B>, Went> {
        self.note(Event::Refused(denial));
        let label = denial.label();
        let mut answer = self.answer(denial.row().status, Framing::Length(label.len() as u64), Body::Bytes(label.into()));
        if denial.closes_connection() {
            answer.persistence = Persistence::Close;
        }
        answer
    }

    fn tick(&self) {}
}

impl Stub {
    fn answer<B>(&self, status: u16, framing: Framing, body: Body<B>) -> Response<Body<B>, Went> {
        Response {
            head: ResponseHead {
                status,
                ..ResponseHead::default()
            },
            framing,
            body,
            persistence: Persistence::KeepAlive,
            frees_slot: false,
            tunnel: None,
            observer: Went(Some(self.clone())),
        }
    }
}

async fn count<B: BodySource>(body: &mut B) -> Result<usize, BodyError> {
    let mut total = 0;
    while let Some(chunk) = std::future::poll_fn(|cx| body.poll_chunk(cx)).await {
        if let Chunk::Data(data) = chunk? {
            total += data.len();
        }
    }
    Ok(total)
}

fn data(text: &'static str) -> Result<Chunk, BodyError> {
    Ok(Chunk::Data(Bytes::from_static(text.as_bytes())))
}

fn pieces<B, const N: usize>(pieces: [Result<Chunk, BodyError>; N]) -> Body<B> {
    Body::Pieces(pieces.into())
}

pub(super) struct NoCertificates;

impl CertificateSource for NoCertificates {
    fn certificates(&self, _: usize) -> Option<Arc<CertificateSet>> {
        None
    }
}
