//! The access line of one request: collected along the request path, written exactly once, also when the client left.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::base::clock::{Clock as _, Now, instant};
use crate::base::credential::TokenFault;
use crate::base::denial::Denial;
use crate::base::principal::{Facts, TokenClaims};
use crate::decide::authorize::Permit;
use crate::decide::cors::CorsOf;
use crate::decide::method::Method;
use crate::decide::route::{Route, UpstreamIndex};
use crate::limit::LimitVerdict;
use crate::store::events::Positions;
use crate::telemetry::{AccessLine, RouteSlot, StreamEnd, StreamKind};
use crate::upstream::Cause;
use crate::upstream::quota::{QuotaHolder, QuotaKey, QuotaSlot};
use crate::wire::fields::Fields;
use crate::wire::framing::Framing;
use crate::wire::head::{ResponseHead, Version};

use super::ConnectionInfo;
use super::capture::{BodyPart, BodyTap, SharedBodies};
use super::open_stream::{RequestState, RequestSummary, StreamControl};
use super::worker::{SnapshotView, Worker};

mod entry;
mod notes;

use self::entry::EntryParts;
pub(in crate::gateway) use notes::NotedRequest;

/// Collects what the access line reports. The line is written when the response was delivered, or as aborted when the
/// record is dropped before. The record is one pointer to reused memory, so moving it along with a response costs
/// nothing.
pub struct AccessRecord {
    worker: Rc<Worker>,
    /// `None` once the line is written.
    record: Option<Box<RecordFields>>,
}

/// What is known of one request. The worker reuses it for later requests.
pub(super) struct RecordFields {
    view: Option<Rc<SnapshotView>>,
    started: Instant,
    resumed: Instant,
    now: Now,
    request_id: String,
    client: IpAddr,
    version: Version,
    /// The part that the worker's check of open streams needs as well.
    state: Rc<RequestState>,
    /// The same part, as the quotas know it.
    holder: Rc<dyn QuotaHolder>,
    /// The request's slot among those in flight, and the key of the quota that it counts against.
    slot: Option<(QuotaSlot, QuotaKey)>,
    /// The token of the caller, if there is one.
    token: Option<Arc<TokenClaims>>,
    done: String,
    facts: Option<Arc<Facts>>,
    denial: Option<Denial>,
    /// Why the request would be refused if its route did not only report.
    reported: Option<Denial>,
    /// What was wrong with the credential. Only the access line reports it.
    cause: Option<&'static str>,
    status: u16,
    upstream: Option<UpstreamIndex>,
    endpoint: Option<usize>,
    attempts: u32,
    /// Why the last attempt at an endpoint failed.
    failure: Option<Cause>,
    /// The result of each rate limit that was asked.
    limit_verdicts: Vec<LimitVerdict>,
    /// The CORS policy that the response follows.
    cors: CorsOf,
    bytes_in: Option<u64>,
    dropped_fields: u32,
    ended: Option<(StreamKind, StreamEnd)>,
    /// The bodies that are recorded, once one was begun.
    bodies: Option<SharedBodies>,
    entry: EntryParts,
    /// Where a path is masked that may hold a credential.
    masked_path: Vec<u8>,
}

impl RecordFields {
    pub(super) fn new() -> Self {
        let state = Rc::<RequestState>::default();
        let holder: Rc<dyn QuotaHolder> = state.clone();
        Self {
            view: None,
            started: instant(),
            resumed: instant(),
            now: Now::default(),
            request_id: String::new(),
            client: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            version: Version::Http11,
            state,
            holder,
            slot: None,
            token: None,
            done: String::new(),
            facts: None,
            denial: None,
            reported: None,
            cause: None,
            status: 0,
            upstream: None,
            endpoint: None,
            attempts: 0,
            failure: None,
            limit_verdicts: Vec::new(),
            cors: CorsOf::Others,
            bytes_in: None,
            dropped_fields: 0,
            ended: None,
            bodies: None,
            entry: EntryParts::default(),
            masked_path: Vec::new(),
        }
    }

    /// The part that the worker's check of open streams needs.
    pub(super) const fn state(&self) -> &Rc<RequestState> {
        &self.state
    }

    /// Removes everything about the request and keeps the allocations.
    fn clear(&mut self) {
        self.state.clear();
        self.request_id.clear();
        self.done.clear();
        self.token = None;
        self.limit_verdicts.clear();
        self.view = None;
        self.facts = None;
        (self.denial, self.cause, self.bytes_in, self.ended) = (None, None, None, None);
        self.cors = CorsOf::Others;
        (self.upstream, self.endpoint, self.attempts, self.status) = (None, None, 0, 0);
        self.dropped_fields = 0;
        self.failure = None;
        self.bodies = None;
        self.reported = None;
        self.entry.clear();
    }
}

impl AccessRecord {
    /// Begins when a head has arrived or could not be read.
    pub(super) fn begin(
        worker: &Rc<Worker>,
        view: Rc<SnapshotView>,
        connection: &ConnectionInfo,
        control: Option<&Rc<dyn StreamControl>>,
        version: Version,
    ) -> Self {
        worker.telemetry.begin();
        let mut record = worker.record();
        record.state.begin(control);
        record.view = Some(view);
        record.started = instant();
        record.resumed = record.started;
        record.now = worker.clock.now();
        record.client = connection.peer.ip();
        record.version = version;
        record.entry.tls = connection.tls;
        worker.write_request_id(&mut record.request_id);
        Self {
            worker: worker.clone(),
            record: Some(record),
        }
    }

    /// When the head of the request had arrived, as a deadline needs it.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.record.as_ref().map_or_else(instant, |record| record.started)
    }

    /// When the head of the request had arrived.
    pub(super) fn now(&self) -> Now {
        self.record.as_ref().map_or_else(|| self.worker.clock.now(), |record| record.now)
    }

    /// The time at which the request last had to wait, or the arrival of its head if it never had to. A request needs
    /// no more exact clock.
    pub(super) fn resumed(&self) -> Instant {
        self.record.as_ref().map_or_else(instant, |record| record.resumed)
    }

    /// The request goes on after a wait.
    pub(super) fn note_wait(&mut self) {
        self.note(|record| record.resumed = instant());
    }

    fn note(&mut self, what: impl FnOnce(&mut RecordFields)) {
        if let Some(record) = &mut self.record {
            what(record);
        }
    }

    fn note_request(&self, what: impl FnOnce(&mut RequestSummary)) {
        if let Some(record) = &self.record {
            what(&mut record.state.summary.borrow_mut());
        }
    }

    /// From now on the worker reevaluates the request while it is open, and may abort it.
    pub(super) fn track_stream(&self, permit: Permit, view: &Rc<SnapshotView>, kind: StreamKind) {
        if let Some(record) = &self.record {
            record.state.track_stream(permit, view, kind, record.now);
        }
    }

    /// Takes a slot among the requests in flight, of which each caller has a quota. If the caller has used up its
    /// quota, its request that has been stalled for longest is ended and the new one takes over its part.
    ///
    /// # Errors
    /// `Overloaded` when the quota is used up and no request of the caller is stalled.
    pub(super) fn acquire_slot(&mut self, key: QuotaKey) -> Result<(), Denial> {
        let in_flight = &self.worker.in_flight;
        if in_flight.exceeded(key).is_some() {
            let Some((_, stalled)) = in_flight.longest_stalled(key, instant()) else {
                return Err(Denial::Overloaded);
            };
            stalled.displace();
        }
        if let Some(record) = &mut self.record {
            record.slot = Some((in_flight.acquire(key, &record.holder), key));
        }
        Ok(())
    }

    /// Gives the slot back. A request that is refused for want of a slot must not hold one, however slowly its client
    /// reads the refusal.
    pub(super) fn release_slot(&mut self) {
        let Some(record) = &mut self.record else { return };
        record.state.leave_flight();
        if let Some((slot, _)) = record.slot.take() {
            self.worker.in_flight.release(slot);
        }
    }

    /// The quota key and the handle by which the request's upstream connection can be reclaimed.
    pub(super) fn holder(&self) -> Option<(QuotaKey, &Rc<dyn QuotaHolder>)> {
        let record = self.record.as_ref()?;
        let (_, key) = record.slot.as_ref()?;
        Some((*key, &record.holder))
    }

    /// The denial with which the worker has ended the request, if it has.
    pub(super) fn abort_denial(&self) -> Option<Denial> {
        self.record.as_ref()?.state.denial()
    }

    /// The request was denied while it was being forwarded.
    pub(super) fn note_denied_in_flight(&mut self, denial: Denial) {
        self.note(|record| {
            let kind = record.state.kind();
            record.ended = kind.map(|kind| (kind, StreamEnd::Denied(denial)));
        });
    }

    /// What copies a body of this request while it passes; `None` if the route does not record it.
    #[inline]
    pub(super) fn tap(&mut self, route: &Route, part: BodyPart, fields: &Fields, framing: Framing) -> Option<BodyTap> {
        let capture = part.capture_of(route)?;
        let record = self.record.as_mut()?;
        let shapes = record.view.as_ref()?.entry_rules.shapes().clone();
        let bodies = record.bodies.get_or_insert_default();
        Some(BodyTap::begin(bodies, part, fields, framing, capture, shapes))
    }

    /// Calls `look` with the permit, if the request has one of a caller.
    pub(super) fn with_permit(&self, look: impl FnOnce(&Permit)) {
        if let Some(record) = &self.record {
            record.state.with_permit(look);
        }
    }

    /// The connection became a tunnel, which no longer counts as a request in flight.
    pub(super) fn note_upgraded(&mut self) {
        self.release_slot();
        if let Some(record) = &self.record {
            record.state.set_kind(StreamKind::Websocket);
        }
    }

    /// The tunnel ended for this reason, unless the worker ended it, after this many bytes each way.
    pub fn end_tunnel(mut self, end: StreamEnd, bytes_in: u64, bytes_out: u64) {
        let displaced = self.record.as_ref().is_some_and(|record| record.state.was_displaced());
        let end = if displaced { StreamEnd::Displaced } else { end };
        let end = self.abort_denial().map_or(end, StreamEnd::Denied);
        self.note(|record| {
            record.bytes_in = Some(bytes_in);
            record.ended = Some((StreamKind::Websocket, end));
        });
        let completion = match end {
            StreamEnd::Client | StreamEnd::Upstream => Completion::Complete,
            _ => Completion::Aborted,
        };
        self.write(bytes_out, completion, instant());
    }

    /// Takes back the head of a response that was written, so that the next response needs no allocation.
    pub fn recycle(&self, head: ResponseHead) {
        let Some(record) = &self.record else { return };
        if let (Some(view), Some(index)) = (&record.view, record.upstream)
            && let Some(upstream) = view.upstreams.get(index.0)
        {
            upstream.recycle(head);
        }
    }

    /// The whole response was handed over at this time.
    pub fn finish(mut self, bytes_out: u64, at: Instant) {
        self.write(bytes_out, Completion::Complete, at);
    }

    /// The response was cut off, for this reason if it is known.
    pub fn abort(mut self, bytes_out: u64, why: Option<StreamEnd>) {
        self.note(|record| {
            let why = if record.state.was_displaced() {
                Some(StreamEnd::Displaced)
            } else {
                why
            };
            let by_version = match record.version {
                Version::Http2 => StreamKind::Http2,
                Version::Http10 | Version::Http11 => StreamKind::Http1,
            };
            let why = why.map(|why| (record.state.kind().unwrap_or(by_version), why));
            record.ended = record.ended.or(why);
        });
        self.write(bytes_out, Completion::Aborted, instant());
    }

    /// Writes the access line and gives the record back to the worker.
    fn write(&mut self, bytes_out: u64, completion: Completion, at: Instant) {
        let Some(mut record) = self.record.take() else {
            return;
        };
        if let Some(denial) = record.state.denial() {
            record.denial = Some(denial);
            record.cause = (denial == Denial::InvalidToken).then_some(TokenFault::NoLongerTrusted.label());
            let kind = record.state.kind();
            record.ended = record.ended.or_else(|| Some((kind?, StreamEnd::Denied(denial))));
        }
        record.reported = record.reported.or_else(|| record.state.reported());
        if let Some((slot, _)) = record.slot.take() {
            self.worker.in_flight.release(slot);
        }
        if let Some(view) = &record.view {
            let mut masked = std::mem::take(&mut record.masked_path);
            let summary = record.state.summary.borrow();
            let mut line = access_line(&record, &summary, view, self.worker.positions(), bytes_out, completion, at);
            line.path = line.path.map(|path| view.entry_rules.mask_path(path, &mut masked));
            self.worker.telemetry.record(&line);
            self.write_entry(&record, &line, &summary, view);
            drop(summary);
            record.masked_path = masked;
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

impl Drop for AccessRecord {
    fn drop(&mut self) {
        self.write(0, Completion::Aborted, instant());
    }
}

/// Builds the access line of a record.
fn access_line<'a>(
    record: &'a RecordFields,
    summary: &'a RequestSummary,
    view: &'a SnapshotView,
    positions: &Positions,
    bytes_out: u64,
    completion: Completion,
    at: Instant,
) -> AccessLine<'a> {
    let snapshot = &view.snapshot;
    let upstream = record.upstream.and_then(|index| snapshot.upstreams.get(index.0));
    let endpoint = upstream.zip(record.endpoint).and_then(|(spec, index)| spec.endpoints.get(index));
    let facts = record.facts.as_deref();
    AccessLine {
        at: record.now.wall,
        request_id: &record.request_id,
        client: record.client,
        version: match record.version {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
            Version::Http2 => "2",
        },
        method: summary.method.map(Method::as_str),
        host: some(&summary.host),
        path: some(&summary.path),
        route: summary
            .route
            .and_then(|index| snapshot.routes.get(index.0))
            .map(|route| route.name.as_str()),
        route_slot: summary
            .route
            .and_then(|index| view.route_slots.get(index.0))
            .copied()
            .unwrap_or(RouteSlot::NONE),
        surface: summary
            .surface
            .and_then(|index| snapshot.surfaces.get(index.0))
            .map(|surface| &surface.name),
        tenant: facts.map(|facts| &facts.tenant.id),
        principal: match &record.token {
            Some(token) => Some(&token.subject),
            None => facts.and_then(|facts| facts.credential.subject.as_ref()),
        },
        credential: facts.map(|facts| &facts.credential.id),
        of: facts.map(|facts| (facts, record.token.as_deref())),
        done: some(&record.done),
        facts_age: facts.map(|facts| record.now.boot.since(positions.counts_from(facts))),
        denial: record.denial,
        reported: record.reported,
        cause: record.denial.or(record.reported).and(record.cause),
        status: record.status,
        upstream: upstream.map(|spec| &*spec.name),
        endpoint: endpoint.map(|endpoint| endpoint.authority.as_str()),
        attempts: record.attempts,
        failure: record.failure.map(Cause::as_str),
        bytes_out,
        bytes_in: record.bytes_in.or_else(|| Some(record.state.received()).filter(|bytes| *bytes > 0)),
        dropped_fields: record.dropped_fields,
        ended: record.ended,
        took: at.duration_since(record.started),
        completed: completion == Completion::Complete,
    }
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
