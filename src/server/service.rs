//! The seam between connections and the gateway: what a connection asks for a response.
//!
//! It exists so that connections are tested with stand-ins. There is one production implementation, and every call
//! is dispatched statically.

use std::future::Future;
use std::rc::Rc;
use std::time::Instant;

use crate::base::denial::Denial;
use crate::gateway::{self, AccessRecord, ConnectionInfo, GatewayResponse, Response, ResponseBody, StreamControl, Worker};
use crate::telemetry::StreamEnd;
use crate::wire::body::{BodySource, RequestBody};
use crate::wire::head::{RequestHead, ResponseHead};

/// Answers the requests of one worker. It is cloned for each connection, so it is an `Rc` or as cheap as one.
pub trait Service: Clone + 'static {
    /// The body of a response to a request whose body is a `B`.
    type Body<B: RequestBody + Unpin + 'static>: BodySource + Unpin + 'static;
    /// Learns how the delivery of a response ended.
    type Observer: ResponseObserver;

    /// Answers one request. `control` may abort it until the observer of its response has learned how the delivery
    /// ended. Dropping the future means that the client is gone.
    fn handle<B: RequestBody + Unpin + 'static>(
        &self,
        connection: &ConnectionInfo,
        control: &Rc<dyn StreamControl>,
        head: &RequestHead,
        body: B,
    ) -> impl Future<Output = Response<Self::Body<B>, Self::Observer>>;

    /// Answers a request that does not get as far as [`Service::handle`].
    fn refuse<B: RequestBody + Unpin + 'static>(
        &self,
        connection: &ConnectionInfo,
        denial: Denial,
    ) -> Response<Self::Body<B>, Self::Observer>;

    /// Refuses a request without handling it. `head` has what could be read of its head. The wait is for the disk, where the
    /// trail is to have an entry of each answer first.
    fn refuse_request<B: RequestBody + Unpin + 'static>(
        &self,
        connection: &ConnectionInfo,
        _head: &RequestHead,
        denial: Denial,
    ) -> impl Future<Output = Response<Self::Body<B>, Self::Observer>> {
        std::future::ready(self.refuse(connection, denial))
    }

    /// Ends one request in flight whose client does not read its response, so that its slot becomes free. Says
    /// whether there was such a request.
    fn shed_stalled(&self) -> bool {
        false
    }

    /// Called about every [`super::worker::TICK`] on the worker's thread, for work that is done in batches.
    fn tick(&self);

    /// Waits for work that requests have started and that outlives them. Called when the last connection has ended.
    fn settle(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }
}

/// Learns how the delivery of one response ended. Dropped unused it counts the response as aborted.
pub trait ResponseObserver: Unpin + 'static {
    /// When the head of its request had arrived.
    fn began(&self) -> Instant;
    /// Takes back the head of the response, which has been written.
    fn recycle(&self, head: ResponseHead);
    /// The whole response was handed to the kernel at this time, with this many bytes of body.
    fn finish(self, bytes_out: u64, at: Instant);
    /// The response was cut off after about this many bytes of body, for this reason if the server knows one.
    fn abort(self, bytes_out: u64, why: Option<StreamEnd>);
    /// The tunnel that the connection had become ended, after this many bytes from and to the client.
    fn end_tunnel(self, end: StreamEnd, bytes_in: u64, bytes_out: u64);
}

impl ResponseObserver for AccessRecord {
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
    type Body<B: RequestBody + Unpin + 'static> = ResponseBody<B>;
    type Observer = AccessRecord;

    async fn handle<B: RequestBody + Unpin + 'static>(
        &self,
        connection: &ConnectionInfo,
        control: &Rc<dyn StreamControl>,
        head: &RequestHead,
        body: B,
    ) -> GatewayResponse<B> {
        let mut response = gateway::handle(self, connection, control, head, body).await;
        if response.observer.waits_for_disk() {
            response = Box::pin(gateway::record_answer(self, connection, head, response)).await;
        }
        response.add_cors_fields(head);
        response
    }

    fn refuse<B: RequestBody + Unpin + 'static>(&self, connection: &ConnectionInfo, denial: Denial) -> GatewayResponse<B> {
        let head = RequestHead::default();
        let mut response = gateway::refuse(self, connection, &head, denial);
        response.add_cors_fields(&head);
        response
    }

    async fn refuse_request<B: RequestBody + Unpin + 'static>(
        &self,
        connection: &ConnectionInfo,
        head: &RequestHead,
        denial: Denial,
    ) -> GatewayResponse<B> {
        let mut response = gateway::refuse(self, connection, head, denial);
        if response.observer.waits_for_disk() {
            response = Box::pin(gateway::record_answer(self, connection, head, response)).await;
        }
        response.add_cors_fields(head);
        response
    }

    fn shed_stalled(&self) -> bool {
        Worker::shed_stalled(self)
    }

    fn tick(&self) {
        Worker::tick(self);
    }

    async fn settle(&self) {
        Worker::settle(self).await;
    }
}
