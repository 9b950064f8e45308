//! One request's access event: collected on the way, written exactly once, also when the client left.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::base::clock::{UnixMillis, instant};
use crate::base::denial::Denial;
use crate::base::principal::{Facts, Principal};
use crate::decide::method::Method;
use crate::decide::peer::Origin;
use crate::decide::route::{RouteIndex, UpstreamIndex};
use crate::decide::surface::SurfaceIndex;
use crate::decide::target::RequestTarget;
use crate::telemetry::{AccessLine, RouteSlot};
use crate::wire::fields::Fields;
use crate::wire::head::Version;

use super::Connection;
use super::worker::{REQUEST_ID_LEN, View, Worker};

/// Collects what the access line says; written when finished, or as aborted when dropped unfinished.
pub struct Exchange {
    worker: Rc<Worker>,
    view: Rc<View>,
    started: Instant,
    at: UnixMillis,
    request_id: [u8; 128],
    request_id_len: usize,
    client: IpAddr,
    version: Version,
    method: Option<Method>,
    notes: Notes,
    route: Option<RouteIndex>,
    surface: Option<SurfaceIndex>,
    facts: Option<Arc<Facts>>,
    denial: Option<Denial>,
    status: u16,
    upstream: Option<UpstreamIndex>,
    endpoint: Option<usize>,
    attempts: u32,
    ended: Ended,
}

/// Texts of a request that outlive its head; reused.
#[derive(Default)]
pub(super) struct Notes {
    host: String,
    path: String,
    subject: String,
}

impl Notes {
    pub(super) fn clear(&mut self) {
        self.host.clear();
        self.path.clear();
        self.subject.clear();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    NotYet,
    Recorded,
}

impl Exchange {
    /// Begins when a head has arrived (or failed to).
    pub(super) fn begin(worker: &Rc<Worker>, view: Rc<View>, connection: &Connection, version: Version) -> Self {
        worker.telemetry.begin();
        let mut request_id = [0; 128];
        request_id[..REQUEST_ID_LEN].copy_from_slice(&worker.next_request_id());
        Self {
            worker: worker.clone(),
            view,
            started: instant(),
            at: worker.clock.now().wall,
            request_id,
            request_id_len: REQUEST_ID_LEN,
            client: connection.peer.ip(),
            version,
            method: None,
            notes: worker.notes(),
            route: None,
            surface: None,
            facts: None,
            denial: None,
            status: 0,
            upstream: None,
            endpoint: None,
            attempts: 0,
            ended: Ended::NotYet,
        }
    }

    /// The answer was sent to its end.
    pub fn finish(mut self, bytes_out: u64) {
        self.record(bytes_out, Completion::Complete);
    }

    /// The answer broke off.
    pub fn abort(mut self, bytes_out: u64) {
        self.record(bytes_out, Completion::Aborted);
    }

    /// The id every answer and the upstream are told.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.request_id
            .get(..self.request_id_len)
            .and_then(|id| std::str::from_utf8(id).ok())
            .unwrap_or_default()
    }

    pub(super) const fn route(&self) -> Option<RouteIndex> {
        self.route
    }

    pub(super) const fn surface(&self) -> Option<SurfaceIndex> {
        self.surface
    }

    /// A trusted proxy's request id is kept, if it is an identifier; anybody else's is not.
    pub(super) fn note_origin(&mut self, origin: Origin, fields: &Fields) {
        self.client = origin.client;
        if !origin.trusted {
            return;
        }
        let Ok(Some(id)) = fields.one("x-request-id") else { return };
        let valid = std::str::from_utf8(id).is_ok_and(crate::base::ids::is_valid_id);
        if let (true, Some(place)) = (valid, self.request_id.get_mut(..id.len())) {
            place.copy_from_slice(id);
            self.request_id_len = id.len();
        }
    }

    pub(super) const fn note_method(&mut self, method: Method) {
        self.method = Some(method);
    }

    pub(super) fn note_target(&mut self, target: &RequestTarget<'_>) {
        self.notes.host.push_str(&target.host);
        self.notes.path.push_str(&target.path);
    }

    pub(super) const fn note_route(&mut self, route: RouteIndex) {
        self.route = Some(route);
    }

    pub(super) const fn note_surface(&mut self, surface: SurfaceIndex) {
        self.surface = Some(surface);
    }

    pub(super) fn note_principal(&mut self, principal: &Principal) {
        if let Some(subject) = principal.subject() {
            self.notes.subject.push_str(subject.as_str());
        }
        self.facts = Some(principal.facts.clone());
    }

    pub(super) const fn note_upstream(&mut self, upstream: UpstreamIndex) {
        self.upstream = Some(upstream);
    }

    pub(super) const fn note_forwarded(&mut self, upstream: UpstreamIndex, endpoint: usize, attempts: u32) {
        self.upstream = Some(upstream);
        self.endpoint = Some(endpoint);
        self.attempts = attempts;
    }

    pub(super) const fn note_status(&mut self, status: u16) {
        self.status = status;
    }

    pub(super) const fn note_denial(&mut self, denial: Denial) {
        self.denial = Some(denial);
    }

    fn record(&mut self, bytes_out: u64, completion: Completion) {
        if self.ended == Ended::Recorded {
            return;
        }
        self.ended = Ended::Recorded;
        let snapshot = &self.view.snapshot;
        let upstream = self.upstream.and_then(|index| snapshot.upstreams.get(index.0));
        let endpoint = upstream.zip(self.endpoint).and_then(|(spec, index)| spec.endpoints.get(index));
        let facts = self.facts.as_deref();
        self.worker.telemetry.record(&AccessLine {
            at: self.at,
            request_id: self.request_id(),
            client: self.client,
            version: match self.version {
                Version::Http10 => "1.0",
                Version::Http11 => "1.1",
                Version::Http2 => "2",
            },
            method: self.method.map(Method::as_str),
            host: some(&self.notes.host),
            path: some(&self.notes.path),
            route: self
                .route
                .and_then(|index| snapshot.routes.get(index.0))
                .map(|route| route.name.as_str()),
            route_slot: self
                .route
                .and_then(|index| self.view.route_slots.get(index.0))
                .copied()
                .unwrap_or(RouteSlot::NONE),
            surface: self
                .surface
                .and_then(|index| snapshot.surfaces.get(index.0))
                .map(|surface| surface.name.as_str()),
            tenant: facts.map(|facts| facts.tenant.id.as_str()),
            principal: some(&self.notes.subject),
            credential: facts.map(|facts| facts.credential.id.as_str()),
            denial: self.denial,
            status: self.status,
            upstream: upstream.map(|spec| &*spec.name),
            endpoint: endpoint.map(|endpoint| endpoint.authority.as_str()),
            attempts: self.attempts,
            bytes_out,
            took: instant().duration_since(self.started),
            completed: completion == Completion::Complete,
        });
        self.worker.return_notes(std::mem::take(&mut self.notes));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Completion {
    Complete,
    Aborted,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.record(0, Completion::Aborted);
    }
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
