//! What a gateway of a test has kept in its trail.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::Site;
use crate::support::wait::{PATIENCE, until};

/// A route through which a WebSocket goes.
pub(super) const TUNNEL: &str = r#"
[[routes]]
path = "/ws/**"
methods = ["GET"]
access = { surfaces = ["api"], scopes = ["orders:read"] }
upgrade = "websocket"
"#;

/// A route of which nothing is recorded.
pub(super) const HEALTH: &str = r#"
[[routes]]
path = "/health"
methods = ["GET"]
access = "public"
audit = "off"
"#;

/// A route that the gateway answers itself.
pub(super) const SCOPES: &str = r#"
[[routes]]
name = "scopes"
path = "/scopes"
methods = ["GET"]
access = { surfaces = ["api"], scopes = ["orders:read"] }
serve = "list_scopes"
[routes.answer]
body = '[{% for scope in items %}{{ scope.id }}{% if not loop.last %},{% endif %}{% endfor %}]'
"#;

pub(super) fn directory(site: &Site) -> PathBuf {
    site.folder().join("state/audit")
}

/// The text of a file, also of a compressed one.
pub(super) fn text_of(path: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(path).ok()?;
    if path.extension().is_none_or(|ending| ending != "gz") {
        return Some(bytes);
    }
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).unwrap();
    Some(plain)
}

/// The whole lines of the files whose names begin so, in order, open or closed.
pub(super) fn lines_of(directory: &Path, prefix: &str) -> Vec<Value> {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<(String, PathBuf)> = files
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path))
        .filter(|(name, _)| name.starts_with(prefix) && (name.ends_with(".jsonl") || name.ends_with(".jsonl.gz")))
        .collect();
    files.sort();
    let mut lines = Vec::new();
    let mut before = String::new();
    for (name, path) in files {
        // While a segment is closed both are there, and the plain one goes then.
        let is_again = name.strip_suffix(".gz").is_some_and(|plain| plain == before);
        let zipped = path.with_extension("jsonl.gz");
        let Some(text) = text_of(&path).or_else(|| text_of(&zipped)).filter(|_| !is_again) else {
            continue;
        };
        before = name;
        let text = String::from_utf8(text).unwrap();
        // A line that is being written is not one yet.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.extend(whole.map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    lines
}

/// The entries of this kind so far.
pub(super) fn entries(site: &Site, kind: &str) -> Vec<Value> {
    let mut entries = lines_of(&directory(site), "trail-");
    entries.retain(|entry| entry["kind"] == kind);
    entries
}

/// Waits for the entry of this kind that has this value, and for no second one of the kind with it.
pub(super) fn entry(site: &Site, kind: &str, member: &str, value: &str) -> Value {
    let found = until("the entry", PATIENCE, || {
        let mut found = entries(site, kind);
        found.retain(|entry| entry[member] == value);
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

/// The bodies that are kept of a request.
pub(super) fn bodies(site: &Site, request_id: &Value) -> Vec<Value> {
    let mut lines = lines_of(&directory(site), "bodies-");
    lines.retain(|line| line["request_id"] == *request_id);
    lines
}

/// The lines of the metrics that begin so.
pub(super) fn metrics(gateway: &Gateway, beginning: &str) -> Vec<String> {
    let mut client = Client::connect(gateway.probes());
    client.send(b"GET /metrics HTTP/1.1\r\nHost: probes\r\n\r\n");
    let text = String::from_utf8(client.response().expect("an answer").body).unwrap();
    let lines = text.lines().filter(|line| line.starts_with(beginning));
    lines.map(str::to_owned).collect()
}

/// Asks once over a connection of its own.
pub(super) fn ask(gateway: &Gateway, method: &str, target: &str, fields: &str, body: &[u8]) -> crate::support::raw::Response {
    let mut client = Client::connect(gateway.address("plain"));
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{fields}\r\n",
        body.len()
    );
    client.send(head.as_bytes());
    client.send(body);
    client.final_response_to(method).expect("an answer")
}
