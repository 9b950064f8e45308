//! What counts as proof that a request is not another site's.

use crate::base::credential::{Credential, TokenOrigin};
use crate::decide::authorize::Carried;
use crate::decide::authorize::site::cross_site_proof;
use crate::decide::cors::{CorsCookies, CorsPolicy, CorsRules, OriginRule};
use crate::decide::headers::UriScheme;
use crate::wire::fields::Fields;

fn fields(lines: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in lines {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    fields
}

fn proven(lines: &[(&str, &str)]) -> bool {
    cross_site_proof(&fields(lines), "app.test", UriScheme::Https)
}

#[test]
fn b10_the_browser_says_where_a_request_comes_from() {
    for good in [
        &[("sec-fetch-site", "same-origin")][..],
        &[("sec-fetch-site", "none")],
        &[("Sec-Fetch-Site", "same-origin"), ("origin", "https://app.test")],
        // A proxy ended TLS, or the browser was told of another scheme.
        &[("sec-fetch-site", "same-origin"), ("origin", "http://app.test")],
        &[("origin", "https://app.test")],
        &[("origin", "https://APP.test")],
        &[("origin", "https://app.test:443")],
    ] {
        assert!(proven(good), "{good:?}");
    }
    for bad in [
        &[][..],
        &[("referer", "https://app.test/")],
        &[("content-type", "application/json"), ("x-requested-with", "XMLHttpRequest")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "Same-Origin")],
        &[("sec-fetch-site", "")],
        &[("sec-fetch-site", "cross-site"), ("origin", "https://app.test")],
        &[("sec-fetch-site", "same-site"), ("origin", "https://app.test")],
        &[("sec-fetch-site", "same-origin"), ("origin", "https://evil.test")],
        &[("sec-fetch-site", "same-origin"), ("origin", "null")],
        &[("sec-fetch-site", "none"), ("origin", "null")],
        &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "same-origin")],
        &[("origin", "null")],
        &[("origin", "")],
        &[("origin", "https://")],
        &[("origin", "http://app.test")],
        &[("origin", "https://app.test:444")],
        &[("origin", "https://app.test:80")],
        &[("origin", "https://app.test/")],
        &[("origin", "https://app.test.evil.test")],
        &[("origin", "https://evil.test#app.test")],
        &[("origin", "https://x@app.test")],
        &[("origin", "https://sub.app.test")],
        &[("origin", "https://app.test https://evil.test")],
        &[("origin", "https://app.test"), ("origin", "https://app.test")],
    ] {
        assert!(!proven(bad), "{bad:?}");
    }
}

#[test]
fn default_ports_are_left_out_on_either_side() {
    let origin = |origin, authority, scheme| cross_site_proof(&fields(&[("origin", origin)]), authority, scheme);
    assert!(origin("https://app.test", "app.test:443", UriScheme::Https));
    assert!(origin("http://app.test:80", "app.test", UriScheme::Http));
    assert!(origin("http://app.test:8080", "app.test:8080", UriScheme::Http));
    assert!(origin("http://[::1]:8080", "[::1]:8080", UriScheme::Http));
    assert!(!origin("http://app.test:8080", "app.test", UriScheme::Http));
    assert!(!origin("http://app.test", "app.test:443", UriScheme::Http));
}

#[test]
fn only_a_cookie_is_carried_by_the_browser() {
    let carried = |credential, lines| Carried::of(&credential, &fields(lines), || ("app.test", UriScheme::Https), None);
    let jwt = |origin| Credential::Jwt { token: b"a.b.c", origin };
    assert_eq!(carried(Credential::Key(b"k"), &[]), Carried::Explicitly);
    assert_eq!(carried(jwt(TokenOrigin::Header), &[]), Carried::Explicitly);
    assert_eq!(carried(jwt(TokenOrigin::Cookie), &[]), Carried::ByBrowserUnproven);
    let same = &[("sec-fetch-site", "same-origin")];
    assert_eq!(carried(jwt(TokenOrigin::Cookie), same), Carried::ByBrowserProven);
}

/// How a cookie comes along with these fields, where this policy stands.
fn by_cookie(origins: &[&str], cookies: CorsCookies, lines: &[(&str, &str)]) -> Carried {
    let rules = CorsRules {
        origins: origins.iter().map(|text| OriginRule::parse(text).unwrap()).collect(),
        cookies,
        request_headers: Vec::new(),
        response_headers: Vec::new(),
        max_age: 0,
    };
    let policy = CorsPolicy::new(&rules, [], []);
    let cookie = Credential::Jwt {
        token: b"a.b.c",
        origin: TokenOrigin::Cookie,
    };
    Carried::of(&cookie, &fields(lines), || ("api.test", UriScheme::Https), Some(&policy))
}

#[test]
fn a_listed_origin_with_credentials_is_proof_of_intent() {
    for lines in [
        &[("origin", "https://app.test")][..],
        &[("origin", "https://app.test"), ("sec-fetch-site", "same-site")],
        &[("origin", "https://app.test"), ("sec-fetch-site", "cross-site")],
        // Behind a proxy that serves both under one name.
        &[("origin", "https://app.test"), ("sec-fetch-site", "same-origin")],
    ] {
        let used = by_cookie(&["https://app.test"], CorsCookies::Used, lines);
        assert_eq!(used, Carried::ByBrowserProven, "{lines:?}");
        let unused = by_cookie(&["https://app.test"], CorsCookies::Unused, lines);
        assert_eq!(unused, Carried::ByForeignPage, "listed without credentials: {lines:?}");
        let other = by_cookie(&["https://other.test"], CorsCookies::Used, lines);
        assert_eq!(other, Carried::ByForeignPage, "not listed: {lines:?}");
        assert_eq!(by_cookie(&["*"], CorsCookies::Unused, lines), Carried::ByForeignPage, "{lines:?}");
    }
}

#[test]
fn no_cookie_is_used_for_a_page_whose_origin_is_in_doubt() {
    for lines in [
        &[("origin", "null")][..],
        &[("origin", "null"), ("sec-fetch-site", "same-origin")],
        &[("origin", "")],
        &[("origin", "https://app.test/")],
        &[("origin", "https://app.test"), ("origin", "https://app.test")],
        &[("origin", "https://app.test"), ("sec-fetch-site", "a"), ("sec-fetch-site", "b")],
        &[("origin", "https://api.test.evil.test")],
    ] {
        let carried = by_cookie(&["https://app.test"], CorsCookies::Used, lines);
        assert_eq!(carried, Carried::ByForeignPage, "{lines:?}");
    }
}

#[test]
fn a_policy_takes_nothing_from_pages_of_this_origin() {
    for cookies in [CorsCookies::Used, CorsCookies::Unused] {
        let carried = |lines| by_cookie(&["https://app.test"], cookies, lines);
        assert_eq!(carried(&[("origin", "https://api.test")]), Carried::ByBrowserProven);
        assert_eq!(carried(&[("sec-fetch-site", "same-origin")]), Carried::ByBrowserProven);
        // Links, images and programs: they may read, as ever.
        assert_eq!(carried(&[]), Carried::ByBrowserUnproven);
        assert_eq!(carried(&[("sec-fetch-site", "cross-site")]), Carried::ByBrowserUnproven);
        // Its own origin over the other scheme is no proof, and no other page either.
        assert_eq!(carried(&[("origin", "http://api.test")]), Carried::ByBrowserUnproven);
    }
}
