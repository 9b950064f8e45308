//! The operator API of a running gateway, through the command line and through its socket.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::gateway::{Gateway, run};
use crate::support::raw::Client;
use crate::support::site::Site;
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::{probe, status};

fn start() -> (Upstream, Site, Gateway) {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    (upstream, site, gateway)
}

fn over_socket(site: &Site, request: &str) -> String {
    let mut stream = UnixStream::connect(site.folder().join("state/admin.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

const MADE: [&str; 13] = [
    "expires_at",
    "id",
    "key",
    "last4",
    "mode",
    "name",
    "parent",
    "prefix",
    "roles",
    "scopes",
    "subject",
    "surface",
    "tenant",
];

#[test]
fn commands_keep_their_contract_over_a_keys_whole_life() {
    let (_upstream, _site, gateway) = start();
    let tenant = gateway.json(&["tenants", "create", "acme"]);
    assert_eq!(
        (names(&tenant), &tenant["active"]),
        (vec!["active", "created_at", "id"], &true.into())
    );
    assert_eq!(gateway.run(&["tenants", "create", "acme"]).code, 1, "a second one of this name");
    let made = gateway.create_key(
        "api",
        "acme",
        &[
            "--mode",
            "live",
            "--scope",
            "orders:read",
            "--scope",
            "admin:all",
            "--expires",
            "30d",
        ],
    );
    assert_eq!(names(&made), MADE);
    assert_eq!(
        (&made["mode"], &made["prefix"], &made["roles"]),
        (&"live".into(), &"tlive_".into(), &Value::Array(Vec::new()))
    );
    assert_eq!(made["scopes"], serde_json::json!(["orders:read", "admin:all"]));
    let pair = gateway.create_key("pair", "acme", &["--mode", "test"]);
    assert!(
        pair["secret"].as_str().unwrap().starts_with("sk_test_") && names(&pair).len() == MADE.len() + 1,
        "{pair}"
    );
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!(status(&gateway, key), 200);
    for (command, state, answer) in [("disable", "disabled", 401), ("enable", "active", 200), ("revoke", "revoked", 401)] {
        let changed = gateway.json(&["keys", command, id]);
        assert_eq!((&changed["id"], &changed["state"]), (&id.into(), &state.into()));
        assert_eq!(changed["revoked_at"].is_string(), command == "revoke");
        until(&format!("{command} to be felt"), PATIENCE, || {
            (status(&gateway, key) == answer).then_some(())
        });
    }
    assert_eq!(gateway.run(&["keys", "enable", id]).code, 1, "revoked for ever");
    let (listed, shown) = (
        gateway.json(&["keys", "list", "--tenant", "acme"]),
        gateway.json(&["keys", "show", id]),
    );
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
    for text in [
        listed.to_string(),
        shown.to_string(),
        String::from_utf8_lossy(&gateway.output()).into_owned(),
    ] {
        assert!(!text.contains(key) && !text.contains(pair["secret"].as_str().unwrap()), "{text}");
    }
    for args in [
        ["keys", "show", "key_nobody"],
        ["keys", "revoke", "key_nobody"],
        ["tenants", "disable", "globex"],
    ] {
        assert_eq!(gateway.run(&args).code, 3, "{args:?}");
    }
    let stranger = gateway.run(&["keys", "create", "--surface", "api", "--tenant", "globex", "--mode", "live"]);
    assert!(
        stranger.code == 3 && stranger.stderr.contains("tenants create globex"),
        "{stranger:?}"
    );
}

#[test]
fn warnings_never_disturb_the_json() {
    let (_upstream, _site, gateway) = start();
    gateway.json(&["tenants", "create", "acme"]);
    let answer = gateway.run(&[
        "keys",
        "create",
        "--surface",
        "api",
        "--tenant",
        "acme",
        "--scope",
        "orders:raed",
        "--json",
    ]);
    assert!(answer.stderr.contains("orders:raed"), "{answer:?}");
    assert_eq!(names(&answer.json()), MADE);
    let session = gateway.run(&["keys", "create", "--surface", "session", "--tenant", "acme"]);
    assert!(session.code == 2 && session.stderr.contains("routes with `serve`"), "{session:?}");
}

#[test]
fn a_rotation_lets_both_work_during_the_grace_and_only_the_new_one_without() {
    let (_upstream, _site, gateway) = start();
    gateway.json(&["tenants", "create", "acme"]);
    let old = gateway.create_key("api", "acme", &["--scope", "orders:read"]);
    let new = gateway.json(&["keys", "rotate", old["id"].as_str().unwrap(), "--grace", "1h"]);
    assert_eq!(new["replaces"]["id"], old["id"]);
    for made in [&old, &new] {
        assert_eq!(status(&gateway, made["key"].as_str().unwrap()), 200);
    }
    let newest = gateway.json(&["keys", "rotate", new["id"].as_str().unwrap(), "--grace", "0"]);
    until("the replaced one to end", PATIENCE, || {
        (status(&gateway, new["key"].as_str().unwrap()) == 401).then_some(())
    });
    assert_eq!(status(&gateway, newest["key"].as_str().unwrap()), 200);
}

#[test]
fn import_takes_lines_and_names_those_it_does_not() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let text = site.read("gateway.toml")
        + "\n[surfaces.old]\nkind = \"api_key\"\ncarry = [\"header:X-Old-Key\"]\nkeys = \"imported\"\nprefixes = [\"old_\"]\n";
    site.write("gateway.toml", &text);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let lines = format!("{{\"sha256\":\"{hash}\",\"id\":\"legacy-1\"}}\n\n{{\"sha256\":\"canary-not-a-hash\"}}\nnot json\n");
    let answer = run(
        &site.config(),
        &["keys", "import", "--file", "-", "--surface", "old", "--tenant", "acme"],
        lines.as_bytes(),
    );
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(
        answer.stdout.contains("legacy-1") && answer.stderr.contains("line 3:") && answer.stderr.contains("line 4:"),
        "{answer:?}"
    );
    assert!(
        answer.stderr.contains("2 of 3 lines") && !answer.stderr.contains("canary"),
        "{answer:?}"
    );
    assert_eq!(gateway.json(&["keys", "show", "legacy-1"])["surface"], "old");
    let refused = gateway.run(&["keys", "import", "--surface", "api", "--tenant", "acme", "--sha256", hash]);
    assert_eq!(refused.code, 2, "generated keys only: {refused:?}");
}

#[test]
fn the_socket_is_private_and_a_second_gateway_leaves_it_alone() {
    let (_upstream, site, mut gateway) = start();
    let socket = site.folder().join("state/admin.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let second = run(&site.config(), &["serve"], b"");
    assert!(second.code == 1 && second.stderr.contains("another durward"), "{second:?}");
    assert_eq!(gateway.run(&["status"]).code, 0);
    gateway.signal(Signal::KILL);
    gateway.wait_exit(PATIENCE);
    assert!(socket.exists(), "a killed gateway leaves its socket behind");
    let third = Gateway::start(&site);
    assert_eq!(third.run(&["status"]).code, 0, "nobody answered, so it was replaced");
}

#[test]
fn something_else_of_the_sockets_name_is_not_removed() {
    let site = Site::usual("127.0.0.1:9".parse().unwrap());
    std::fs::create_dir_all(site.folder().join("state")).unwrap();
    site.write("state/admin.sock", "precious");
    let answer = run(&site.config(), &["serve"], b"");
    assert!(answer.code == 1 && answer.stderr.contains("not a socket"), "{answer:?}");
    assert_eq!(site.read("state/admin.sock"), "precious");
}

#[test]
fn probes_over_tcp_answer_three_paths_and_nothing_of_the_operators() {
    let (_upstream, site, gateway) = start();
    let ask = |method: &str, path: &str| {
        let mut client = Client::connect(gateway.probes());
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: probes\r\nContent-Length: 0\r\n\r\n").as_bytes());
        client.response().expect("an answer")
    };
    assert_eq!(ask("GET", "/livez").status, 200);
    assert_eq!(ask("GET", "/readyz").json()["checks"]["store"], "ok");
    assert_eq!(ask("POST", "/livez").status, 405);
    for (method, path) in [
        ("GET", "/v1/tenants"),
        ("POST", "/v1/tenants"),
        ("GET", "/v1/keys"),
        ("POST", "/v1/reload"),
        ("GET", "/v1/status"),
        ("GET", "/"),
    ] {
        assert_eq!(ask(method, path).status, 404, "{method} {path}");
    }
    assert!(over_socket(&site, "GET /v1/tenants HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 200"));
    let mut public = Client::connect(gateway.address("plain"));
    public.send(b"GET /metrics HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(
        public.response().expect("an answer").status,
        404,
        "nothing of it is on the public side"
    );
}

#[test]
fn metrics_are_open_metrics_text_and_count_what_happened() {
    let (_upstream, _site, gateway) = start();
    gateway.json(&["tenants", "create", "acme"]);
    let made = gateway.create_key("api", "acme", &["--scope", "orders:read"]);
    assert_eq!(status(&gateway, made["key"].as_str().unwrap()), 200);
    assert_eq!(status(&gateway, "tlive_unknown"), 401);
    let read = || probe(&gateway, "/metrics").1;
    // One scrape is not one instant: a request may end between two families. So all of it is waited for.
    let expected = [
        "durward_request_duration_seconds_count 2\n",
        "durward_refusals_total{denial=\"malformed_credential\"} 1",
        "durward_requests_in_flight 0",
        "durward_store_up 1",
        "durward_build_info{version=",
        "durward_cache_lookups_total{",
        "durward_access_lines_dropped_total 0",
        "class=\"2xx\"} 1",
    ];
    let text = until("both requests to be counted everywhere", PATIENCE, || {
        let text = read();
        expected.iter().all(|series| text.contains(series)).then_some(text)
    });
    assert!(text.ends_with("# EOF\n"));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(
            series.starts_with("durward_") && series.chars().all(|c| c.is_ascii_graphic() || c == ' '),
            "{line}"
        );
    }
    assert!(!text.contains("acme"), "no tenant becomes a label");
}

#[test]
fn the_socket_is_bounded_and_refuses_what_no_operation_takes() {
    let (_upstream, site, _gateway) = start();
    let large = format!(
        "POST /v1/tenants HTTP/1.1\r\nHost: d\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n{}",
        "x".repeat(100_000)
    );
    for (request, want) in [
        (large.as_str(), "413"),
        (
            "POST /v1/tenants HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: 19\r\n\r\n{\"id\":\"a\",\"evil\":1}",
            "400",
        ),
        ("GET /v1/keys?secret=1 HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n", "400"),
        ("DELETE /v1/keys/a HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n", "404"),
        ("GET /v1/keys/%2e%2e HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n", "400"),
    ] {
        let answer = over_socket(&site, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {want} ")), "{want}: {answer}");
    }
}
