//! Bodies are recorded beside the request: masked, within bounds, and the service sees no difference.

use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::canary::Canaries;
use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};
use crate::support::site::{Plan, Site};
use crate::support::upstream::{Then, Upstream, When};
use crate::support::wait::{PATIENCE, until};

const ROUTES: &str = r#"
name = "main"
endpoints = ["http://{address}"]

[[routes]]
path = "/recorded"
methods = ["POST"]
access = "public"
[routes.audit]
body = { max = "4KiB", types = ["application/json", "application/x-www-form-urlencoded", "text/plain"], mask = ["ssn"] }
answer = { max = "4KiB", types = ["application/json", "text/plain"], mask = ["ssn"] }

[[routes]]
path = "/plain"
methods = ["POST"]
access = "public"
"#;

struct House {
    upstream: Upstream,
    site: Site,
    gateway: Gateway,
}

impl House {
    fn of(upstream: Upstream) -> Self {
        let plan = Plan {
            tables: "[audit]\ndirectory = \"state/audit\"\n".to_owned(),
            upstream: ROUTES.to_owned(),
            ..Plan::usual()
        };
        let site = Site::of(&plan, upstream.address);
        let gateway = Gateway::start(&site);
        Self { upstream, site, gateway }
    }

    /// Answers every request with the body that it was sent, and its type.
    fn mirroring() -> Self {
        Self::of(Upstream::scripted(When::Body, |request, stream| {
            let content_type = request.all("content-type").first().copied().unwrap_or("text/plain").to_owned();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
                request.body.len()
            )?;
            stream.write_all(&request.body)?;
            Ok(Then::Keep)
        }))
    }

    fn client(&self) -> Client {
        Client::connect(self.gateway.address("plain"))
    }

    fn post(&self, path: &str, fields: &str, body: &[u8]) -> Response {
        let mut client = self.client();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{fields}\r\n",
            body.len()
        );
        client.send(head.as_bytes());
        client.send(body);
        client.final_response_to("POST").unwrap()
    }

    /// The entry of the request that was answered so, and its lines in the file of bodies.
    fn recorded(&self, response: &Response) -> (Value, Vec<Value>) {
        let id = response.field("x-request-id").unwrap();
        let of_request = |prefix: &str| -> Vec<Value> {
            let lines = lines_of(&self.site.folder().join("state/audit"), prefix);
            lines.into_iter().filter(|line| line["request_id"] == id).collect()
        };
        let entry = until("the entry", PATIENCE, || {
            of_request("trail-").into_iter().find(|entry| entry["kind"] == "request")
        });
        let bodies = of_request("bodies-");
        assert!(bodies.iter().all(|line| line["seq"] == entry["seq"]), "{bodies:?}");
        (entry, bodies)
    }
}

/// The lines of the files whose names begin so.
fn lines_of(directory: &Path, prefix: &str) -> Vec<Value> {
    let mut lines = Vec::new();
    for file in std::fs::read_dir(directory).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        if name.starts_with(prefix) && name.ends_with(".jsonl") {
            let text = std::fs::read_to_string(file.path()).unwrap();
            // The last line may be in the middle of being written.
            lines.extend(text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()));
        }
    }
    lines
}

const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn both_bodies_are_recorded_masked_and_arrive_as_they_were_sent() {
    let house = House::mirroring();
    let mut canaries = Canaries::default();
    let key = "tlive_c4n4ry0123456789";
    for secret in [
        "4111 1111 1111 1111",
        "hunter2-canary",
        key,
        "123-45-canary",
        "canary-nested",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjIn0.Y2FuYXJ5",
    ] {
        canaries.plant(secret);
    }
    let filler = "x".repeat(1_700);
    let body = json!({
        "card": "4111 1111 1111 1111", "newPassword": "hunter2-canary", "note": format!("use {key}"), "person": {"SSN": "123-45-canary"},
        "inner": json!({"secret": {"a": "canary-nested"}}).to_string(),
        "token_type": "x", "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjIn0.Y2FuYXJ5", "filler": filler,
    })
    .to_string();
    let response = house.post("/recorded", JSON, body.as_bytes());
    assert_eq!(
        (response.status, response.body.as_slice()),
        (200, body.as_bytes()),
        "the answer is the service's"
    );
    assert_eq!(house.upstream.requests()[0].body, body.as_bytes(), "the service gets what was sent");
    let (entry, bodies) = house.recorded(&response);
    for part in ["body", "answer"] {
        assert_eq!(entry[part]["size"], body.len(), "{entry}");
        assert_eq!(entry[part]["type"], "application/json");
        assert_eq!(entry[part]["stored"], true);
        let line = bodies.iter().find(|line| line["part"] == part).unwrap();
        let masked: Value = serde_json::from_str(line["masked"].as_str().unwrap()).unwrap();
        assert_eq!((&masked["card"], &masked["newPassword"]), (&"***".into(), &"***".into()));
        assert_eq!(
            (&masked["note"], &masked["inner"]),
            (&"use ***".into(), &"{\"secret\":\"***\"}".into())
        );
        assert_eq!((&masked["filler"], &masked["token_type"]), (&filler.as_str().into(), &"x".into()));
    }
    let form = house.post(
        "/recorded",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        b"password=hunter2-canary&card=4111+1111+1111+1111&city=Ulm",
    );
    let (_, bodies) = house.recorded(&form);
    let line = bodies.iter().find(|line| line["part"] == "body").unwrap();
    assert_eq!(line["masked"], "password=***&card=***&city=Ulm");
    let found = canaries.found_below(&house.site.folder().join("state"), &[]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn what_is_not_recorded_is_told_by_type_size_and_hash_and_arrives_too() {
    let house = House::mirroring();
    let long = vec![b' '; 4_097];
    let binary = [0xff_u8; 100];
    for (why, fields, body) in [
        ("too_long", JSON, long.as_slice()),
        (
            "compressed",
            "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
            &binary,
        ),
        ("type", "Content-Type: image/png\r\n", &binary),
        ("binary", "Content-Type: text/plain\r\n", &binary),
        ("not_json", JSON, &long[..100]),
    ] {
        // White space alone is nothing to parse.
        let body: Vec<u8> = if why == "not_json" {
            [&body[1..], b"{"].concat()
        } else {
            body.to_vec()
        };
        let response = house.post("/recorded", fields, &body);
        assert_eq!((response.status, &response.body), (200, &body));
        let (entry, bodies) = house.recorded(&response);
        assert_eq!(entry["body"]["why"], why, "{entry}");
        assert_eq!(entry["body"]["stored"], false);
        assert_eq!(entry["body"]["size"], body.len());
        assert_eq!(entry["body"]["sha256"].as_str().unwrap().len(), 64);
        assert!(!bodies.iter().any(|line| line["part"] == "body"), "{bodies:?}");
    }
}

#[test]
fn a_route_without_capture_records_no_body() {
    let house = House::mirroring();
    let response = house.post("/plain", JSON, b"{\"a\":1}");
    let (entry, bodies) = house.recorded(&response);
    assert_eq!((entry.get("body"), entry.get("answer"), bodies.len()), (None, None, 0), "{entry}");
}

#[test]
fn a_recorded_body_streams_the_first_byte_before_the_last_is_sent() {
    // Answers with the first half when the head is there, and with the rest when the body is.
    let house = House::of(Upstream::scripted(When::Head, |_, stream| {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nfirst\r\n"
        )?;
        stream.flush()?;
        let mut read = Vec::new();
        while !read.ends_with(b"0\r\n\r\n") {
            let mut bytes = [0; 64];
            let length = std::io::Read::read(stream, &mut bytes)?;
            read.extend_from_slice(&bytes[..length]);
            if length == 0 {
                break;
            }
        }
        write!(stream, "4\r\nlast\r\n0\r\n\r\n")?;
        Ok(Then::Close)
    }));
    let mut client = house.client();
    client
        .send(b"POST /recorded HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
    let mut read = Vec::new();
    while !crate::support::canary::contains(&read, b"first") {
        read.extend_from_slice(&client.read_some().unwrap());
    }
    assert!(!crate::support::canary::contains(&read, b"last"));
    client.send(b"3\r\ntwo\r\n0\r\n\r\n");
    while !crate::support::canary::contains(&read, b"last") {
        read.extend_from_slice(&client.read_some().unwrap());
    }
    let lines = until("the bodies", PATIENCE, || {
        let lines = lines_of(&house.site.folder().join("state/audit"), "bodies-");
        (lines.len() == 2).then_some(lines)
    });
    assert_eq!((&lines[0]["masked"], &lines[1]["masked"]), (&"onetwo".into(), &"firstlast".into()));
}
