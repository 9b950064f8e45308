//! Reevaluates one stream: whether it is due, what is known now, and whether it would be admitted again.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::{BootMillis, Now, UnixMillis};
use crate::base::denial::Denial;
use crate::base::fingerprint::Fingerprint;
use crate::base::principal::{Facts, Principal};
use crate::decide::authorize::{Reauthorization, reauthorize, report_only};
use crate::decide::route::{Access, Destination, Route, RouteIndex, Upgrade};
use crate::decide::surface::{Surface, SurfaceIndex};
use crate::decide::validity;
use crate::resolver::CachedFacts;
use crate::snapshot::Snapshot;
use crate::telemetry::StreamKind;

use super::{Evaluation, FactsPending, FactsRequest, OpenStream, RequestSummary};
use crate::gateway::worker::{SnapshotView, Worker};

/// Interval of requests for newer facts. For this long after the first request the result is looked for at every tick,
/// since most stores answer within milliseconds. After that each stream asks a store that does not answer once a second
/// at most.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What the current configuration says about the stream.
enum CurrentAccess<'v> {
    /// The route is public now.
    Public,
    /// Callers of this surface may use the route, if they have the scopes that it needs.
    Surface(&'v Route, SurfaceIndex, &'v Surface),
}

impl Worker {
    /// Whether the stream may go on. Returns `FactsPending::Yes` while newer facts are being read for it.
    pub(super) fn reevaluate(
        &self,
        stream: &mut OpenStream,
        summary: &RequestSummary,
        view: &Rc<SnapshotView>,
        now: Now,
    ) -> Result<FactsPending, Denial> {
        let Some(principal) = stream.permit.principal() else {
            return Ok(FactsPending::No);
        };
        if stream.reported.is_some() {
            return Ok(FactsPending::No);
        }
        let cached = self.resolver.cached();
        let evaluation = stream.evaluation.get_or_insert_with(|| Evaluation {
            facts: principal.facts.clone(),
            version: stream.view.version(),
            due_at: self.next_check(principal, &principal.facts, now),
            requested: None,
        });
        let changed = evaluation.version != view.version() || !cached.positions().is_current(&evaluation.facts);
        if evaluation.requested.is_none() && !changed && now.boot < evaluation.due_at {
            return Ok(FactsPending::No);
        }
        if evaluation.requested.is_some_and(|requested| !is_request_due(requested, now)) && !self.is_too_old(&evaluation.facts, now) {
            return Ok(FactsPending::No);
        }
        let current_access = current_access(
            &stream.view.snapshot,
            stream.route,
            stream.surface,
            stream.kind,
            summary,
            &view.snapshot,
        )?;
        let CurrentAccess::Surface(route, surface_index, surface) = current_access else {
            evaluation.due_at = now.boot.plus(self.watcher.interval);
            evaluation.version = view.version();
            return Ok(FactsPending::No);
        };
        let facts = match self.newest_facts(principal, evaluation, now) {
            Ok(Some(facts)) => facts,
            Ok(None) => return Ok(FactsPending::Yes),
            Err(denial) => {
                let _permit = report_only(route, denial)?;
                stream.reported = Some(denial);
                return Ok(FactsPending::No);
            }
        };
        let was = stream.view.snapshot.surfaces.get(stream.surface.0).ok_or(Denial::Internal)?;
        let again = Reauthorization {
            permit: &stream.permit,
            was,
            method: summary.method.ok_or(Denial::Internal)?,
            route,
            surface_index,
            surface,
            scope_grants: &view.snapshot.scope_grants,
        };
        // The new permit proves that the stream may go on. The stream keeps the permit under which it was admitted.
        if let Err(denial) = reauthorize(&again, facts.clone(), now) {
            let _permit = report_only(route, denial)?;
            stream.reported = Some(denial);
            return Ok(FactsPending::No);
        }
        *evaluation = Evaluation {
            due_at: self.next_check(principal, &facts, now),
            facts,
            version: view.version(),
            requested: None,
        };
        Ok(FactsPending::No)
    }

    /// The newest facts. `None` while they are being read and the known ones may still be used.
    ///
    /// A stream whose newest facts cannot be read ends only when the known facts are too old. So a store that is away
    /// for a moment ends no stream.
    fn newest_facts(&self, principal: &Principal, evaluation: &mut Evaluation, now: Now) -> Result<Option<Arc<Facts>>, Denial> {
        let fingerprint = fingerprint_of(principal);
        match self.resolver.find_cached(fingerprint, now) {
            CachedFacts::Absent => return Err(Denial::UnknownCredential),
            CachedFacts::Nothing => {}
            CachedFacts::Present(facts) => {
                let facts = self.resolver.cached().activity().lay_over(facts);
                // Another gateway may know of a later use of the credential, and may have written it to the store by
                // now.
                let read_for_this = evaluation.requested.is_some_and(|requested| facts.read_at() >= requested.since);
                if !validity::is_idle(&facts, now.wall) || read_for_this {
                    return Ok(Some(facts));
                }
            }
        }
        if self.is_too_old(&evaluation.facts, now) {
            return Err(Denial::StoreUnavailable);
        }
        let requested = evaluation.requested.get_or_insert(FactsRequest {
            since: now.boot,
            requested_at: BootMillis(0),
        });
        if requested.requested_at == BootMillis(0) || now.boot.since(requested.requested_at) >= RETRY_INTERVAL {
            requested.requested_at = now.boot;
            self.resolver.cached().refresh(fingerprint);
        }
        Ok(None)
    }

    fn is_too_old(&self, facts: &Facts, now: Now) -> bool {
        now.boot.since(self.positions().counts_from(facts)) >= self.resolver.cached().max_age()
    }

    /// When the next check is due if nothing happens. That is the earliest of: the configured interval; half the
    /// greatest age of the facts, so that younger facts are there in time, and every second from then on; and the end
    /// of the credential or its token.
    fn next_check(&self, principal: &Principal, facts: &Facts, now: Now) -> BootMillis {
        let half = self.positions().counts_from(facts).plus(self.resolver.cached().max_age() / 2);
        let refresh = if half > now.boot { half } else { now.boot.plus(RETRY_INTERVAL) };
        let token = principal.token.as_ref().map(|token| token.expires_at);
        let above = facts.ancestors.iter().map(|record| record.expires_at);
        let ends = [token, facts.credential.expires_at].into_iter().chain(above).flatten();
        // A token is accepted until its clock skew has passed as well. A later check notices that.
        let expiry = ends.map(|end| until(end, now)).min();
        let expiry = expiry.map_or(BootMillis(u64::MAX), |left| now.boot.plus(left));
        now.boot.plus(self.watcher.interval).min(refresh).min(expiry)
    }
}

/// The time that is left until a time of the wall clock, or a second if that time has passed.
fn until(end: UnixMillis, now: Now) -> Duration {
    match u64::try_from(end.0.saturating_sub(now.wall.0)) {
        Ok(left @ 1..) => Duration::from_millis(left),
        _ => RETRY_INTERVAL,
    }
}

/// Whether the result of a request for facts is looked for now: at every tick at first, once a second later.
fn is_request_due(requested: FactsRequest, now: Now) -> bool {
    now.boot.since(requested.since) < RETRY_INTERVAL || now.boot.since(requested.requested_at) >= RETRY_INTERVAL
}

impl Worker {
    /// The current facts of a caller who was admitted before: those in memory if they are young enough and `stored` is
    /// not set, else those in the store. Later uses that are known here are added to them.
    ///
    /// # Errors
    /// [`Denial::UnknownCredential`] when the credential certainly does not exist, [`Denial::StoreUnavailable`] and
    /// [`Denial::CorruptRecord`] when the store cannot tell.
    pub(in crate::gateway) async fn newest_facts_of(&self, principal: &Principal, stored: bool) -> Result<Arc<Facts>, Denial> {
        let fingerprint = fingerprint_of(principal);
        let now = self.clock.now();
        let facts = match self.resolver.find_cached(fingerprint, now) {
            CachedFacts::Present(facts) if !stored => Some(facts),
            CachedFacts::Absent if !stored => None,
            CachedFacts::Present(_) | CachedFacts::Absent | CachedFacts::Nothing => self.resolver.load_since(fingerprint, now).await?,
        };
        let facts = facts.ok_or(Denial::UnknownCredential)?;
        Ok(self.resolver.cached().activity().lay_over(facts))
    }
}

/// The fingerprint by which the credential was found when it was presented.
fn fingerprint_of(principal: &Principal) -> Fingerprint {
    let record = &principal.facts.credential;
    if principal.token.is_some() && !record.is_of_tenant() {
        Fingerprint::of_id(&record.surface, &record.id)
    } else {
        record.fingerprint
    }
}

/// Finds the route that would take the request now, and who may use it. It must lead to the same service as before.
fn current_access<'v>(
    was: &Snapshot,
    route: RouteIndex,
    surface: SurfaceIndex,
    kind: StreamKind,
    summary: &RequestSummary,
    is: &'v Snapshot,
) -> Result<CurrentAccess<'v>, Denial> {
    let method = summary.method.ok_or(Denial::Internal)?;
    let found = is.router.find(&summary.host, method, &summary.path).map_err(|_| Denial::NoRoute)?;
    let found = is.routes.get(found.0).ok_or(Denial::Internal)?;
    let service = |snapshot: &Snapshot, route: &Route| match route.destination {
        Destination::Upstream(index) => snapshot.upstreams.get(index.0).map(|spec| spec.name.clone()),
        Destination::Served(_) => None,
    };
    let before = was.routes.get(route.0).and_then(|route| service(was, route));
    let still_upgrades = kind != StreamKind::Websocket || found.options.upgrade == Upgrade::Websocket;
    if before.is_none() || service(is, found) != before || !still_upgrades {
        return Err(Denial::NoRoute);
    }
    let Access::Surfaces { .. } = &found.access else {
        return Ok(CurrentAccess::Public);
    };
    let name = was.surfaces.get(surface.0).map(|surface| &surface.name);
    let index = is.surfaces.iter().position(|surface| Some(&surface.name) == name);
    let index = index.ok_or(Denial::WrongSurface)?;
    let surface = is.surfaces.get(index).ok_or(Denial::WrongSurface)?;
    Ok(CurrentAccess::Surface(found, SurfaceIndex(index), surface))
}
