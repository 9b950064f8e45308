//! Finds the route of a request, and refuses spellings of its path that the route does not take.

use crate::base::denial::Denial;
use crate::decide::method::Method;
use crate::decide::route::{NotFound, PathForms, Rewrite, RouteIndex};
use crate::decide::target::RequestTarget;
use crate::snapshot::Snapshot;

use super::Refused;

/// Finds the route. A path with parameters (`;v=1`) is matched without them; [`check_forms`] refuses it if the path
/// with its parameters has another route, since a service that does not cut parameters off would serve that one.
pub(super) fn find(snapshot: &Snapshot, target: &RequestTarget<'_>, method: Method) -> Result<RouteIndex, NotFound> {
    snapshot.router.find(&target.host, method, &target.route_path())
}

/// Refuses a spelling of the path that the route does not take.
pub(super) fn check_forms(snapshot: &Snapshot, target: &RequestTarget<'_>, method: Method, index: RouteIndex) -> Result<(), Refused> {
    if target.forms == PathForms::NONE {
        return Ok(());
    }
    let route = &snapshot.routes[index.0];
    let taken = route.options.path_forms.contains(target.forms);
    if taken && (!target.forms.contains(PathForms::PARAMETER) || is_found_alike(snapshot, target, method, index)) {
        return Ok(());
    }
    Err(Refused {
        route: Some(index),
        ..Refused::from(Denial::MalformedTarget)
    })
}

/// Whether the path with its parameters finds no other route, and no parameter stands within a prefix that is rewritten.
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

pub(super) fn not_found(why: NotFound) -> Refused {
    match why {
        NotFound::NoRoute => Denial::NoRoute.into(),
        NotFound::Method { allowed } => Refused {
            allowed,
            ..Refused::from(Denial::MethodNotAllowed)
        },
    }
}
