//! `explain` says what the gateway then does, and changes nothing; routes that only report forward what they would refuse.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError, mpsc};

use serde_json::{Value, json};

use crate::support::canary::contains;
use crate::support::gateway::{Gateway, run};
use crate::support::raw::{Client, Response};
use crate::support::redis::RedisServer;
use crate::support::site::{Plan, SESSION_SECRET, Site, Store};
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, until};

/// Requests of the property test.
const REQUESTS: u64 = 1_000;

const ROUTES: &str = r#"
name = "main"
endpoints = ["http://{address}"]

[[routes]]
path = "/v1/orders/{id}"
methods = ["GET", "POST"]
access = { surfaces = ["api", "session"], scopes = ["orders:read"] }
max_body = "1KiB"

[[routes]]
path = "/v1/orders/**"
methods = ["DELETE"]
access = { surfaces = ["api"], scopes = ["orders:write"] }

[[routes]]
path = "/v1/tenants/{tenant}/orders"
methods = ["GET"]
access = { surfaces = ["api"], tenant = "path.tenant", unknown_tenant = "forward" }

[[routes]]
path = "/v1/pairs/**"
methods = ["GET", "POST"]
access = { surfaces = ["pair"], scopes = ["orders:read"] }
forward_credentials = true

[[routes]]
path = "/v1/limited"
methods = ["GET"]
access = { surfaces = ["api"] }
limits = [{ by = "credential", rate = "5/1h" }, { by = "address", rate = "400/1h" }]

[[routes]]
path = "/v1/watched"
methods = ["GET", "POST"]
access = { surfaces = ["api", "session"], scopes = ["orders:read"] }
insecure_report_only = true

[[routes]]
path = "/v1/strict"
methods = ["GET"]
access = { surfaces = ["api"] }

[[routes]]
path = "/v1/keys"
methods = ["GET"]
access = { surfaces = ["api"] }
serve = "list"
surface = "api"
[routes.answer]
body = "[]"

[[routes]]
path = "/public/**"
methods = ["GET", "POST", "OPTIONS"]
access = "public"

[[routes]]
hosts = ["shop.example"]
path = "/public/shop"
methods = ["GET"]
access = { surfaces = ["session"] }

[[routes]]
hosts = ["*.pages.example"]
path = "/public/**"
methods = ["GET", "POST"]
access = { surfaces = ["session"] }
cors = { origins = ["https://app.example"], credentials = true }
"#;

struct House {
    upstream: Upstream,
    site: Site,
    gateway: Gateway,
}

impl House {
    fn open() -> Self {
        Self::of(&Plan {
            upstream: ROUTES.to_owned(),
            ..Plan::usual()
        })
    }

    fn of(plan: &Plan) -> Self {
        Self::before(plan, Upstream::echoing())
    }

    fn before(plan: &Plan, upstream: Upstream) -> Self {
        let site = Site::of(plan, upstream.address);
        let gateway = Gateway::start(&site);
        for tenant in ["acme", "rival", "gone"] {
            gateway.json(&["tenants", "create", tenant]);
        }
        Self { upstream, site, gateway }
    }

    fn key(&self, tenant: &str, scopes: &[&str]) -> (String, String) {
        let mut more = vec!["--mode", "live"];
        for scope in scopes {
            more.extend(["--scope", scope]);
        }
        let made = self.gateway.create_key("api", tenant, &more);
        (text(&made, "id"), text(&made, "key"))
    }

    /// Explains by the operator API, as the command does.
    fn explain(&self, request: &Value) -> Value {
        let mut socket = UnixStream::connect(self.site.folder().join("state/admin.sock")).unwrap();
        let body = request.to_string();
        write!(
            socket,
            "POST /v1/explain HTTP/1.1\r\nHost: durward\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str(body).unwrap()
    }

    fn metrics(&self) -> String {
        let mut client = Client::connect(self.gateway.probes());
        client.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        String::from_utf8(client.final_response_to("GET").unwrap().body).unwrap()
    }

    /// What explaining must not move: requests, refusals, look-ups, limits.
    fn counted(&self) -> Vec<String> {
        let of_requests = [
            "durward_requests",
            "durward_refusals",
            "durward_report_only",
            "durward_cache",
            "durward_store_reads",
            "durward_limit",
            "durward_streams",
            "durward_upstream",
        ];
        let metrics = self.metrics();
        let lines = metrics.lines().filter(|line| of_requests.iter().any(|name| line.starts_with(name)));
        lines.map(str::to_owned).collect()
    }

    /// Access lines written so far.
    fn lines(&self) -> Vec<Value> {
        let output = String::from_utf8(self.gateway.output()).unwrap();
        let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line.get("took_us").is_some()).collect()
    }
}

fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("{member} in {value}")).to_owned()
}

/// SplitMix64: the same requests on every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.next() % all.len() as u64).unwrap()]
    }
}

type Headers = Vec<(String, String)>;

fn header(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// Everything that callers present here, good and bad.
fn credentials(house: &House) -> Vec<Headers> {
    let bearer = |key: &str| vec![header("Authorization", format!("Bearer {key}"))];
    let (reader, read) = house.key("acme", &["orders:read"]);
    let (_, all) = house.key("acme", &["orders:read", "orders:write"]);
    let (_, none) = house.key("acme", &[]);
    let (revoked, of_revoked) = house.key("acme", &["orders:read"]);
    let (disabled, of_disabled) = house.key("acme", &["orders:read"]);
    let (_, of_gone) = house.key("gone", &["orders:read"]);
    house.gateway.json(&["keys", "revoke", &revoked]);
    house.gateway.json(&["keys", "disable", &disabled]);
    house.gateway.json(&["tenants", "disable", "gone"]);
    let pair = house
        .gateway
        .create_key("pair", "acme", &["--mode", "live", "--scope", "orders:read"]);
    let (publishable, secret) = (text(&pair, "key"), text(&pair, "secret"));
    let unknown = durward::base::key::GeneratedKey::mint("tlive_").unwrap().expose().to_owned();
    let sandbox = durward::base::key::GeneratedKey::mint("ttest_").unwrap().expose().to_owned();
    let other_secret = durward::base::key::GeneratedKey::mint("sk_live_").unwrap().expose().to_owned();
    let token = |kind: &str, seconds: i64, secret: &str| {
        let claims = json!({ "sub": reader, "kind": kind, "exp": jiff::Timestamp::now().as_second() + seconds });
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    };
    let session = token("dashboard_session", 3_600, SESSION_SECRET);
    let mut twice = bearer(&read);
    twice.push(header("X-Api-Token", all.clone()));
    vec![
        Vec::new(),
        bearer(&read),
        bearer(&all),
        bearer(&none),
        bearer(&of_revoked),
        bearer(&of_disabled),
        bearer(&of_gone),
        bearer(&unknown),
        bearer(&sandbox),
        bearer("nonsense"),
        bearer(&session),
        bearer(&token("dashboard_session", -3_600, SESSION_SECRET)),
        bearer(&token("another_kind", 3_600, SESSION_SECRET)),
        bearer(&token(
            "dashboard_session",
            3_600,
            "another-session-secret-0123456789abcdef0123456789",
        )),
        vec![header("Cookie", format!("theme=dark; session={session}"))],
        vec![
            header("Cookie", format!("session={session}")),
            header("Sec-Fetch-Site", "same-origin"),
        ],
        vec![header("X-Api-Token", read.clone())],
        twice,
        vec![header("Authorization", "Basic YTpi")],
        vec![header("x-api-key", publishable.clone()), header("x-api-secret", secret)],
        vec![header("x-api-key", publishable.clone()), header("x-api-secret", other_secret)],
        vec![header("x-api-key", publishable)],
    ]
}

struct Generated {
    method: &'static str,
    host: &'static str,
    target: &'static str,
    headers: Headers,
}

impl Generated {
    fn request(&self) -> Value {
        let headers: Vec<Value> = self
            .headers
            .iter()
            .map(|(name, value)| json!({ "name": name, "value": value }))
            .collect();
        json!({ "method": self.method, "url": format!("http://{}{}", self.host, self.target), "headers": headers })
    }

    fn bytes(&self) -> Vec<u8> {
        let lines: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{} {} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", self.method, self.target, self.host).into_bytes()
    }
}

fn generate(dice: &mut Dice, credentials: &[Headers]) -> Generated {
    let method = dice.pick(&[
        "GET", "GET", "GET", "GET", "GET", "GET", "GET", "POST", "POST", "DELETE", "HEAD", "OPTIONS", "BREW", "PUT",
    ]);
    let host = dice.pick(&[
        "localhost",
        "localhost",
        "localhost",
        "localhost",
        "localhost",
        "shop.example",
        "a.pages.example",
        "SHOP.example",
        "a.pages.example",
        "pages.example",
        "a..b",
    ]);
    let usual = [
        "/v1/orders/7",
        "/v1/limited",
        "/v1/watched",
        "/v1/tenants/rival/orders",
        "/v1/pairs/1",
        "/public/x",
    ];
    let unusual = [
        "/v1/orders/7?full=1&x=%20",
        "/v1/orders/7/",
        "/v1/orders",
        "/v1/orders/7/items",
        "/v1/order/7",
        "/v1/orders/%2F",
        "/v1/orders/7;v=1",
        "/v1/../v1/orders/7",
        "//v1/orders/7",
        "/v1/orders/%zz",
        "/v1/tenants/acme/orders",
        "/v1/tenants/rival/orders",
        "/v1/tenants/nobody/orders",
        "/v1/pairs/1",
        "/v1/limited",
        "/v1/watched",
        "/v1/watched",
        "/public/x",
        "/public/shop",
        "/nowhere",
        "/",
        "*",
    ];
    let target = if dice.next().is_multiple_of(2) {
        dice.pick(&usual)
    } else {
        dice.pick(&unusual)
    };
    // Half of them present one of the first credentials, which are good.
    let first = if dice.next().is_multiple_of(2) { 4 } else { credentials.len() };
    let mut headers = dice.pick(&credentials[..first]).clone();
    let none: &[(&str, &str)] = &[];
    let more: [&[(&str, &str)]; 11] = [
        &[("X-Note", "kept")],
        &[("X-Tenant-Id", "evil"), ("X-Auth-Subject", "evil")],
        &[("X_Tenant_Id", "evil")],
        &[("Connection", "X-Tenant-Id")],
        &[("Origin", "https://app.example")],
        &[("Origin", "https://evil.example")],
        &[("Origin", "https://app.example"), ("Access-Control-Request-Method", "GET")],
        &[("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST")],
        &[("X-Forwarded-For", "6.6.6.6"), ("Forwarded", "for=6.6.6.6")],
        &[("Content-Length", "x")],
        &[("Transfer-Encoding", "gzip")],
    ];
    let more = if dice.next().is_multiple_of(2) { none } else { dice.pick(&more) };
    headers.extend(more.iter().map(|(name, value)| header(name, *value)));
    Generated {
        method,
        host,
        target,
        headers,
    }
}

/// Names of fields that differ between any two requests, or that the connection writes.
const OF_EACH_REQUEST: [&str; 6] = ["x-request-id", "host", "connection", "content-length", "transfer-encoding", "date"];

fn comparable<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
    let mut fields: Vec<_> = fields
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .filter(|(name, _)| !OF_EACH_REQUEST.contains(&name.as_str()))
        .collect();
    fields.sort();
    fields
}

fn explained_fields(headers: &Value) -> Vec<(String, String)> {
    let pairs = headers.as_array().unwrap().iter();
    comparable(pairs.map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap())))
}

/// A body without its request id.
fn body_of(text: &str) -> Value {
    let mut body: Value = serde_json::from_str(text).unwrap_or(Value::String(text.to_owned()));
    if let Some(members) = body.as_object_mut() {
        members.remove("request_id");
        members.remove("instance");
    }
    body
}

/// Whether what was explained is what happened.
fn check(explained: &Value, generated: &Generated, answer: &Response, arrived: bool) {
    let about = || {
        format!(
            "{} {} {} {:?}\n{explained}\n{answer:?}",
            generated.method, generated.host, generated.target, generated.headers
        )
    };
    match explained["outcome"].as_str().unwrap() {
        "forwarded" | "reported" => {
            assert!(arrived && answer.status == 200, "{}", about());
            let upstream = &explained["upstream"];
            if generated.method == "HEAD" {
                return;
            }
            let seen = answer.json();
            assert_eq!(
                (&seen["method"], &seen["target"]),
                (&upstream["method"], &upstream["target"]),
                "{}",
                about()
            );
            let fields = seen["fields"].as_array().unwrap().iter();
            let seen = comparable(fields.map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap())));
            // Credentials are masked in the explanation, where the route forwards them.
            let explained = explained_fields(&upstream["headers"]);
            let names = |fields: &[(String, String)]| fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            assert_eq!(names(&seen), names(&explained), "{}", about());
            for ((name, seen), (_, explained)) in seen.iter().zip(&explained) {
                assert!(seen == explained || explained == "***", "{name}: {}", about());
            }
        }
        "refused" | "answered" => {
            let response = &explained["response"];
            assert!(!arrived, "{}", about());
            assert_eq!(response["status"], json!(answer.status), "{}", about());
            let told = comparable(answer.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            assert_eq!(explained_fields(&response["headers"]), told, "{}", about());
            // Of a head that cannot be read nobody knows that it is one of HEAD; the client of this test takes no body.
            let body = String::from_utf8_lossy(&answer.body);
            assert!(generated.method != "HEAD" || body.is_empty());
            if generated.method == "HEAD" {
                return;
            }
            assert_eq!(body_of(response["body"].as_str().unwrap()), body_of(&body), "{}", about());
        }
        other => panic!("{other}: {}", about()),
    }
}

#[test]
fn explain_agrees_with_what_the_gateway_then_does_and_changes_nothing() {
    let house = House::open();
    let credentials = credentials(&house);
    let mut dice = Dice(18);
    let all: Vec<Generated> = (0..REQUESTS).map(|_| generate(&mut dice, &credentials)).collect();

    // First nothing is sent: explaining counts nothing, however often.
    let before = house.counted();
    for generated in &all {
        house.explain(&generated.request());
    }
    assert_eq!(house.counted(), before, "explaining moved a figure");
    assert_eq!(house.lines(), Vec::<Value>::new(), "explaining wrote an access line");
    assert!(house.upstream.requests().is_empty(), "explaining sent a request");

    // Then each is explained and sent, so that limits are used up on the way.
    let mut outcomes = std::collections::BTreeMap::<String, u32>::new();
    for generated in &all {
        let explained = house.explain(&generated.request());
        let arrived_before = house.upstream.requests().len();
        let mut client = Client::connect(house.gateway.address("plain"));
        client.send(&generated.bytes());
        let answer = client.final_response_to(generated.method).expect("an answer");
        check(&explained, generated, &answer, house.upstream.requests().len() > arrived_before);
        let denial = explained["denial"].as_str().unwrap_or("none");
        let outcome = text(&explained, "outcome");
        *outcomes.entry(format!("{outcome} {denial}")).or_default() += 1;
    }
    // The requests must be worth explaining.
    for wanted in [
        "forwarded none",
        "refused rate_limited",
        "refused no_route",
        "refused method_not_allowed",
        "refused missing_credential",
        "refused revoked_credential",
        "refused insufficient_scope",
        "refused foreign_tenant",
        "refused ambiguous_credentials",
        "refused forged_header",
        "reported missing_credential",
        "reported revoked_credential",
        "answered none",
    ] {
        assert!(outcomes.contains_key(wanted), "no request was {wanted}: {outcomes:?}");
    }
    assert!(outcomes.len() >= 25, "{outcomes:?}");
    // The denials of the access lines are those that were explained.
    let lines = until("every access line", PATIENCE, || {
        Some(house.lines()).filter(|lines| lines.len() == all.len())
    });
    let mut logged = std::collections::BTreeMap::<String, u32>::new();
    for line in &lines {
        *logged.entry(line["denial"].as_str().unwrap_or("none").to_owned()).or_default() += 1;
    }
    let mut explained = std::collections::BTreeMap::<String, u32>::new();
    for (outcome, count) in &outcomes {
        *explained.entry(outcome.split_once(' ').unwrap().1.to_owned()).or_default() += count;
    }
    assert_eq!(logged, explained);
}

#[test]
fn the_command_explains_and_masks_credentials() {
    let house = House::open();
    let (id, key) = house.key("acme", &["orders:read"]);
    let config = house.site.config();
    let headers = format!("Authorization: Bearer {key}\nX-Odd: canary-odd-0123456789\n");
    let url = "http://localhost/v1/orders/7?token=canary-in-url-01234567";
    let answer = run(
        &config,
        &["explain", "GET", url, "-H", "@-", "-H", "X-Note: kept"],
        headers.as_bytes(),
    );
    assert_eq!(answer.code, 0, "{answer:?}");
    for told in [
        "forwarded",
        "header authorization",
        &id,
        "acme",
        "orders:read",
        "X-Note: kept",
        "X-Odd: ***",
        "token=***",
        "passed",
    ] {
        assert!(answer.stdout.contains(told), "{told}: {}", answer.stdout);
    }
    let refused = run(&config, &["explain", "PUT", url, "-H", "@-"], headers.as_bytes());
    for told in [
        "refused: method_not_allowed",
        "the gateway answers 405",
        "it takes GET, POST, not this method",
    ] {
        assert!(refused.stdout.contains(told), "{told}: {}", refused.stdout);
    }
    let slip = run(&config, &["explain", "GET", "http://localhost/v1/order/7"], b"");
    assert!(slip.stdout.contains("`orders` where the request has `order`"), "{}", slip.stdout);
    let in_path = run(
        &config,
        &["explain", "GET", &format!("http://localhost/v1/orders/{key}"), "-H", "@-"],
        format!("Authorization: Bearer {key}x\n").as_bytes(),
    );
    assert!(in_path.stdout.contains("localhost/v1/orders/***"), "{}", in_path.stdout);
    let no_tls = run(&config, &["explain", "GET", "ftp://localhost/"], b"");
    assert_eq!(no_tls.code, 2, "{no_tls:?}");
    let mut everything = house.gateway.output();
    for answer in [answer, refused, slip, in_path] {
        everything.extend(answer.stdout.into_bytes());
        everything.extend(answer.stderr.into_bytes());
    }
    for secret in [key.as_str(), "canary-odd-0123456789", "canary-in-url-01234567"] {
        assert!(!contains(&everything, secret.as_bytes()), "a secret was told");
    }
}

#[test]
fn a_request_over_tls_is_explained_with_the_name_that_was_asked_for() {
    let house = House::open();
    let of = |url: &str| house.explain(&json!({ "method": "GET", "url": url }));
    assert_eq!(of("https://localhost/public/x")["outcome"], "forwarded");
    let headers = &of("https://localhost/public/x")["upstream"]["headers"];
    assert!(headers.to_string().contains("[\"X-Forwarded-Proto\",\"https\"]"), "{headers}");
    let headers = &of("http://localhost/public/x")["upstream"]["headers"];
    assert!(headers.to_string().contains("[\"X-Forwarded-Proto\",\"http\"]"), "{headers}");
}

#[test]
fn a_route_that_only_reports_forwards_without_identity_and_records_the_decision() {
    let house = House::open();
    let (id, key) = house.key("acme", &["orders:read"]);
    let bearer = format!("Bearer {key}");
    let ask = |fields: &[(&str, &str)]| {
        let mut client = Client::connect(house.gateway.address("plain"));
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        client.send(format!("GET /v1/watched HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").as_bytes());
        client.final_response_to("GET").unwrap()
    };
    let identity = |number: usize| {
        let seen = &house.upstream.requests()[number];
        let names = seen.fields.iter().map(|(name, _)| name.to_ascii_lowercase());
        names
            .filter(|name| name.starts_with("x-auth-") || name == "x-tenant-id" || name == "x-scopes")
            .count()
    };
    let line = |number: usize| until("an access line", PATIENCE, || house.lines().get(number).cloned());

    assert_eq!(ask(&[("Authorization", &bearer)]).status, 200);
    assert!(identity(0) >= 3, "an admitted caller has an identity");
    assert_eq!((&line(0)["denial"], &line(0)["report_only"]), (&Value::Null, &Value::Null));

    house.gateway.json(&["keys", "revoke", &id, "--wait"]);
    let forged = [
        ("Authorization", bearer.as_str()),
        ("X-Tenant-Id", "evil"),
        ("X-Auth-Subject", "evil"),
    ];
    assert_eq!(ask(&forged).status, 200);
    assert_eq!(identity(1), 0, "{:?}", house.upstream.requests()[1]);
    let told = line(1);
    assert_eq!(
        (&told["denial"], &told["report_only"], &told["status"]),
        (&json!("revoked_credential"), &json!(true), &json!(200))
    );
    assert_eq!(told["credential"], json!(id));

    assert_eq!(ask(&[]).status, 200);
    assert_eq!(identity(2), 0);
    assert_eq!(line(2)["denial"], "missing_credential");

    // What has nothing to do with the caller is refused as ever, and so is the caller elsewhere.
    assert_eq!(ask(&[("X_Tenant_Id", "evil")]).status, 400);
    let mut client = Client::connect(house.gateway.address("plain"));
    client.send(format!("GET /v1/orders/7 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\n\r\n").as_bytes());
    assert_eq!(client.final_response_to("GET").unwrap().status, 401);

    // A request is counted when its response has been sent.
    until("the last line", PATIENCE, || (house.lines().len() == 5).then_some(()));
    let metrics = house.metrics();
    for counted in [
        "durward_report_only_total{denial=\"revoked_credential\"} 1",
        "durward_report_only_total{denial=\"missing_credential\"} 1",
        "durward_refusals_total{denial=\"missing_credential\"} 0",
        "durward_refusals_total{denial=\"revoked_credential\"} 1",
    ] {
        assert!(metrics.contains(counted), "{counted}");
    }
}

#[test]
fn a_shared_limit_is_looked_at_and_not_counted() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let pepper = folder.path().join("pepper");
    std::fs::write(&pepper, "pepper-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
    let house = House::of(&Plan {
        store: Store::Redis { url: redis.url(), pepper },
        upstream: "name = \"main\"\nendpoints = [\"http://{address}\"]\n\n[[routes]]\npath = \"/together\"\nmethods = [\"GET\"]\naccess = \"public\"\nlimits = [{ by = \"route\", rate = \"2/1h\", shared = true, when_unavailable = \"refuse\" }]\n".to_owned(),
        ..Plan::usual()
    });
    let explain = || house.explain(&json!({ "method": "GET", "url": "http://localhost/together" }));
    for _ in 0..5 {
        assert_eq!(explain()["outcome"], "forwarded");
    }
    let ask = || {
        let mut client = Client::connect(house.gateway.address("plain"));
        client.send(b"GET /together HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.final_response_to("GET").unwrap().status
    };
    assert_eq!((ask(), ask()), (200, 200));
    let explained = explain();
    assert_eq!(
        (&explained["outcome"], &explained["denial"]),
        (&json!("refused"), &json!("rate_limited"))
    );
    assert_eq!(ask(), 429);
}

#[test]
fn a_served_route_is_told_and_not_run() {
    let house = House::open();
    let (id, key) = house.key("acme", &[]);
    let of = |headers: Value| house.explain(&json!({ "method": "GET", "url": "http://localhost/v1/keys", "headers": headers }));
    let served = of(json!([{ "name": "X-Api-Token", "value": key }]));
    assert_eq!((&served["outcome"], &served["credential"]["id"]), (&json!("served"), &json!(id)));
    assert_eq!((&served["response"], &served["upstream"]), (&Value::Null, &Value::Null));
    let refused = of(json!([]));
    assert_eq!(
        (&refused["outcome"], &refused["denial"]),
        (&json!("refused"), &json!("missing_credential"))
    );
}

#[test]
fn a_stream_on_a_route_that_only_reports_outlives_its_credential() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let upstream = Upstream::scripted(When::Body, move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")?;
        // Ends when the sender is dropped, for every stream.
        let _ = released.lock().unwrap_or_else(PoisonError::into_inner).recv();
        stream.write_all(b"cd")?;
        Ok(Then::Keep)
    });
    let plan = Plan {
        upstream: ROUTES.to_owned(),
        ..Plan::usual()
    };
    let house = House::before(&plan, upstream);
    let (id, key) = house.key("acme", &["orders:read"]);
    let open = |path: &str| {
        let mut client = Client::connect(house.gateway.address("plain"));
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n").as_bytes());
        let mut seen = Vec::new();
        until("the first half", PATIENCE, || {
            seen.extend(client.read_some().unwrap());
            seen.ends_with(b"ab").then_some(())
        });
        client
    };
    // Both workers have streams of both routes; one pass of a worker judges all of its streams.
    let watched: Vec<Client> = (0..4).map(|_| open("/v1/watched")).collect();
    let strict: Vec<Client> = (0..4).map(|_| open("/v1/strict")).collect();
    house.gateway.json(&["keys", "revoke", &id, "--wait"]);
    for mut cut in strict {
        let rest = until("a stream to be cut off", PATIENCE, || Some(cut.read_some().unwrap_or_default()));
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
    }
    drop(release);
    for mut whole in watched {
        assert_eq!(whole.read_some().unwrap(), b"cd");
    }
    let lines = until("every line", PATIENCE, || Some(house.lines()).filter(|lines| lines.len() == 8));
    let of = |path: &str| lines.iter().filter(move |line| line["path"] == path).collect::<Vec<_>>();
    for line in of("/v1/strict") {
        assert_eq!(
            (&line["denial"], &line["completed"]),
            (&json!("revoked_credential"), &json!(false)),
            "{line}"
        );
    }
    for line in of("/v1/watched") {
        assert_eq!(
            (&line["denial"], &line["report_only"]),
            (&json!("revoked_credential"), &json!(true)),
            "{line}"
        );
        assert_eq!(line["completed"], json!(true), "{line}");
    }
}
