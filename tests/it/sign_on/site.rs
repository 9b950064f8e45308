//! A gateway with routes of single sign-on in front of a fake provider, and a browser that keeps cookies.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::examples::site;
use crate::support::gateway::{Gateway, run};
use crate::support::raw::{Client, Response};
use crate::support::redis::RedisServer;
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::fake::{CLIENT, FakeProvider, Grant, SECRET, decoded};

pub(super) const PUBLIC: &str = "https://api.example.com";
pub(super) const APP: &str = "https://app.example.com/portal";

pub(super) const UPSTREAM: &str = r#"
name = "main"
endpoints = ["http://{address}"]

[[routes]]
path = "/v1/me"
methods = ["GET"]
access = { surfaces = ["web"] }

[[routes]]
path = "/v1/keys"
methods = ["GET"]
access = { surfaces = ["api"] }

[[routes]]
path = "/v1/pairs"
methods = ["GET"]
access = { surfaces = ["pair", "session"] }
"#;

pub(super) const TABLES: &str = r#"
[sign_on]
public_url = "https://api.example.com"
return_to = ["https://app.example.com/portal"]
contact = "the service desk (desk@acme.example)"
ca = "ca.pem"
insecure_private_address = true

[audit]
directory = "state/audit"

[roles.admin]
scopes = []

[roles.viewer]
scopes = []

[roles.sso_admin]
scopes = ["sso:manage", "orders:read"]

[surfaces.people]
kind = "account"
login_field = "email"
password_field = "password"

[surfaces.web]
kind = "session_jwt"
carry = ["cookie:__Host-web"]
token_kind = "web"
secrets = "file:web.secret"
record = "own"
lifetime = "15m"

[[rate_limits]]
by = "address"
# Tests ask until something has happened.
rate = "1000000/1m"

[[routes]]
name = "start"
methods = ["GET"]
path = "/sso/{tenant}"
access = "public"
serve = "sso_start"
tenant = "path.tenant"

[[routes]]
name = "discover"
methods = ["GET"]
path = "/sso"
access = "public"
serve = "sso_start"
tenant = "query.email"

[[routes]]
name = "finish"
methods = ["GET"]
path = "/callback"
access = "public"
serve = "sso_finish"
mint = [{ surface = "web", parent = "person", subject = "parent.id", scopes = "person", lifetime = "12h" }]

[[routes]]
name = "acs"
methods = ["POST"]
path = "/saml/{tenant}/acs"
access = "public"
serve = "saml_finish"
tenant = "path.tenant"
mint = [{ surface = "web", parent = "person", subject = "parent.id", scopes = "person", lifetime = "12h" }]

[[routes]]
name = "saml-log-out"
methods = ["GET"]
path = "/saml/{tenant}/log-out"
access = "public"
serve = "saml_log_out"
tenant = "path.tenant"

[[routes]]
name = "about"
methods = ["GET"]
path = "/saml/{tenant}/metadata"
access = "public"
serve = "saml_metadata"
tenant = "path.tenant"

[[routes]]
name = "leave"
methods = ["POST"]
path = "/log-out"
access = { surfaces = ["web"] }
serve = "sso_log_out"

[[routes]]
name = "log-in"
methods = ["POST"]
path = "/log-in"
access = { surfaces = ["people"] }
serve = "mint"
mint = [{ surface = "web", parent = "caller", subject = "caller.id", scopes = "caller", lifetime = "12h" }]

[[routes]]
name = "leave-everywhere"
methods = ["POST"]
path = "/log-out-everywhere"
access = { surfaces = ["web"] }
serve = "log_out"
extent = "everywhere"

[[routes]]
name = "link"
methods = ["POST"]
path = "/link"
access = { surfaces = ["web"] }
serve = "sso_link"

[[routes]]
name = "unlink"
methods = ["POST"]
path = "/unlink"
access = { surfaces = ["web"] }
serve = "sso_unlink"

[[routes]]
name = "back"
methods = ["POST"]
path = "/sso/{tenant}/back-channel"
access = "public"
serve = "sso_back_channel"
tenant = "path.tenant"

[[routes]]
name = "providers-list"
methods = ["GET"]
path = "/providers"
access = { surfaces = ["web"], scopes = ["sso:manage"] }
serve = "providers"
operation = "list"

[[routes]]
name = "providers-create"
methods = ["POST"]
path = "/providers"
access = { surfaces = ["web"], scopes = ["sso:manage"] }
serve = "providers"
operation = "create"
session = "web"
account = "people"
answer.status = 201
audit = { body = {} }

[[routes]]
name = "providers-show"
methods = ["GET"]
path = "/providers/{id}"
access = { surfaces = ["web"], scopes = ["sso:manage"] }
serve = "providers"
operation = "show"
id = "path.id"

[[routes]]
name = "providers-update"
methods = ["PATCH"]
path = "/providers/{id}"
access = { surfaces = ["web"], scopes = ["sso:manage"] }
serve = "providers"
operation = "update"
id = "path.id"

[[routes]]
name = "providers-test"
methods = ["POST"]
path = "/providers/{id}/test"
access = { surfaces = ["web"], scopes = ["sso:manage"] }
serve = "providers"
operation = "test"
id = "path.id"

[[routes]]
name = "providers-disable"
methods = ["POST"]
path = "/providers/{id}/disable"
access = { surfaces = ["web"], scopes = ["sso:manage"] }
serve = "providers"
operation = "disable"
id = "path.id"

[[routes]]
name = "providers-enable"
methods = ["POST"]
path = "/providers/{id}/enable"
access = { surfaces = ["web"], scopes = ["sso:manage"] }
serve = "providers"
operation = "enable"
id = "path.id"

[[routes]]
name = "providers-delete"
methods = ["DELETE"]
path = "/providers/{id}"
access = { surfaces = ["web"], scopes = ["sso:manage"] }
serve = "providers"
operation = "delete"
id = "path.id"
"#;

/// The same with session tokens that are renewed after a second, and roles that hold scopes.
pub(super) fn renewing_tables() -> String {
    let lifetime = "record = \"own\"\nlifetime = \"15m\"";
    let refresh = format!("{lifetime}\nrefresh = {{ after = \"1s\" }}");
    let roles = "[roles.admin]\nscopes = [\"orders:read\", \"orders:write\"]\n\n[roles.reader]\nscopes = [\"orders:read\"]\n\n\
                 [roles.root]\nscopes = [\"orders:read\", \"everything:write\"]";
    let tables = TABLES.replace(lifetime, &refresh).replace("[roles.admin]\nscopes = []", roles);
    assert!(tables.contains(&refresh) && tables.contains("[roles.root]"), "{tables}");
    tables
}

/// A fake provider, and one gateway or two that send people to it.
pub(super) struct House {
    pub(super) fake: FakeProvider,
    pub(super) sites: Vec<Site>,
    pub(super) gateways: Vec<Gateway>,
    /// The provider's id.
    pub(super) provider: String,
    pub(super) upstream: Upstream,
    /// The listener that browsers talk to.
    listener: &'static str,
    /// The surfaces of sessions and of accounts.
    surfaces: [&'static str; 2],
    /// The store, where it is Redis.
    pub(super) redis: Option<RedisServer>,
}

impl House {
    /// One gateway over the embedded store, and a provider that makes accounts.
    pub(super) fn open() -> Self {
        Self::with(None, 1)
    }

    /// Two gateways over one Redis.
    pub(super) fn pair() -> Self {
        Self::with(Some(RedisServer::start()), 2)
    }

    fn with(redis: Option<RedisServer>, count: usize) -> Self {
        Self::with_tables(redis, count, TABLES)
    }

    /// Gateways that renew session tokens after a second, at a provider that gives refresh tokens and roles by groups. Its ceiling
    /// is the role `admin`.
    pub(super) fn renewing(redis: Option<RedisServer>, count: usize) -> Self {
        let house = Self::with_tables(redis, count, &renewing_tables());
        house.fake.give_refresh_tokens();
        let mut update = vec!["providers", "update", &house.provider, "--refresh-tokens", "--role-claim", "groups"];
        for row in ["admins=admin", "readers=reader", "roots=root"] {
            update.extend(["--map-role", row]);
        }
        update.extend(["--role", "admin"]);
        let told = house.gateways[0].run(&update);
        assert_eq!(told.code, 0, "{told:?}");
        house
    }

    fn with_tables(redis: Option<RedisServer>, count: usize, tables: &str) -> Self {
        let fake = FakeProvider::start();
        let upstream = Upstream::echoing();
        let folder = tempfile::tempdir().unwrap();
        let pepper = folder.path().join("pepper");
        std::fs::write(&pepper, "pepper-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
        let sites: Vec<Site> = (0..count)
            .map(|_| {
                let plan = redis.as_ref().map_or_else(Plan::usual, |redis| Plan::redis(&redis.url(), &pepper));
                let plan = Plan {
                    tables: tables.to_owned(),
                    upstream: UPSTREAM.to_owned(),
                    ..plan
                };
                let site = Site::of(&plan, upstream.address);
                site.write("ca.pem", &fake.certificate);
                site.write("web.secret", "secret-of-the-sessions-0123456789abcdef0123456789");
                site
            })
            .collect();
        Self::built(fake, sites, upstream, redis, ("plain", ["web", "people"]))
    }

    /// The shipped example, with a provider of its tenant.
    pub(super) fn geldstuck() -> Self {
        let fake = FakeProvider::start();
        let upstream = Upstream::echoing();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, &fake.certificate).unwrap();
        let of_test = format!("[sign_on]\nca = {ca:?}\ninsecure_private_address = true\n");
        let sites = vec![site("geldstuck", upstream.address, &[("[sign_on]\n", &of_test)])];
        Self::built(fake, sites, upstream, None, ("public", ["session", "account"]))
    }

    /// Starts the gateways, and makes the tenant and its provider. `names`: of the listener, and of the surfaces of sessions and accounts.
    fn built(
        fake: FakeProvider,
        sites: Vec<Site>,
        upstream: Upstream,
        redis: Option<RedisServer>,
        names: (&'static str, [&'static str; 2]),
    ) -> Self {
        let gateways: Vec<Gateway> = sites.iter().map(Gateway::start).collect();
        gateways[0].json(&["tenants", "create", "acme"]);
        let (listener, surfaces) = names;
        let mut house = Self {
            fake,
            sites,
            gateways,
            provider: String::new(),
            upstream,
            listener,
            surfaces,
            redis,
        };
        house.provider = house.create_provider("Acme", &["--domain", "acme.example", "--provision"]);
        house
    }

    /// Makes a provider of the tenant and answers its id.
    pub(super) fn create_provider(&self, name: &str, more: &[&str]) -> String {
        let mut args = vec![
            "providers",
            "create",
            "--tenant",
            "acme",
            "--kind",
            "oidc",
            "--name",
            name,
            "--surface",
            self.surfaces[0],
            "--account-surface",
            self.surfaces[1],
            "--issuer",
            self.fake.issuer(),
            "--client-id",
            CLIENT,
            "--json",
        ];
        args.extend(more);
        let made = run(&self.sites[0].config(), &args, SECRET.as_bytes()).json();
        made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
    }

    /// Makes a SAML provider of another tenant, whose certificate is this one, and answers its id.
    pub(super) fn create_saml(&self, tenant: &str, certificate: &[u8], more: &[&str]) -> String {
        self.gateways[0].run(&["tenants", "create", tenant]);
        std::fs::write(self.sites[0].folder().join("idp.der"), certificate).unwrap();
        let file = self.sites[0].folder().join("idp.der");
        let mut args = vec![
            "providers",
            "create",
            "--tenant",
            tenant,
            "--kind",
            "saml",
            "--surface",
            self.surfaces[0],
            "--account-surface",
            self.surfaces[1],
            "--entity-id",
            durward::sign_on::saml::sample::ENTITY_ID,
            "--certificate",
            file.to_str().unwrap(),
            "--provision",
        ];
        args.extend(more);
        let made = self.gateways[0].json(&args);
        made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
    }

    /// A browser at the first gateway.
    pub(super) fn browser(&self) -> Browser<'_> {
        Browser {
            house: self,
            at: 0,
            cookies: BTreeMap::new(),
        }
    }

    /// What the provider is asked for at this address.
    pub(super) fn asked(&self, location: &str) -> Asked {
        let query = location.strip_prefix(&format!("{}/authorize?", self.fake.issuer())).unwrap();
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        Asked {
            parameters: pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect(),
        }
    }

    /// The entry of the audit trail of this answer's request.
    pub(super) fn entry(&self, answer: &Response) -> Value {
        let id = answer.field("x-request-id").unwrap();
        until("the entry of the request", PATIENCE, || {
            let told = self.gateways[0].run(&["audit", "query", "--request", id, "--json"]);
            told.stdout.lines().next().map(|line| serde_json::from_str(line).unwrap())
        })
    }
}

/// A browser, as far as sign-ons see one.
pub(super) struct Browser<'h> {
    house: &'h House,
    /// The gateway that it talks to.
    pub(super) at: usize,
    pub(super) cookies: BTreeMap<String, String>,
}

/// What a start asked the provider for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) parameters: BTreeMap<String, String>,
}

impl Asked {
    pub(super) fn get(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }
}

impl Browser<'_> {
    pub(super) fn get(&mut self, target: &str) -> Response {
        self.send("GET", target, "text/html,*/*;q=0.8", "", "")
    }

    pub(super) fn get_json(&mut self, target: &str) -> Response {
        self.send("GET", target, "application/json", "", "")
    }

    /// Sends a request with the cookies that the browser has, and keeps those that it is given.
    pub(super) fn send(&mut self, method: &str, target: &str, accept: &str, fields: &str, body: &str) -> Response {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = if cookies.is_empty() {
            String::new()
        } else {
            format!("Cookie: {}\r\n", cookies.join("; "))
        };
        let mut client = Client::connect(self.house.gateways[self.at].address(self.house.listener));
        let length = body.len();
        client.send(
            format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n{cookies}{fields}Content-Length: {length}\r\n\r\n{body}")
                .as_bytes(),
        );
        let answer = client.response_to(method).expect("an answer");
        for (_, cookie) in answer.fields.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, rest) = cookie.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            assert!(cookie.contains("; HttpOnly; Secure; SameSite="), "{cookie}");
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// Begins a sign-on and answers what the provider is asked for.
    pub(super) fn start(&mut self, target: &str) -> Asked {
        let answer = self.get(target);
        assert_eq!(answer.status, 303, "{}", String::from_utf8_lossy(&answer.body));
        self.house.asked(answer.field("location").unwrap())
    }

    /// The person agrees at the provider: the address that the browser is sent back to.
    pub(super) fn agree(&self, asked: &Asked, claims: &Value) -> String {
        let code = self.house.fake.grant(Grant {
            nonce: asked.get("nonce").to_owned(),
            challenge: asked.get("code_challenge").to_owned(),
            redirect_uri: asked.get("redirect_uri").to_owned(),
            claims: claims.clone(),
        });
        let path = asked.get("redirect_uri").strip_prefix(PUBLIC).unwrap();
        let mut issuer = Vec::new();
        durward::base::percent::push_query(&mut issuer, self.house.fake.issuer());
        format!(
            "{path}?code={code}&state={}&iss={}",
            asked.get("state"),
            String::from_utf8(issuer).unwrap()
        )
    }

    /// A sign-on up to where the provider sends the browser back: that address.
    pub(super) fn begin(&mut self, claims: &Value) -> String {
        let asked = self.start("/sso/acme");
        self.agree(&asked, claims)
    }

    /// A whole sign-on with these claims.
    pub(super) fn sign_on(&mut self, claims: &Value) -> Response {
        let back = self.begin(claims);
        self.get(&back)
    }

    /// What the service behind answers this browser.
    pub(super) fn me(&mut self) -> Response {
        self.get_json("/v1/me")
    }
}

/// A sign-on that succeeds, in the session `sid` of the provider.
pub(super) fn signed_on<'h>(house: &'h House, sid: &str) -> Browser<'h> {
    let mut browser = house.browser();
    let answer = browser.sign_on(&json!({ "sid": sid }));
    assert_eq!(answer.status, 303, "{}", String::from_utf8_lossy(&answer.body));
    browser
}
