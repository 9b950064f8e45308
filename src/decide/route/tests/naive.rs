//! The router against a naive reading of its rules, on random tables and paths.

use proptest::prelude::*;

use super::*;

/// How specific a match is; the greatest wins.
type Rank = (usize, Vec<u8>, bool);

/// Every rule of matching in the simplest words: `None` is no match.
fn rank(route: &Route, host: &str, method: Method, path: &str) -> Option<Rank> {
    let explicit = route.methods.contains(&method);
    let implied = method == Head && route.methods.contains(&Get);
    (explicit || implied).then_some(())?;
    Some((rank_host(route, host)?, rank_path(&route.pattern, path)?, explicit))
}

fn rank_host(route: &Route, host: &str) -> Option<usize> {
    if route.hosts.is_empty() {
        return Some(0);
    }
    let rank = |own: &String| match own.strip_prefix('*') {
        None => (own == host).then_some(1_000),
        Some(suffix) => (host.ends_with(suffix) && host.len() > suffix.len()).then_some(suffix.len()),
    };
    route.hosts.iter().filter_map(rank).max()
}

fn rank_path(pattern: &str, path: &str) -> Option<Vec<u8>> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').filter(|p| !p.is_empty()).unwrap_or(path);
    let path: Vec<&str> = if path.is_empty() { vec![] } else { path.split('/').collect() };
    let pattern: Vec<&str> = pattern.split('/').skip(1).filter(|s| !s.is_empty()).collect();
    let mut rank = Vec::new();
    for (i, own) in pattern.iter().enumerate() {
        match (*own, path.get(i)) {
            ("**", _) => {
                rank.push(0);
                return path.iter().all(|s| !s.is_empty()).then_some(rank);
            }
            (_, None | Some(&"")) => return None,
            (own, Some(_)) if own.starts_with('{') => rank.push(2),
            (own, Some(segment)) => {
                (own == *segment).then_some(())?;
                rank.push(3);
            }
        }
    }
    rank.push(1);
    (path.len() == pattern.len()).then_some(rank)
}

/// Every route that matches, with its rank.
fn ranked(routes: &[Route], host: &str, method: Method, path: &str) -> Vec<(Rank, RouteIndex)> {
    let each = routes.iter().enumerate();
    each.filter_map(|(i, r)| Some((rank(r, host, method, path)?, RouteIndex(i))))
        .collect()
}

fn pattern() -> impl Strategy<Value = String> {
    let segment = prop_oneof![3 => "[ab]", 2 => Just("{x}".to_owned())];
    (proptest::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(segments, open)| {
        let mut text: String = segments
            .iter()
            .enumerate()
            .map(|(i, s)| format!("/{}", s.replace('x', &format!("p{i}"))))
            .collect();
        if open {
            text.push_str("/**");
        }
        if text.is_empty() { "/".into() } else { text }
    })
}

fn hosts() -> impl Strategy<Value = Vec<String>> {
    let host = prop_oneof![Just("h.t"), Just("a.h.t"), Just("*.t"), Just("*.h.t")];
    proptest::collection::vec(host.prop_map(str::to_owned), 0..3)
}

fn table() -> impl Strategy<Value = Vec<Route>> {
    let method = prop_oneof![Just(Get), Just(Head), Just(Post)];
    let one = (hosts(), proptest::collection::vec(method, 1..3), pattern());
    let one = one.prop_map(|(hosts, methods, pattern)| Route {
        hosts,
        ..route(&methods, &pattern)
    });
    proptest::collection::vec(one, 0..8)
}

/// The table without the routes that conflict with an earlier one.
fn without_conflicts(mut routes: Vec<Route>) -> Vec<Route> {
    while let Err(conflicts) = Router::build(&routes) {
        let Some(RouteConflict::Same { second, .. }) = conflicts.first() else {
            panic!("generated patterns are patterns: {conflicts:?}");
        };
        routes.remove(second.0);
    }
    routes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_router_agrees_with_the_naive_reading(
        routes in table().prop_map(without_conflicts),
        host in prop_oneof![Just("t"), Just("h.t"), Just("a.h.t"), Just("b.h.t"), Just("c.b.h.t"), Just("xh.t"), Just("other")],
        method in prop_oneof![Just(Get), Just(Head), Just(Post), Just(Put)],
        path in "(/[abc]?){0,5}",
    ) {
        let found = Router::build(&routes).unwrap().find(host, method, &path);
        let ranked = |method| ranked(&routes, host, method, &path);
        let best = ranked(method).into_iter().max_by(|a, b| a.0.cmp(&b.0)).map(|(_, index)| index);
        prop_assert_eq!(found.ok(), best, "{} {} {}", method.as_str(), host, path);
        if let Err(refused) = found {
            let allowed = Method::ALL.iter().enumerate().filter(|(_, m)| !ranked(**m).is_empty()).map(|(i, _)| 1_u8 << i).sum();
            let expected = if allowed == 0 { NotFound::NoRoute } else { NotFound::Method { allowed } };
            prop_assert_eq!(refused, expected);
        }
    }

    #[test]
    fn any_text_is_a_pattern_or_an_error_and_patterns_survive_writing(text in "\\PC{0,40}|(/[a-z{}*%.0-9A-F]{0,8}){0,6}") {
        if let Ok(pattern) = Pattern::parse(&text) {
            prop_assert_eq!(&Pattern::parse(&pattern.to_string()), &Ok(pattern.clone()));
            prop_assert_eq!(pattern.to_string(), text);
        }
    }

    #[test]
    fn a_rewritten_path_begins_with_one_slash(prefix in "(/[ab]){0,3}/?", with in "/?([ab]/?){0,3}", path in "(/[ab]){1,4}/?") {
        let rewritten = Rewrite::Prefix { prefix, with }.apply(&path).into_owned();
        prop_assert!(rewritten.starts_with('/') && !rewritten.starts_with("//"), "{}", rewritten);
    }
}
