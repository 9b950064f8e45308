//! Sends a hostile input through the real binary and judges it by what the upstream received.

use std::collections::BTreeMap;

use crate::support::frames::{self, Outcome};
use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::Site;
use crate::support::upstream::{Recorded, Upstream};

use super::corpus::{Closing, Effect, Entry, Expected, Input, Versions};

/// The tenant of the credential that is used.
const TENANT: &str = "acme";

/// A gateway in front of a recording upstream, with one good key.
pub(super) struct Court {
    gateway: Gateway,
    upstream: Upstream,
    site: Site,
    /// The good key: may read orders, may not enter `/admin`.
    pub(super) key: String,
}

/// To which route a request goes, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Public,
    Admitted,
    Anonymous,
    Nowhere,
}

impl Way {
    const ALL: [Self; 4] = [Self::Public, Self::Admitted, Self::Anonymous, Self::Nowhere];

    const fn path(self) -> &'static str {
        match self {
            Self::Public => "/public/h",
            Self::Admitted | Self::Anonymous => "/v1/orders/1",
            Self::Nowhere => "/nothing/here",
        }
    }

    /// What the route itself answers, whatever else is wrong with the request.
    const fn own_refusal(self) -> Option<u16> {
        match self {
            Self::Anonymous => Some(401),
            Self::Nowhere => Some(404),
            Self::Public | Self::Admitted => None,
        }
    }
}

impl Court {
    /// Starts gateway and upstream and makes the key.
    pub(super) fn open() -> Self {
        let upstream = Upstream::echoing();
        let site = Site::usual(upstream.address);
        let gateway = Gateway::start(&site);
        gateway.json(&["tenants", "create", TENANT]);
        let made = gateway.create_key("api", TENANT, &["--mode", "live", "--scope", "orders:read"]);
        let key = made["key"].as_str().unwrap().to_owned();
        Self {
            gateway,
            upstream,
            site,
            key,
        }
    }

    /// Tries every form of an entry and answers what went wrong.
    pub(super) fn try_entry(&self, entry: &Entry) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut note = |form: &str, faults: Vec<String>| {
            wrong.extend(faults.into_iter().map(|f| format!("{} ({}), {form}: {f}", entry.name, entry.about)));
        };
        match &entry.input {
            Input::Raw(bytes) => note("raw", self.try_raw(entry, bytes, None)),
            Input::Target(target) => {
                for authorization in [None, Some(format!("Bearer {}", self.key))] {
                    let line = authorization
                        .as_ref()
                        .map(|a| format!("Authorization: {a}\r\n"))
                        .unwrap_or_default();
                    let bytes = [
                        b"GET ",
                        target.as_slice(),
                        b" HTTP/1.1\r\nHost: localhost\r\n",
                        line.as_bytes(),
                        b"\r\n",
                    ]
                    .concat();
                    note("h1", self.try_raw(entry, &bytes, None));
                    if entry.versions == Versions::Both {
                        let mut request = frames::Request::get(target, b"localhost");
                        if let Some(value) = &authorization {
                            request.push(b"authorization", value.as_bytes());
                        }
                        note("h2", self.try_h2(entry, &request, None));
                    }
                }
            }
            Input::Fields(fields) => {
                for way in Way::ALL {
                    note(&format!("h1 {way:?}"), self.try_raw(entry, &self.head(way, fields), Some(way)));
                    if entry.versions == Versions::Both {
                        note(&format!("h2 {way:?}"), self.try_h2(entry, &self.h2_head(way, fields), Some(way)));
                    }
                }
            }
            Input::H2 { fields, body, trailers } => {
                let request = frames::Request {
                    goes_on: false,
                    fields: fields.clone(),
                    body: body.clone(),
                    trailers: trailers.clone(),
                };
                note("h2", self.try_h2(entry, &request, None));
            }
        }
        wrong
    }

    /// Whether the gateway lived through it all, and the upstream could read everything it was sent.
    pub(super) fn close(mut self) -> Vec<String> {
        let mut wrong = self.upstream.broken();
        if !self.gateway.is_running() {
            wrong.push("the gateway is gone".to_owned());
        }
        let output = self.gateway.output();
        if crate::support::canary::contains(&output, b"panicked") {
            wrong.push("something panicked".to_owned());
        }
        if crate::support::canary::contains(&output, self.key.as_bytes()) {
            wrong.push("the key stands in the output".to_owned());
        }
        wrong
    }

    fn head(&self, way: Way, fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut head = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n", way.path()).into_bytes();
        if way == Way::Admitted {
            head.extend_from_slice(format!("Authorization: Bearer {}\r\n", self.key).as_bytes());
        }
        for (name, value) in fields {
            head.extend_from_slice(&[name.as_slice(), b": ", value, b"\r\n"].concat());
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    fn h2_head(&self, way: Way, fields: &[(Vec<u8>, Vec<u8>)]) -> frames::Request {
        let mut request = frames::Request::get(way.path().as_bytes(), b"localhost");
        if way == Way::Admitted {
            request.push(b"authorization", format!("Bearer {}", self.key).as_bytes());
        }
        for (name, value) in fields {
            request.push(&name.to_ascii_lowercase(), value);
        }
        request
    }

    fn try_raw(&self, entry: &Entry, bytes: &[u8], way: Option<Way>) -> Vec<String> {
        self.upstream.forget();
        let mut wrong = Vec::new();
        let mut client = Client::connect(self.gateway.address("plain"));
        client.send(bytes);
        if bytes.starts_with(b"GET /public/x\r\n") {
            // An HTTP/0.9 request has no end but the end of what is sent.
            client.finish_sending();
        }
        let first = client
            .final_response_to("GET")
            .map_or(Expected::Closed, |r| Expected::Status(r.status));
        if !is_expected(entry, first, way) {
            wrong.push(format!("answered {first:?}, expected one of {:?}", entry.answers));
        }
        if entry.closes == Closing::May {
            client.send(b"GET /public/sentinel HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        }
        if first != Expected::Closed && !client.closes() {
            wrong.push("the connection stays open".to_owned());
        }
        wrong.extend(self.judge(entry, first));
        wrong
    }

    fn try_h2(&self, entry: &Entry, request: &frames::Request, way: Option<Way>) -> Vec<String> {
        self.upstream.forget();
        let mut client = Client::connect_tls(self.gateway.address("tls"), &self.site.root, "localhost", &["h2"]).unwrap();
        let first = match frames::exchange(&mut client, request) {
            Outcome::Answer(status, _) => Expected::Status(status),
            Outcome::Reset => Expected::Reset,
        };
        let refused_earlier = first == Expected::Reset && !entry.answers.contains(&Expected::Status(200));
        let mut wrong = Vec::new();
        if !refused_earlier && !is_expected(entry, first, way) {
            wrong.push(format!("answered {first:?}, expected one of {:?}", entry.answers));
        }
        wrong.extend(self.judge(entry, first));
        wrong
    }

    /// What arrived upstream, once everything sent before has been dealt with.
    fn arrived(&self) -> Vec<Recorded> {
        let mut settle = Client::connect(self.gateway.address("plain"));
        settle.send(b"GET /public/settled HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(settle.response().map(|r| r.status), Some(200), "the gateway serves no more");
        let mut requests = self.upstream.requests();
        requests.retain(|r| !matches!(r.target.as_str(), "/public/settled" | "/public/sentinel"));
        requests
    }

    fn judge(&self, entry: &Entry, first: Expected) -> Vec<String> {
        let arrived = self.arrived();
        let mut wrong: Vec<String> = arrived.iter().flat_map(faults).collect();
        let complete = arrived.iter().filter(|r| r.complete).count();
        let targets: Vec<&str> = arrived.iter().map(|r| r.target.as_str()).collect();
        let good = match &entry.effect {
            Effect::None => arrived.is_empty(),
            Effect::One => complete == 1 && arrived.len() == 1,
            Effect::Two => complete == 2 && arrived.len() == 2,
            Effect::AtMostOne => arrived.len() <= 1 && (first != Expected::Status(200) || complete == 1),
            Effect::Incomplete => arrived.len() <= 1 && complete == 0,
            Effect::Target(target) => targets == [target.as_str()] && complete == 1,
        };
        if !good {
            wrong.push(format!(
                "expected {:?} upstream, {targets:?} arrived, {complete} of them complete",
                entry.effect
            ));
        }
        for (name, value) in &entry.has {
            if !arrived.iter().all(|r| r.all(name) == [value.as_str()]) {
                wrong.push(format!("`{name}: {value}` did not arrive"));
            }
        }
        wrong
    }
}

fn is_expected(entry: &Entry, first: Expected, way: Option<Way>) -> bool {
    let own = way.and_then(Way::own_refusal).map(Expected::Status);
    entry.answers.contains(&first) || own == Some(first)
}

/// Whether a service that folds every odd character into `-` takes a name for one that only the gateway may
/// send, or that is never forwarded.
fn is_disguise(lower: &str) -> bool {
    let folded: String = lower.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let taken = [
        "x-tenant-id",
        "x-scopes",
        "x-auth-",
        "x-forwarded",
        "x-original-",
        "x-rewrite-",
        "x-request-id",
        "x-real-ip",
        "x-api-",
        "x-http-method",
        "x-method-override",
        "x-middleware-",
        "x-gateway-",
        "x-accel-",
        "content-length",
        "transfer-encoding",
        "host",
        "cookie",
        "authorization",
        "proxy-",
        "connection",
        "keep-alive",
        "upgrade",
        "te",
        "trailer",
    ];
    folded != lower
        && taken
            .iter()
            .any(|name| folded == *name || (name.ends_with('-') && folded.starts_with(name)))
}

/// Whether decoding a path, however often, gives a delimiter that was not there, or no text.
fn hides_delimiter(path: &str) -> bool {
    let delimiters = |text: &[u8]| text.iter().filter(|b| matches!(b, b'/' | b'\\' | b'.' | 0..0x20 | 0x7f)).count();
    let mut text = path.as_bytes().to_vec();
    for layer in 0..32 {
        let next: Vec<u8> = percent_decoded(&text);
        if next == text {
            return false;
        }
        if delimiters(&next) != delimiters(path.as_bytes()) || (layer == 0 && std::str::from_utf8(&next).is_err()) {
            return true;
        }
        text = next;
    }
    true
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let [first, after @ ..] = rest {
        let pair = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = pair.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| *first == b'%');
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    out
}

/// What no request may look like upstream, whatever was sent to the gateway.
fn faults(request: &Recorded) -> Vec<String> {
    let mut faults = Vec::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (name, value) in &request.fields {
        let lower = name.to_ascii_lowercase();
        if is_disguise(&lower) {
            faults.push(format!("a field named {name} arrived"));
        }
        for word in ["evil", "1.2.3.4"] {
            if lower.contains(word) || value.to_ascii_lowercase().contains(word) {
                faults.push(format!("{name}: {value} arrived"));
            }
        }
        *counts.entry(lower).or_default() += 1;
    }
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    let protected = request.target.starts_with("/v1/");
    let tenants = request.all("x-tenant-id");
    if protected && tenants != [TENANT] || !protected && !tenants.is_empty() {
        faults.push(format!("X-Tenant-Id is {tenants:?} on {}", request.target));
    }
    if count("host") != 1 || count("content-length") + count("transfer-encoding") > 1 {
        faults.push(format!("host or framing is in doubt: {counts:?}"));
    }
    for absent in [
        "authorization",
        "x-api-key",
        "x-api-secret",
        "upgrade",
        "trailer",
        "te",
        "proxy-authorization",
        "expect",
    ] {
        if count(absent) > 0 && !(absent == "expect" && request.all("expect") == ["100-continue"]) {
            faults.push(format!("{absent} arrived"));
        }
    }
    if request
        .all("connection")
        .iter()
        .any(|v| !v.eq_ignore_ascii_case("keep-alive") && !v.eq_ignore_ascii_case("close"))
    {
        faults.push("a client's Connection arrived".to_owned());
    }
    let path = request.target.split('?').next().unwrap_or_default();
    let odd = path.contains("//") || path.contains('\\') || path.contains(';') || path.contains('#') || hides_delimiter(path);
    if path.starts_with("/admin") || !path.starts_with('/') || odd || path.split('/').any(|s| s == "." || s == "..") {
        faults.push(format!("the target {} arrived", request.target));
    }
    if request.trailers.iter().any(|t| !t.is_empty()) {
        faults.push(format!("trailers {:?} arrived", request.trailers));
    }
    faults
}
