//! Rules of request entries: one JSON object in ASCII, the documented members, and never a credential.

use std::time::Duration;

use super::*;
use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::decide::samples;
use crate::telemetry::RouteSlot;

const HOSTILE: [&str; 8] = [
    "\n{\"seq\":0}",
    "\",\"denial\":\"none",
    "\\",
    "\u{2028}\u{202e}",
    "\u{1f4a9}é日本",
    "\0\x1b[2J\x7f",
    "}",
    " ",
];

fn line(text: &str) -> AccessLine<'_> {
    AccessLine {
        of: None,
        bytes_in: None,
        dropped_fields: 0,
        ended: None,
        at: UnixMillis(1_795_307_838_042),
        request_id: "r",
        client: "192.0.2.255".parse().unwrap(),
        version: "1.1",
        method: Some("GET"),
        host: Some(text),
        path: Some(text),
        route: Some(text),
        route_slot: RouteSlot::NONE,
        surface: None,
        tenant: None,
        principal: None,
        credential: None,
        done: Some(text),
        facts_age: Some(Duration::from_secs(12)),
        denial: Some(Denial::RevokedCredential),
        reported: None,
        cause: None,
        status: 401,
        upstream: None,
        endpoint: None,
        attempts: 0,
        failure: None,
        bytes_out: 7,
        took: Duration::from_micros(1_234),
        completed: true,
    }
}

fn written(stage: RequestStage, line: &AccessLine<'_>, head: &ShownHead) -> serde_json::Value {
    let rules = rules(&[], &[]);
    let entry = RequestEntry {
        line,
        head,
        rules: &rules,
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
        tls: Some("1.3"),
        mode: Some(Mode::Live),
        scopes_needed: Some("orders:read"),
        snapshot: 3,
    };
    let mut out = Vec::new();
    EntryFormatter::default().write(stage, &entry, &mut out);
    assert!(out.iter().all(|byte| matches!(byte, b' '..=b'~')), "{}", out.escape_ascii());
    assert_eq!(out[0], b',');
    out[0] = b'{';
    out.push(b'}');
    serde_json::from_slice(&out).unwrap()
}

fn head(target: &str, fields: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead {
        target: target.into(),
        ..RequestHead::default()
    };
    for (name, value) in fields {
        head.fields.push(name.as_bytes(), value.as_bytes());
    }
    head
}

fn shown(rules: &EntryRules, head: &RequestHead) -> ShownHead {
    let mut shown = ShownHead::default();
    rules.collect(head, &mut shown);
    shown
}

fn rules(headers: &[&str], surfaces: &[Surface]) -> EntryRules {
    let policy = AuditPolicy {
        headers: headers.iter().map(|name| (*name).to_owned()).collect(),
        ..AuditPolicy::default()
    };
    EntryRules::new(&policy, surfaces)
}

#[test]
fn an_entry_has_the_documented_members_and_leaves_absent_ones_out() {
    let head = shown(
        &rules(&["accept", "user-agent"], &[]),
        &head("/v1/orders?page=2", &[("User-Agent", "curl/8")]),
    );
    let members = written(RequestStage::Ended, &line("x"), &head);
    assert_eq!(members["time"], "2026-11-22T00:37:18.042Z");
    assert_eq!(members["kind"], "request");
    assert_eq!(members["headers"], serde_json::json!({"user-agent": "curl/8"}));
    for (name, value) in [
        ("status", 401),
        ("took_us", 1_234),
        ("facts_age_ms", 12_000),
        ("bytes_out", 7),
        ("snapshot", 3),
    ] {
        assert_eq!(members[name], value, "{name}");
    }
    for (name, value) in [
        ("tls", "1.3"),
        ("mode", "live"),
        ("scopes_needed", "orders:read"),
        ("denial", "revoked_credential"),
    ] {
        assert_eq!(members[name], value, "{name}");
    }
    assert_eq!(members["completed"], true);
    for absent in [
        "credential",
        "tenant",
        "subject",
        "surface",
        "upstream",
        "attempts",
        "bytes_in",
        "ended",
        "body",
    ] {
        assert!(members.get(absent).is_none(), "{absent}");
    }
}

#[test]
fn an_answered_entry_says_nothing_of_an_end_that_is_to_come() {
    let members = written(RequestStage::Answered, &line("x"), &ShownHead::default());
    assert_eq!(members["kind"], "answered");
    for absent in ["bytes_out", "completed", "ended", "headers", "query"] {
        assert!(members.get(absent).is_none(), "{absent}");
    }
}

#[test]
fn k9_every_entry_is_one_json_object_whatever_is_in_it() {
    for hostile in HOSTILE {
        let head = shown(&rules(&["user-agent"], &[]), &head("/", &[("User-Agent", hostile)]));
        let members = written(RequestStage::Ended, &line(hostile), &head);
        for name in ["route", "host", "path", "done"] {
            assert_eq!(members[name], hostile, "{name}");
        }
        assert_eq!(members["headers"]["user-agent"], hostile);
    }
}

#[test]
fn a_field_that_was_sent_twice_has_a_list() {
    let head = shown(
        &rules(&["accept"], &[]),
        &head("/", &[("Accept", "a"), ("X-Other", "b"), ("ACCEPT", "c")]),
    );
    assert_eq!(
        written(RequestStage::Ended, &line("x"), &head)["headers"],
        serde_json::json!({"accept": ["a", "c"]})
    );
}

#[test]
fn fields_that_carry_credentials_are_never_shown_though_they_are_listed() {
    let surfaces = [samples::key_pair("pair")];
    let listed = [
        "authorization",
        "cookie",
        "set-cookie",
        "proxy-authorization",
        "x-api-key",
        "x-api-secret",
        "accept",
    ];
    let rules = rules(&listed, &surfaces);
    let fields: Vec<_> = listed.iter().map(|name| (*name, "canary")).collect();
    let head = shown(&rules, &head("/", &fields));
    assert_eq!(
        written(RequestStage::Ended, &line("x"), &head)["headers"],
        serde_json::json!({"accept": "canary"})
    );
}

#[test]
fn the_longest_texts_stay_below_the_limit_of_an_entry() {
    let long = "é".repeat(8 * 1024);
    let names: Vec<String> = (0..90).map(|number| format!("x-{number}")).collect();
    let listed: Vec<&str> = names.iter().map(String::as_str).collect();
    let fields: Vec<_> = listed.iter().map(|name| (*name, long.as_str())).collect();
    let head = shown(&rules(&listed, &[]), &head(&format!("/?{}", &long), &fields));
    let mut of = line("x");
    of.path = Some(&long);
    let members = written(RequestStage::Ended, &of, &head);
    assert!(members.to_string().is_ascii() || members["path"].as_str().unwrap().ends_with("..."));
    let mut out = Vec::new();
    let entry = RequestEntry {
        line: &of,
        head: &head,
        rules: &rules(&[], &[]),
        trace_id: None,
        tls: None,
        mode: None,
        scopes_needed: None,
        snapshot: 0,
    };
    EntryFormatter::default().write(RequestStage::Ended, &entry, &mut out);
    assert!(out.len() < 60 * 1024, "{}", out.len());
    assert!(out.len() > 30 * 1024, "{}", out.len());
}
