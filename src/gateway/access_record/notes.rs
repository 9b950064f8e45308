//! What the steps of the request path note in the access record, for the access line and for the steps after them.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::credential::Unproven;
use crate::base::denial::Denial;
use crate::base::ids::{Subject, is_valid_id};
use crate::base::principal::{Facts, Principal};
use crate::decide::cors::CorsOf;
use crate::decide::method::Method;
use crate::decide::peer::ClientOrigin;
use crate::decide::route::{RouteIndex, UpstreamIndex};
use crate::decide::surface::SurfaceIndex;
use crate::decide::target::RequestTarget;
use crate::issue::call::RefusalCause;
use crate::limit::LimitVerdict;
use crate::upstream::AttemptTrace;
use crate::wire::fields::Fields;

use super::AccessRecord;
use super::entry::trace_id;
use crate::gateway::worker::SnapshotView;

/// What an access record knows of its request.
pub(in crate::gateway) struct NotedRequest {
    pub(in crate::gateway) client: IpAddr,
    pub(in crate::gateway) method: Option<Method>,
    pub(in crate::gateway) host: String,
    pub(in crate::gateway) path: String,
    pub(in crate::gateway) route: Option<RouteIndex>,
    pub(in crate::gateway) surface: Option<SurfaceIndex>,
    pub(in crate::gateway) facts: Option<Arc<Facts>>,
    pub(in crate::gateway) subject: Option<Subject>,
    pub(in crate::gateway) denial: Option<Denial>,
    pub(in crate::gateway) reported: Option<Denial>,
    pub(in crate::gateway) cause: Option<&'static str>,
    pub(in crate::gateway) verdicts: Vec<LimitVerdict>,
}

impl AccessRecord {
    /// The id that every response and the upstream are given.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.record.as_ref().map_or("", |record| &record.request_id)
    }

    /// The configuration by which the request is handled.
    pub(in crate::gateway) fn view(&self) -> Option<&Rc<SnapshotView>> {
        self.record.as_ref()?.view.as_ref()
    }

    pub(in crate::gateway) fn route(&self) -> Option<RouteIndex> {
        self.record.as_ref()?.state.summary.borrow().route
    }

    pub(in crate::gateway) fn surface(&self) -> Option<SurfaceIndex> {
        self.record.as_ref()?.state.summary.borrow().surface
    }

    /// Keeps the request id of a trusted proxy if it is an identifier. Any other request id of a client is replaced.
    pub(in crate::gateway) fn note_origin(&mut self, origin: ClientOrigin, fields: &Fields) {
        self.note(|record| record.client = origin.client);
        if !origin.trusted {
            return;
        }
        if self.worker.recorder.is_some()
            && let Some(id) = fields.one("traceparent").ok().flatten().and_then(trace_id)
        {
            self.note(|record| record.entry.trace_id.push_str(id));
        }
        let Ok(Some(id)) = fields.one("x-request-id") else {
            return;
        };
        if let Some(id) = std::str::from_utf8(id).ok().filter(|id| is_valid_id(id)) {
            self.note(|record| {
                record.request_id.clear();
                record.request_id.push_str(id);
            });
        }
    }

    /// Notes how many fields of the request are not forwarded because of their names (`limits.odd_names`).
    pub(in crate::gateway) fn note_dropped_fields(&mut self, fields: u32) {
        self.note(|record| record.dropped_fields = fields);
    }

    pub(in crate::gateway) fn note_method(&mut self, method: Method) {
        self.note_request(|summary| summary.method = Some(method));
    }

    pub(in crate::gateway) fn note_target(&mut self, target: &RequestTarget<'_>) {
        self.note_request(|summary| {
            summary.host.push_str(&target.host);
            summary.path.push_str(&target.path);
        });
    }

    /// The CORS policy that the response follows.
    pub(in crate::gateway) fn cors(&self) -> CorsOf {
        self.record.as_ref().map_or(CorsOf::Nobody, |record| record.cors)
    }

    pub(in crate::gateway) fn note_cors(&mut self, whose: CorsOf) {
        self.note(|record| record.cors = whose);
    }

    /// Adds the CORS fields to a response, by the policy and the configuration under which the request was answered.
    pub(in crate::gateway) fn apply_cors(&self, request: &Fields, answer: &mut Fields) {
        let Some(record) = &self.record else { return };
        let Some(view) = &record.view else { return };
        if let Some(policy) = view.snapshot.cors.of(record.cors) {
            policy.mark(request, answer);
        }
    }

    pub(in crate::gateway) fn note_route(&mut self, route: RouteIndex) {
        self.note_cors(CorsOf::Route(route));
        self.note_request(|summary| summary.route = Some(route));
    }

    pub(in crate::gateway) fn note_surface(&mut self, surface: SurfaceIndex) {
        self.note_request(|summary| summary.surface = Some(surface));
    }

    pub(in crate::gateway) fn note_principal(&mut self, principal: &Principal) {
        self.note(|record| {
            record.token.clone_from(&principal.token);
            record.facts = Some(principal.facts.clone());
        });
    }

    pub(in crate::gateway) fn note_limit_verdict(&mut self, limit_verdict: LimitVerdict) {
        self.note(|record| record.limit_verdicts.push(limit_verdict));
    }

    /// The result of each rate limit that was asked.
    pub(in crate::gateway) fn limit_verdicts(&self) -> &[LimitVerdict] {
        self.record.as_ref().map_or(&[], |record| &record.limit_verdicts)
    }

    pub(in crate::gateway) fn note_upstream(&mut self, upstream: UpstreamIndex) {
        self.note(|record| record.upstream = Some(upstream));
    }

    pub(in crate::gateway) fn note_forwarded(&mut self, upstream: UpstreamIndex, endpoint: usize, attempts: u32) {
        self.note(|record| {
            record.upstream = Some(upstream);
            record.endpoint = Some(endpoint);
            record.attempts = attempts;
        });
    }

    /// Notes the last attempt at an upstream of which no endpoint answered.
    pub(in crate::gateway) fn note_unanswered(&mut self, upstream: UpstreamIndex, trace: AttemptTrace) {
        self.note(|record| {
            record.upstream = Some(upstream);
            (record.endpoint, record.attempts, record.failure) = (trace.endpoint, trace.attempts, trace.cause);
        });
    }

    /// Notes what a served route did, and to which records.
    pub(in crate::gateway) fn note_done(&mut self, done: &str) {
        self.note(|record| record.done.push_str(done));
    }

    /// The address of the client, behind trusted proxies.
    pub(in crate::gateway) fn client(&self) -> IpAddr {
        self.record
            .as_ref()
            .map_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), |record| record.client)
    }

    pub(in crate::gateway) fn note_status(&mut self, status: u16) {
        self.note(|record| record.status = status);
    }

    /// Notes for the access line why the credential proved nothing. Returns the denial that the caller is given.
    pub(in crate::gateway) fn note_unproven(&mut self, why: Unproven) -> Denial {
        self.note(|record| record.cause = why.cause);
        why.denial
    }

    /// Notes what exactly was wrong with a sign-on.
    pub(in crate::gateway) fn note_cause(&mut self, cause: &RefusalCause) {
        self.note(|record| {
            record.cause = Some(cause.label);
            if let Some(provider) = &cause.provider {
                record.done.push_str("refused provider:");
                record.done.push_str(provider.as_str());
            }
        });
    }

    /// The request would be refused for this reason, and is forwarded all the same, since its route only reports.
    pub(in crate::gateway) fn note_reported(&mut self, denial: Denial) {
        if let Some(trace) = &self.worker.trace {
            trace.note_reported();
        }
        self.note(|record| record.reported = Some(denial));
    }

    /// What is known of the request so far, for `explain`.
    pub(in crate::gateway) fn noted(&self) -> Option<NotedRequest> {
        let record = self.record.as_ref()?;
        let summary = record.state.summary.borrow();
        Some(NotedRequest {
            client: record.client,
            method: summary.method,
            host: summary.host.clone(),
            path: summary.path.clone(),
            route: summary.route,
            surface: summary.surface,
            facts: record.facts.clone(),
            subject: record.token.as_ref().map(|token| token.subject.clone()),
            denial: record.denial,
            reported: record.reported,
            cause: record.cause,
            verdicts: record.limit_verdicts.clone(),
        })
    }

    pub(in crate::gateway) fn note_denial(&mut self, denial: Denial) {
        self.note(|record| {
            record.denial = Some(denial);
            record.state.end_tracking();
        });
    }
}
