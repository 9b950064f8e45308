//! The table that finds routes: one tree of path segments for each host, walked without allocation.

use std::collections::HashMap;

use memchr::memchr;

use crate::base::text::every_pair;

use super::pattern::{Pattern, PatternError};
use super::pattern_tree::PatternTree;
use super::{Method, NotFound, Route, RouteIndex};

/// Finds routes. Of all routes that match host, path and method, the most specific wins: an exact host before `*.`
/// hosts (the longest first) before any host; then, segment by segment, a literal before a parameter before a tail. A
/// route that matches the path but not the method hides no other route. It only turns 404 into 405.
#[derive(Debug, Default)]
pub struct Router {
    exact: HashMap<Box<str>, Tree>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Tree>,
    any: Tree,
}

/// A pattern that is no pattern, or two routes that the same request would find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteConflict {
    /// The pattern of this route is malformed.
    Pattern { route: RouteIndex, error: PatternError },
    /// Both have this method, this host and a pattern of the same shape.
    Same {
        first: RouteIndex,
        second: RouteIndex,
        /// The host they share; `None` is any host.
        host: Option<String>,
        method: Method,
    },
}

/// Routes by method; index `i` belongs to `Method::ALL[i]`.
type Methods = [Option<RouteIndex>; Method::ALL.len()];

#[derive(Debug, Default)]
struct Tree {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// In the order of their texts.
    literals: Vec<(Box<str>, Node)>,
    param: Option<Box<Node>>,
    /// Routes whose pattern ends here.
    here: Methods,
    /// Routes whose pattern ends here with `/**`.
    tail: Methods,
}

/// The trees of a router while it is built.
#[derive(Default)]
struct GrowingTrees {
    exact: HashMap<Box<str>, GrowingNode>,
    wildcard: HashMap<Box<str>, GrowingNode>,
    any: GrowingNode,
}

/// Sorted maps take routes in any order. In the sorted list of a [`Node`] each would move all that come after it.
type GrowingNode = PatternTree<Methods>;

impl Router {
    /// Builds the table.
    ///
    /// # Errors
    /// Every malformed pattern, and every pair of routes that cannot be told apart.
    pub fn build(routes: &[Route]) -> Result<Self, Vec<RouteConflict>> {
        let mut trees = GrowingTrees::default();
        let mut conflicts = Vec::new();
        let mut implied = Vec::new();
        for (i, route) in routes.iter().enumerate() {
            let index = RouteIndex(i);
            match Pattern::parse(&route.pattern) {
                Ok(pattern) => {
                    trees.insert(index, route, &pattern, &mut conflicts);
                    if route.methods.contains(&Method::Get) && !route.methods.contains(&Method::Head) {
                        implied.push((index, route, pattern));
                    }
                }
                Err(error) => conflicts.push(RouteConflict::Pattern { route: index, error }),
            }
        }
        // These come after all others, so that a route for HEAD beats the HEAD that GET implies.
        for (index, route, pattern) in implied {
            trees.each_tree(route, |_, root| {
                root.at(&pattern)[Method::Head as usize].get_or_insert(index);
            });
        }
        if conflicts.is_empty() {
            Ok(trees.into_router())
        } else {
            Err(conflicts)
        }
    }

    /// Finds the route of a request: `host` lower case without port, `path` canonical. One slash at
    /// the end of the path is ignored, so a slash never changes the decision. Does not allocate.
    ///
    /// # Errors
    /// [`NotFound`], with the methods that would have been allowed.
    pub fn find(&self, host: &str, method: Method, path: &str) -> Result<RouteIndex, NotFound> {
        let mut walk = Walk { method, allowed: 0 };
        let found = segments_of(path).and_then(|rest| self.trees_for(host).find_map(|tree| walk.find(&tree.root, rest)));
        match (found, walk.allowed) {
            (Some(route), _) => Ok(route),
            (None, 0) => Err(NotFound::NoRoute),
            (None, allowed) => Err(NotFound::Method { allowed }),
        }
    }

    /// The trees of a host, the most specific first.
    fn trees_for<'r>(&'r self, host: &'r str) -> impl Iterator<Item = &'r Tree> {
        // Most configurations name no host, or none with a wildcard. Then nothing is hashed.
        let first = if self.wildcard.is_empty() { None } else { parent(host) };
        let suffixes = std::iter::successors(first, |rest| parent(rest));
        let exact = if self.exact.is_empty() { None } else { self.exact.get(host) };
        exact
            .into_iter()
            .chain(suffixes.filter_map(|suffix| self.wildcard.get(suffix)))
            .chain(std::iter::once(&self.any))
    }
}

impl GrowingTrees {
    fn into_router(self) -> Router {
        let all =
            |trees: HashMap<Box<str>, GrowingNode>| trees.into_iter().map(|(host, root)| (host, Tree { root: root.into() })).collect();
        Router {
            exact: all(self.exact),
            wildcard: all(self.wildcard),
            any: Tree { root: self.any.into() },
        }
    }

    fn insert(&mut self, index: RouteIndex, route: &Route, pattern: &Pattern, conflicts: &mut Vec<RouteConflict>) {
        self.each_tree(route, |host, root| {
            let methods = root.at(pattern);
            for method in &route.methods {
                match &mut methods[*method as usize] {
                    Some(first) if *first == index => {}
                    Some(first) => conflicts.push(RouteConflict::Same {
                        first: *first,
                        second: index,
                        host: host.map(str::to_owned),
                        method: *method,
                    }),
                    free => *free = Some(index),
                }
            }
        });
    }

    fn each_tree(&mut self, route: &Route, mut visit: impl FnMut(Option<&str>, &mut GrowingNode)) {
        if route.hosts.is_empty() {
            visit(None, &mut self.any);
        }
        for host in &route.hosts {
            let root = match host.strip_prefix("*.") {
                Some(suffix) => self.wildcard.entry(suffix.into()).or_default(),
                None => self.exact.entry(host.as_str().into()).or_default(),
            };
            visit(Some(host), root);
        }
    }
}

/// What follows the first label and its dot.
fn parent(host: &str) -> Option<&str> {
    host.split_once('.').map(|(_, rest)| rest)
}

/// The segments of a path as one text; the inner `None` is the root. The outer `None` means that it is no path, or
/// has an empty segment, which no canonical path has and no pattern matches.
#[expect(clippy::option_option, reason = "no path, no segments and some segments are three things")]
fn segments_of(path: &str) -> Option<Option<&str>> {
    let body = path.strip_prefix('/')?;
    let body = body.strip_suffix('/').unwrap_or(body);
    match body {
        "" => (path.len() == 1).then_some(None),
        _ if body.starts_with('/') || body.ends_with('/') || !every_pair(body.as_bytes(), |one, two| (one != b'/') | (two != b'/')) => None,
        _ => Some(Some(body)),
    }
}

/// One search. Each node of a tree stands for one beginning of the path, so no node is visited twice, and the size of
/// the tree bounds the work.
struct Walk {
    method: Method,
    allowed: u8,
}

impl Walk {
    fn find(&mut self, node: &Node, rest: Option<&str>) -> Option<RouteIndex> {
        let Some(rest) = rest else {
            return self.pick(&node.here).or_else(|| self.pick(&node.tail));
        };
        let slash = memchr(b'/', rest.as_bytes());
        let (segment, rest) = match slash.and_then(|at| Some((rest.get(..at)?, rest.get(at + 1..)?))) {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (rest, None),
        };
        let literal = node.literals.binary_search_by(|(text, _)| (**text).cmp(segment));
        let literal = literal.ok().and_then(|at| node.literals.get(at));
        literal
            .and_then(|(_, child)| self.find(child, rest))
            .or_else(|| node.param.as_ref().and_then(|child| self.find(child, rest)))
            .or_else(|| self.pick(&node.tail))
    }

    fn pick(&mut self, methods: &Methods) -> Option<RouteIndex> {
        for (i, route) in methods.iter().enumerate() {
            self.allowed |= u8::from(route.is_some()) << i;
        }
        methods.get(self.method as usize).copied().flatten()
    }
}

impl From<GrowingNode> for Node {
    fn from(grown: GrowingNode) -> Self {
        let literals = grown.literals.into_iter().map(|(text, child)| (text, child.into()));
        Self {
            literals: literals.collect(),
            param: grown.param.map(|child| Box::new((*child).into())),
            here: grown.here,
            tail: grown.tail,
        }
    }
}
