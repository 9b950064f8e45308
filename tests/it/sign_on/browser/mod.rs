//! Sign-on, use and log-out in a real browser, at real identity providers, through two gateways that share a store.

mod openid;
mod saml;

use serde_json::Value;
use tempfile::TempDir;

use super::site::{TABLES, UPSTREAM};
use crate::support::gateway::{Gateway, run};
use crate::support::identity_providers::{Front, authority};
use crate::support::raw::{Client, Response};
use crate::support::redis::RedisServer;
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};
use crate::support::webdriver::Browser;

const HOST: &str = "api.example.com";

/// Sends a form, which takes the page away.
const SUBMIT: &str = "
const [action, fields, done] = arguments;
const form = document.createElement('form');
Object.assign(form, { method: 'post', action });
for (const [name, value] of Object.entries(fields)) {
  const field = document.createElement('input');
  Object.assign(field, { name, value });
  form.append(field);
}
document.documentElement.append(form);
setTimeout(() => form.submit(), 0);
done(null);
";

/// Two gateways behind one address, and a browser.
struct House {
    /// Where the browser and the providers find a gateway.
    public: Front,
    gateways: Vec<Gateway>,
    sites: Vec<Site>,
    browser: Browser,
    _upstream: Upstream,
    _redis: RedisServer,
    /// The pepper is in it.
    _folder: TempDir,
}

impl House {
    fn open() -> Self {
        let public = Front::passing();
        let (upstream, redis) = (Upstream::echoing(), RedisServer::start());
        let folder = tempfile::tempdir().unwrap();
        let pepper = folder.path().join("pepper");
        std::fs::write(&pepper, "pepper-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
        let url = public.url(HOST);
        let tables = TABLES
            .replace("\"https://api.example.com\"", &format!("\"{url}\""))
            .replace("\"https://app.example.com/portal\"", &format!("\"{url}/v1/me\""));
        assert!(tables.matches(&url).count() == 2, "{tables}");
        let plan = Plan {
            tables,
            upstream: UPSTREAM.to_owned(),
            ..Plan::redis(&redis.url(), &pepper)
        };
        let site = || {
            let site = Site::of(&plan, upstream.address);
            site.write("ca.pem", &authority().certificate());
            site.write("web.secret", "secret-of-the-sessions-0123456789abcdef0123456789");
            site
        };
        let sites = vec![site(), site()];
        let gateways: Vec<Gateway> = sites.iter().map(Gateway::start).collect();
        gateways[0].json(&["tenants", "create", "acme"]);
        let house = Self {
            public,
            gateways,
            sites,
            browser: Browser::start(),
            _upstream: upstream,
            _redis: redis,
            _folder: folder,
        };
        house.lead_to(0);
        house
    }

    /// The browser's next connections reach this gateway.
    fn lead_to(&self, gateway: usize) {
        self.public.lead_to(self.gateways[gateway].address("tls").port());
    }

    fn url(&self, path: &str) -> String {
        self.public.url(HOST) + path
    }

    /// The certificates of the gateways, PEM: what a provider must trust to tell them of log-outs.
    fn roots(&self) -> Vec<String> {
        self.sites.iter().map(|site| site.read("cert.pem")).collect()
    }

    /// Makes a provider of the tenant that makes accounts, by this secret, and tests it. Answers its id.
    fn create_provider(&self, kind: &str, options: &[&str], secret: &str) -> String {
        let mut arguments = vec!["providers", "create", "--tenant", "acme", "--kind", kind];
        arguments.extend(["--surface", "web", "--account-surface", "people", "--provision", "--json"]);
        arguments.extend(options);
        let made = run(&self.sites[0].config(), &arguments, secret.as_bytes()).json();
        let id = made["id"].as_str().unwrap_or_else(|| panic!("{made}"));
        let tested = self.gateways[0].json(&["providers", "test", id]);
        assert_eq!(tested["passed"], true, "{tested}");
        id.to_owned()
    }

    /// The browser begins a sign-on, and is at the provider afterwards.
    fn begin(&self) {
        self.browser.go(&self.url("/sso/acme"));
        assert!(!self.browser.location().starts_with(&self.url("")), "{}", self.browser.text());
    }

    /// What the service behind was told about the person who signed on. The browser must be there.
    fn person(&self) -> String {
        let page = self.url("/v1/me");
        until("the service", PATIENCE, || (self.browser.location() == page).then_some(()));
        let text = self.browser.text();
        let echo: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let fields = echo["fields"].as_array().unwrap();
        let subject = fields
            .iter()
            .find(|field| field[0].as_str().unwrap().eq_ignore_ascii_case("x-auth-subject"));
        subject.unwrap_or_else(|| panic!("{echo}"))[1].as_str().unwrap().to_owned()
    }

    /// The session that the browser has.
    fn session(&self) -> String {
        let cookies = self.browser.cookies();
        let cookie = cookies.iter().find(|cookie| cookie["name"] == "__Host-web").expect("a session");
        assert_eq!((&cookie["httpOnly"], &cookie["secure"]), (&true.into(), &true.into()), "{cookie}");
        cookie["value"].as_str().unwrap().to_owned()
    }

    /// What this gateway answers to the session.
    fn use_session(&self, gateway: usize, session: &str) -> Response {
        let mut client = Client::connect(self.gateways[gateway].address("plain"));
        client.send(format!("GET /v1/me HTTP/1.1\r\nHost: localhost\r\nCookie: __Host-web={session}\r\n\r\n").as_bytes());
        client.response().expect("an answer")
    }

    /// Every gateway takes the session.
    fn assert_in_force(&self, session: &str) {
        for gateway in 0..self.gateways.len() {
            assert_eq!(self.use_session(gateway, session).status, 200, "gateway {gateway}");
        }
    }

    /// Every gateway refuses the session, or will within a second.
    fn assert_ends(&self, session: &str) {
        for gateway in 0..self.gateways.len() {
            until("the end of the session", std::time::Duration::from_secs(1), || {
                (self.use_session(gateway, session).status == 401).then_some(())
            });
        }
    }

    /// A gateway has been told by the provider, provably, that the log-out that began here has ended the session there too.
    fn assert_logged_out_there(&self) {
        until("the provider's answer", PATIENCE, || {
            let mut gateways = self.gateways.iter();
            gateways.find_map(|gateway| {
                let told = gateway.run(&["audit", "query", "--json"]).stdout;
                assert!(!told.contains("saml_log_out_unproven"), "{told}");
                told.contains("\"done\":\"saml_logged_out provider:").then_some(())
            })
        });
    }

    /// Presses the application's button that logs out.
    fn log_out(&self) {
        self.browser.run(SUBMIT, &[self.url("/log-out").into(), serde_json::json!({})]);
    }
}

/// Reads a page of a server whose certificate is under this one (DER).
fn read(front: &Front, root: &[u8], host: &str, path: &str) -> String {
    let mut client = Client::connect_tls(front.address, root, host, &[]).unwrap();
    let port = front.address.port();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n").as_bytes());
    let answer = client.response().expect("an answer");
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 200, "{path}: {text}");
    text
}
