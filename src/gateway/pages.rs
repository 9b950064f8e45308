//! Pages of other origins: their preflights, and whose policy answers without a route follow.

use crate::decide::cors::{CorsOf, Preflight};
use crate::decide::method::Method;
use crate::decide::route::{NotFound, RouteIndex};
use crate::decide::target::RequestTarget;
use crate::snapshot::Snapshot;
use crate::wire::fields::Fields;
use crate::wire::head::RequestHead;

use super::{Exchange, Refused, Reply};

impl<B> Reply<B> {
    /// Writes into the head what lets pages of listed origins read the answer. Every answer passes here once, whoever
    /// made it.
    pub fn mark_for_pages(&mut self, request: &RequestHead) {
        self.exchange.mark_for_pages(&request.fields, &mut self.head.fields);
    }
}

/// Why a request gets no further than its examination.
pub(super) enum Stopped {
    Refused(Refused),
    /// It asks what a page may do, and may do it: the fields that say so.
    Preflight(Fields),
}

impl<R: Into<Refused>> From<R> for Stopped {
    fn from(refused: R) -> Self {
        Self::Refused(refused.into())
    }
}

/// Answers a preflight, by the route of the method that the page wants: before anybody is asked who they are, since
/// browsers send no credential with it. `None` where no policy stands.
pub(super) fn grant(
    snapshot: &Snapshot,
    preflight: &Preflight<'_>,
    target: &RequestTarget<'_>,
    exchange: &mut Exchange,
) -> Result<Option<Fields>, Refused> {
    let (granted, route) = match snapshot.cors.answer(preflight, |method| find(snapshot, method, target)) {
        Ok(None) => return Ok(None),
        Ok(Some((fields, route))) => (Ok(Some(fields)), route),
        Err((denial, route)) => (Err(denial), route),
    };
    exchange.note_route(route);
    exchange.note_cors(CorsOf::Nobody);
    granted.map_err(|denial| Refused {
        route: Some(route),
        ..Refused::from(denial)
    })
}

/// A path that does not take a method follows the policy of the methods that it takes.
pub(super) fn note_neighbour(snapshot: &Snapshot, why: NotFound, target: &RequestTarget<'_>, exchange: &mut Exchange) {
    if let NotFound::Method { .. } = why {
        let neighbour = snapshot.cors.neighbour(|method| find(snapshot, method, target));
        exchange.note_cors(neighbour.map_or(CorsOf::Nobody, CorsOf::Route));
    }
}

fn find(snapshot: &Snapshot, method: Method, target: &RequestTarget<'_>) -> Option<RouteIndex> {
    super::find::find(snapshot, target, method).ok()
}
