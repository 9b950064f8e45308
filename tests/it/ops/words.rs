//! What operators are told: the kernel's reason, the store's, the line of a file; always in one shape, never twice.

use std::net::TcpListener;

use serde_json::Value;

use crate::support::gateway::{Answer, Gateway, run};
use crate::support::leaks::Secret;
use crate::support::site::{Plan, Site};
use crate::support::wait::{PATIENCE, until};

use super::probe;
use super::receipts::Group;

fn site_with(tables: &str) -> Site {
    let plan = Plan {
        tables: tables.into(),
        ..Plan::usual()
    };
    Site::of(&plan, "127.0.0.1:9".parse().unwrap())
}

fn sha256_hex(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Each line of an output, which must all be JSON objects that begin alike.
fn lines(output: &[u8]) -> Vec<Value> {
    let read = |line: &str| -> Value {
        assert!(line.starts_with("{\"ts\":\"2"), "{line}");
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let level = value["level"].as_str().unwrap();
        assert!(["info", "warn", "error"].contains(&level), "{line}");
        value
    };
    text(output).lines().map(read).collect()
}

fn errors(answer: &Answer) -> Vec<Value> {
    let read = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {answer:?}"));
    let all: Vec<Value> = answer.stderr.lines().map(read).collect();
    all.into_iter().filter(|line| !line["error"].is_null()).collect()
}

#[test]
fn a_full_redis_says_so_in_the_error_in_readiness_and_in_the_log() {
    let group = Group::new();
    let site = group.site("gw-a", &group.redis.url(), "");
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    assert!(!probe(&gateway, "/readyz").1.contains("takes no changes"));
    let create = ["keys", "create", "--surface", "api", "--tenant", "acme", "--mode", "live"];
    group.redis.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let answer = gateway.run(&create);
    assert_eq!(answer.code, 4, "{answer:?}");
    for words in ["nothing was changed", "Redis is full", "maxmemory"] {
        assert!(answer.stderr.contains(words), "{words}: {answer:?}");
    }
    let ready = probe(&gateway, "/readyz").1;
    assert!(
        ready.contains("the store takes no changes, revocations included: Redis is full"),
        "{ready}"
    );
    assert!(probe(&gateway, "/metrics").1.contains("concern=\"takes_no_changes\""));
    assert!(text(&gateway.output()).contains("\"alarm\":\"store_takes_no_changes\",\"why\":\"Redis is full"));
    group.redis.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(gateway.run(&create).code, 0);
}

#[test]
fn a_start_that_fails_names_the_kernels_reason_once_and_in_the_shape_of_the_log() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listener = format!("[[listeners]]\nname = \"third\"\naddress = \"{address}\"\n");
    for (tables, change, told) in [
        (
            listener.as_str(),
            None,
            format!("listener third cannot listen on {address}: Address already in use"),
        ),
        (
            "",
            Some(("probes = \"127.0.0.1:0\"", format!("probes = \"{address}\""))),
            format!("probes cannot listen on {address}: Address already in use"),
        ),
        (
            "",
            Some(("state/admin.sock", "/proc/nowhere/admin.sock".to_owned())),
            "the operator socket /proc/nowhere/admin.sock cannot be made: No such file or directory".to_owned(),
        ),
    ] {
        let site = site_with(tables);
        if let Some((from, to)) = change {
            let before = site.read("gateway.toml");
            assert!(before.contains(from), "{before}");
            site.write("gateway.toml", &before.replace(from, &to));
        }
        let answer = run(&site.config(), &["serve"], b"");
        assert_eq!(answer.code, 1, "{answer:?}");
        let log = lines(answer.stderr.as_bytes());
        let last = log.last().unwrap();
        assert_eq!(
            (&last["level"], &last["message"]),
            (&"error".into(), &"the gateway does not start".into())
        );
        let why = last["error"].as_str().unwrap();
        assert!(why.contains(&told), "{why}");
        assert_eq!(answer.stderr.matches(&told).count(), 1, "{answer:?}");
        let answer = run(&site.config(), &["serve", "--json"], b"");
        let error: Value = serde_json::from_str(answer.stderr.lines().last().unwrap()).unwrap();
        assert_eq!(error["error"]["code"], "failed");
        assert!(error["error"]["message"].as_str().unwrap().contains(&told), "{error}");
    }
}

#[test]
fn a_gateway_that_serves_says_what_it_is_and_every_line_has_one_shape() {
    let group = Group::new();
    let shared = group.site("gw-a", &group.redis.url(), "");
    let embedded = site_with("");
    for (site, store) in [
        (&embedded, format!("embedded {}/state/durward.redb", embedded.folder().display())),
        (&shared, format!("redis 127.0.0.1:{}", group.redis.port())),
    ] {
        let gateway = Gateway::start(site);
        gateway.json(&["tenants", "create", "acme"]);
        let mut client = crate::support::raw::Client::connect(gateway.address("plain"));
        client.send(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().unwrap().status, 404);
        site.write("upstreams/main.toml", "endpoints = 3\n");
        assert_eq!(gateway.run(&["reload"]).code, 78);
        let all = until("the access line and the reload's", PATIENCE, || {
            let all = lines(&gateway.output());
            let has = |name: &str| all.iter().any(|line| !line[name].is_null());
            let told = all
                .iter()
                .any(|line| line["message"].as_str().is_some_and(|m| m.contains("not reloaded")));
            (has("request_id") && told).then_some(all)
        });
        let serves = all.iter().find(|line| line["message"] == "durward serves").expect("what serves");
        assert_eq!(serves["version"], env!("CARGO_PKG_VERSION"));
        let listeners = format!("plain={} tls={}", gateway.address("plain"), gateway.address("tls"));
        assert_eq!(serves["listeners"].as_str(), Some(listeners.as_str()));
        assert_eq!(serves["probes"].as_str(), Some(gateway.probes().to_string().as_str()));
        assert_eq!(serves["store"].as_str(), Some(store.as_str()));
        assert_eq!((&serves["routes"], &serves["upstreams"]), (&6.into(), &1.into()));
    }
}

#[test]
fn a_slip_in_the_variable_of_the_log_is_told_and_silences_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = site_with(&format!(
        "[[listeners]]\nname = \"third\"\naddress = \"{}\"\n",
        taken.local_addr().unwrap()
    ));
    for (variable, is_told) in [("loud", true), ("durward=", true), ("error", false)] {
        let mut serve = std::process::Command::new(env!("CARGO_BIN_EXE_durward"));
        serve.env("DURWARD_LOG", variable).arg("serve").arg("--config").arg(site.config());
        let output = serve.output().unwrap();
        let log = lines(&output.stderr);
        let has = |level: &str, message: &str| {
            let fits = |line: &&Value| line["level"] == level && line["message"].as_str().unwrap().starts_with(message);
            log.iter().any(|line| fits(&line))
        };
        assert!(has("error", "the gateway does not start"), "{variable}: {log:?}");
        assert_eq!(has("warn", "DURWARD_LOG is not understood"), is_told, "{variable}: {log:?}");
    }
}

#[test]
fn a_log_for_a_terminal_is_text_from_the_first_line() {
    let site = site_with("");
    let before = site.read("gateway.toml");
    site.write("gateway.toml", &before.replace("format = \"json\"", "format = \"pretty\""));
    let gateway = Gateway::start(&site);
    let output = until("what serves", PATIENCE, || {
        let output = text(&gateway.output());
        output.contains("durward serves").then_some(output)
    });
    for line in output.lines() {
        let time = line.get(..12).unwrap_or_default();
        let digits = time.chars().all(|c| c.is_ascii_digit() || c == ':' || c == '.');
        assert!(digits && line.get(12..13) == Some(" "), "{line}");
    }
    assert!(output.contains("info durward serves version="), "{output}");
}

#[test]
fn with_json_every_error_of_every_command_is_json_on_standard_error() {
    let site = site_with("");
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let wrong = site_with("");
    wrong.write("gateway.toml", "[[listeners]]\nname = 1\n");
    let broken = site_with("");
    broken.write("gateway.toml", "= 1\n");
    let away = site_with("");
    for (site, args, code, word) in [
        (&site, &["keys", "creat"][..], 2, "usage"),
        (&site, &["keys", "create"], 2, "usage"),
        (&site, &["srve"], 2, "usage"),
        (&site, &["keys", "list", "--limit", "5000"], 2, "usage"),
        (&site, &["keys", "revoke", "../x"], 2, "usage"),
        (&site, &["keys", "create", "--surface", "none", "--tenant", "acme"], 2, "usage"),
        (&site, &["keys", "show", "key_nobody"], 3, "not_found"),
        (&site, &["tenants", "create", "acme"], 1, "conflict"),
        (&site, &["tenants", "disable", "nobody"], 3, "not_found"),
        (&site, &["accounts", "show", "acc_nobody"], 3, "not_found"),
        (&site, &["roles", "show", "r"], 3, "not_found"),
        (&site, &["sessions", "revoke", "ses_nobody"], 3, "not_found"),
        (&site, &["peppers", "drop", "x"], 2, "usage"),
        (&site, &["events", "--after", "x"], 2, "usage"),
        (&site, &["keys", "import", "--file", "/nowhere"], 1, "failed"),
        (&site, &["serve"], 1, "failed"),
        (&away, &["status"], 4, "unavailable"),
        (&away, &["gateways"], 4, "unavailable"),
        (&away, &["drill"], 4, "unavailable"),
        (&away, &["reload"], 4, "unavailable"),
        (&wrong, &["check"], 78, "configuration"),
        (&wrong, &["serve"], 78, "configuration"),
        (&wrong, &["new-store"], 78, "configuration"),
        (&broken, &["keys", "list"], 78, "configuration"),
        (&broken, &["serve"], 78, "configuration"),
    ] {
        let mut all = args.to_vec();
        all.push("--json");
        let answer = run(&site.config(), &all, b"");
        assert_eq!(answer.code, code, "{args:?} {answer:?}");
        let told = errors(&answer);
        let error = &told.last().unwrap_or_else(|| panic!("{args:?} {answer:?}"))["error"];
        assert_eq!(error["code"], word, "{args:?} {answer:?}");
        let message = error["message"].as_str().unwrap();
        assert!(!message.is_empty() && !message.starts_with("error"), "{args:?} {answer:?}");
        if word == "configuration" && args[0] != "keys" {
            let problem = &error["problems"][0];
            assert!(problem["line"].is_u64() && problem["message"].is_string(), "{args:?} {answer:?}");
        }
        let plain = run(&site.config(), args, b"");
        assert!(plain.code == code && !plain.stderr.contains("error: error"), "{plain:?}");
        assert!(plain.stderr.contains("error"), "{plain:?}");
    }
    let stray = run(&site.config(), &["accounts", "set-password", "acc_1", "canary-4711"], b"");
    assert!(stray.code == 2 && !stray.stderr.contains("canary"), "{stray:?}");
    // The twin: answers are on standard output, and help is no error.
    let listed = run(&site.config(), &["tenants", "list", "--json"], b"");
    assert!(listed.code == 0 && listed.stderr.is_empty() && listed.json()["tenants"].is_array());
    let help = run(&site.config(), &["keys", "--help", "--json"], b"");
    assert!(help.code == 0 && help.stdout.contains("Usage"), "{help:?}");
}

const IMPORTED: &str = "[surfaces.old]\nkind = \"api_key\"\nkeys = \"imported\"\nprefixes = [\"old_\"]\n";

/// Lines as people write them, good ones and bad ones.
fn import_file(key: &str) -> String {
    let good = |n: u8| format!("\"sha256\":\"{}\"", sha256_hex(format!("{key}{n}").as_bytes()));
    [
        format!("\u{feff}{{{},\"tenant\":\"acme\"}}", good(1)),
        format!("{{{},\"tenant\":\"acme\",\"scopes\":\"orders:read orders:write\"}}", good(2)),
        format!("{{{},\"tenant\":\"acme\",\"scopes\":null}}", good(3)),
        String::new(),
        "{\"tenant\":\"acme\"}".to_owned(),
        format!("{{{}}}", good(4)),
        format!("{{\"sha256\":\"{key}\",\"tenant\":\"acme\"}}"),
        format!("{{\"key\":\"{key}\",\"tenant\":\"acme\"}}"),
        format!("{{\"{key}\":1}}"),
        format!("{{{},\"tenant\":\"acme\",\"last4\":\"{key}\"}}", good(5)),
        format!("{{{},\"tenant\":\"acme\",\"scopes\":{{\"{key}\":1}}}}", good(6)),
        format!("{{\"sha256\":[\"{key}\"],\"tenant\":\"acme\"}}"),
        format!("{{\"sha256\":\"{key}"),
        format!("\"{key}\""),
        key.to_owned(),
    ]
    .join("\n")
}

#[test]
fn an_import_names_line_and_member_and_never_a_key() {
    let site = site_with(IMPORTED);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let key = "old_Kq7WzR2mXn9Tb4Lp8Vd5";
    let input = import_file(key);
    let args = ["keys", "import", "--file", "-", "--surface", "old"];
    let answer = run(&site.config(), &args, input.as_bytes());
    assert_eq!(answer.code, 1, "{answer:?}");
    for told in [
        "line 5: the member `sha256` is missing",
        "line 6: the member `tenant` is missing",
        "line 7: `sha256` must be 64 hexadecimal digits",
        "line 8: there is no member `key`: give the SHA-256",
        "line 9: a member has an unknown name",
        "line 10: `last4` is not the end of a key",
        "line 11: the member `scopes` must be a list of texts",
        "line 12: the member `sha256` must be a text",
        "line 13: it is not JSON",
        "line 14: it is not a JSON object",
        "line 15: it is not JSON",
        "11 of 14 lines were not imported",
    ] {
        assert!(answer.stderr.contains(told), "{told}: {answer:?}");
    }
    let secret = Secret::new([key.as_bytes()], &[]);
    assert_eq!(secret.found_in(answer.stderr.as_bytes()), None, "{answer:?}");
    let keys = gateway.json(&["keys", "list", "--surface", "old"]);
    let scopes: Vec<usize> = keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|k| k["scopes"].as_array().unwrap().len())
        .collect();
    assert_eq!((scopes.len(), scopes.iter().sum::<usize>()), (3, 2), "{keys}");
    let again = run(&site.config(), &[&args[..], &["--json"]].concat(), input.as_bytes());
    let told = errors(&again);
    assert_eq!(told[0]["error"]["line"], 1, "it exists already: {again:?}");
    assert_eq!((&told[3]["error"]["line"], &told[3]["error"]["code"]), (&5.into(), &"usage".into()));
    assert_eq!(secret.found_in(again.stderr.as_bytes()), None, "{again:?}");
    for wrong in [
        &["--sha256", key][..],
        &["--sha256", &"0".repeat(64), "--last4", key],
        &["--sha256", &"0".repeat(64), "--secret-sha256", key],
        &[key],
        &["--sha256", &"0".repeat(64), key],
    ] {
        let args = [&["keys", "import", "--surface", "old", "--tenant", "acme"][..], wrong].concat();
        let answer = run(&site.config(), &args, b"");
        assert!(
            answer.code == 2 && secret.found_in(answer.stderr.as_bytes()).is_none(),
            "{answer:?}"
        );
    }
    let wide: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain("{}".encode_utf16().flat_map(u16::to_le_bytes))
        .collect();
    let answer = run(&site.config(), &args, &wide);
    assert!(answer.code == 2 && answer.stderr.contains("UTF-16"), "{answer:?}");
}
