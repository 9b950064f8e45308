//! Who is listed, what preflights are told, and what answers carry.

use proptest::prelude::*;

use super::*;

fn rules(origins: &[&str], cookies: CorsCookies) -> CorsRules {
    CorsRules {
        origins: origins.iter().map(|text| OriginRule::parse(text).expect(text)).collect(),
        cookies,
        request_headers: vec!["Idempotency-Key".to_owned()],
        response_headers: vec!["X-Total".to_owned(), "retry-after".to_owned()],
        max_age: 600,
    }
}

fn policy(origins: &[&str], cookies: CorsCookies) -> CorsPolicy {
    CorsPolicy::new(&rules(origins, cookies), ["x-portal-session"], ["X-Session-Token"])
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in pairs {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    fields
}

fn texts(fields: &Fields) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|f| format!("{}: {}", text(f.name), text(f.value))).collect()
}

fn takes(rule: &str, origin: &str) -> bool {
    let rule = OriginRule::parse(rule).expect(rule);
    PageOrigin::parse(origin.as_bytes()).is_some_and(|origin| rule.takes(&origin))
}

#[test]
fn an_origin_is_its_scheme_host_and_port_and_nothing_less() {
    for (rule, origin) in [
        ("https://app.example.com", "https://app.example.com"),
        ("https://app.example.com", "https://app.example.com:443"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("https://app.example.com", "HTTPS://App.Example.COM"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("https://xn--mller-kva.example", "https://xn--mller-kva.example"),
        ("*", "https://anybody.example"),
        ("https://*.example.com", "https://app.example.com"),
        ("https://*.example.com", "https://App.example.com:443"),
        ("https://*.example.com:8443", "https://a.example.com:8443"),
        ("https://*.eu.example.com", "https://app.eu.example.com"),
    ] {
        assert!(takes(rule, origin), "{rule} takes {origin}");
    }
    for (rule, origin) in [
        ("https://app.example.com", "http://app.example.com"),
        ("https://app.example.com", "https://app.example.com:8443"),
        ("https://app.example.com", "https://app.example.com:80"),
        ("https://app.example.com", "https://app.example.com.evil.example"),
        ("https://app.example.com", "https://evilapp.example.com"),
        ("https://app.example.com", "https://app.example.co"),
        ("https://app.example.com", "https://app.example.com/"),
        ("https://app.example.com", "https://app.example.com."),
        ("https://app.example.com", "https://app.example.com:"),
        ("https://app.example.com", "https://app.example.com:0443"),
        ("https://app.example.com", "https://evil@app.example.com"),
        ("https://app.example.com", "https://app.example.com https://evil.example"),
        ("https://app.example.com", "app.example.com"),
        ("https://app.example.com", "null"),
        ("*", "null"),
        ("*", ""),
        ("*", "https://"),
        ("*", "https://a_b.example:99999"),
        ("https://*.example.com", "https://example.com"),
        ("https://*.example.com", "https://a.b.example.com"),
        ("https://*.example.com", "https://.example.com"),
        ("https://*.example.com", "https://app.example.com.evil.example"),
        ("https://*.example.com", "https://evilexample.com"),
        ("https://*.example.com", "http://app.example.com"),
        ("https://*.example.com", "https://app.example.com:8443"),
        ("https://*.example.com", "https://*.example.com"),
    ] {
        assert!(!takes(rule, origin), "{rule} does not take {origin}");
    }
}

#[test]
fn what_is_wrong_with_a_listed_origin_is_told_with_what_to_write() {
    use super::origin::OriginMistake as M;
    for (text, mistake, instead) in [
        ("null", M::Null, None),
        ("app.example.com", M::NoScheme, Some("https://app.example.com")),
        ("*.example.com", M::NoScheme, Some("https://*.example.com")),
        ("//app.example.com", M::NoScheme, Some("https://app.example.com")),
        ("localhost:3000", M::NoScheme, Some("https://localhost:3000")),
        ("", M::NoScheme, None),
        ("https://app.example.com/", M::Slash, Some("https://app.example.com")),
        ("https://App.example.com/", M::Slash, Some("https://app.example.com")),
        ("https://app.example.com/login", M::Path, Some("https://app.example.com")),
        ("https://app.example.com?x", M::Path, Some("https://app.example.com")),
        ("https://app.example.com#x", M::Path, Some("https://app.example.com")),
        ("https://*.example.com/*", M::Path, Some("https://*.example.com")),
        ("https://ann:pw@app.example.com", M::User, Some("https://app.example.com")),
        ("https://App.example.com", M::UpperCase, Some("https://app.example.com")),
        ("HTTPS://app.example.com", M::UpperCase, Some("https://app.example.com")),
        ("https://müller.example", M::NotAscii, None),
        ("https://*", M::Wildcard, None),
        ("https://*.com", M::Wildcard, None),
        ("https://*app.example.com", M::Wildcard, None),
        ("https://app.*.com", M::Wildcard, None),
        ("https://*.*.example.com", M::Wildcard, None),
        ("https://*.127.0.0.1", M::Wildcard, None),
        ("https://app.example.com:0", M::Malformed, None),
        ("https://app.example.com:port", M::Malformed, None),
        ("https://app..example.com", M::Malformed, None),
        ("https:// app.example.com", M::Malformed, None),
        ("https://", M::Malformed, None),
        ("https://[::1", M::Malformed, None),
        ("1https://app.example.com", M::Malformed, None),
    ] {
        let told = OriginRule::parse(text).expect_err(text);
        assert_eq!(told, (mistake, instead.map(str::to_owned)), "{text}");
    }
}

proptest! {
    /// Whatever passes for an origin can be written into a head, is itself, and is its own only spelling but for case and
    /// default port.
    #[test]
    fn whatever_is_an_origin_can_be_told_back(text in "(https?|app|null|HTTP)?(://|:/|//)?[a-zA-Z0-9.*:@/\\[\\]%_ \r\n-]{0,24}") {
        let Some(origin) = PageOrigin::parse(text.as_bytes()) else { return Ok(()) };
        prop_assert!(text.bytes().all(|b| b.is_ascii_graphic()));
        prop_assert!(!text.contains(['*', '@', '%', ',']) && text.matches('/').count() == 2);
        let listed = OriginRule::parse(&text.to_ascii_lowercase()).expect("a page's origin can be listed");
        prop_assert!(listed.takes(&origin));
    }

    #[test]
    fn no_bytes_are_too_odd_to_be_judged(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let known = PageOrigin::parse(&bytes).is_some();
        prop_assert!(!known || bytes.is_ascii());
        let policy = policy(&["https://app.example.com", "https://*.example.com"], CorsCookies::Used);
        prop_assert!(!policy.trusts(&bytes) || bytes.to_ascii_lowercase().starts_with(b"https://"));
    }

    /// A wildcard is one label, whatever the label is.
    #[test]
    fn a_wildcard_is_one_label(labels in proptest::collection::vec("[a-z0-9-]{1,5}", 0..4)) {
        let origin = ["https://", &labels.iter().map(|l| format!("{l}.")).collect::<String>(), "example.com"].concat();
        prop_assert_eq!(takes("https://*.example.com", &origin), labels.len() == 1);
    }
}

#[test]
fn every_answer_to_a_listed_origin_says_that_its_page_may_read_it() {
    let marked = |policy: &CorsPolicy, request: &[(&str, &str)], answer: &[(&str, &str)]| {
        let mut answer = fields(answer);
        policy.mark(&fields(request), &mut answer);
        texts(&answer)
    };
    let app = [("Origin", "https://app.example.com")];
    let exposed = "Access-Control-Expose-Headers: X-Request-Id, Retry-After, RateLimit, RateLimit-Policy, X-Session-Token, X-Total";
    let with = policy(&["https://app.example.com"], CorsCookies::Used);
    assert_eq!(
        marked(&with, &app, &[]),
        [
            "Vary: Origin",
            "Access-Control-Allow-Origin: https://app.example.com",
            "Access-Control-Allow-Credentials: true",
            exposed,
        ]
    );
    let without = policy(&["https://app.example.com"], CorsCookies::Unused);
    assert_eq!(
        marked(&without, &app, &[]),
        ["Vary: Origin", "Access-Control-Allow-Origin: https://app.example.com", exposed]
    );
    let any = policy(&["*"], CorsCookies::Unused);
    assert_eq!(marked(&any, &app, &[]), ["Vary: Origin", "Access-Control-Allow-Origin: *", exposed]);
    // Nobody else gets a field, whatever the service says, but caches are told that answers differ.
    let of_service = [
        ("access-control-allow-origin", "*"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Expose-Headers", "X-Own"),
        ("X-Own", "1"),
    ];
    for request in [
        &[][..],
        &[("Origin", "https://evil.example")],
        &[("Origin", "null")],
        &[("Origin", "")],
        &[("Origin", "https://app.example.com"), ("Origin", "https://app.example.com")],
        &[("Origin", "https://app.example.com, https://app.example.com")],
    ] {
        assert_eq!(marked(&with, request, &of_service), ["X-Own: 1", "Vary: Origin"], "{request:?}");
    }
    assert_eq!(
        marked(&with, &app, &of_service)[1..],
        [
            "Vary: Origin",
            "Access-Control-Allow-Origin: https://app.example.com",
            "Access-Control-Allow-Credentials: true",
            exposed
        ]
    );
}

#[test]
fn vary_is_merged_into_what_the_service_says() {
    let policy = policy(&["https://app.example.com"], CorsCookies::Unused);
    for (before, after) in [
        (&[][..], "Origin"),
        (&["Accept-Encoding"], "Accept-Encoding, Origin"),
        (&["Accept-Encoding, Accept", "Cookie"], "Accept-Encoding, Accept, Cookie, Origin"),
        (&["accept, ORIGIN"], "accept, ORIGIN"),
        (&["*"], "*"),
        // An empty field says nothing, and is not in the way.
        (&[""], "Origin"),
    ] {
        let mut answer = fields(&before.iter().map(|value| ("Vary", *value)).collect::<Vec<_>>());
        policy.mark(&fields(&[]), &mut answer);
        let told: Vec<_> = answer.all("vary").filter(|value| !value.is_empty()).collect();
        assert_eq!(told, [after.as_bytes()], "{before:?}");
    }
}

const ORIGIN: (&str, &str) = ("Origin", "https://app.example.com");
const METHOD: (&str, &str) = ("Access-Control-Request-Method", "POST");

/// The answer on a path where POST is the first route, DELETE the second, and GET the third, which has no policy.
fn asked(cors: &Cors, pairs: &[(&str, &str)]) -> Result<Option<Vec<String>>, Denial> {
    let fields = fields(pairs);
    let preflight = Preflight::of(Method::Options, &fields).expect("a preflight");
    let find = |method| match method {
        Method::Post => Some(RouteIndex(0)),
        Method::Delete => Some(RouteIndex(1)),
        Method::Get => Some(RouteIndex(2)),
        _ => None,
    };
    let answer = cors.answer(&preflight, find).map_err(|(denial, _)| denial)?;
    Ok(answer.map(|(fields, _)| texts(&fields)))
}

fn table(origins: &[&str], cookies: CorsCookies) -> Cors {
    Cors {
        routes: vec![Some(policy(origins, cookies)), Some(policy(origins, cookies)), None],
        others: None,
    }
}

#[test]
fn a_preflight_is_told_what_the_page_may_do() {
    let cors = table(&["https://app.example.com"], CorsCookies::Used);
    let asks = ("Access-Control-Request-Headers", "content-type,X-Portal-Session, idempotency-key");
    let headers = "accept, accept-language, authorization, content-language, content-type, idempotency-key, x-portal-session";
    assert_eq!(
        asked(&cors, &[ORIGIN, METHOD, asks]).unwrap().unwrap(),
        [
            "Access-Control-Allow-Origin: https://app.example.com".to_owned(),
            "Access-Control-Allow-Credentials: true".to_owned(),
            "Access-Control-Allow-Methods: POST, DELETE".to_owned(),
            format!("Access-Control-Allow-Headers: {headers}"),
            "Access-Control-Max-Age: 600".to_owned(),
            "Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers".to_owned(),
        ]
    );
    assert_eq!(
        asked(&cors, &[ORIGIN, ("Access-Control-Request-Method", "GET")]),
        Ok(None),
        "no policy"
    );
}

#[test]
fn a_preflight_is_refused_by_what_is_not_allowed() {
    let cors = table(&["https://app.example.com"], CorsCookies::Used);
    let headers = |value| ("Access-Control-Request-Headers", value);
    for origin in ["https://evil.example", "null", "http://app.example.com", "*", ""] {
        assert_eq!(asked(&cors, &[("Origin", origin), METHOD]), Err(Denial::CorsOrigin), "{origin}");
    }
    for method in ["PUT", "PATCH", "post", "TRACE", "*", "", "PO ST"] {
        let method = ("Access-Control-Request-Method", method);
        assert_eq!(asked(&cors, &[ORIGIN, method]), Err(Denial::CorsMethod), "{method:?}");
    }
    let many = vec!["accept"; MAX_REQUESTED_HEADERS].join(",");
    for good in ["", " , ", "accept", "ACCEPT ,\tcontent-type", &many] {
        assert!(matches!(asked(&cors, &[ORIGIN, METHOD, headers(good)]), Ok(Some(_))), "{good:?}");
    }
    let too_many = format!("{many},accept");
    for bad in [
        "x-other",
        "accept,x-other",
        "*",
        "x-tenant-id",
        "accept;q=1",
        "\"accept\"",
        "ac cept",
        &too_many,
    ] {
        assert_eq!(asked(&cors, &[ORIGIN, METHOD, headers(bad)]), Err(Denial::CorsHeader), "{bad:?}");
    }
    let two = [ORIGIN, METHOD, headers("accept"), headers("x-other")];
    assert_eq!(asked(&cors, &two), Err(Denial::CorsHeader), "every field is read");
}

#[test]
fn what_is_no_preflight_is_a_request_like_any_other() {
    let is = |method, pairs: &[(&str, &str)]| Preflight::of(method, &fields(pairs)).is_some();
    assert!(is(Method::Options, &[ORIGIN, METHOD]));
    assert!(!is(Method::Post, &[ORIGIN, METHOD]));
    assert!(!is(Method::Options, &[ORIGIN]));
    assert!(!is(Method::Options, &[METHOD]));
    assert!(!is(Method::Options, &[ORIGIN, ORIGIN, METHOD]));
    assert!(!is(Method::Options, &[ORIGIN, METHOD, METHOD]));
}

#[test]
fn a_private_network_is_opened_to_pages_that_are_listed_by_name_only() {
    let told = |origins: &[&str]| {
        let private = ("Access-Control-Request-Private-Network", "true");
        let answer = asked(&table(origins, CorsCookies::Unused), &[ORIGIN, METHOD, private])
            .unwrap()
            .unwrap();
        answer.iter().any(|line| line == "Access-Control-Allow-Private-Network: true")
    };
    assert!(told(&["https://app.example.com"]));
    assert!(told(&["https://*.example.com"]));
    assert!(!told(&["*"]), "every page of the world");
}

#[test]
fn methods_of_routes_with_other_rules_are_not_promised() {
    let mut cors = table(&["https://app.example.com"], CorsCookies::Used);
    cors.routes[1] = Some(policy(&["https://other.example"], CorsCookies::Used));
    let told = asked(&cors, &[ORIGIN, METHOD]).unwrap().unwrap();
    assert!(told.contains(&"Access-Control-Allow-Methods: POST".to_owned()), "{told:?}");
    cors.routes[1] = Some(policy(&["https://app.example.com"], CorsCookies::Unused));
    let told = asked(&cors, &[ORIGIN, METHOD]).unwrap().unwrap();
    assert!(told.contains(&"Access-Control-Allow-Methods: POST".to_owned()), "{told:?}");
}

#[test]
fn only_an_origin_that_is_listed_by_name_with_credentials_is_trusted() {
    let trusts = |origins: &[&str], cookies, origin: &str| policy(origins, cookies).trusts(origin.as_bytes());
    assert!(trusts(&["https://app.example.com"], CorsCookies::Used, "https://app.example.com"));
    assert!(trusts(&["https://*.example.com"], CorsCookies::Used, "https://app.example.com"));
    assert!(!trusts(
        &["https://app.example.com"],
        CorsCookies::Unused,
        "https://app.example.com"
    ));
    assert!(!trusts(&["https://app.example.com"], CorsCookies::Used, "https://evil.example"));
    assert!(!trusts(&["*"], CorsCookies::Unused, "https://app.example.com"));
    // Configuration does not load this; were it to, nobody would be trusted by it.
    assert!(!trusts(&["*"], CorsCookies::Used, "https://app.example.com"));
}
