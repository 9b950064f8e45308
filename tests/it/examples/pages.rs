//! The examples called by pages of other origins, in Chromium: from a host of the same site, from another site, and from
//! origins that are not listed. `scripts/test` installs Chromium.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::gateway::{Gateway, run};
use crate::support::site::Site;
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, until};
use crate::support::webdriver::Browser;
use crate::support::websocket::{TEXT, bare};

use super::site;

/// The pages that the examples list, one of another site that is listed besides, and two that are not.
const APP: &str = "https://app.example.com";
const PARTNER: &str = "https://app.partner.example";
const SIBLING: &str = "https://evil.example.com";
const STRANGER: &str = "https://stranger.example";

const PASSWORD: &str = "canary-password-4711";

/// Calls: status, text and the fields that a page may read; `failed` where it may read nothing.
const CALL: &str = "
const [url, method, headers, credentials, body, done] = arguments;
fetch(url, { method, headers, credentials, body: body || undefined }).then(
  async r => done({ status: r.status, text: await r.text(), id: r.headers.get('x-request-id'), renewed: r.headers.get('x-session-token') }),
  e => done({ failed: String(e) }));
";

/// Opens a WebSocket: its first message, or that there is none.
const OPEN: &str = "
const [url, done] = arguments;
const socket = new WebSocket(url);
socket.onmessage = event => done({ message: event.data });
socket.onerror = () => done({ failed: true });
";

/// A service that greets through WebSockets and answers everything else with its path.
fn service() -> Upstream {
    Upstream::scripted(When::Body, |request, stream| {
        let Some(key) = request.all("sec-websocket-key").first().map(|key| (*key).to_owned()) else {
            let body = json!({ "path": request.target }).to_string();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
            return Ok(Then::Keep);
        };
        let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let accept = STANDARD.encode(hash.as_ref());
        write!(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        )?;
        stream.write_all(&bare(TEXT, b"welcome"))?;
        let _ = stream.read(&mut [0])?;
        Ok(Then::Close)
    })
}

/// An example behind TLS at `https://<name>.example.com`.
struct Api {
    name: &'static str,
    upstream: Upstream,
    site: Site,
    gateway: Gateway,
}

impl Api {
    fn open(name: &'static str, certificate: &Path, edits: &[(&str, &str)], route: &str) -> Self {
        let upstream = service();
        let path = certificate.display();
        let listener =
            format!("address = \"127.0.0.1:0\"\n[[listeners.tls.certificates]]\ncert = \"{path}/cert.pem\"\nkey = \"file:{path}/key.pem\"");
        let pages = format!("origins = [\"{APP}\", \"{PARTNER}\"]");
        let mut all = vec![
            ("address = \"127.0.0.1:0\"", listener.as_str()),
            ("origins = [\"https://app.example.com\"]", &pages),
        ];
        all.extend(edits);
        let site = site(name, upstream.address, &all);
        let service = format!("upstreams/{name}.toml");
        site.write(&service, &format!("{}\n{route}", site.read(&service)));
        let gateway = Gateway::start(&site);
        gateway.json(&["tenants", "create", "acme"]);
        Self {
            name,
            upstream,
            site,
            gateway,
        }
    }

    fn address(&self) -> SocketAddr {
        self.gateway.address("public")
    }
}

struct Scene {
    browser: Browser,
    holdyn: Api,
    portal: Api,
    geldstuck: Api,
    _certificate: tempfile::TempDir,
}

/// How a page asks for cookies.
#[derive(Clone, Copy)]
enum Cookies {
    Omit,
    Include,
}

impl Scene {
    fn open() -> Self {
        let certificate = tempfile::tempdir().unwrap();
        let key = rcgen::generate_simple_self_signed(["*.example.com".to_owned()]).unwrap();
        std::fs::write(certificate.path().join("cert.pem"), key.cert.pem()).unwrap();
        std::fs::write(certificate.path().join("key.pem"), key.signing_key.serialize_pem()).unwrap();
        let live =
            |access: &str| format!("[[routes]]\npath = \"/live\"\nmethods = [\"GET\"]\naccess = {access}\nupgrade = \"websocket\"\n");
        let open = |name, edits: &[(&str, &str)], access: &str| Api::open(name, certificate.path(), edits, &live(access));
        let (holdyn, portal) = (open("holdyn", &[], "\"public\""), open("portal", &[], "\"public\""));
        let geldstuck = open("geldstuck", &[("after = \"5m\"", "after = \"1s\"")], "{ surfaces = [\"session\"] }");
        let rules: Vec<String> = [&holdyn, &portal, &geldstuck]
            .iter()
            .map(|api| format!("MAP {}.example.com {}", api.name, api.address()))
            .collect();
        // Every other name leads to the gateway of holdyn, whose answer serves as the page.
        let rules = format!("{}, MAP * {}", rules.join(", "), holdyn.address());
        Self {
            browser: Browser::start_with(&rules),
            holdyn,
            portal,
            geldstuck,
            _certificate: certificate,
        }
    }

    fn stand_on(&self, origin: &str) {
        self.browser.go(&format!("{origin}/page"));
    }

    fn call(&self, api: &Api, (method, path): (&str, &str), headers: &Value, cookies: Cookies, body: &Value) -> Value {
        let cookies = match cookies {
            Cookies::Omit => "omit",
            Cookies::Include => "include",
        };
        let mut headers = headers.clone();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        if !body.is_empty() {
            headers["Content-Type"] = json!("application/json");
        }
        let url = format!("https://{}.example.com{path}", api.name);
        self.browser
            .run(CALL, &[json!(url), json!(method), headers, json!(cookies), json!(body)])
    }

    fn websocket(&self, api: &Api) -> Value {
        self.browser.run(OPEN, &[json!(format!("wss://{}.example.com/live", api.name))])
    }
}

/// Asserts a status that the page may read, with the request's id, and answers the body.
fn read(answer: &Value, status: u64) -> Value {
    assert_eq!(answer["status"], status, "{answer}");
    assert!(answer["id"].is_string(), "the id can be read: {answer}");
    let text = answer["text"].as_str().unwrap();
    if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(text).unwrap()
    }
}

fn bearer(token: &Value) -> Value {
    json!({ "Authorization": format!("Bearer {}", token.as_str().expect("a token")) })
}

/// Sign-up, use, a refusal, and a participant's exchange, done twice as a browser renews it.
fn business(scene: &Scene, email: &str) {
    let api = &scene.holdyn;
    let b2b = |method: &str, path: &str, headers: &Value, body: Value| {
        let path = format!("/api/v1/b2b{path}");
        scene.call(api, (method, &path), headers, Cookies::Omit, &body)
    };
    let who = json!({ "email": email, "password": PASSWORD });
    read(&b2b("POST", "/auth/signup", &json!({}), who.clone()), 201);
    let session = bearer(&read(&b2b("POST", "/auth/login", &json!({}), who), 200)["session_token"]);
    read(&b2b("GET", "/dashboard/overview", &session, Value::Null), 200);
    let wanted = json!({ "name": "ci", "mode": "test", "scopes": ["access_tokens:write"] });
    let key = bearer(&read(&b2b("POST", "/api-keys", &session, wanted), 201)["key"]);
    let wanted = json!({ "role": "payer", "permissions": ["view_transaction"] });
    let access = read(&b2b("POST", "/transactions/tx_1/access-tokens", &key, wanted), 201);
    let access = json!({ "X-Access-Token": access["access_token"] });
    for _ in 0..2 {
        let portal = read(&b2b("POST", "/portal/session", &access, Value::Null), 200);
        let portal = json!({ "X-Portal-Session": portal["session_token"] });
        read(&b2b("GET", "/portal/transaction", &portal, Value::Null), 200);
        let refused = read(&b2b("POST", "/portal/fund", &portal, Value::Null), 403);
        assert_eq!(refused["error"]["code"], "insufficient_scope");
    }
    let refused = b2b("GET", "/dashboard/overview", &json!({ "Authorization": "Bearer no" }), Value::Null);
    assert_eq!(read(&refused, 401)["error"]["code"], "invalid_dashboard_session");
    assert_eq!(scene.websocket(api)["message"], "welcome");
}

/// Use of a client's session, a change, and the refusal by which an SDK knows that it has to fetch a new one.
fn client(scene: &Scene, session: &Value) {
    let me = |method: &str, headers: &Value, body: Value| {
        let path = "/api/v1/clients/me/balance";
        scene.call(&scene.portal, (method, path), headers, Cookies::Omit, &body)
    };
    read(&me("GET", session, Value::Null), 200);
    read(&me("POST", session, json!({ "amount": 1 })), 200);
    let refused = me("GET", &json!({ "Authorization": "Bearer portal_client_live_ended" }), Value::Null);
    assert_eq!(read(&refused, 401)["error"]["code"], "INVALID_API_KEY");
    assert_eq!(scene.websocket(&scene.portal)["message"], "welcome");
}

const WHO: &str = "ann@acme.example";
const OVERVIEW: &str = "/v1/dashboard/overview";
const LOG_OUT: &str = "/v1/auth/logout";

fn dashboard(scene: &Scene, method: &str, path: &str, headers: &Value) -> Value {
    scene.call(&scene.geldstuck, (method, path), headers, Cookies::Include, &Value::Null)
}

fn log_in(scene: &Scene) -> Value {
    let who = json!({ "email": WHO, "password": PASSWORD });
    let answer = scene.call(&scene.geldstuck, ("POST", "/v1/auth/login"), &json!({}), Cookies::Include, &who);
    read(&answer, 200)["token"].clone()
}

/// A session told in the log-in's body, used in a header, renewed, and ended.
fn person_by_header(scene: &Scene) {
    let session = bearer(&log_in(scene));
    let renewed = until("a renewed token", PATIENCE, || {
        let answer = dashboard(scene, "GET", OVERVIEW, &session);
        read(&answer, 200);
        answer["renewed"].is_string().then(|| bearer(&answer["renewed"]))
    });
    read(&dashboard(scene, "GET", OVERVIEW, &renewed), 200);
    read(&dashboard(scene, "POST", LOG_OUT, &renewed), 204);
    let refused = read(&dashboard(scene, "GET", OVERVIEW, &renewed), 401);
    assert_eq!(refused["error"]["type"], "authentication_error");
}

/// A session in the cookie, which the page cannot read: used, and good for what changes something.
fn person_by_cookie(scene: &Scene) {
    let none = json!({});
    assert_eq!(
        read(&dashboard(scene, "GET", OVERVIEW, &none), 401)["error"]["type"],
        "authentication_error"
    );
    log_in(scene);
    read(&dashboard(scene, "GET", OVERVIEW, &none), 200);
    assert_eq!(scene.websocket(&scene.geldstuck)["message"], "welcome");
    read(&dashboard(scene, "POST", LOG_OUT, &none), 204);
    assert_eq!(scene.websocket(&scene.geldstuck)["failed"], true);
    read(&dashboard(scene, "POST", LOG_OUT, &none), 401);
    log_in(scene);
}

/// A page that is not listed reads nothing and changes nothing, though the browser holds a session.
fn nobody(scene: &Scene, origin: &str) {
    scene.stand_on(origin);
    let apis = [&scene.holdyn, &scene.portal, &scene.geldstuck];
    apis.iter().for_each(|api| api.upstream.forget());
    let simple = |api, path, cookies| scene.call(api, ("GET", path), &json!({}), cookies, &Value::Null);
    for (api, path) in [
        (&scene.holdyn, "/api/v1/b2b/dashboard/overview"),
        (&scene.portal, "/api/v1/clients/me/balance"),
        (&scene.geldstuck, OVERVIEW),
    ] {
        for cookies in [Cookies::Omit, Cookies::Include] {
            assert!(simple(api, path, cookies).get("failed").is_some(), "{origin} reads {path}");
        }
        let asks_first = scene.call(
            api,
            ("GET", path),
            &json!({ "Authorization": "Bearer x" }),
            Cookies::Omit,
            &Value::Null,
        );
        assert!(asks_first.get("failed").is_some(), "{origin} {path}: {asks_first}");
        assert_eq!(scene.websocket(api)["failed"], true, "{origin} opens a WebSocket of {}", api.name);
    }
    let changes = dashboard(scene, "POST", LOG_OUT, &json!({}));
    assert!(changes.get("failed").is_some(), "{origin}: {changes}");
    for api in apis {
        assert_eq!(api.upstream.count(), 0, "{origin} reached the service of {}", api.name);
    }
}

#[test]
fn pages_of_listed_origins_use_the_examples_and_no_others_do() {
    let scene = Scene::open();
    let key = scene.portal.gateway.create_key("client", "acme", &["--mode", "test"]);
    let session = bearer(&key["key"]);
    let create = ["accounts", "create", "--tenant", "acme", "--email", WHO, "--json"];
    let made = run(&scene.geldstuck.site.config(), &create, PASSWORD.as_bytes());
    assert_eq!(made.code, 0, "{made:?}");
    // Another site's cookies are not sent (`SameSite=Lax`): its pages hold the token themselves.
    for (origin, email) in [(PARTNER, "ann@one.example"), (APP, "ann@two.example")] {
        scene.stand_on(origin);
        business(&scene, email);
        client(&scene, &session);
        person_by_header(&scene);
    }
    person_by_cookie(&scene);
    for origin in [SIBLING, STRANGER] {
        nobody(&scene, origin);
    }
    // No other page could use or end the session: it still works.
    scene.stand_on(APP);
    read(&dashboard(&scene, "GET", OVERVIEW, &json!({})), 200);
}
