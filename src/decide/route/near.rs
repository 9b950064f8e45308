//! Which routes nearly took a request, and what they lack. It explains a decision of the router and makes none.

use super::pattern::{Pattern, Segment, Tail};
use super::{Method, Route, RouteIndex};

/// Most routes that are told. A reader looks for a slip of the pen, not for a list.
const MAX_NEAR: usize = 5;

/// A route that nearly took a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearRoute {
    pub route: RouteIndex,
    /// The one thing that it lacks.
    pub lacks: Lack,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// It takes other hosts.
    Host,
    /// It takes other methods.
    Method,
    /// One segment of the path is another text: what the route has there, and what was requested.
    Segment { has: String, requested: String },
    /// The path has this many segments too many or too few.
    Length { wanted: usize, requested: usize },
    /// It matches too, but the route that was chosen is more specific.
    Specificity,
}

/// The routes that lack one thing only, the nearest first: those that match but for the chosen one, then those that lack the
/// method, the host, or one segment of the path.
#[must_use]
pub fn near_routes(routes: &[Route], chosen: Option<RouteIndex>, method: Method, host: &str, path: &str) -> Vec<NearRoute> {
    let mut near: Vec<NearRoute> = Vec::new();
    for (index, route) in routes.iter().enumerate().map(|(index, route)| (RouteIndex(index), route)) {
        if chosen == Some(index) {
            continue;
        }
        let takes_method = route.methods.contains(&method) || (method == Method::Head && route.methods.contains(&Method::Get));
        let takes_host = route.hosts.is_empty() || route.hosts.iter().any(|own| takes(own, host));
        let lacks = match (takes_host, takes_method, difference(&route.pattern, path)) {
            (true, true, Some(None)) => Lack::Specificity,
            (true, false, Some(None)) => Lack::Method,
            (false, true, Some(None)) => Lack::Host,
            (true, true, Some(Some(lack))) => lack,
            _ => continue,
        };
        near.push(NearRoute { route: index, lacks });
    }
    near.sort_by_key(|near| match near.lacks {
        Lack::Specificity => 0,
        Lack::Method => 1,
        Lack::Host => 2,
        Lack::Segment { .. } => 3,
        Lack::Length { .. } => 4,
    });
    near.truncate(MAX_NEAR);
    near
}

/// Whether a host of a route takes this host.
fn takes(own: &str, host: &str) -> bool {
    match own.strip_prefix("*.") {
        Some(suffix) => host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1),
        None => own == host,
    }
}

/// What one pattern lacks of a path: nothing, or one thing; the outer `None` if it lacks more.
#[expect(clippy::option_option, reason = "too different, the same, and one difference are three things")]
fn difference(pattern: &str, path: &str) -> Option<Option<Lack>> {
    let pattern = Pattern::parse(pattern).ok()?;
    let body = path.strip_prefix('/')?;
    let body = body.strip_suffix('/').unwrap_or(body);
    let requested: Vec<&str> = if body.is_empty() { Vec::new() } else { body.split('/').collect() };
    let wanted = pattern.segments();
    let mut other = wanted.iter().zip(&requested).filter_map(|(wanted, requested)| match wanted {
        Segment::Literal(text) if **text != **requested => Some((text, requested)),
        Segment::Literal(_) | Segment::Param(_) => None,
    });
    let length = match pattern.tail() {
        Tail::Closed => requested.len() == wanted.len(),
        Tail::Open => requested.len() >= wanted.len(),
    };
    match (other.next(), other.next(), length) {
        (None, None, true) => Some(None),
        (Some((has, requested)), None, true) => Some(Some(Lack::Segment {
            has: has.to_string(),
            requested: (*requested).to_owned(),
        })),
        (None, None, false) if wanted.len().abs_diff(requested.len()) == 1 && !wanted.is_empty() && !requested.is_empty() => {
            Some(Some(Lack::Length {
                wanted: wanted.len(),
                requested: requested.len(),
            }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_difference_is_named_and_two_are_too_many() {
        let segment = |has: &str, requested: &str| {
            Some(Some(Lack::Segment {
                has: has.into(),
                requested: requested.into(),
            }))
        };
        assert_eq!(difference("/v1/orders/{id}", "/v1/orders/7"), Some(None));
        assert_eq!(difference("/v1/orders/{id}", "/v1/order/7"), segment("orders", "order"));
        assert_eq!(difference("/v1/orders/{id}", "/v2/order/7"), None);
        assert_eq!(difference("/v1/orders/**", "/v1/orders"), Some(None));
        assert_eq!(difference("/v1/orders/**", "/v1/order/7/items"), segment("orders", "order"));
        assert_eq!(
            difference("/v1/orders", "/v1/orders/7"),
            Some(Some(Lack::Length { wanted: 2, requested: 3 }))
        );
        assert_eq!(difference("/", "/v1"), None);
        assert_eq!(difference("/", "/"), Some(None));
    }

    #[test]
    fn a_wildcard_host_takes_names_below_it_and_not_itself() {
        assert!(takes("*.example.com", "a.example.com") && takes("*.example.com", "a.b.example.com"));
        assert!(!takes("*.example.com", "example.com") && !takes("*.example.com", "badexample.com"));
        assert!(takes("a.example.com", "a.example.com") && !takes("a.example.com", "b.example.com"));
    }
}
