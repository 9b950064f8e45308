//! Which route takes a request: finds it, refuses spellings of the path that it does not take, and answers CORS preflights.

use crate::base::denial::Denial;
use crate::decide::cors::{CorsOf, Preflight};
use crate::decide::method::Method;
use crate::decide::route::{NotFound, PathForms, Rewrite, RouteIndex};
use crate::decide::target::RequestTarget;
use crate::snapshot::Snapshot;
use crate::wire::fields::Fields;

use super::{AccessRecord, RequestRefusal};

/// Finds the route. Path parameters (`;v=1`) are left out for the match. [`check_forms`] refuses the path if it has
/// another route with its parameters, since a service that does not remove parameters would serve that route.
pub(super) fn find(snapshot: &Snapshot, target: &RequestTarget<'_>, method: Method) -> Result<RouteIndex, NotFound> {
    snapshot.router.find(&target.host, method, &target.route_path())
}

/// Refuses a spelling of the path that the route does not accept.
pub(super) fn check_forms(
    snapshot: &Snapshot,
    target: &RequestTarget<'_>,
    method: Method,
    index: RouteIndex,
) -> Result<(), RequestRefusal> {
    if target.forms == PathForms::NONE {
        return Ok(());
    }
    let route = &snapshot.routes[index.0];
    let taken = route.options.path_forms.contains(target.forms);
    if taken && (!target.forms.contains(PathForms::PARAMETER) || is_found_alike(snapshot, target, method, index)) {
        return Ok(());
    }
    Err(RequestRefusal {
        route: Some(index),
        ..RequestRefusal::from(Denial::MalformedTarget)
    })
}

/// Whether the path with its parameters finds no other route, and no parameter stands within a prefix that is
/// rewritten.
fn is_found_alike(snapshot: &Snapshot, target: &RequestTarget<'_>, method: Method, index: RouteIndex) -> bool {
    let whole = snapshot.router.find(&target.host, method, &target.path);
    let rewritten = match &snapshot.routes[index.0].rewrite {
        Rewrite::Keep => true,
        Rewrite::Prefix { prefix, .. } => {
            let rest = target.path.strip_prefix(prefix.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    rewritten && whole.map_or(true, |other| other == index)
}

pub(super) fn not_found(why: NotFound) -> RequestRefusal {
    match why {
        NotFound::NoRoute => Denial::NoRoute.into(),
        NotFound::Method { allowed } => RequestRefusal {
            allowed,
            ..RequestRefusal::from(Denial::MethodNotAllowed)
        },
    }
}

/// Answers a preflight by the policy of the route for the method that the page asks for. No credential is needed, since
/// browsers send none with a preflight. Returns `None` if no policy applies; the request is then handled like any
/// other.
pub(super) fn answer_preflight(
    snapshot: &Snapshot,
    preflight: &Preflight<'_>,
    target: &RequestTarget<'_>,
    access: &mut AccessRecord,
) -> Result<Option<Fields>, RequestRefusal> {
    let (granted, route) = match snapshot.cors.answer(preflight, |method| find(snapshot, target, method).ok()) {
        Ok(None) => return Ok(None),
        Ok(Some((fields, route))) => (Ok(Some(fields)), route),
        Err((denial, route)) => (Err(denial), route),
    };
    access.note_route(route);
    access.note_cors(CorsOf::Nobody);
    granted.map_err(|denial| RequestRefusal {
        route: Some(route),
        ..RequestRefusal::from(denial)
    })
}

/// Chooses the CORS policy of a 405: the policy of a route that takes another method on the same path.
pub(super) fn choose_cors_of_not_found(snapshot: &Snapshot, why: NotFound, target: &RequestTarget<'_>, access: &mut AccessRecord) {
    if let NotFound::Method { .. } = why {
        let neighbour = snapshot.cors.neighbour(|method| find(snapshot, target, method).ok());
        access.note_cors(neighbour.map_or(CorsOf::Nobody, CorsOf::Route));
    }
}
