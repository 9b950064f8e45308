//! What a real browser does with the session cookie, and what other sites can make it do. `scripts/test` installs
//! Chromium.

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, run};
use crate::support::site::Site;
use crate::support::wait::{PATIENCE, until};
use crate::support::webdriver::Browser;

use super::{EMAIL, House, KEYS, PASSWORD, ann, open};

/// The application's host, one of the same site that somebody else controls, and another site's.
const APP: &str = "app.geldstuck.example";
const SIBLING: &str = "evil.geldstuck.example";
const STRANGER: &str = "stranger.example";

const PAGE: &str = "/v1/dashboard/overview";

/// Asks with whatever cookies the browser has: status (0 where the page may not know it), type and text.
const FETCH: &str = "
const [url, method, mode, type, body, done] = arguments;
const headers = type ? { 'Content-Type': type } : {};
fetch(url, { method, mode, headers, credentials: 'include', body: body || undefined })
  .then(async r => done({ status: r.status, type: r.type, text: await r.text() }), e => done({ failed: String(e) }));
";

/// Sends a form, which takes the page away; what comes next is read afterwards.
const SUBMIT: &str = "
const [action, done] = arguments;
const form = document.createElement('form');
Object.assign(form, { method: 'post', action, enctype: 'text/plain' });
const field = document.createElement('input');
Object.assign(field, { name: '{\"name\":\"', value: 'planted\"}' });
form.append(field);
document.documentElement.append(form);
setTimeout(() => form.submit(), 0);
done(null);
";

const TEXT: &str = "arguments[0]({ url: location.href, text: document.documentElement.innerText });";

struct Scene {
    house: House,
    browser: Browser,
    port: u16,
}

impl Scene {
    fn open() -> Self {
        let names = [APP, SIBLING, STRANGER].map(str::to_owned);
        let key = rcgen::generate_simple_self_signed(names).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (cert, secret) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&cert, key.cert.pem()).unwrap();
        std::fs::write(&secret, key.signing_key.serialize_pem()).unwrap();
        let listener = format!(
            "address = \"127.0.0.1:0\"\n[[listeners.tls.certificates]]\ncert = \"{}\"\nkey = \"file:{}\"",
            cert.display(),
            secret.display()
        );
        let house = open(&[("address = \"127.0.0.1:0\"", &listener)]);
        let port = house.gateway.address("public").port();
        Self {
            house,
            browser: Browser::start(),
            port,
        }
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.port)
    }

    /// Stands on a page of this host. That it is a refusal does not matter: its origin does.
    fn stand_on(&self, host: &str) {
        self.browser.go(&self.url(host, PAGE));
    }

    fn fetch(&self, method: &str, path: &str, mode: &str, kind: &str, body: &str) -> Value {
        let url = self.url(APP, path);
        self.browser.run(
            FETCH,
            &[url, method.into(), mode.into(), kind.into(), body.into()].map(Value::String),
        )
    }

    /// From the application's own page: the status.
    fn own(&self, method: &str, path: &str, body: &str) -> u64 {
        let kind = if body.is_empty() { "" } else { "application/json" };
        let answer = self.fetch(method, path, "same-origin", kind, body);
        answer["status"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    }

    /// Sends a form to the application from where we stand: the text of the page it led to.
    fn submit(&self, path: &str) -> String {
        let action = self.url(APP, path);
        self.browser.run(SUBMIT, &[action.as_str().into()]);
        let page = until("the form's answer", PATIENCE, || {
            let page = self.browser.run(TEXT, &[]);
            (page["url"] == action.as_str()).then_some(page)
        });
        page["text"].as_str().unwrap_or_default().to_owned()
    }

    fn pairs(&self) -> usize {
        let listed = self.house.gateway.json(&["keys", "list", "--tenant", "acme", "--surface", "keys"]);
        listed["keys"].as_array().unwrap().len()
    }

    fn denials(&self, name: &str) -> usize {
        let output = String::from_utf8_lossy(&self.house.gateway.output()).into_owned();
        output.matches(&format!("\"denial\":\"{name}\"")).count()
    }
}

/// The token of somebody else, for planting.
fn session_of_mallory(gateway: &Gateway, site: &Site) -> String {
    let create = [
        "accounts",
        "create",
        "--tenant",
        "globex",
        "--email",
        "mallory@globex.example",
        "--json",
    ];
    let made = run(&site.config(), &create, PASSWORD.as_bytes());
    assert_eq!(made.code, 0, "{made:?}");
    let body = json!({ "email": "mallory@globex.example", "password": PASSWORD }).to_string();
    let output = std::process::Command::new("curl")
        .args([
            "--silent",
            "--insecure",
            "--connect-to",
            &format!("{APP}:443:{}", gateway.address("public")),
        ])
        .args([
            "--header",
            "Content-Type: application/json",
            "--data",
            &body,
            &format!("https://{APP}/v1/auth/login"),
        ])
        .output()
        .expect("curl is installed");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("an answer");
    answer["token"].as_str().expect("a token").to_owned()
}

#[test]
fn b10_no_other_site_can_make_a_browser_use_its_session() {
    let scene = Scene::open();
    ann(&scene.house.site);
    scene.stand_on(APP);
    assert_eq!(scene.own("GET", PAGE, ""), 401, "nobody yet");
    let who = json!({ "email": EMAIL, "password": PASSWORD }).to_string();
    assert_eq!(scene.own("POST", "/v1/auth/login", &who), 200);
    let cookies = scene.browser.cookies();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    let cookie = &cookies[0];
    assert_eq!(
        (
            &cookie["name"],
            &cookie["httpOnly"],
            &cookie["secure"],
            &cookie["sameSite"],
            &cookie["domain"]
        ),
        (&json!("geldstuck_session"), &json!(true), &json!(true), &json!("Lax"), &json!(APP)),
    );
    let readable = scene.browser.run("arguments[0](document.cookie)", &[]);
    assert_eq!(readable, "", "no script reads it");

    // The twin: its own page may read and change.
    assert_eq!(scene.own("GET", PAGE, ""), 200);
    assert_eq!(scene.own("POST", KEYS, "{}"), 201);
    let before = scene.pairs();

    // A host of the same site gets the cookie sent, and nothing for it.
    scene.stand_on(SIBLING);
    let refused = scene.denials("cross_site");
    for (path, kind) in [
        (KEYS, "text/plain"),
        ("/v1/auth/logout", "text/plain"),
        (KEYS, "application/x-www-form-urlencoded"),
    ] {
        let answer = scene.fetch("POST", path, "no-cors", kind, "{\"name\":\"planted\"}");
        assert_eq!(answer["type"], "opaque", "{answer}");
    }
    until("three refusals", PATIENCE, || {
        (scene.denials("cross_site") == refused + 3).then_some(())
    });
    let answer = scene.fetch("POST", KEYS, "cors", "application/json", "{}");
    assert!(answer.get("failed").is_some(), "no preflight is answered for others: {answer}");
    for path in [KEYS, "/v1/auth/logout"] {
        scene.stand_on(SIBLING);
        let text = scene.submit(path);
        assert!(text.contains("The request may come from another site."), "{path}: {text}");
    }

    // Another site does not even get the cookie sent on what changes.
    for path in [KEYS, "/v1/auth/logout"] {
        scene.stand_on(STRANGER);
        let answer = scene.fetch("POST", path, "no-cors", "text/plain", "{}");
        assert_eq!(answer["type"], "opaque", "{answer}");
        let text = scene.submit(path);
        assert!(text.contains("API keys or a session are required."), "{path}: {text}");
    }
    scene.stand_on(STRANGER);
    let unread = scene.fetch("GET", PAGE, "cors", "", "");
    assert!(unread.get("failed").is_some(), "nor read: {unread}");

    scene.stand_on(APP);
    assert_eq!(scene.pairs(), before, "nothing was made");
    assert_eq!(scene.own("GET", PAGE, ""), 200, "and the session goes on");
    assert_eq!(scene.own("POST", "/v1/auth/logout", ""), 204);
    assert_eq!(scene.browser.cookies(), Vec::<Value>::new(), "the cookie is gone");
    assert_eq!(scene.own("GET", PAGE, ""), 401);
}

#[test]
fn b8_a_cookie_planted_by_a_sibling_is_not_taken_for_the_session() {
    let scene = Scene::open();
    ann(&scene.house.site);
    let planted = session_of_mallory(&scene.house.gateway, &scene.house.site);
    scene.stand_on(APP);
    let who = json!({ "email": EMAIL, "password": PASSWORD }).to_string();
    assert_eq!(scene.own("POST", "/v1/auth/login", &who), 200);
    scene.stand_on(SIBLING);
    let plant =
        "document.cookie = `geldstuck_session=${arguments[0]}; Domain=geldstuck.example; Path=/v1; Secure`; arguments[1](document.cookie)";
    let held = scene.browser.run(plant, &[planted.as_str().into()]);
    assert_eq!(held, format!("geldstuck_session={planted}"), "the browser took it");
    scene.stand_on(APP);
    scene.house.upstream.forget();
    assert_eq!(scene.browser.cookies().len(), 2, "both are sent");
    assert_eq!(scene.own("GET", PAGE, ""), 401, "two are none");
    assert_eq!(scene.own("POST", KEYS, "{}"), 401);
    assert_eq!(scene.house.upstream.count(), 0, "nobody is taken for somebody else");
    // The twin: the planted one taken away, the session is there as before.
    scene.stand_on(SIBLING);
    let remove =
        "document.cookie = 'geldstuck_session=; Domain=geldstuck.example; Path=/v1; Secure; Max-Age=0'; arguments[0](document.cookie)";
    assert_eq!(scene.browser.run(remove, &[]), "");
    scene.stand_on(APP);
    assert_eq!(scene.own("GET", PAGE, ""), 200);
}
