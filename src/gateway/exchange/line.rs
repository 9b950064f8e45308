//! What is known of a request as its access line.

use std::time::Instant;

use crate::decide::method::Method;
use crate::gateway::live::AskedFor;
use crate::gateway::worker::View;
use crate::telemetry::{AccessLine, RouteSlot};
use crate::upstream::Cause;
use crate::wire::head::Version;

use super::{Completion, Record};

/// The access line of a record.
pub(super) fn line<'a>(
    (record, asked): (&'a Record, &'a AskedFor),
    view: &'a View,
    bytes_out: u64,
    (completion, at): (Completion, Instant),
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
        method: asked.method.map(Method::as_str),
        host: some(&asked.host),
        path: some(&asked.path),
        route: asked
            .route
            .and_then(|index| snapshot.routes.get(index.0))
            .map(|route| route.name.as_str()),
        route_slot: asked
            .route
            .and_then(|index| view.route_slots.get(index.0))
            .copied()
            .unwrap_or(RouteSlot::NONE),
        surface: asked
            .surface
            .and_then(|index| snapshot.surfaces.get(index.0))
            .map(|surface| &surface.name),
        tenant: facts.map(|facts| &facts.tenant.id),
        principal: record.subject.as_ref().or_else(|| facts?.credential.subject.as_ref()),
        credential: facts.map(|facts| &facts.credential.id),
        of: facts.filter(|_| record.subject.is_none()),
        done: some(&record.done),
        facts_age: facts.map(|facts| record.now.boot.since(facts.sent_at())),
        denial: record.denial,
        cause: record.denial.and(record.cause),
        status: record.status,
        upstream: upstream.map(|spec| &*spec.name),
        endpoint: endpoint.map(|endpoint| endpoint.authority.as_str()),
        attempts: record.attempts,
        failure: record.failure.map(Cause::as_str),
        bytes_out,
        bytes_in: record.bytes_in,
        dropped_fields: record.dropped_fields,
        ended: record.ended,
        took: at.duration_since(record.started),
        completed: completion == Completion::Complete,
    }
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
