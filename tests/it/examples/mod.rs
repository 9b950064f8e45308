//! The shipped examples, called as their documentation says, through the real binary.

mod authority;
mod bodies;
mod curl;
mod depotbank;
mod documented;
mod geldstuck;
mod hatchpay;
mod heldsway;
mod holdyn;
mod holdyn_log_in;
mod holdyn_matrix;
mod holdyn_sentences;
mod holdyn_sessions;
mod hooks;
mod house;
mod killed;
mod matrix;
mod pages;
mod portal;
mod statements;

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};
use crate::support::redis::RedisServer;
use crate::support::site::Site;

/// The store of every example as it is written there.
const EMBEDDED: &str = "kind = \"embedded\"\npath = \"state/durward.redb\"\n";

/// The example's own files in a folder of their own, on addresses of their own. Each edit (what is
/// there, what stands there instead) must find something.
pub(super) fn site(example: &str, upstream: SocketAddr, edits: &[(&str, &str)]) -> Site {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
    let site = Site::usual(upstream);
    std::fs::remove_file(site.folder().join("upstreams/main.toml")).unwrap();
    let mut text = std::fs::read_to_string(folder.join("gateway.toml")).unwrap();
    let address = ("address = \"127.0.0.1:8080\"", "address = \"127.0.0.1:0\"");
    for (old, new) in [address].iter().chain(edits) {
        assert!(text.contains(old), "{example} has no {old}");
        text = text.replace(old, new);
    }
    site.write("gateway.toml", &text);
    for file in std::fs::read_dir(folder.join("upstreams")).unwrap() {
        let file = file.unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(text.contains("127.0.0.1:9000"), "{:?} has another upstream", file.path());
        let name = format!("upstreams/{}", file.file_name().to_str().unwrap());
        site.write(&name, &text.replace("127.0.0.1:9000", &upstream.to_string()));
    }
    site
}

/// The same over Redis; `shared` holds what gateways share: the pepper and the token secrets.
pub(super) fn site_over_redis(example: &str, upstream: SocketAddr, redis: &RedisServer, shared: &Path, edits: &[(&str, &str)]) -> Site {
    let secret = |name: &str| {
        let path = shared.join(name);
        std::fs::write(&path, format!("{name:->64}")).unwrap();
        format!("file:{}", path.display())
    };
    let (url, pepper) = (redis.url(), secret("pepper"));
    let store = format!("kind = \"redis\"\nurl = \"{url}\"\npepper = \"{pepper}\"\n");
    let mut all = vec![(EMBEDDED, store.as_str())];
    all.extend(edits);
    let site = site(example, upstream, &all);
    let text = site.read("gateway.toml");
    let mut parts = text.split("generate:state/");
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('"').unwrap();
        text += &format!("{}\"{rest}", secret(name));
    }
    site.write("gateway.toml", &text);
    site
}

/// Path patterns of an example's routes, in the order of its files.
pub(super) fn paths_of(example: &Site) -> Vec<String> {
    let mut texts = vec![example.read("gateway.toml")];
    for file in std::fs::read_dir(example.folder().join("upstreams")).unwrap() {
        texts.push(std::fs::read_to_string(file.unwrap().path()).unwrap());
    }
    let lines = texts.iter().flat_map(|text| text.lines());
    let paths = lines.filter_map(|line| line.strip_prefix("path = \"/")?.strip_suffix('"'));
    paths.map(|path| format!("/{path}")).collect()
}

/// A request on a connection of its own. A body is JSON unless the fields say otherwise.
pub(super) fn call(gateway: &Gateway, method: &str, target: &str, fields: &[(&str, &str)], body: &str) -> Response {
    if curl::is_wanted() {
        return curl::call(gateway, method, target, fields, body);
    }
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        let typed = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        head += if typed { "" } else { "Content-Type: application/json\r\n" };
        head += &format!("Content-Length: {}\r\n", body.len());
    } else if method != "GET" && method != "HEAD" {
        head += "Content-Length: 0\r\n";
    }
    let mut client = Client::connect(gateway.address("public"));
    client.send(format!("{head}\r\n{body}").as_bytes());
    client.final_response_to(method).expect("an answer")
}

/// Compares an answer of the gateway's own exactly: status, every header, and the whole body
/// ([`Value::Null`] for none). `fields` are those besides the ones that every such answer has. A text
/// that begins with `~` is a shape, see [`fits`].
pub(super) fn expect(response: &Response, status: u16, fields: &[(&str, &str)], body: &Value) {
    let said = String::from_utf8_lossy(&response.body).into_owned();
    assert_eq!(response.status, status, "{said}");
    let id = response
        .field("x-request-id")
        .unwrap_or_else(|| panic!("no request id: {response:?}"));
    let length = response.body.len().to_string();
    let mut wanted = vec![("cache-control", "no-store"), ("date", "~"), ("x-request-id", "~request")];
    if status != 204 {
        wanted.push(("content-length", length.as_str()));
    }
    if *body != Value::Null {
        wanted.push(("content-type", "application/json"));
    }
    wanted.extend(fields);
    wanted.sort_unstable();
    let mut got: Vec<(&str, &str)> = response.fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    // Every answer of an example with CORS rules has it.
    got.retain(|field| *field != ("vary", "Origin"));
    got.sort_unstable();
    let names = |all: &[(&str, &str)]| all.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&got), names(&wanted), "{response:?}");
    for ((name, value), (_, shape)) in got.iter().zip(&wanted) {
        assert!(fits_text(shape, value, id), "{name}: {value} is not {shape}");
    }
    match body {
        Value::Null => assert_eq!(said, ""),
        body => assert!(fits(body, &response.json(), id), "{said} is not {body}"),
    }
}

/// Whether a value is as wanted, member by member. Texts that begin with `~` are shapes: `~` any,
/// `~request` the request's id, `~time` a time, `~jwt` a signed token, `~prefix` that prefix and at
/// least twelve of `A-Z a-z 0-9`.
fn fits(wanted: &Value, got: &Value, request: &str) -> bool {
    match (wanted, got) {
        (Value::Object(wanted), Value::Object(got)) => {
            wanted.len() == got.len()
                && wanted
                    .iter()
                    .all(|(name, value)| got.get(name).is_some_and(|got| fits(value, got, request)))
        }
        (Value::Array(wanted), Value::Array(got)) => wanted.len() == got.len() && wanted.iter().zip(got).all(|(w, g)| fits(w, g, request)),
        (Value::String(wanted), Value::String(got)) => fits_text(wanted, got, request),
        _ => wanted == got,
    }
}

fn fits_text(wanted: &str, got: &str, request: &str) -> bool {
    match wanted.strip_prefix('~') {
        None => wanted == got,
        Some("") => !got.is_empty(),
        Some("request") => got == request && got.len() >= 16,
        Some("time") => got.parse::<jiff::Timestamp>().is_ok(),
        Some("jwt") => {
            let parts: Vec<&str> = got.split('.').collect();
            parts.len() == 3 && parts.iter().all(|part| part.len() > 16)
        }
        Some(prefix) => got
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.len() >= 12 && rest.bytes().all(|b| b.is_ascii_alphanumeric())),
    }
}

/// A member of an answer's body, as text.
pub(super) fn text(response: &Response, member: &str) -> String {
    let value = response.json();
    value[member]
        .as_str()
        .unwrap_or_else(|| panic!("no {member} in {value}"))
        .to_owned()
}

/// An address that is taken and refuses: a port given up could be another test's a moment later.
pub(crate) struct Nobody {
    pub(crate) address: std::net::SocketAddr,
    _reserved: socket2::Socket,
}

impl Nobody {
    pub(crate) fn reserve() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        // Bound and never listened on.
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self {
            address: socket.local_addr().unwrap().as_socket().unwrap(),
            _reserved: socket,
        }
    }
}
