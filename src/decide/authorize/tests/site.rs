//! What counts as proof that a request is not another site's.

use crate::base::credential::{Credential, TokenOrigin};
use crate::decide::authorize::{Carried, cross_site_proof};
use crate::decide::headers::Scheme;
use crate::wire::fields::Fields;

fn fields(lines: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in lines {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    fields
}

fn proven(lines: &[(&str, &str)]) -> bool {
    cross_site_proof(&fields(lines), "app.test", Scheme::Https)
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
    assert!(origin("https://app.test", "app.test:443", Scheme::Https));
    assert!(origin("http://app.test:80", "app.test", Scheme::Http));
    assert!(origin("http://app.test:8080", "app.test:8080", Scheme::Http));
    assert!(origin("http://[::1]:8080", "[::1]:8080", Scheme::Http));
    assert!(!origin("http://app.test:8080", "app.test", Scheme::Http));
    assert!(!origin("http://app.test", "app.test:443", Scheme::Http));
}

#[test]
fn only_a_cookie_is_carried_by_the_browser() {
    let carried = |credential, lines| Carried::of(&credential, &fields(lines), "app.test", Scheme::Https);
    let jwt = |origin| Credential::Jwt { token: b"a.b.c", origin };
    assert_eq!(carried(Credential::Key(b"k"), &[]), Carried::Explicitly);
    assert_eq!(carried(jwt(TokenOrigin::Header), &[]), Carried::Explicitly);
    assert_eq!(carried(jwt(TokenOrigin::Cookie), &[]), Carried::ByBrowserUnproven);
    let same = &[("sec-fetch-site", "same-origin")];
    assert_eq!(carried(jwt(TokenOrigin::Cookie), same), Carried::ByBrowserProven);
}
