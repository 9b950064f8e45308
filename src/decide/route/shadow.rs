//! Routes that are never asked on some host, because a route with a more specific host takes all their paths there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::pattern::{Pattern, Segment, Tail};
use super::pattern_tree::PatternTree;
use super::{Method, Route, RouteIndex};

/// A route that another route takes requests from, on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// The route that is not reached.
    pub hidden: RouteIndex,
    /// The route that is reached instead. Its host is more specific, and it matches every path of the other.
    pub by: RouteIndex,
    pub host: String,
}

/// Routes that a more specific host takes requests from, for warnings: on the host of `by`, `hidden` is never
/// reached, although its own hosts include that host. Routes without a valid pattern are left out.
///
/// In the order of `hidden`, then of `by`. There may be as many shadows as pairs of routes, so they are found one hidden route
/// after the other: whoever takes a few does the work of a few.
pub fn shadows(routes: &[Route]) -> impl Iterator<Item = Shadow> {
    let covers = CoverTrees::of(routes);
    let indexed = routes.iter().enumerate();
    indexed.flat_map(move |(i, wide)| covers.shadows_of(RouteIndex(i), wide))
}

/// Routes with hosts, by each domain that includes one of their hosts, then by pattern. Only routes of other routes'
/// domains and patterns are compared, so that the work grows with the routes and not with their pairs.
struct CoverTrees<'r> {
    routes: &'r [Route],
    /// By the domain: what follows `*.`, or `None` for any host. Only domains that some route has.
    by_domain: HashMap<Option<&'r str>, CoverNode>,
}

/// Hosts of routes, by the pattern of the route.
type CoverNode = PatternTree<Covers>;

/// Hosts of routes, by the set of the route's methods.
type Covers = BTreeMap<u8, Vec<Cover>>;

/// A host of a route that may take requests from another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cover {
    by: RouteIndex,
    /// Index in the route's hosts.
    host: usize,
}

impl<'r> CoverTrees<'r> {
    fn of(routes: &'r [Route]) -> Self {
        let mut by_domain: HashMap<Option<&str>, CoverNode> = HashMap::new();
        for route in routes {
            for domain in domains_of(route) {
                by_domain.entry(domain).or_default();
            }
        }
        for (i, route) in routes.iter().enumerate() {
            if route.hosts.is_empty() || by_domain.is_empty() {
                continue;
            }
            let Ok(pattern) = Pattern::parse(&route.pattern) else { continue };
            for (host, text) in route.hosts.iter().enumerate() {
                for domain in domains_including(text) {
                    if let Some(tree) = by_domain.get_mut(&domain) {
                        let by = RouteIndex(i);
                        tree.at(&pattern).entry(bits(&route.methods)).or_default().push(Cover { by, host });
                    }
                }
            }
        }
        Self { routes, by_domain }
    }

    /// The hosts of other routes that are compared with a route: each lies in its domains, with a method of it and a pattern
    /// that covers its own.
    fn compared(&self, wide: &Route) -> BTreeSet<Cover> {
        let mut found = BTreeSet::new();
        let trees = domains_of(wide).filter_map(|domain| self.by_domain.get(&domain));
        let trees: Vec<&CoverNode> = trees.filter(|tree| !tree.is_empty()).collect();
        if let (false, Ok(pattern)) = (trees.is_empty(), Pattern::parse(&wide.pattern)) {
            for tree in trees {
                tree.collect(pattern.segments(), pattern.tail(), bits(&wide.methods), &mut found);
            }
        }
        found
    }

    fn shadows_of(&self, hidden: RouteIndex, wide: &Route) -> Vec<Shadow> {
        let own: BTreeSet<&str> = wide.hosts.iter().map(String::as_str).collect();
        let others = self.compared(wide).into_iter().filter(|cover| cover.by != hidden);
        let shadow = |cover: Cover| {
            let host = self.routes.get(cover.by.0)?.hosts.get(cover.host)?;
            (!own.contains(host.as_str())).then(|| Shadow {
                hidden,
                by: cover.by,
                host: host.clone(),
            })
        };
        others.filter_map(shadow).collect()
    }
}

impl CoverNode {
    fn is_empty(&self) -> bool {
        self.literals.is_empty() && self.param.is_none() && self.here.is_empty() && self.tail.is_empty()
    }

    /// Adds every host of a pattern here that covers the rest of a pattern, and of a route with one of these methods.
    fn collect(&self, rest: &[Segment], tail: Tail, methods: u8, found: &mut BTreeSet<Cover>) {
        add(&self.tail, methods, found);
        let Some((segment, rest)) = rest.split_first() else {
            if tail == Tail::Closed {
                add(&self.here, methods, found);
            }
            return;
        };
        if let Segment::Literal(text) = segment
            && let Some(child) = self.literals.get(text)
        {
            child.collect(rest, tail, methods, found);
        }
        if let Some(child) = &self.param {
            child.collect(rest, tail, methods, found);
        }
    }
}

fn add(covers: &Covers, methods: u8, found: &mut BTreeSet<Cover>) {
    let shared = covers.iter().filter(|(theirs, _)| **theirs & methods != 0);
    found.extend(shared.flat_map(|(_, covers)| covers));
}

/// One bit for each of [`Method::ALL`].
fn bits(methods: &[Method]) -> u8 {
    methods.iter().fold(0, |bits, method| bits | 1 << *method as usize)
}

/// The domains in which a more specific host may take requests from this route: any host, or those of its wildcards.
fn domains_of(route: &Route) -> impl Iterator<Item = Option<&str>> {
    let any = route.hosts.is_empty().then_some(None);
    any.into_iter()
        .chain(route.hosts.iter().map(|host| host.strip_prefix("*.")).filter(Option::is_some))
}

/// Every domain that a host lies in, without its own: of `*.a.example.com` and of `a.example.com` these are `example.com`,
/// `com`, and any host.
fn domains_including(host: &str) -> impl Iterator<Item = Option<&str>> {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let domains = std::iter::successors(parent(name), |rest| parent(rest));
    domains.map(Some).chain(std::iter::once(None))
}

/// What follows the first label and its dot.
fn parent(host: &str) -> Option<&str> {
    host.split_once('.').map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decide::samples::route;

    use Method::{Get, Post};

    fn on(hosts: &[&str], methods: &[Method], pattern: &str) -> Route {
        Route {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..route(methods, pattern)
        }
    }

    fn all(routes: &[Route]) -> Vec<Shadow> {
        shadows(routes).collect()
    }

    #[test]
    fn a_host_that_takes_over_another_routes_paths_is_a_shadow() {
        let routes = [
            on(&[], &[Get], "/admin"),
            on(&["a.test"], &[Get], "/**"),
            on(&["b.test"], &[Get], "/public/**"),
            on(&["c.test"], &[Post], "/**"),
        ];
        let shadow = Shadow {
            hidden: RouteIndex(0),
            by: RouteIndex(1),
            host: "a.test".into(),
        };
        assert_eq!(all(&routes), [shadow]);
        assert_eq!(all(&[on(&["*.test"], &[Get], "/x"), on(&["a.test"], &[Get], "/{p}")]).len(), 1);
        assert_eq!(all(&[on(&["b.test"], &[Get], "/x"), on(&["a.test"], &[Get], "/{p}")]), []);
    }

    /// How many hosts are compared with all routes.
    fn comparisons(routes: &[Route]) -> usize {
        let covers = CoverTrees::of(routes);
        routes.iter().map(|wide| covers.compared(wide).len()).sum()
    }

    #[test]
    fn only_routes_of_one_domain_and_path_are_compared() {
        let hosts: Vec<String> = (0..400).map(|n| format!("tenant{n}.example.com")).collect();
        let each = |pattern: &str| hosts.iter().map(|host| on(&[host], &[Get], pattern)).collect::<Vec<_>>();
        let mut routes = each("/**");
        assert_eq!(comparisons(&routes), 0, "nothing lies in the domain of a single host");
        routes.push(on(&["*.example.org"], &[Get], "/**"));
        routes.push(on(&["*.example.com"], &[Post], "/**"));
        assert_eq!(comparisons(&routes), 0, "another domain, another method");
        routes.push(on(&["*.example.com"], &[Get], "/x"));
        assert_eq!(comparisons(&routes), 400, "each host takes this path");
        let mut routes: Vec<Route> = (0..400).map(|n| on(&[&hosts[n]], &[Get], &format!("/{n}"))).collect();
        routes.extend((0..400).map(|n| on(&[], &[Get], &format!("/{n}/x"))));
        assert_eq!(comparisons(&routes), 0, "other paths");
        routes.extend((0..400).map(|n| on(&[], &[Get], &format!("/{n}"))));
        assert_eq!(comparisons(&routes), 400, "each path with one host, and not with 400");
    }

    #[test]
    fn a_few_shadows_are_found_without_the_others() {
        let mut routes: Vec<Route> = (0..2_000).map(|n| on(&[], &[Get], &format!("/{n}"))).collect();
        routes.extend((0..2_000).map(|n| on(&[&format!("h{n}.test")], &[Get], "/**")));
        let first: Vec<Shadow> = shadows(&routes).take(3).collect();
        assert_eq!(
            first.iter().map(|s| (s.hidden.0, s.by.0)).collect::<Vec<_>>(),
            [(0, 2_000), (0, 2_001), (0, 2_002)]
        );
    }

    /// Whether every path that `other` matches is matched by `cover` too.
    fn covers(cover: &Pattern, other: &Pattern) -> bool {
        let (own, theirs) = (cover.segments(), other.segments());
        let longer = match cover.tail() {
            Tail::Closed => other.tail() == Tail::Closed && theirs.len() == own.len(),
            Tail::Open => theirs.len() >= own.len(),
        };
        longer
            && own.iter().zip(theirs).all(|pair| match pair {
                (Segment::Param(_), _) => true,
                (Segment::Literal(a), Segment::Literal(b)) => a == b,
                (Segment::Literal(_), Segment::Param(_)) => false,
            })
    }

    #[test]
    fn a_pattern_covers_what_it_matches_wholly() {
        let is_covered = |a: &str, b: &str| covers(&Pattern::parse(a).unwrap(), &Pattern::parse(b).unwrap());
        for (a, b) in [
            ("/**", "/a/{x}/**"),
            ("/a/**", "/a"),
            ("/{x}", "/a"),
            ("/{x}", "/{y}"),
            ("/a/{x}/**", "/a/b/c"),
        ] {
            assert!(is_covered(a, b), "{a} covers {b}");
        }
        for (a, b) in [
            ("/a", "/a/**"),
            ("/a", "/{x}"),
            ("/a/**", "/**"),
            ("/a/{x}", "/a"),
            ("/a/{x}", "/a/b/c"),
        ] {
            assert!(!is_covered(a, b), "{a} does not cover {b}");
        }
    }

    /// The rule in its simplest words: every pair of routes is compared.
    fn naive(routes: &[Route]) -> Vec<Shadow> {
        let is_narrower = |host: &str, wide: &Route| {
            let name = host.strip_prefix("*.").unwrap_or(host);
            let within = |own: &String| {
                own.strip_prefix("*.")
                    .is_some_and(|suffix| name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.')))
            };
            !wide.hosts.iter().any(|own| own == host) && (wide.hosts.is_empty() || wide.hosts.iter().any(within))
        };
        let mut found = Vec::new();
        for (hidden, wide) in routes.iter().enumerate() {
            for (by, narrow) in routes.iter().enumerate() {
                let (Ok(pattern), Ok(cover)) = (Pattern::parse(&wide.pattern), Pattern::parse(&narrow.pattern)) else {
                    continue;
                };
                let shares_method = wide.methods.iter().any(|method| narrow.methods.contains(method));
                if hidden == by || !covers(&cover, &pattern) || !shares_method {
                    continue;
                }
                found.extend(narrow.hosts.iter().filter(|host| is_narrower(host, wide)).map(|host| Shadow {
                    hidden: RouteIndex(hidden),
                    by: RouteIndex(by),
                    host: host.clone(),
                }));
            }
        }
        found
    }

    fn any_route() -> impl Strategy<Value = Route> {
        let host = prop::sample::select(vec!["a.test", "*.test", "b.a.test", "*.a.test", "x.test", "test", "*.b.a.test"]);
        let methods = prop::sample::select(vec![vec![Get], vec![Post], vec![Get, Post], Method::ALL.to_vec()]);
        let segment = prop::sample::select(vec!["a", "b", "{p}"]);
        let tail = prop::sample::select(vec!["", "/**", "/**", "//"]);
        (
            prop::collection::vec(host, 0..4),
            methods,
            prop::collection::vec(segment, 1..4),
            tail,
        )
            .prop_map(|(hosts, methods, segments, tail)| {
                // A second parameter of one name is no pattern; such routes are left out.
                let pattern = segments.iter().map(|segment| format!("/{segment}")).collect::<String>();
                on(&hosts, &methods, &format!("{pattern}{tail}"))
            })
    }

    proptest! {
        #[test]
        fn shadows_are_those_of_every_pair(routes in prop::collection::vec(any_route(), 0..12)) {
            prop_assert_eq!(all(&routes), naive(&routes));
        }
    }
}
