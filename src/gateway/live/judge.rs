//! One look at one stream: is it due, what is known now, and would it be admitted again?

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::{BootMillis, Now, UnixMillis};
use crate::base::denial::Denial;
use crate::base::fingerprint::Fingerprint;
use crate::base::principal::{Facts, Principal};
use crate::decide::authorize::{Reauthorization, reauthorize};
use crate::decide::route::{Access, Destination, Route, RouteIndex, Upgrade};
use crate::decide::surface::{Surface, SurfaceIndex};
use crate::decide::validity;
use crate::resolver::Remembered;
use crate::snapshot::Snapshot;
use crate::telemetry::StreamKind;

use super::{AskedFor, Held, Hurry, Judged, Wanted};
use crate::gateway::worker::{View, Worker};

/// Facts that are wanted are asked for again after this long, and looked for at every tick meanwhile for
/// as long again: a store that answers does so within milliseconds, and one that does not is asked once a
/// second by each stream at most.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a stream may go on with, by the configuration as it is now.
enum Rule<'v> {
    /// Its route is for anybody now.
    Public,
    /// Callers of this surface may use the route, if they hold what it needs.
    Surface(&'v Route, SurfaceIndex, &'v Surface),
}

impl Worker {
    /// Whether the stream may go on. `Hurry::Yes` when facts are being read for it.
    pub(super) fn judge(&self, held: &mut Held, asked: &AskedFor, view: &Rc<View>, now: Now) -> Result<Hurry, Denial> {
        let Some(principal) = held.permit.principal() else {
            return Ok(Hurry::No);
        };
        let cached = self.resolver.cached();
        let judged = held.judged.get_or_insert_with(|| Judged {
            facts: principal.facts.clone(),
            version: held.view.version(),
            look_at: self.next_look(principal, &principal.facts, now),
            wanted: None,
        });
        let moved = judged.version != view.version() || !cached.positions().is_current(&judged.facts);
        if judged.wanted.is_none() && !moved && now.boot < judged.look_at {
            return Ok(Hurry::No);
        }
        if judged.wanted.is_some_and(|wanted| !is_time_to_look(wanted, now)) && !self.is_too_old(&judged.facts, now) {
            return Ok(Hurry::No);
        }
        let rule = rule(&held.view.snapshot, (held.route, held.surface), held.kind, asked, &view.snapshot)?;
        let Rule::Surface(route, surface_index, surface) = rule else {
            judged.look_at = now.boot.plus(self.watch.interval);
            judged.version = view.version();
            return Ok(Hurry::No);
        };
        let Some(facts) = self.newest_facts(principal, judged, now)? else {
            return Ok(Hurry::Yes);
        };
        let was = held.view.snapshot.surfaces.get(held.surface.0).ok_or(Denial::Internal)?;
        let again = Reauthorization {
            permit: &held.permit,
            was,
            method: asked.method.ok_or(Denial::Internal)?,
            route,
            surface_index,
            surface,
            scope_grants: &view.snapshot.scope_grants,
        };
        // The new permit is the proof; the old one goes on being what was granted.
        let _permit = reauthorize(&again, facts.clone(), now)?;
        *judged = Judged {
            look_at: self.next_look(principal, &facts, now),
            facts,
            version: view.version(),
            wanted: None,
        };
        Ok(Hurry::No)
    }

    /// The facts as they are now; `None` while they are being read and the old ones may still be used.
    ///
    /// Not knowing ends a stream only when what it rests on is too old: a store that is away for a moment
    /// cuts nobody off.
    fn newest_facts(&self, principal: &Principal, judged: &mut Judged, now: Now) -> Result<Option<Arc<Facts>>, Denial> {
        let fingerprint = fingerprint_of(principal);
        match self.resolver.remembered(fingerprint, now) {
            Remembered::Absent => return Err(Denial::UnknownCredential),
            Remembered::Nothing => {}
            Remembered::Present(facts) => {
                let facts = self.resolver.cached().activity().lay_over(facts);
                // Another gateway may know of a later use, and may have told the store by now.
                let read_for_this = judged.wanted.is_some_and(|wanted| facts.read_at() >= wanted.since);
                if !validity::is_idle(&facts, now.wall) || read_for_this {
                    return Ok(Some(facts));
                }
            }
        }
        if self.is_too_old(&judged.facts, now) {
            return Err(Denial::StoreUnavailable);
        }
        let wanted = judged.wanted.get_or_insert(Wanted {
            since: now.boot,
            asked_at: BootMillis(0),
        });
        if wanted.asked_at == BootMillis(0) || now.boot.since(wanted.asked_at) >= ASK_AGAIN {
            wanted.asked_at = now.boot;
            self.resolver.cached().refresh(fingerprint);
        }
        Ok(None)
    }

    fn is_too_old(&self, facts: &Facts, now: Now) -> bool {
        now.boot.since(facts.sent_at()) >= self.resolver.cached().max_age()
    }

    /// When the next look is due if nothing happens: after the interval; when the facts are half as old as
    /// they may be, so that younger ones are there in time, and then every second; when the credential or
    /// its token expires.
    fn next_look(&self, principal: &Principal, facts: &Facts, now: Now) -> BootMillis {
        let half = facts.sent_at().plus(self.resolver.cached().max_age() / 2);
        let refresh = if half > now.boot { half } else { now.boot.plus(ASK_AGAIN) };
        let token = principal.token.as_ref().map(|token| token.expires_at);
        let above = facts.ancestors.iter().map(|record| record.expires_at);
        let ends = [token, facts.credential.expires_at].into_iter().chain(above).flatten();
        // A token lives for its skew longer, which the looks after this one find out.
        let expiry = ends.map(|end| until(end, now)).min();
        let expiry = expiry.map_or(BootMillis(u64::MAX), |left| now.boot.plus(left));
        now.boot.plus(self.watch.interval).min(refresh).min(expiry)
    }
}

/// The time until a wall clock's time; a second when it is past.
fn until(end: UnixMillis, now: Now) -> Duration {
    match u64::try_from(end.0.saturating_sub(now.wall.0)) {
        Ok(left @ 1..) => Duration::from_millis(left),
        _ => ASK_AGAIN,
    }
}

/// Facts that were asked for are looked for at every tick for a while, and once a second after that.
fn is_time_to_look(wanted: Wanted, now: Now) -> bool {
    now.boot.since(wanted.since) < ASK_AGAIN || now.boot.since(wanted.asked_at) >= ASK_AGAIN
}

impl Worker {
    /// The facts of somebody who was admitted before as they are now: those that are young enough, or those that
    /// the store has. What is known of later uses is laid over them.
    ///
    /// # Errors
    /// [`Denial::UnknownCredential`] when it is certainly absent, [`Denial::StoreUnavailable`] and
    /// [`Denial::CorruptRecord`] when the store cannot say.
    pub(in crate::gateway) async fn newest_facts_of(&self, principal: &Principal, stored: bool) -> Result<Arc<Facts>, Denial> {
        let fingerprint = fingerprint_of(principal);
        let now = self.clock.now();
        let facts = match self.resolver.remembered(fingerprint, now) {
            Remembered::Present(facts) if !stored => Some(facts),
            Remembered::Absent if !stored => None,
            Remembered::Present(_) | Remembered::Absent | Remembered::Nothing => self.resolver.load_since(fingerprint, now).await?,
        };
        let facts = facts.ok_or(Denial::UnknownCredential)?;
        Ok(self.resolver.cached().activity().lay_over(facts))
    }
}

/// What the credential is looked up by: as it was when it was presented.
fn fingerprint_of(principal: &Principal) -> Fingerprint {
    let record = &principal.facts.credential;
    if principal.token.is_some() && !record.is_of_tenant() {
        Fingerprint::of_id(&record.surface, &record.id)
    } else {
        record.fingerprint
    }
}

/// The route that would take the request now, if it is still the same service's, and who may use it.
fn rule<'v>(
    was: &Snapshot,
    (route, surface): (RouteIndex, SurfaceIndex),
    kind: StreamKind,
    asked: &AskedFor,
    is: &'v Snapshot,
) -> Result<Rule<'v>, Denial> {
    let method = asked.method.ok_or(Denial::Internal)?;
    let found = is.router.find(&asked.host, method, &asked.path).map_err(|_| Denial::NoRoute)?;
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
        return Ok(Rule::Public);
    };
    let name = was.surfaces.get(surface.0).map(|surface| &surface.name);
    let index = is.surfaces.iter().position(|surface| Some(&surface.name) == name);
    let index = index.ok_or(Denial::WrongSurface)?;
    let surface = is.surfaces.get(index).ok_or(Denial::WrongSurface)?;
    Ok(Rule::Surface(found, SurfaceIndex(index), surface))
}
