//! The demo does what it prints.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::gateway::run;
use crate::support::raw::{Client, Response};
use crate::support::wait::{PATIENCE, until};

struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn call(address: SocketAddr, method: &str, path: &str, fields: &[(&str, &str)]) -> Response {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut client = Client::connect(address);
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").as_bytes());
    client.response().expect("an answer")
}

/// A demo and what it printed.
struct Started {
    demo: Demo,
    script: Value,
    http: SocketAddr,
    here: tempfile::TempDir,
    temporary: tempfile::TempDir,
}

fn start() -> Started {
    let (here, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut demo = Demo(
        Command::new(env!("CARGO_BIN_EXE_durward"))
            .args(["demo", "--json"])
            .current_dir(here.path())
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    BufReader::new(demo.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let script: Value = serde_json::from_str(&line).unwrap();
    let http = script["http"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
    Started {
        demo,
        script,
        http,
        here,
        temporary,
    }
}

#[test]
fn the_demo_admits_refuses_revokes_and_leaves_nothing_behind() {
    let Started {
        mut demo,
        script,
        http,
        here,
        temporary,
    } = start();
    let text = |of: &str, member: &str| script["credentials"][of][member].as_str().unwrap().to_owned();
    let live = format!("Bearer {}", text("api_live", "key"));
    let passed = call(
        http,
        "GET",
        "/v1/orders/42?q=1",
        &[("Authorization", &live), ("X-Tenant-Id", "evil")],
    );
    let seen = passed.json();
    assert_eq!(
        (passed.status, &seen["method"], &seen["path"], &seen["query"]),
        (200, &"GET".into(), &"/v1/orders/42".into(), &"q=1".into())
    );
    let tenants: Vec<&Value> = seen["headers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|h| h[0] == "x-tenant-id")
        .map(|h| &h[1])
        .collect();
    assert_eq!(tenants, ["acme"]);
    assert!(!seen.to_string().contains(&live), "the credential is not forwarded");
    let pair = [
        ("x-api-key", &*text("pair_live", "key")),
        ("x-api-secret", &*text("pair_live", "secret")),
    ];
    assert_eq!(call(http, "GET", "/v1/orders/42", &pair).status, 200);
    let session = text("dashboard", "token");
    assert_eq!(
        call(http, "GET", "/dashboard/summary", &[("X-Dashboard-Session", &session)]).status,
        200
    );
    assert_eq!(call(http, "GET", "/v1/orders/42", &[]).status, 401);
    assert_eq!(
        call(http, "POST", "/v1/orders/42", &[("Authorization", &live), ("Content-Length", "0")]).status,
        403
    );
    assert_eq!(
        call(http, "GET", "/v1/orders/42", &[("Authorization", &live), ("X_Tenant_Id", "evil")]).status,
        400
    );

    let config = script["config"].as_str().unwrap();
    assert!(
        script["calls"]
            .as_array()
            .unwrap()
            .iter()
            .any(|c| c["command"].as_str().unwrap().ends_with(&format!("--config {config}")))
    );
    assert_eq!(run(Path::new(config), &["keys", "revoke", &text("api_live", "id")], b"").code, 0);
    until("the revocation to be felt", PATIENCE, || {
        let key = call(http, "GET", "/v1/orders/42", &[("Authorization", &live)]).status;
        let child = call(http, "GET", "/dashboard/summary", &[("X-Dashboard-Session", &session)]).status;
        (key == 401 && child == 401).then_some(())
    });

    let pid = Pid::from_raw(i32::try_from(demo.0.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let ended = until("the demo to end", PATIENCE, || demo.0.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
    for folder in [here.path(), temporary.path()] {
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "{}", folder.display());
    }
}
