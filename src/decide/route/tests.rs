//! Which route a request finds.

use super::*;
use crate::decide::samples::route;

mod naive;

use super::pattern::*;

use Method::{Delete, Get, Head, Options, Patch, Post, Put};

fn on(hosts: &[&str], methods: &[Method], pattern: &str) -> Route {
    Route {
        hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
        ..route(methods, pattern)
    }
}

fn router(routes: &[Route]) -> Router {
    Router::build(routes).unwrap()
}

/// The pattern of the route that is found.
fn found<'r>(routes: &'r [Route], host: &str, method: Method, path: &str) -> Result<&'r str, NotFound> {
    router(routes).find(host, method, path).map(|i| routes[i.0].pattern.as_str())
}

fn get<'r>(routes: &'r [Route], path: &str) -> Option<&'r str> {
    found(routes, "any.test", Get, path).ok()
}

#[test]
fn the_most_specific_pattern_wins_segment_by_segment() {
    let routes = ["/**", "/a/**", "/a/{x}", "/a/b", "/a/{x}/c", "/a/b/{y}", "/{x}/b/c", "/"].map(|p| route(&[Get], p));
    for (path, pattern) in [
        ("/", "/"),
        ("/z", "/**"),
        ("/z/z/z", "/**"),
        ("/a", "/a/**"),
        ("/a/b", "/a/b"),
        ("/a/z", "/a/{x}"),
        ("/a/z/c", "/a/{x}/c"),
        ("/a/b/c", "/a/b/{y}"),
        ("/a/z/z", "/a/**"),
        ("/z/b/c", "/{x}/b/c"),
    ] {
        assert_eq!(get(&routes, path), Some(pattern), "{path}");
    }
}

#[test]
fn a_parameter_is_one_segment_that_is_not_empty() {
    let routes = [route(&[Get], "/orders/{id}")];
    assert_eq!(get(&routes, "/orders/1"), Some("/orders/{id}"));
    for path in ["/orders", "/orders/", "/orders//", "/orders/1/2", "/orders//1", "//orders/1"] {
        assert_eq!(get(&routes, path), None, "{path}");
    }
}

#[test]
fn a_tail_is_any_number_of_segments_and_begins_at_one() {
    let routes = [route(&[Get], "/v1/orders/**")];
    for path in ["/v1/orders", "/v1/orders/", "/v1/orders/1", "/v1/orders/1/2/3", "/v1/orders/1/"] {
        assert_eq!(get(&routes, path), Some("/v1/orders/**"), "{path}");
    }
    for path in [
        "/v1",
        "/v1/ordersx",
        "/v1/orders2/1",
        "/v1/order",
        "/v1/orders//x",
        "/v1/orders/x//",
    ] {
        assert_eq!(get(&routes, path), None, "{path}");
    }
}

#[test]
fn p5_one_slash_at_the_end_never_changes_the_decision() {
    let routes = ["/admin", "/admin/{x}", "/public/**"].map(|p| route(&[Get], p));
    for path in ["/admin", "/admin/x", "/public", "/public/a/b", "/none", "/admin/x/y"] {
        assert_eq!(get(&routes, path), get(&routes, &format!("{path}/")), "{path}");
    }
}

#[test]
fn p9_paths_differ_in_case_and_what_no_route_names_is_not_found() {
    let routes = [route(&[Get], "/admin"), route(&[Get], "/public/**")];
    assert_eq!(get(&routes, "/admin"), Some("/admin"));
    for path in ["/ADMIN", "/Admin", "/%61dmin", "/", "", "admin", "*", "/public2"] {
        assert_eq!(found(&routes, "any.test", Get, path), Err(NotFound::NoRoute), "{path}");
    }
}

#[test]
fn a_route_of_another_method_hides_nothing() {
    let routes = [
        route(&[Get], "/transactions/**"),
        route(&[Post, Put, Patch, Delete], "/transactions/**"),
        route(&[Post], "/transactions/{id}/access-tokens"),
    ];
    let at = |method, path| router(&routes).find("h", method, path).map(|i| i.0);
    assert_eq!(at(Get, "/transactions/1/access-tokens"), Ok(0));
    assert_eq!(at(Put, "/transactions/1/access-tokens"), Ok(1));
    assert_eq!(at(Post, "/transactions/1/access-tokens"), Ok(2));
    assert_eq!(at(Post, "/transactions/1"), Ok(1));
}

#[test]
fn a_known_path_with_another_method_tells_which_are_allowed() {
    let routes = [route(&[Get], "/a/**"), route(&[Post], "/a/{x}"), route(&[Delete], "/b")];
    let bit = |m: Method| 1 << (m as u8);
    let allowed = bit(Get) | bit(Head) | bit(Post);
    assert_eq!(found(&routes, "h", Put, "/a/1"), Err(NotFound::Method { allowed }));
    assert_eq!(found(&routes, "h", Put, "/c"), Err(NotFound::NoRoute));
}

#[test]
fn get_implies_head_unless_head_has_its_own_route() {
    let implied = [route(&[Get], "/a")];
    assert_eq!(router(&implied).find("h", Head, "/a"), Ok(RouteIndex(0)));
    for own in [
        [route(&[Get], "/a"), route(&[Head], "/a")],
        [route(&[Head], "/a"), route(&[Get], "/a")],
    ] {
        let head = own.iter().position(|r| r.methods == [Head]).unwrap();
        assert_eq!(router(&own).find("h", Head, "/a"), Ok(RouteIndex(head)));
        assert_eq!(router(&own).find("h", Get, "/a"), Ok(RouteIndex(1 - head)));
    }
    let other = [route(&[Post], "/a")];
    assert!(router(&other).find("h", Head, "/a").is_err());
}

#[test]
fn an_exact_host_stands_before_wildcards_and_those_before_any() {
    let routes = [
        on(&[], &[Get], "/**"),
        on(&["*.example.com"], &[Get], "/**"),
        on(&["*.b.example.com"], &[Get], "/**"),
        on(&["a.b.example.com"], &[Get], "/x"),
        on(&[], &[Post], "/only-post"),
    ];
    let at = |host, path| router(&routes).find(host, Get, path).map(|i| i.0);
    assert_eq!(at("a.b.example.com", "/x"), Ok(3));
    assert_eq!(
        at("a.b.example.com", "/y"),
        Ok(2),
        "a host without a route for the path falls through"
    );
    assert_eq!(at("z.b.example.com", "/x"), Ok(2));
    assert_eq!(at("z.y.b.example.com", "/x"), Ok(2), "a wildcard is one label or more");
    assert_eq!(at("b.example.com", "/x"), Ok(1), "a wildcard is not its own domain");
    assert_eq!(at("example.com", "/x"), Ok(0));
    assert_eq!(at("notexample.com", "/x"), Ok(0));
    assert_eq!(at("com", "/x"), Ok(0));
    assert_eq!(at("", "/x"), Ok(0));
}

#[test]
fn a_route_of_several_hosts_is_found_on_each_and_nowhere_else() {
    let routes = [on(&["a.test", "b.test"], &[Get], "/x")];
    for (host, is) in [("a.test", true), ("b.test", true), ("c.test", false), ("x.a.test", false)] {
        assert_eq!(found(&routes, host, Get, "/x").is_ok(), is, "{host}");
    }
}

#[test]
fn routes_that_cannot_be_told_apart_do_not_load() {
    let same = |a: Route, b: Route| Router::build(&[a, b]).unwrap_err();
    let conflict = |host: Option<&str>, method| RouteConflict::Same {
        first: RouteIndex(0),
        second: RouteIndex(1),
        host: host.map(str::to_owned),
        method,
    };
    assert_eq!(
        same(route(&[Get, Post], "/a/{x}"), route(&[Post, Put], "/a/{y}")),
        [conflict(None, Post)]
    );
    assert_eq!(
        same(on(&["a", "b"], &[Get], "/a/**"), on(&["b", "c"], &[Get], "/a/**")),
        [conflict(Some("b"), Get)]
    );
    for (a, b) in [
        (route(&[Get], "/a"), route(&[Post], "/a")),
        (route(&[Get], "/a"), route(&[Get], "/a/**")),
        (route(&[Get], "/a/{x}"), route(&[Get], "/a/b")),
        (on(&["a"], &[Get], "/a"), on(&["*.a"], &[Get], "/a")),
        (on(&["a"], &[Get], "/a"), on(&[], &[Get], "/a")),
    ] {
        assert!(Router::build(&[a, b]).is_ok());
    }
    // One route that names a method or a host twice conflicts with nobody.
    assert!(Router::build(&[on(&["a", "a"], &[Get, Get], "/a")]).is_ok());
}

#[test]
fn every_bad_pattern_and_every_conflict_is_told_at_once() {
    let all = Router::build(&[route(&[Get], "a"), route(&[Get], "/x"), route(&[Get], "/x"), route(&[Get], "/y/")]).unwrap_err();
    assert_eq!(all.len(), 3);
    assert!(matches!(
        all[0],
        RouteConflict::Pattern {
            route: RouteIndex(0),
            error: PatternError::NoSlash
        }
    ));
}

#[test]
fn patterns_are_canonical_paths() {
    for good in [
        "/",
        "/**",
        "/a",
        "/a/b.c/~d-e_f",
        "/{id}/x/{Other_1}",
        "/a/**",
        "/a@b:c,d=e+f!$&'()",
        "/%C3%A9/%20",
    ] {
        assert_eq!(Pattern::parse(good).unwrap().to_string(), good);
    }
    let error = |text: &str| Pattern::parse(text).unwrap_err();
    assert_eq!(error(""), PatternError::NoSlash);
    assert_eq!(error("a/b"), PatternError::NoSlash);
    assert_eq!(error("*"), PatternError::NoSlash);
    assert_eq!(error("/a/"), PatternError::EndsWithSlash);
    assert_eq!(error("/a//b"), PatternError::EmptySegment);
    for dots in ["/a/../b", "/.", "/a/."] {
        assert_eq!(error(dots), PatternError::DotSegment);
    }
    for tail in ["/**/a", "/a**", "/a/**b", "/***", "/**/**"] {
        assert_eq!(error(tail), PatternError::TailInside, "{tail}");
    }
    for param in [
        "/{}",
        "/{a",
        "/a}",
        "/x{a}",
        "/{a}x",
        "/{a}{b}",
        "/{a-b}",
        "/{1}",
        "/{*a}",
        "/{a}/{b c}",
    ] {
        assert!(matches!(error(param), PatternError::Param(_)), "{param}");
    }
    assert_eq!(error("/{a}/{a}"), PatternError::RepeatedParam("a".into()));
    for character in [
        "/a;b", "/a?b", "/a#b", "/a\\b", "/a b", "/\u{e9}", "/*", "/a|b", "/a\"", "/a\n", "/<a>", "/[a]", "/a^",
    ] {
        assert!(matches!(error(character), PatternError::Character(..)), "{character}");
    }
    for encoding in [
        "/%2e%2e", "/%2E", "/%61", "/%c3", "/%", "/%4", "/%zz", "/%2F", "/%5C", "/%25", "/%00", "/%0A", "/%7F", "/%+1", "/%\u{e9}",
    ] {
        assert!(matches!(error(encoding), PatternError::Encoding(_)), "{encoding}");
    }
    let deep = |n| "/a".repeat(n);
    assert!(Pattern::parse(&deep(MAX_SEGMENTS)).is_ok());
    assert_eq!(error(&deep(MAX_SEGMENTS + 1)), PatternError::TooLong);
}

#[test]
fn a_prefix_is_replaced_on_whole_segments_and_the_path_stays_a_path() {
    let rewrite = |prefix: &str, with: &str, path: &str| {
        let (prefix, with) = (prefix.to_owned(), with.to_owned());
        Rewrite::Prefix { prefix, with }.apply(path).into_owned()
    };
    for (prefix, with, path, forwarded) in [
        ("/api/v1", "", "/api/v1/orders/1", "/orders/1"),
        ("/api/v1", "", "/api/v1", "/"),
        ("/api/v1", "", "/api/v1/", "/"),
        ("/api/v1", "/internal", "/api/v1/orders", "/internal/orders"),
        ("/api/v1", "/internal", "/api/v1", "/internal"),
        ("/api/v1", "/internal/", "/api/v1/", "/internal/"),
        ("/api/v1", "internal", "/api/v1/x", "/internal/x"),
        ("/api/v1/", "", "/api/v1/x", "/x"),
        ("/api/v1", "", "/api/v10/x", "/api/v10/x"),
        ("/api/v1", "", "/other", "/other"),
        ("", "/base", "/x", "/base/x"),
        ("/", "/base", "/x", "/base/x"),
        ("/", "/base", "/", "/base/"),
    ] {
        assert_eq!(rewrite(prefix, with, path), forwarded, "{prefix} -> {with}: {path}");
    }
    assert!(matches!(Rewrite::Keep.apply("/x"), Cow::Borrowed("/x")));
}

#[test]
fn options_star_is_no_route() {
    assert_eq!(found(&[route(&Method::ALL, "/**")], "h", Options, "*"), Err(NotFound::NoRoute));
}

#[test]
fn a_path_names_the_own_tenant_another_or_a_word() {
    let own = TenantId::parse("acme").unwrap();
    let read = |path: &str, unknown| TenantSegment { at: 3, unknown }.read(path, &own);
    for unknown in [UnknownTenant::Refused, UnknownTenant::Forwarded] {
        assert_eq!(read("/v1/tenants/acme", unknown), NamedTenant::Own);
        assert_eq!(read("/v1/tenants/acme/users/", unknown), NamedTenant::Own);
        for path in [
            "/v1/tenants/Acme",
            "/v1/tenants/acme%20",
            "/v1/tenants/a.b",
            "/v1/tenants/a:b",
            "/v1/tenants/",
            "/v1/tenants",
        ] {
            assert_eq!(read(path, unknown), NamedTenant::Other, "{path}");
        }
        let long = format!("/v1/tenants/{}", "a".repeat(129));
        assert_eq!(read(&long, unknown), NamedTenant::Other);
    }
    for word in ["add-user", "settings", "x_2", "globex"] {
        let path = format!("/v1/tenants/{word}/more");
        assert_eq!(read(&path, UnknownTenant::Refused), NamedTenant::Other);
        assert_eq!(
            read(&path, UnknownTenant::Forwarded),
            NamedTenant::Word(TenantId::parse(word).unwrap())
        );
    }
}

#[test]
fn a_literal_where_other_paths_name_a_tenant_is_found() {
    let mut routes = vec![
        route(&[Get], "/v1/tenants/{id}/**"),
        route(&[Get], "/v1/tenants/add-user"),
        route(&[Get], "/v1/others/remove-user"),
    ];
    let found = |routes: &[Route], id: &str| literal_beside_tenant(routes, &TenantId::parse(id).unwrap()).map(|route| route.name.clone());
    assert_eq!(found(&routes, "add-user"), None, "no path names a tenant");
    routes[0].options.tenant_segment = Some(TenantSegment {
        at: 3,
        unknown: UnknownTenant::Refused,
    });
    assert_eq!(found(&routes, "add-user").as_deref(), Some("/v1/tenants/add-user"));
    for other in ["remove-user", "acme", "{id}", "tenants"] {
        if let Ok(id) = TenantId::parse(other) {
            assert!(literal_beside_tenant(&routes, &id).is_none(), "{other}");
        }
    }
    routes.insert(0, route(&[Get], "/v1/others/more/add-user/x"));
    routes.push(route(&[Get], "/v1/tenants/{id}/add-user"));
    let literal = found(&routes, "add-user");
    assert_eq!(
        literal.as_deref(),
        Some("/v1/tenants/add-user"),
        "the same segments before, and no others"
    );
}
