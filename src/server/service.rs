//! The seam between connections and the gateway: what a connection asks for an answer.
//!
//! It exists so that connections are tested with stand-ins; there is one production implementation
//! and everything is static dispatch.

use std::future::Future;
use std::rc::Rc;
use std::time::Instant;

use crate::base::denial::Denial;
use crate::gateway::{self, Connection, Exchange, Lifeline, Reply, ReplyBody, Tunnel, Worker};
use crate::telemetry::StreamEnd;
use crate::wire::body::{BodySource, RequestBody};
use crate::wire::framing::Framing;
use crate::wire::head::{RequestHead, ResponseHead};

/// Answers the requests of one worker. Cloned for each connection, so it is an `Rc` or like one.
pub trait Service: Clone + 'static {
    /// The body of an answer to a request whose body is a `B`.
    type Body<B: RequestBody + Unpin + 'static>: BodySource + Unpin + 'static;
    /// Is told how an answer went.
    type Outcome: Outcome;

    /// Answers one request, which may be cut off by `line` until its outcome was told. Dropping the
    /// future means that the client is gone.
    fn handle<B: RequestBody + Unpin + 'static>(
        &self,
        place: (&Connection, &Rc<dyn Lifeline>),
        head: &RequestHead,
        body: B,
    ) -> impl Future<Output = Answer<Self::Body<B>, Self::Outcome>>;

    /// Answers a request that does not get as far as [`Service::handle`].
    fn refuse<B: RequestBody + Unpin + 'static>(&self, connection: &Connection, denial: Denial) -> Answer<Self::Body<B>, Self::Outcome>;

    /// Refuses a request without handling it. `head` has what could be read of its head.
    fn refuse_request<B: RequestBody + Unpin + 'static>(
        &self,
        connection: &Connection,
        _head: &RequestHead,
        denial: Denial,
    ) -> Answer<Self::Body<B>, Self::Outcome> {
        self.refuse(connection, denial)
    }

    /// Ends a request in flight whose client takes nothing of its answer, so that another has its place:
    /// whether there was one.
    fn relieve(&self) -> bool {
        false
    }

    /// Called about every [`super::worker::TICK`] on the worker's thread, for what is done in batches.
    fn tick(&self);

    /// Waits for work that requests have started and that outlives them. Called when the last connection has ended.
    fn settle(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }
}

/// Is told how an answer went; dropped unused it counts as aborted.
pub trait Outcome: Unpin + 'static {
    /// When the head of its request had arrived.
    fn began(&self) -> Instant;
    /// Takes back the head of the answer, which has been written.
    fn recycle(&self, head: ResponseHead);
    /// The answer was handed to the kernel to its end, with this many body bytes, at this time.
    fn finish(self, bytes_out: u64, at: Instant);
    /// The answer broke off after about this many body bytes, for this reason if it is known here.
    fn abort(self, bytes_out: u64, why: Option<StreamEnd>);
    /// The tunnel that the connection had become ended, after this many bytes from and to the client.
    fn end_tunnel(self, end: StreamEnd, bytes_in: u64, bytes_out: u64);
}

/// What goes back to a client.
pub struct Answer<B, O> {
    /// Status and fields, without `Date`, framing and `Connection`: those are the server's.
    pub head: ResponseHead,
    /// What the head declares.
    pub framing: Framing,
    /// The body; not sent where the request or the status forbids one.
    pub body: B,
    /// Whether the connection must close after this answer (HTTP/1 only).
    pub after: After,
    /// Whether it is a refusal for want of a place in flight: it does not hold one.
    pub unplaced: bool,
    /// With a 101, over HTTP/1.1: what the connection becomes a tunnel to.
    pub tunnel: Option<Box<Tunnel>>,
    /// Is told how it went.
    pub outcome: O,
}

/// What an answer means for its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It may carry further requests.
    KeepAlive,
    /// It closes.
    Close,
}

impl<B> From<Reply<B>> for Answer<ReplyBody<B>, Exchange> {
    fn from(reply: Reply<B>) -> Self {
        Self {
            head: reply.head,
            framing: reply.framing,
            body: reply.body,
            after: if reply.close { After::Close } else { After::KeepAlive },
            unplaced: reply.unplaced,
            tunnel: reply.tunnel,
            outcome: reply.exchange,
        }
    }
}

impl Outcome for Exchange {
    fn began(&self) -> Instant {
        Self::began(self)
    }

    fn recycle(&self, head: ResponseHead) {
        Self::recycle(self, head);
    }

    fn finish(self, bytes_out: u64, at: Instant) {
        Self::finish(self, bytes_out, at);
    }

    fn abort(self, bytes_out: u64, why: Option<StreamEnd>) {
        Self::abort(self, bytes_out, why);
    }

    fn end_tunnel(self, end: StreamEnd, bytes_in: u64, bytes_out: u64) {
        Self::end_tunnel(self, end, bytes_in, bytes_out);
    }
}

impl Service for Rc<Worker> {
    type Body<B: RequestBody + Unpin + 'static> = ReplyBody<B>;
    type Outcome = Exchange;

    async fn handle<B: RequestBody + Unpin + 'static>(
        &self,
        place: (&Connection, &Rc<dyn Lifeline>),
        head: &RequestHead,
        body: B,
    ) -> Answer<ReplyBody<B>, Exchange> {
        let mut reply = gateway::handle(self, place, head, body).await;
        reply.mark_for_pages(head);
        reply.into()
    }

    fn refuse<B: RequestBody + Unpin + 'static>(&self, connection: &Connection, denial: Denial) -> Answer<ReplyBody<B>, Exchange> {
        self.refuse_request(connection, &RequestHead::default(), denial)
    }

    fn refuse_request<B: RequestBody + Unpin + 'static>(
        &self,
        connection: &Connection,
        head: &RequestHead,
        denial: Denial,
    ) -> Answer<ReplyBody<B>, Exchange> {
        let mut reply = gateway::refuse(self, connection, head, denial);
        reply.mark_for_pages(head);
        reply.into()
    }

    fn relieve(&self) -> bool {
        Worker::relieve(self)
    }

    fn tick(&self) {
        Worker::tick(self);
    }

    async fn settle(&self) {
        Worker::settle(self).await;
    }
}
