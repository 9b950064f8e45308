//! A gateway (or two over one Redis, of which one may hear no events) with every kind of served route.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::fault_proxy::FaultProxy;
use crate::support::gateway::{Answer, Gateway, run};
use crate::support::raw::{Client, Response};
use crate::support::redis::{RedisServer, as_documented_user};
use crate::support::site::Site;
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

/// The password of every account of a scene.
pub(crate) const PASSWORD: &str = "canary-password-4711";

/// Secret of the tokens that hang on a key.
const NARROW_SECRET: &str = "canary-narrow-secret-0123456789abcdef0123456789";

/// Scopes of a caller that may do everything a served route asks for.
pub(crate) const ALL: [&str; 2] = ["keys:write", "orders:read"];

/// Where facts are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Embedded,
    /// Two gateways over one Redis.
    Redis,
}

/// Both stores, for rules that hold over each.
pub(crate) const STORES: [Kind; 2] = [Kind::Embedded, Kind::Redis];

/// Gateways, and what stands behind them.
pub(crate) struct Scene {
    pub(crate) kind: Kind,
    _upstream: Upstream,
    /// Where callers call.
    pub(crate) near: Gateway,
    near_site: Site,
    /// The other gateway over the same store.
    far: Option<(Gateway, Site)>,
    /// Between the near gateway and Redis.
    proxy: Option<FaultProxy>,
    _redis: Option<RedisServer>,
    _shared: tempfile::TempDir,
}

impl Scene {
    /// Everything started, with the tenant `acme`.
    pub(crate) fn open(kind: Kind) -> Self {
        Self::edited(kind, &[])
    }

    /// The same with some texts of the configuration replaced; each must be there.
    pub(crate) fn edited(kind: Kind, edits: &[(&str, &str)]) -> Self {
        let upstream = Upstream::echoing();
        let shared = tempfile::tempdir().unwrap();
        let redis = (kind == Kind::Redis).then(RedisServer::start);
        let proxy = redis.as_ref().map(|redis| FaultProxy::to_port(redis.port()));
        let near_site = site(&upstream, shared.path(), proxy.as_ref().map(FaultProxy::url).as_deref(), edits);
        let far = redis.as_ref().map(|redis| {
            let site = site(&upstream, shared.path(), Some(&redis.url()), edits);
            (Gateway::start(&site), site)
        });
        let scene = Self {
            kind,
            near: Gateway::start(&near_site),
            near_site,
            far,
            _upstream: upstream,
            proxy,
            _redis: redis,
            _shared: shared,
        };
        scene.operator().json(&["tenants", "create", "acme"]);
        scene
    }

    /// Where operators act: the other gateway where there is one.
    pub(crate) fn operator(&self) -> &Gateway {
        self.far.as_ref().map_or(&self.near, |(gateway, _)| gateway)
    }

    /// Every gateway.
    pub(crate) fn gateways(&self) -> Vec<&Gateway> {
        std::iter::once(&self.near)
            .chain(self.far.as_ref().map(|(gateway, _)| gateway))
            .collect()
    }

    /// The near gateway hears no events from now on; its questions are answered.
    pub(crate) fn deafen(&self) {
        self.proxy.as_ref().expect("a proxy before Redis").lose_pushes();
    }

    /// An operation that ends or narrows something, confirmed by every gateway.
    pub(crate) fn confirmed(&self, args: &[&str], stdin: &str) {
        let mut all = args.to_vec();
        all.extend(["--wait", "--json"]);
        let answer = self.operate(&all, stdin);
        assert_eq!(answer.code, 0, "{args:?}: {answer:?}");
        let told = answer.json();
        let rows = told["gateways"].as_array().unwrap_or_else(|| panic!("no receipts: {told}"));
        assert_eq!(rows.len(), self.gateways().len(), "{told}");
        assert!(rows.iter().all(|row| row["confirmed"] == true), "{told}");
    }

    /// An operation that was acknowledged by the store, whoever has heard of it.
    pub(crate) fn acknowledged(&self, args: &[&str], stdin: &str) {
        let mut all = args.to_vec();
        all.push("--json");
        let answer = self.operate(&all, stdin);
        assert_eq!(answer.code, 0, "{args:?}: {answer:?}");
    }

    fn operate(&self, args: &[&str], stdin: &str) -> Answer {
        let site = self.far.as_ref().map_or(&self.near_site, |(_, site)| site);
        run(&site.config(), args, stdin.as_bytes())
    }

    /// Every change of the store so far, as the operator is told it: whatever was made, changed or
    /// ended makes it longer.
    pub(crate) fn changes(&self) -> String {
        let answer = self.operate(&["events", "--after", "0", "--json"], "");
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.stdout
    }

    /// A key of `acme` with these scopes.
    pub(crate) fn key(&self, scopes: &[&str], more: &[&str]) -> Made {
        let mut args: Vec<&str> = scopes.iter().flat_map(|scope| ["--scope", scope]).collect();
        args.extend(more);
        Made::told(&self.operator().create_key("key", "acme", &args))
    }

    /// A role of `acme` with these scopes: its id.
    pub(crate) fn role(&self, name: &str, scopes: &[&str]) -> String {
        let mut args = vec!["roles", "create", "--tenant", "acme", "--name", name];
        args.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
        text(&self.operator().json(&args), "id")
    }

    /// An account of `acme` with this e-mail address: its id.
    pub(crate) fn account(&self, email: &str, more: &[&str]) -> String {
        self.account_of("acme", email, more)
    }

    /// An account of this tenant with this e-mail address: its id.
    pub(crate) fn account_of(&self, tenant: &str, email: &str, more: &[&str]) -> String {
        let mut args = vec!["accounts", "create", "--tenant", tenant, "--email", email, "--json"];
        args.extend(more);
        let answer = self.operate(&args, PASSWORD);
        assert_eq!(answer.code, 0, "{answer:?}");
        text(&answer.json(), "id")
    }

    /// Logs in at the near gateway: the token.
    pub(crate) fn log_in(&self, email: &str) -> Caller {
        let answer = Call::log_in(email, PASSWORD).send(&self.near);
        assert_eq!(answer.status, 200, "{}", said(&answer));
        Caller::session(&text(&answer.json(), "token"))
    }

    /// A token of the surface `narrow` that hangs on this key.
    pub(crate) fn narrowed(key: &Made, perms: &[&str]) -> Caller {
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({ "sub": key.id, "kind": "narrow", "iat": now, "exp": now + 600, "perms": perms });
        let secret = jsonwebtoken::EncodingKey::from_secret(NARROW_SECRET.as_bytes());
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &secret).unwrap();
        Caller(format!("X-Narrow: {token}\r\n"))
    }

    /// Starts the near gateway again, with a line more in its table `[store]`.
    pub(crate) fn restart_near_with(&mut self, line: &str) {
        self.near.signal(Signal::TERM);
        self.near.wait_exit(PATIENCE);
        let text = self.near_site.read("gateway.toml");
        self.near_site.write("gateway.toml", &format!("{text}\n{line}\n"));
        self.near = Gateway::start(&self.near_site);
    }

    /// Ends it as a crash does and starts it again.
    pub(crate) fn revive_near(&mut self) {
        self.near.wait_exit(PATIENCE);
        self.near = Gateway::start(&self.near_site);
    }
}

fn site(upstream: &Upstream, shared: &Path, url: Option<&str>, edits: &[(&str, &str)]) -> Site {
    let site = Site::usual(upstream.address);
    let mut text = include_str!("gateway.toml").to_owned();
    for (old, new) in edits {
        assert!(text.contains(old), "no {old}");
        text = text.replace(old, new);
    }
    let store = match url {
        None => "kind = \"embedded\"\npath = \"state/durward.redb\"\n".to_owned(),
        Some(url) => {
            let pepper = shared.join("pepper");
            std::fs::write(&pepper, "pepper-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
            format!(
                "kind = \"redis\"\nurl = \"{url}\"\npepper = \"file:{}\"\nmax_age = \"3s\"\n{}",
                pepper.display(),
                as_documented_user().0
            )
        }
    };
    site.write("gateway.toml", &format!("{text}\n[store]\n{store}"));
    site.write("narrow.secret", NARROW_SECRET);
    let routes = include_str!("upstream.toml").replace("{address}", &upstream.address.to_string());
    site.write("upstreams/main.toml", &routes);
    site
}

/// A record with the secret that presents it.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) key: String,
}

impl Made {
    /// As an answer told it.
    pub(crate) fn told(value: &Value) -> Self {
        Self {
            id: text(value, "id"),
            key: text(value, "key"),
        }
    }

    /// Whoever presents it.
    pub(crate) fn caller(&self) -> Caller {
        Caller(format!("Authorization: Bearer {}\r\n", self.key))
    }
}

/// A header line that presents a credential.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) String);

impl Caller {
    /// Of a session's token.
    pub(crate) fn session(token: &str) -> Self {
        Self(format!("X-Session: {token}\r\n"))
    }

    /// A request of it.
    pub(crate) fn asks(&self, method: &'static str, path: &str, body: &str) -> Call {
        Call {
            method,
            path: path.to_owned(),
            caller: self.0.clone(),
            body: body.to_owned(),
        }
    }

    /// What a GET is answered.
    pub(crate) fn get(&self, gateway: &Gateway, path: &str) -> u16 {
        self.asks("GET", path, "").send(gateway).status
    }

    /// Makes a key by this route.
    pub(crate) fn mint(&self, gateway: &Gateway, path: &str) -> Made {
        let answer = self.asks("POST", path, "{}").send(gateway);
        assert_eq!(answer.status, 201, "{path}: {}", said(&answer));
        Made::told(&answer.json())
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    /// Whole header lines.
    pub(crate) caller: String,
    pub(crate) body: String,
}

impl Call {
    /// A log-in.
    pub(crate) fn log_in(email: &str, password: &str) -> Self {
        Self {
            method: "POST",
            path: "/log-in".to_owned(),
            caller: String::new(),
            body: json!({ "email": email, "password": password }).to_string(),
        }
    }

    /// As of another client's address.
    pub(crate) fn from(mut self, address: &str) -> Self {
        self.caller += &format!("X-Forwarded-For: {address}\r\n");
        self
    }

    /// Sends it at once, and reads the answer; `None` if the gateway is gone.
    pub(crate) fn try_send(&self, gateway: &Gateway) -> Option<Response> {
        let mut client = Client::try_connect(gateway.address("public"))?;
        client.send(self.bytes().as_bytes());
        client.final_response_to(self.method)
    }

    /// Sends it at once, and reads the answer.
    pub(crate) fn send(&self, gateway: &Gateway) -> Response {
        let mut client = Client::connect(gateway.address("public"));
        client.send(self.bytes().as_bytes());
        client.final_response_to(self.method).expect("an answer")
    }

    /// The whole of it, as it is sent.
    pub(crate) fn bytes(&self) -> String {
        format!("{}\r\n{}", self.head(), self.body)
    }

    /// Sends its head and waits until the gateway asks for the body: by then the caller was judged.
    pub(crate) fn hold(self, gateway: &Gateway) -> Result<Held, Response> {
        let mut client = Client::connect(gateway.address("public"));
        client.send(format!("{}Expect: 100-continue\r\n\r\n", self.head()).as_bytes());
        let first = client.response_to(self.method).expect("an answer");
        if first.status == 100 {
            Ok(Held { client, call: self })
        } else {
            Err(first)
        }
    }

    /// The same of a caller that must be admitted.
    pub(crate) fn held(self, gateway: &Gateway) -> Held {
        self.hold(gateway)
            .unwrap_or_else(|answer| panic!("refused before its body: {}", whole(&answer)))
    }

    fn head(&self) -> String {
        let body = match self.body.len() {
            0 => String::new(),
            length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
        };
        format!("{} {} HTTP/1.1\r\nHost: localhost\r\n{}{body}", self.method, self.path, self.caller)
    }
}

/// A request whose caller was judged and whose body is still to come.
pub(crate) struct Held {
    client: Client,
    pub(crate) call: Call,
}

impl Held {
    /// Sends the body, and reads the answer.
    pub(crate) fn finish(mut self) -> (Call, Response) {
        self.client.send(self.call.body.as_bytes());
        let answer = self.client.final_response_to(self.call.method);
        (self.call, answer.expect("an answer"))
    }
}

/// The whole of an answer but for what differs each time: status, fields in the order of their names, body.
pub(crate) fn whole(response: &Response) -> String {
    let once = ["date", "x-request-id"];
    let mut lines: Vec<String> = response
        .fields
        .iter()
        .filter(|(name, _)| !once.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    lines.sort();
    format!("{}\n{}\n\n{}", response.status, lines.join("\n"), said(response))
}

/// The body as text.
pub(crate) fn said(response: &Response) -> String {
    String::from_utf8_lossy(&response.body).into_owned()
}

/// A member of an object, as text.
pub(crate) fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("{member} in {value}")).to_owned()
}

/// Waits until this caller is refused with this status.
pub(crate) fn wait_refused(gateway: &Gateway, caller: &Caller, path: &str, status: u16) {
    until("the caller to be refused", PATIENCE, || {
        (caller.get(gateway, path) == status).then_some(())
    });
}
