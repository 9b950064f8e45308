//! Pages of other origins: preflights, what they may read, whose cookies count, and the scheme behind a proxy.

use std::io::{Read as _, Write as _};

use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};
use crate::support::site::{Plan, ROUTES, SESSION_SECRET, Site};
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, until};
use crate::support::websocket::WebSocket;

use super::upgrade::{MORE, admit};
use super::{call, head};

const APP: (&str, &str) = ("Origin", "https://app.example.com");
const EVIL: (&str, &str) = ("Origin", "https://evil.example");

const CORS: &str = r#"
[cors]
origins = ["https://app.example.com"]
credentials = true
request_headers = ["Idempotency-Key"]
response_headers = ["X-Total"]
max_age = "5m"
"#;

/// Routes beside the usual ones: with rules of their own, with none, and with answers of every kind.
const PAGES: &str = r#"
[[routes]]
path = "/own/**"
access = "public"
cors = "none"

[[routes]]
path = "/partner/**"
methods = ["GET", "POST"]
access = { surfaces = ["session"] }
cors = { origins = ["https://partner.example"] }

[[routes]]
path = "/limited"
methods = ["GET"]
access = "public"
limits = [{ by = "route", rate = "1/1h" }]

[[routes]]
path = "/slow"
methods = ["GET"]
access = "public"
response_timeout = "50ms"

[[routes]]
path = "/small"
methods = ["POST"]
access = "public"
max_body = "1B"

[[routes]]
path = "/change"
methods = ["GET", "POST"]
access = { surfaces = ["session"] }
"#;

/// A service that says of CORS what it likes, streams events, breaks off, and never answers `/slow`.
fn service() -> Upstream {
    Upstream::scripted(When::Body, |request, stream| {
        let own = "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: X-Secret\r\nVary: Accept-Encoding\r\nX-Total: 3\r\n";
        match request.target.as_str() {
            "/slow" | "/public/hang" => {
                let _ = stream.read(&mut [0])?;
                return Ok(Then::Close);
            }
            "/public/broken" => write!(stream, "nonsense\r\n\r\n")?,
            "/public/events" => write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n{own}\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n"
            )?,
            _ if request.all("upgrade").is_empty() => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{own}\r\nok")?,
            _ => {
                crate::support::websocket::accept(stream)?;
                let _ = stream.read(&mut [0])?;
                return Ok(Then::Close);
            }
        }
        Ok(Then::Keep)
    })
}

struct Scene {
    upstream: Upstream,
    site: Site,
    gateway: Gateway,
    /// A key that may use the routes, as `Authorization` has it.
    bearer: String,
    /// A session of that key, as `Cookie` has it.
    cookie: String,
}

impl Scene {
    fn open(tables: &str) -> Self {
        let plan = Plan {
            tables: tables.to_owned(),
            upstream: format!("{ROUTES}{MORE}{PAGES}"),
            ..Plan::usual()
        };
        let upstream = service();
        let site = Site::of(&plan, upstream.address);
        let gateway = Gateway::start(&site);
        gateway.json(&["tenants", "create", "acme"]);
        let (made, bearer) = admit(&gateway);
        let claims = json!({ "sub": made["id"], "kind": "dashboard_session", "exp": jiff::Timestamp::now().as_second() + 60 });
        let key = jsonwebtoken::EncodingKey::from_secret(SESSION_SECRET.as_bytes());
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
        Self {
            upstream,
            site,
            gateway,
            bearer,
            cookie: format!("session={token}"),
        }
    }

    fn call(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Response {
        call(&self.gateway, method, target, fields)
    }

    /// The status of a call with the cookie.
    fn with_cookie(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> u16 {
        let mut all = vec![("Cookie", self.cookie.as_str())];
        all.extend(fields);
        self.call(method, target, &all).status
    }

    /// The status of a handshake with the cookie.
    fn handshake(&self, fields: &[(&str, &str)]) -> u16 {
        let mut all = vec![("Cookie", self.cookie.as_str())];
        all.extend(fields);
        self.open_status("/session-ws/x", &all)
    }

    /// The status of a handshake.
    fn open_status(&self, target: &str, fields: &[(&str, &str)]) -> u16 {
        let client = Client::connect(self.gateway.address("plain"));
        WebSocket::open(client, target, fields).map_or_else(|refused| refused.status, |(_, answer)| answer.status)
    }
}

fn cors_fields(answer: &Response) -> Vec<(&str, &str)> {
    let fields = answer.fields.iter().filter(|(name, _)| name.starts_with("access-control-"));
    fields.map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// What every answer carries that a page of the application may read.
const READABLE: [(&str, &str); 3] = [
    ("access-control-allow-origin", "https://app.example.com"),
    ("access-control-allow-credentials", "true"),
    (
        "access-control-expose-headers",
        "X-Request-Id, Retry-After, RateLimit, RateLimit-Policy, X-Total",
    ),
];

#[test]
fn a_preflight_is_answered_before_anybody_is_asked_who_they_are() {
    let scene = Scene::open(CORS);
    let ask = |target: &str, origin, method, headers| {
        let fields = [
            origin,
            ("Access-Control-Request-Method", method),
            ("Access-Control-Request-Headers", headers),
        ];
        scene.call("OPTIONS", target, &fields)
    };
    for target in ["/v1/session/x", "/change", "/v1/orders/1", "/v1/pairs/1"] {
        let answer = ask(target, APP, "GET", "authorization,idempotency-key");
        assert_eq!(answer.status, 204, "{target}: {answer:?}");
        assert_eq!(cors_fields(&answer)[..2], READABLE[..2], "{target}");
        assert_eq!(answer.field("access-control-max-age"), Some("300"));
        let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        assert_eq!(answer.field("vary"), Some(vary));
        assert!(answer.field("x-request-id").is_some());
    }
    let pair = ask("/v1/pairs/1", APP, "POST", "x-api-key, X-Api-Secret");
    assert_eq!(
        (pair.status, pair.field("access-control-allow-methods")),
        (204, Some("GET, HEAD, POST"))
    );
    for (target, origin, method, headers, code) in [
        ("/change", EVIL, "GET", "", "cors_refused"),
        ("/change", ("Origin", "null"), "GET", "", "cors_refused"),
        ("/change", APP, "DELETE", "", "cors_refused"),
        ("/change", APP, "TRACE", "", "cors_refused"),
        ("/change", APP, "GET", "x-api-key", "cors_refused"),
        ("/change", APP, "GET", "X-Tenant-Id", "cors_refused"),
        ("/partner/x", APP, "GET", "", "cors_refused"),
    ] {
        let answer = ask(target, origin, method, headers);
        assert_eq!(answer.status, 403, "{target} {origin:?} {method} {headers}: {answer:?}");
        assert_eq!(answer.json()["code"], code);
        assert_eq!(cors_fields(&answer), [], "{target} {origin:?} {method} {headers}");
    }
    // Nothing is there, and a page of the application may read that.
    let nowhere = ask("/nowhere", APP, "GET", "");
    assert_eq!((nowhere.status, &cors_fields(&nowhere)[..]), (404, &READABLE[..]));
    assert_eq!(scene.upstream.count(), 0, "no preflight reaches a service");
    // The twins: an OPTIONS that asks nothing of the kind, and a route without rules, are forwarded.
    assert_eq!(scene.call("OPTIONS", "/public/x", &[APP]).status, 200);
    let own = ask("/own/x", EVIL, "GET", "x-any");
    assert_eq!((own.status, own.field("access-control-allow-origin")), (200, Some("*")));
    assert_eq!(scene.upstream.count(), 2);
}

#[test]
fn every_answer_to_a_listed_origin_can_be_read_and_none_to_another() {
    let scene = Scene::open(CORS);
    let bearer = ("Authorization", scene.bearer.as_str());
    let long = format!("/public/{}", "x".repeat(9_000));
    assert_eq!(scene.call("GET", "/limited", &[]).status, 200, "the one call of this hour");
    for (status, method, target, fields) in [
        (200, "GET", "/v1/orders/1", &[bearer][..]),
        (200, "GET", "/public/events", &[]),
        (200, "HEAD", "/public/x", &[]),
        (401, "GET", "/v1/orders/1", &[]),
        (401, "GET", "/v1/orders/1", &[("Authorization", "Bearer tlive_nonsense")]),
        (403, "GET", "/admin/x", &[bearer]),
        (404, "GET", "/nowhere", &[]),
        (405, "PATCH", "/v1/orders/1", &[bearer]),
        (405, "TRACE", "/v1/orders/1", &[]),
        (400, "GET", "/public/%2e%2e/x", &[]),
        (400, "GET", "/public/x", &[("X_Tenant_Id", "evil")]),
        (400, "GET", "/public/x", &[("Bad Name", "x")]),
        (414, "GET", &long, &[]),
        (417, "POST", "/public/x", &[("Expect", "more")]),
        (413, "POST", "/small", &[("Content-Length", "2")]),
        (429, "GET", "/limited", &[]),
        (502, "GET", "/public/broken", &[]),
        (504, "GET", "/slow", &[]),
    ] {
        let ask = |origin: Option<(&str, &str)>| {
            let fields: Vec<_> = fields.iter().copied().chain(origin).collect();
            scene.call(method, target, &fields)
        };
        let answer = ask(Some(APP));
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        assert_eq!(cors_fields(&answer), READABLE, "{method} {target}");
        for origin in [
            None,
            Some(EVIL),
            Some(("Origin", "null")),
            Some(("Origin", "http://app.example.com")),
        ] {
            let other = ask(origin);
            assert_eq!(
                (other.status, cors_fields(&other)),
                (status, vec![]),
                "{method} {target} {origin:?}"
            );
        }
        for answer in [answer, ask(None)] {
            let vary = answer.field("vary").unwrap_or_default();
            let expected = if status == 200 { "Accept-Encoding, Origin" } else { "Origin" };
            assert_eq!(vary, expected, "{method} {target}");
        }
    }
    let slow = scene.call("GET", "/limited", &[APP]);
    assert!(slow.field("retry-after").is_some() && slow.field("ratelimit").is_some(), "{slow:?}");
    // The route's own rules beat those of the gateway.
    let partner = scene.call("GET", "/partner/x", &[("Origin", "https://partner.example")]);
    let told = cors_fields(&partner);
    assert_eq!(told[0], ("access-control-allow-origin", "https://partner.example"));
    assert_eq!(partner.field("access-control-allow-credentials"), None);
    assert_eq!(cors_fields(&scene.call("GET", "/partner/x", &[APP])), []);
}

#[test]
fn a_request_without_a_place_is_refused_so_that_a_page_can_read_it() {
    let scene = Scene::open(&format!("{CORS}\n[limits]\nrequests = 1\n"));
    // There is one place for each of the two workers; whoever comes third is refused.
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(scene.gateway.address("plain"))).collect();
    for (already, client) in clients.iter_mut().enumerate() {
        until("those before to be in flight", PATIENCE, || {
            (scene.upstream.count() == already).then_some(())
        });
        client.send(&head("GET", "/public/hang", &[APP]));
    }
    let refused = clients.pop().and_then(|mut client| client.response()).expect("a refusal");
    assert_eq!((refused.status, &cors_fields(&refused)[..]), (503, &READABLE[..]));
}

#[test]
fn a_cookie_is_used_for_listed_origins_with_credentials_and_for_no_other() {
    let scene = Scene::open(CORS);
    let proofs = [
        &[APP][..],
        &[APP, ("Sec-Fetch-Site", "same-site")],
        &[APP, ("Sec-Fetch-Site", "cross-site")],
        &[("Origin", "http://localhost")],
        &[("Sec-Fetch-Site", "same-origin")],
    ];
    for fields in proofs {
        assert_eq!(scene.with_cookie("GET", "/change", fields), 200, "{fields:?}");
        assert_eq!(scene.with_cookie("POST", "/change", fields), 200, "{fields:?}");
        assert_eq!(scene.handshake(fields), 101, "{fields:?}");
    }
    scene.upstream.forget();
    for fields in [
        &[EVIL][..],
        &[EVIL, ("Sec-Fetch-Site", "same-site")],
        &[EVIL, ("Sec-Fetch-Site", "same-origin")],
        &[("Origin", "null")],
        &[("Origin", "http://app.example.com")],
        &[APP, APP],
    ] {
        assert_eq!(scene.with_cookie("GET", "/change", fields), 403, "not even read: {fields:?}");
        assert_eq!(scene.with_cookie("POST", "/change", fields), 403, "{fields:?}");
        assert_eq!(scene.handshake(fields), 403, "{fields:?}");
    }
    // Listed, but without credentials.
    let partner = ("Origin", "https://partner.example");
    assert_eq!(scene.with_cookie("GET", "/partner/x", &[partner]), 403);
    assert_eq!(scene.with_cookie("POST", "/partner/x", &[partner]), 403);
    // A request without `Origin` is not from a page of another origin: its cookie reads, and changes nothing.
    assert_eq!(scene.with_cookie("POST", "/change", &[]), 403);
    assert_eq!(scene.handshake(&[]), 403);
    assert_eq!(scene.upstream.count(), 0);
    assert_eq!(
        scene.with_cookie("GET", "/change", &[("Sec-Fetch-Site", "cross-site")]),
        200,
        "a link"
    );
    let token = format!("Bearer {}", scene.cookie.trim_start_matches("session="));
    let by_header = scene.call("POST", "/partner/x", &[partner, ("Authorization", &token)]);
    assert_eq!(by_header.status, 200, "the page's own doing");
}

#[test]
fn a_page_that_is_not_listed_opens_no_websocket_where_rules_stand() {
    let scene = Scene::open(CORS);
    let bearer = ("Authorization", scene.bearer.as_str());
    for origin in [EVIL, ("Origin", "null"), ("Origin", "http://app.example.com")] {
        assert_eq!(scene.open_status("/open/x", &[origin]), 403, "{origin:?}");
    }
    assert_eq!(scene.upstream.count(), 0);
    for fields in [&[APP][..], &[("Origin", "http://localhost")], &[]] {
        assert_eq!(scene.open_status("/open/x", fields), 101, "{fields:?}");
    }
    // A page cannot send `Authorization` with a handshake, so a program sent this.
    assert_eq!(scene.open_status("/ws/x", &[EVIL, bearer]), 101);
}

#[test]
fn without_rules_everything_is_as_the_service_says() {
    let scene = Scene::open("");
    let ask = [EVIL, ("Access-Control-Request-Method", "GET")];
    assert_eq!(scene.call("OPTIONS", "/v1/session/x", &ask).status, 405);
    assert_eq!(scene.call("OPTIONS", "/public/x", &ask).status, 200);
    let answer = scene.call("GET", "/public/x", &[EVIL]);
    assert_eq!(
        cors_fields(&answer),
        [("access-control-allow-origin", "*"), ("access-control-expose-headers", "X-Secret")]
    );
    assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
    assert_eq!(scene.with_cookie("GET", "/change", &[EVIL]), 200);
    assert_eq!(scene.with_cookie("POST", "/change", &[EVIL]), 403);
    assert_eq!(scene.open_status("/open/x", &[EVIL]), 101);
}

#[test]
fn the_scheme_of_a_proof_is_what_a_trusted_proxy_tells() {
    let scene = Scene::open("[proxies]\ntrusted = [\"127.0.0.2\"]\n");
    let status = |source: &str, target: &str, fields: &[(&str, &str)]| {
        let mut client = Client::connect_from(source.parse().unwrap(), scene.gateway.address("plain"));
        let mut all = vec![("Cookie", scene.cookie.as_str()), ("Origin", "https://localhost")];
        all.extend(fields);
        if target.contains("-ws") {
            return WebSocket::open(client, target, &all).map_or_else(|refused| refused.status, |(_, answer)| answer.status);
        }
        client.send(&head("POST", target, &all));
        client.response().expect("an answer").status
    };
    let (proxy, stranger) = ("127.0.0.2", "127.0.0.3");
    for told in [("X-Forwarded-Proto", "https"), ("Forwarded", "for=192.0.2.1;proto=https")] {
        assert_eq!(status(proxy, "/change", &[told]), 200, "{told:?}");
        assert_eq!(status(proxy, "/session-ws/x", &[told]), 101, "{told:?}");
        assert_eq!(status(stranger, "/change", &[told]), 403, "an untrusted peer: {told:?}");
        assert_eq!(status(stranger, "/session-ws/x", &[told]), 403, "an untrusted peer: {told:?}");
    }
    for told in ["http", "https, http", "garbage", ""] {
        assert_eq!(status(proxy, "/change", &[("X-Forwarded-Proto", told)]), 403, "{told}");
    }
    assert_eq!(status(proxy, "/change", &[]), 403);
    // A proxy that asks by another `Host` tells which one its client used.
    let by_host = |source: &str, host: &str| {
        let mut client = Client::connect_from(source.parse().unwrap(), scene.gateway.address("plain"));
        let fields = [
            ("Cookie", scene.cookie.as_str()),
            ("Origin", "https://api.example.com"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", host),
        ];
        client.send(&head("POST", "/change", &fields));
        client.response().expect("an answer").status
    };
    assert_eq!(by_host(proxy, "api.example.com"), 200);
    assert_eq!(by_host(stranger, "api.example.com"), 403);
    for host in ["evil.example", "api.example.com, evil.example", "u@api.example.com", ""] {
        assert_eq!(by_host(proxy, host), 403, "{host}");
    }
}

#[test]
fn http_2_tells_the_same() {
    let scene = Scene::open(CORS);
    super::h2::on_a_runtime(async {
        let sender = super::h2::connect(&scene.gateway, &scene.site).await;
        let ask = async |method: &str, target: &str, fields: &[(&str, &str)]| {
            let mut request = http::Request::builder().method(method).uri(format!("https://localhost{target}"));
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let mut ready = sender.clone().ready().await.unwrap();
            let (response, _) = ready.send_request(request.body(()).unwrap(), true).unwrap();
            response.await.unwrap()
        };
        let method = ("access-control-request-method", "POST");
        let granted = ask("OPTIONS", "/change", &[APP, method]).await;
        assert_eq!(granted.status(), 204);
        assert_eq!(granted.headers()["access-control-allow-methods"], "GET, HEAD, POST");
        let refused = ask("OPTIONS", "/change", &[EVIL, method]).await;
        assert_eq!(refused.status(), 403);
        assert!(!refused.headers().contains_key("access-control-allow-origin"));
        for (target, status) in [("/public/x", 200), ("/public/events", 200), ("/change", 401), ("/nowhere", 404)] {
            let answer = ask("GET", target, &[APP]).await;
            assert_eq!(answer.status(), status, "{target}");
            let headers = answer.headers();
            for (name, value) in READABLE {
                let all: Vec<_> = headers.get_all(name).iter().collect();
                assert_eq!(all, [value], "{target}: {name}");
            }
        }
        let cookie = ("cookie", scene.cookie.as_str());
        assert_eq!(ask("POST", "/change", &[APP, cookie]).await.status(), 200);
        assert_eq!(ask("POST", "/change", &[EVIL, cookie]).await.status(), 403);
    });
}
