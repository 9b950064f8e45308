//! Two gateways over one Redis, one of them through the fault proxy, with credentials of every kind.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use durward::base::key::GeneratedKey;
use serde_json::{Value, json};

use crate::support::fault_proxy::FaultProxy;
use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};
use crate::support::redis::RedisServer;
use crate::support::site::{Plan, SESSION_SECRET, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::PATIENCE;

/// The tenant of a scene, where one is enough.
pub(super) const TENANT: &str = "acme";

/// The pepper of a scene.
pub(super) const PEPPER: &str = "pepper-of-a-test-0123456789abcdef0123456789abcdef";

/// A number from the environment: the full table asks for more than the quick one.
pub(super) fn scale(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// Oldest usable fact in these tests: 3 s, or as the full table asks (30 s is the default of the product).
pub(super) fn max_age() -> Duration {
    Duration::from_secs(scale("DURWARD_TEST_MAX_AGE", 3))
}

/// Which gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Behind the proxy.
    Near,
    /// Behind a proxy of its own that always passes.
    Far,
}

/// What a caller presents.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Id of its record; none for a key that nobody made.
    pub(super) id: String,
    /// What follows `Bearer`.
    pub(super) bearer: String,
    /// Path it may use.
    pub(super) path: &'static str,
    /// Whose it is, as it says in its request-target; `nobody` must never arrive.
    pub(super) tenant: String,
}

impl Caller {
    /// The bytes of one request of it.
    pub(super) fn request(&self) -> Vec<u8> {
        format!(
            "GET {}?tenant={} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
            self.path, self.tenant, self.bearer
        )
        .into_bytes()
    }

    /// A key in the right form that was never made.
    pub(super) fn nobody() -> Self {
        Self {
            id: String::new(),
            bearer: GeneratedKey::mint("tlive_").unwrap().expose().to_owned(),
            path: "/v1/orders/x",
            tenant: "nobody".to_owned(),
        }
    }
}

/// Everything one row of the table needs.
pub(super) struct Scene {
    pub(super) redis: RedisServer,
    pub(super) proxy: FaultProxy,
    pub(super) far_proxy: FaultProxy,
    pub(super) upstream: Upstream,
    pub(super) near: Gateway,
    pub(super) far: Gateway,
    near_site: Site,
    far_site: Site,
    folder: tempfile::TempDir,
}

impl Scene {
    /// Starts everything and makes the tenant.
    pub(super) fn open() -> Self {
        Self::with(&format!("max_age = \"{}s\"\n", max_age().as_secs()))
    }

    /// The same with these lines in `[store]`.
    pub(super) fn with(store_lines: &str) -> Self {
        let redis = RedisServer::start_durable();
        let (proxy, far_proxy) = (FaultProxy::to_port(redis.port()), FaultProxy::to_port(redis.port()));
        let upstream = Upstream::echoing();
        let folder = tempfile::tempdir().unwrap();
        let (near_site, far_site) = (
            site(folder.path(), &proxy.url(), store_lines, &upstream),
            site(folder.path(), &far_proxy.url(), store_lines, &upstream),
        );
        let scene = Self {
            near: Gateway::start(&near_site),
            far: Gateway::start(&far_site),
            redis,
            proxy,
            far_proxy,
            upstream,
            near_site,
            far_site,
            folder,
        };
        scene.operate(Which::Far, "/v1/tenants", &json!({ "id": TENANT }));
        scene
    }

    /// One more site like those of the gateways, over this URL.
    pub(super) fn another_site(&self, url: &str, store_lines: &str) -> Site {
        site(self.folder.path(), url, store_lines, &self.upstream)
    }

    /// A gateway.
    pub(super) fn gateway(&self, which: Which) -> &Gateway {
        match which {
            Which::Near => &self.near,
            Which::Far => &self.far,
        }
    }

    /// The socket of a gateway's operators.
    pub(super) fn socket(&self, which: Which) -> PathBuf {
        let site = match which {
            Which::Near => &self.near_site,
            Which::Far => &self.far_site,
        };
        site.folder().join("state/admin.sock")
    }

    /// An operation that must succeed.
    pub(super) fn operate(&self, which: Which, path: &str, body: &Value) -> Value {
        operate(&self.socket(which), path, body).unwrap_or_else(|answer| panic!("{path}: {answer}"))
    }

    /// Makes a key of the scene's tenant.
    pub(super) fn key(&self) -> Caller {
        self.key_of(TENANT)
    }

    /// Makes a key of this tenant.
    pub(super) fn key_of(&self, tenant: &str) -> Caller {
        make_key(&self.socket(Which::Far), tenant)
    }

    /// Makes a key, and a session token that hangs on it.
    pub(super) fn session(&self) -> Caller {
        let key = self.key();
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({ "sub": key.id, "kind": "dashboard_session", "iat": now, "exp": now + 3_600 });
        let secret = jsonwebtoken::EncodingKey::from_secret(SESSION_SECRET.as_bytes());
        Caller {
            bearer: jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &secret).unwrap(),
            path: "/v1/session/x",
            ..key
        }
    }

    /// Revokes a key through the gateway that is well.
    pub(super) fn revoke(&self, caller: &Caller) {
        self.operate(Which::Far, &format!("/v1/keys/{}/revoke", caller.id), &Value::Null);
    }

    /// One request on a connection of its own.
    pub(super) fn call(&self, which: Which, caller: &Caller) -> Response {
        call(self.gateway(which), caller)
    }

    /// A probe's status, by path.
    pub(super) fn probe(&self, which: Which, path: &str) -> u16 {
        probe(self.gateway(which), path).status
    }

    /// The sum of a metric's rows that hold this text, such as `durward_store_reads_total{reason="request"`.
    pub(super) fn metric(&self, which: Which, row: &str) -> u64 {
        let response = probe(self.gateway(which), "/metrics");
        let text = String::from_utf8(response.body).unwrap();
        let rows = text.lines().filter(|line| line.starts_with(row));
        let values = rows.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are whole and small")]
        let sum = values.sum::<f64>() as u64;
        sum
    }

    /// How often a gateway has written this.
    pub(super) fn said(&self, which: Which, text: &str) -> usize {
        let output = self.gateway(which).output();
        memchr::memmem::find_iter(&output, text.as_bytes()).count()
    }

    /// Judges by what arrived behind the gateways: every request with the one identity that its
    /// sender has, and none of those who have none.
    pub(super) fn assert_identities(&self) -> usize {
        let arrived = self.upstream.requests();
        for request in &arrived {
            let tenant = request.target.rsplit_once("tenant=").expect("a target of ours").1;
            assert_ne!(tenant, "nobody", "a request without identity arrived");
            assert_eq!(request.all("x-tenant-id"), [tenant], "{}", request.target);
        }
        assert_eq!(self.upstream.broken(), Vec::<String>::new());
        for which in [Which::Near, Which::Far] {
            assert_eq!(self.said(which, "panicked"), 0, "{which:?}");
        }
        arrived.len()
    }
}

fn site(folder: &Path, url: &str, store_lines: &str, upstream: &Upstream) -> Site {
    let pepper = folder.join("pepper");
    std::fs::write(&pepper, PEPPER).unwrap();
    let plan = Plan {
        store_lines: store_lines.to_owned(),
        ..Plan::redis(url, &pepper)
    };
    Site::of(&plan, upstream.address)
}

/// One request on a connection of its own.
pub(super) fn call(gateway: &Gateway, caller: &Caller) -> Response {
    let mut client = Client::connect(gateway.address("plain"));
    client.send(&caller.request());
    client.response().expect("an answer")
}

/// One request to the probes.
pub(super) fn probe(gateway: &Gateway, path: &str) -> Response {
    let mut client = Client::connect(gateway.probes());
    client.send(format!("GET {path} HTTP/1.1\r\nHost: probes\r\nConnection: close\r\n\r\n").as_bytes());
    client.response().expect("an answer")
}

/// Makes a key through this socket.
pub(super) fn make_key(socket: &Path, tenant: &str) -> Caller {
    let wanted = json!({ "surface": "api", "tenant": tenant, "mode": "live", "scopes": ["orders:read"] });
    let made = operate(socket, "/v1/keys", &wanted).unwrap();
    let text = |member: &str| made["credential"][member].as_str().unwrap().to_owned();
    Caller {
        id: text("id"),
        bearer: text("key"),
        path: "/v1/orders/x",
        tenant: tenant.to_owned(),
    }
}

/// One operation over a gateway's socket; what it answered instead when it did not succeed.
pub(super) fn operate(socket: &Path, path: &str, body: &Value) -> Result<Value, String> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = UnixStream::connect(socket).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    if !head.starts_with("HTTP/1.1 200") {
        return Err(text);
    }
    serde_json::from_str(body).map_err(|error| error.to_string())
}
