//! One request's access event: collected on the way, written exactly once, also when the client left.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::base::clock::{Clock as _, Now, instant};
use crate::base::credential::TokenFault;
use crate::base::denial::Denial;
use crate::base::ids::Subject;
use crate::base::principal::Facts;
use crate::decide::authorize::Permit;
use crate::decide::cors::CorsOf;
use crate::decide::route::UpstreamIndex;
use crate::limit::Standing;
use crate::telemetry::{StreamEnd, StreamKind};
use crate::upstream::Cause;
use crate::upstream::holders::{Caller, Holder, Ticket};
use crate::wire::head::{ResponseHead, Version};

use self::line::line;
use super::Connection;
use super::live::{AskedFor, Lifeline, Live};
use super::worker::{View, Worker};

mod line;
mod notes;

/// Collects what the access line says; written when finished, or as aborted when dropped unfinished.
/// One pointer to a reused record, so that handing it along with a reply costs nothing.
pub struct Exchange {
    worker: Rc<Worker>,
    /// Taken when the line is written.
    record: Option<Box<Record>>,
}

/// What is known of one request; reused by the worker for later ones.
pub(super) struct Record {
    view: Option<Rc<View>>,
    started: Instant,
    resumed: Instant,
    now: Now,
    request_id: String,
    client: IpAddr,
    version: Version,
    /// What the worker's looks need too.
    live: Rc<Live>,
    /// The same, as the pools know it.
    holder: Rc<dyn Holder>,
    /// Its place among those in flight, and whose it is.
    ticket: Option<(Ticket, Caller)>,
    /// Who a token says acts; what the facts say is found in them.
    subject: Option<Subject>,
    /// What an issuer did.
    done: String,
    facts: Option<Arc<Facts>>,
    denial: Option<Denial>,
    /// What was wrong with the credential, for the access line alone.
    cause: Option<&'static str>,
    status: u16,
    upstream: Option<UpstreamIndex>,
    endpoint: Option<usize>,
    attempts: u32,
    /// Why the last attempt at an endpoint failed.
    failure: Option<Cause>,
    /// How the caller stands under the limits that were asked.
    standings: Vec<Standing>,
    /// Whose CORS policy its answer follows.
    cors: CorsOf,
    bytes_in: Option<u64>,
    dropped_fields: u32,
    ended: Option<(StreamKind, StreamEnd)>,
}

impl Record {
    /// A record of nothing yet.
    pub(super) fn new() -> Self {
        let live = Rc::<Live>::default();
        let holder: Rc<dyn Holder> = live.clone();
        Self {
            view: None,
            started: instant(),
            resumed: instant(),
            now: Now::default(),
            request_id: String::new(),
            client: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            version: Version::Http11,
            live,
            holder,
            ticket: None,
            subject: None,
            done: String::new(),
            facts: None,
            denial: None,
            cause: None,
            status: 0,
            upstream: None,
            endpoint: None,
            attempts: 0,
            failure: None,
            standings: Vec::new(),
            cors: CorsOf::Others,
            bytes_in: None,
            dropped_fields: 0,
            ended: None,
        }
    }

    /// What the worker's looks need.
    pub(super) const fn live(&self) -> &Rc<Live> {
        &self.live
    }

    /// Forgets the request, keeps the allocations.
    fn clear(&mut self) {
        self.live.clear();
        self.request_id.clear();
        self.done.clear();
        self.subject = None;
        self.standings.clear();
        self.view = None;
        self.facts = None;
        (self.denial, self.cause, self.bytes_in, self.ended) = (None, None, None, None);
        self.cors = CorsOf::Others;
        (self.upstream, self.endpoint, self.attempts, self.status) = (None, None, 0, 0);
        self.dropped_fields = 0;
        self.failure = None;
    }
}

impl Exchange {
    /// Begins when a head has arrived (or failed to).
    pub(super) fn begin(
        worker: &Rc<Worker>,
        view: Rc<View>,
        (connection, line): (&Connection, Option<&Rc<dyn Lifeline>>),
        version: Version,
    ) -> Self {
        worker.telemetry.begin();
        let mut record = worker.record();
        record.live.begin(line);
        record.view = Some(view);
        record.started = instant();
        record.resumed = record.started;
        record.now = worker.clock.now();
        record.client = connection.peer.ip();
        record.version = version;
        worker.write_request_id(&mut record.request_id);
        Self {
            worker: worker.clone(),
            record: Some(record),
        }
    }

    /// When the request's head had arrived, for deadlines.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.record.as_ref().map_or_else(instant, |record| record.started)
    }

    /// When the request's head had arrived.
    pub(super) fn now(&self) -> Now {
        self.record.as_ref().map_or_else(|| self.worker.clock.now(), |record| record.now)
    }

    /// The time, as far as a request needs it: when it last had to wait, or its head's arrival if it never had.
    pub(super) fn resumed(&self) -> Instant {
        self.record.as_ref().map_or_else(instant, |record| record.resumed)
    }

    /// It goes on after it had to wait.
    pub(super) fn note_wait(&mut self) {
        self.note(|record| record.resumed = instant());
    }

    fn note(&mut self, what: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.record {
            what(record);
        }
    }

    fn note_asked(&self, what: impl FnOnce(&mut AskedFor)) {
        if let Some(record) = &self.record {
            what(&mut record.live.asked.borrow_mut());
        }
    }

    /// From now on the worker may look at it and cut it off.
    pub(super) fn hold(&self, permit: Permit, view: &Rc<View>, kind: StreamKind) {
        if let Some(record) = &self.record {
            record.live.hold(permit, view, kind, record.now);
        }
    }

    /// Takes a place among the requests in flight, in which this caller has a share: with a client that
    /// stalls it makes room for itself.
    ///
    /// # Errors
    /// `Overloaded` when the share is used up.
    pub(super) fn take_place(&mut self, caller: Caller) -> Result<(), Denial> {
        let places = &self.worker.places;
        if places.over(caller).is_some() {
            let Some((_, stalled)) = places.longest_stalled(caller, instant()) else {
                return Err(Denial::Overloaded);
            };
            stalled.displace();
        }
        if let Some(record) = &mut self.record {
            record.ticket = Some((places.enter(caller, &record.holder), caller));
        }
        Ok(())
    }

    /// It is refused for want of a place: it must not hold one, however slowly its client takes the refusal.
    pub(super) fn leave_flight(&mut self) {
        let Some(record) = &mut self.record else { return };
        record.live.leave_flight();
        if let Some((ticket, _)) = record.ticket.take() {
            self.worker.places.leave(ticket);
        }
    }

    /// What its connection upstream can be had back by.
    pub(super) fn holder(&self) -> Option<(Caller, &Rc<dyn Holder>)> {
        let record = self.record.as_ref()?;
        let (_, caller) = record.ticket.as_ref()?;
        Some((*caller, &record.holder))
    }

    /// Why it has to end, if the worker has found that.
    pub(super) fn cut(&self) -> Option<Denial> {
        self.record.as_ref()?.live.denial()
    }

    /// It was cut off while it was waited for.
    pub(super) fn note_cut(&mut self, denial: Denial) {
        self.note(|record| {
            let kind = record.live.kind();
            record.ended = kind.map(|kind| (kind, StreamEnd::Denied(denial)));
        });
    }

    /// Calls `look` with what was granted, if it was granted to somebody.
    pub(super) fn with_permit(&self, look: impl FnOnce(&Permit)) {
        if let Some(record) = &self.record {
            record.live.with_permit(look);
        }
    }

    /// The connection became a tunnel, which is no request in flight any more.
    pub(super) fn note_upgraded(&mut self) {
        self.leave_flight();
        if let Some(record) = &self.record {
            record.live.became(StreamKind::Websocket);
        }
    }

    /// A tunnel ended, for this reason unless the worker has another, after so many bytes each way.
    pub fn end_tunnel(mut self, end: StreamEnd, bytes_in: u64, bytes_out: u64) {
        let displaced = self.record.as_ref().is_some_and(|record| record.live.was_displaced());
        let end = if displaced { StreamEnd::Displaced } else { end };
        let end = self.cut().map_or(end, StreamEnd::Denied);
        self.note(|record| {
            record.bytes_in = Some(bytes_in);
            record.ended = Some((StreamKind::Websocket, end));
        });
        let completion = match end {
            StreamEnd::Client | StreamEnd::Upstream => Completion::Complete,
            _ => Completion::Aborted,
        };
        self.record(bytes_out, completion, instant());
    }

    /// Takes back the head of an answer that was written, so that the next answer needs no allocation.
    pub fn recycle(&self, head: ResponseHead) {
        let Some(record) = &self.record else { return };
        if let (Some(view), Some(index)) = (&record.view, record.upstream)
            && let Some(upstream) = view.upstreams.get(index.0)
        {
            upstream.recycle(head);
        }
    }

    /// The answer was sent to its end, at this time.
    pub fn finish(mut self, bytes_out: u64, at: Instant) {
        self.record(bytes_out, Completion::Complete, at);
    }

    /// The answer broke off, for this reason if it is known.
    pub fn abort(mut self, bytes_out: u64, why: Option<StreamEnd>) {
        self.note(|record| {
            let why = if record.live.was_displaced() {
                Some(StreamEnd::Displaced)
            } else {
                why
            };
            let by_version = match record.version {
                Version::Http2 => StreamKind::Http2,
                Version::Http10 | Version::Http11 => StreamKind::Http1,
            };
            let why = why.map(|why| (record.live.kind().unwrap_or(by_version), why));
            record.ended = record.ended.or(why);
        });
        self.record(bytes_out, Completion::Aborted, instant());
    }

    fn record(&mut self, bytes_out: u64, completion: Completion, at: Instant) {
        let Some(mut record) = self.record.take() else {
            return;
        };
        if let Some(denial) = record.live.denial() {
            record.denial = Some(denial);
            record.cause = (denial == Denial::InvalidToken).then_some(TokenFault::NoLongerTrusted.label());
            let kind = record.live.kind();
            record.ended = record.ended.or_else(|| Some((kind?, StreamEnd::Denied(denial))));
        }
        if let Some((ticket, _)) = record.ticket.take() {
            self.worker.places.leave(ticket);
        }
        if let Some(view) = &record.view {
            let asked = record.live.asked.borrow();
            self.worker
                .telemetry
                .record(&line((&record, &asked), view, bytes_out, (completion, at)));
        }
        record.clear();
        self.worker.return_record(record);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Completion {
    Complete,
    Aborted,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.record(0, Completion::Aborted, instant());
    }
}
