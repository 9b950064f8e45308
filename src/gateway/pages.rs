//! CORS: preflights of pages of other origins, and which policy an answer without a route follows.

use crate::decide::cors::{CorsOf, Preflight};
use crate::decide::method::Method;
use crate::decide::route::{NotFound, RouteIndex};
use crate::decide::target::RequestTarget;
use crate::snapshot::Snapshot;
use crate::wire::fields::Fields;
use crate::wire::head::RequestHead;

use super::{Exchange, Refused, Reply};

impl<B> Reply<B> {
    /// Writes the CORS fields into the head. Every answer passes here once, whoever made it.
    pub fn mark_for_pages(&mut self, request: &RequestHead) {
        self.exchange.mark_for_pages(&request.fields, &mut self.head.fields);
    }
}

/// Why a request is answered as soon as it is examined.
pub(super) enum Stopped {
    Refused(Refused),
    /// It is a preflight that is granted; these are the CORS fields of its answer.
    Preflight(Fields),
}

impl<R: Into<Refused>> From<R> for Stopped {
    fn from(refused: R) -> Self {
        Self::Refused(refused.into())
    }
}

/// Answers a preflight by the policy of the route that takes the method which the page wants. No credential is asked for:
/// browsers send none with a preflight. `None` if no policy applies; the request is then treated like any other.
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

/// Chooses the policy for a 405: that of a route which takes another method on the same path.
pub(super) fn note_neighbour(snapshot: &Snapshot, why: NotFound, target: &RequestTarget<'_>, exchange: &mut Exchange) {
    if let NotFound::Method { .. } = why {
        let neighbour = snapshot.cors.neighbour(|method| find(snapshot, method, target));
        exchange.note_cors(neighbour.map_or(CorsOf::Nobody, CorsOf::Route));
    }
}

fn find(snapshot: &Snapshot, method: Method, target: &RequestTarget<'_>) -> Option<RouteIndex> {
    super::find::find(snapshot, target, method).ok()
}
