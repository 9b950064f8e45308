//! Where a credential may stand, and what happens when two places hold one.

use super::*;
use crate::decide::surface::SessionSurface;

const SESSION: &str = "__Host-session";

fn with_cookie(line: &str) -> Result<usize, Denial> {
    verdict(&[("cookie", line)], &[DASHBOARD])
}

fn good() -> String {
    format!("{SESSION}={JWT}")
}

#[test]
fn h9_two_explicit_credentials_are_ambiguous_whatever_they_hold() {
    let (api, access, cookie) = (bearer(&key("hlive_")), key("htpk_live_"), good());
    let (pk, sk) = (key("pk_live_"), key("sk_live_"));
    let cases: &[&[(&str, &str)]] = &[
        &[("authorization", &api), ("authorization", &api)],
        &[("Authorization", &api), ("AUTHORIZATION", "Basic x")],
        &[("authorization", "Bearer a, Bearer b")],
        &[("authorization", "Bearer a,b")],
        &[("authorization", &api), ("x-api-key", &pk), ("cookie", &cookie)],
        &[("authorization", &api), ("x-api-key", "")],
        &[("authorization", &api), ("x-api-secret", "x")],
        &[("authorization", &api), ("x-access-token", &access)],
        &[("authorization", "Basic x"), ("x-access-token", &access)],
        &[("authorization", &api), ("x-api-key", &pk), ("x-api-secret", &sk)],
        &[("x-api-key", &pk), ("x-api-secret", &sk), ("x-legacy-key", "lg-1")],
        &[("x-api-key", &pk), ("x-api-key", &pk)],
        &[("x-api-key", &pk), ("x-api-key", &pk), ("x-api-secret", &sk)],
        &[("x-api-key", &pk), ("x-api-secret", &sk), ("x-api-secret", &sk)],
        &[("x-api-secret", &sk), ("x-api-secret", &sk)],
        &[("x-portal-session", JWT), ("authorization", &api)],
        &[("x-access-token", "a, b")],
        &[("x-access-token", ","), ("cookie", &cookie)],
    ];
    for case in cases {
        for accepted in [
            &[API][..],
            &[ACCESS],
            &[PAIR],
            &[DASHBOARD],
            &[API, DASHBOARD, PORTAL, ACCESS, PAIR, LEGACY],
        ] {
            assert_eq!(verdict(case, accepted), Err(Denial::AmbiguousCredentials), "{case:?} {accepted:?}");
        }
    }
    assert_eq!(verdict(&[("authorization", &api), ("cookie", &cookie)], &[API]), Ok(API));
}

#[test]
fn h9_a_header_that_carries_nothing_on_any_surface_is_no_second_credential() {
    let api = bearer(&key("hlive_"));
    assert_eq!(verdict(&[("authorization", &api), ("x-some-key", "x")], &[API]), Ok(API));
}

#[test]
fn one_space_and_one_token_follow_the_scheme() {
    let live = key("hlive_");
    for good in [
        format!("Bearer {live}"),
        format!("bearer {live}"),
        format!("BEARER {live}"),
        format!("Bearer  {live}"),
        format!("Bearer    {live}"),
    ] {
        assert_eq!(verdict(&[("authorization", &good)], &[API]), Ok(API), "{good}");
    }
    for bad in [
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer   ".to_owned(),
        format!("Bearer\t{live}"),
        format!("Bearer \t{live}"),
        format!("Bearer {live} x"),
        format!("Bearer {live}\t"),
        format!("Bearer {live}\u{a0}"),
        format!("Bearer \"{live}\""),
        format!("Bearer={live}"),
    ] {
        assert_eq!(
            verdict(&[("authorization", &bad)], &[API]),
            Err(Denial::MalformedCredential),
            "{bad:?}"
        );
    }
}

#[test]
fn an_explicit_header_beats_a_cookie_even_when_it_is_bad() {
    let (cookie, both) = (good(), &[API, DASHBOARD]);
    let api = bearer(&key("hlive_"));
    assert_eq!(verdict(&[("cookie", &cookie), ("authorization", &api)], both), Ok(API));
    let bad = verdict(&[("cookie", &cookie), ("authorization", "Bearer hlive_x")], both);
    assert_eq!(bad, Err(Denial::MalformedCredential));
    let foreign = verdict(&[("cookie", &cookie), ("authorization", &api)], &[DASHBOARD]);
    assert_eq!(foreign, Err(Denial::WrongSurface));
    let other_scheme = verdict(&[("cookie", &cookie), ("authorization", "Basic x")], &[DASHBOARD]);
    assert_eq!(other_scheme, Ok(DASHBOARD), "another scheme is no credential of ours");
}

#[test]
fn a_cookie_counts_only_where_its_surface_is_accepted() {
    assert_eq!(with_cookie(&good()), Ok(DASHBOARD));
    for accepted in [API, PORTAL, PAIR] {
        assert_eq!(verdict(&[("cookie", &good())], &[accepted]), Err(Denial::MissingCredential));
    }
}

#[test]
fn k8_the_session_cookie_twice_is_malformed() {
    for line in [
        format!("{SESSION}=evil; {}", good()),
        format!("{}; {SESSION}=evil", good()),
        format!("{0}; {0}", good()),
        format!("{}; {SESSION}=", good()),
        format!("{}; {SESSION} =evil", good()),
    ] {
        assert_eq!(with_cookie(&line), Err(Denial::MalformedCredential), "{line}");
    }
    let crumbs = [("cookie", good()), ("cookie", format!("{SESSION}=evil"))];
    let crumbs: Vec<_> = crumbs.iter().map(|(n, v)| (*n, v.as_str())).collect();
    assert_eq!(verdict(&crumbs, &[DASHBOARD]), Err(Denial::MalformedCredential));
}

#[test]
fn k8_crumbs_over_several_lines_are_one_set_of_cookies() {
    let cookie = good();
    let crumbs = [("cookie", "a=b"), ("accept", "*/*"), ("cookie", cookie.as_str()), ("Cookie", "c=d")];
    assert_eq!(verdict(&crumbs, &[DASHBOARD]), Ok(DASHBOARD));
}

#[test]
fn k8_cookie_names_are_compared_exactly() {
    for line in [
        format!("\u{2000}{}", good()),
        format!("x{}", good()),
        format!("={}", good()),
        format!("__host-session={JWT}"),
        format!("$Version=1; $Path=/; {SESSION}x={JWT}"),
        format!("\u{a0}{}", good()),
        format!("a=\"; x{}\"", good()),
        SESSION.to_owned(),
        "=".to_owned(),
        ";;;".to_owned(),
    ] {
        assert_eq!(with_cookie(&line), Err(Denial::MissingCredential), "{line}");
    }
    for line in [
        format!(" \t{}\t ", good()),
        format!("$Version=1; {}", good()),
        format!("a;b; {};", good()),
        format!("a=x={SESSION};{}", good()),
        format!("a=\";{};\"", good()),
    ] {
        assert_eq!(with_cookie(&line), Ok(DASHBOARD), "{line}");
    }
}

#[test]
fn k8_cookie_values_are_taken_as_they_are() {
    for line in [
        format!("{SESSION}=\"{JWT}\""),
        format!("$Version=1; {SESSION}=\"a; b={JWT}\""),
        format!("{SESSION}= {JWT}"),
        format!("{SESSION}=={JWT}"),
        format!("{SESSION}={JWT}%20"),
        format!("{SESSION} ={JWT}"),
        format!("{SESSION}="),
        format!("{SESSION}=a.b.{}", "c".repeat(4_096)),
    ] {
        assert_eq!(with_cookie(&line), Err(Denial::MalformedCredential), "{line}");
    }
}

#[test]
fn k8_more_cookies_than_a_browser_keeps_are_refused() {
    let line = |n: usize| format!("{}{}", "a=b; ".repeat(n - 1), good());
    assert_eq!(with_cookie(&line(200)), Ok(DASHBOARD));
    assert_eq!(with_cookie(&line(201)), Err(Denial::MalformedCredential));
    let api = bearer(&key("hlive_"));
    let beside = verdict(&[("cookie", &line(201)), ("authorization", &api)], &[API]);
    assert_eq!(beside, Ok(API), "nobody looked for a cookie");
}

#[test]
fn h9_two_cookies_of_two_accepted_surfaces_are_ambiguous() {
    let mut all = surfaces();
    if let SurfaceKind::Session(SessionSurface { carriers, .. }) = &mut all[PORTAL].kind {
        carriers.push(Carrier::Cookie("portal".into()));
    }
    let head = fields(&[("cookie", &format!("portal={JWT}; {}", good()))]);
    let accepts = |accepted: &[usize]| {
        let accepted: Vec<_> = accepted.iter().map(|i| SurfaceIndex(*i)).collect();
        extract(&head, &all, &accepted).map(|e| e.surface.0)
    };
    assert_eq!(accepts(&[DASHBOARD, PORTAL]), Err(Denial::AmbiguousCredentials));
    assert_eq!(accepts(&[DASHBOARD]), Ok(DASHBOARD));
    assert_eq!(accepts(&[PORTAL]), Ok(PORTAL));
}

#[test]
fn an_api_key_is_never_read_from_a_cookie() {
    let carriers = [Carrier::Cookie("key".into()), Carrier::BEARER];
    let all = [api_key("api", &carriers, "htst_", "hlive_", KeyOrigin::Generated)];
    let live = key("hlive_");
    let found = |name: &str, value: &str| extract(&fields(&[(name, value)]), &all, &[SurfaceIndex(0)]).map(|e| e.surface.0);
    assert_eq!(found("cookie", &format!("key={live}")), Err(Denial::MissingCredential));
    assert_eq!(found("authorization", &bearer(&live)), Ok(0));
}
