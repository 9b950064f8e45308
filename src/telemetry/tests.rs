//! Rules of access lines and counters.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex};

use super::*;
use crate::decide::samples;

/// Texts that broke somebody's log: line ends, terminal commands, quotes, overrides, look-alikes.
const HOSTILE: [&str; 52] = [
    "\n{\"level\":\"info\"}",
    "\r\n",
    "\r",
    "\u{2028}",
    "\u{2029}",
    "\u{85}",
    "\u{b}\u{c}",
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\u{9b}2J",
    "\u{9d}0;x\u{9c}",
    "\0",
    "\x01\x02\x03\x04\x05\x06\x07\x08",
    "\t",
    "\x7f",
    "\"",
    "\\",
    "\\\"",
    "\\\\\"",
    "\\u0000",
    "\\n",
    "\",\"denial\":\"none",
    "\"}\n{\"a\":\"",
    "{}",
    "}{",
    "[]",
    "null",
    "true",
    "",
    " ",
    "   leading and trailing   ",
    "%0a%0d",
    "%00",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "<script>alert(1)</script>",
    "'; drop table logs; --",
    "\u{202e}txt.exe",
    "\u{2066}a\u{2069}",
    "\u{200b}\u{200d}\u{feff}",
    "\u{e000}",
    "\u{fffd}\u{ffff}",
    "\u{1f4a9}",
    "\u{10ffff}",
    "аdmin",
    "ﬀ",
    "日本語",
    "é",
    "e\u{301}",
    "=cmd|' /C calc'!A0",
    "tenant=evil status=200",
    "\u{1}\u{ad}\u{61c}",
];

/// Identifiers can hold nothing that could be escaped.
static NAMES: LazyLock<(SurfaceName, TenantId, Subject, CredentialId)> = LazyLock::new(|| {
    (
        SurfaceName::parse("x").unwrap(),
        TenantId::parse("x").unwrap(),
        Subject::parse("x").unwrap(),
        CredentialId::parse("x").unwrap(),
    )
});

fn line<'a>(hostile: &'a str) -> AccessLine<'a> {
    AccessLine {
        of: None,
        bytes_in: None,
        dropped_fields: 0,
        ended: None,
        at: UnixMillis(1_795_307_838_042),
        request_id: hostile,
        client: "192.0.2.255".parse().unwrap(),
        version: "1.1",
        method: Some("GET"),
        host: Some(hostile),
        path: Some(hostile),
        route: Some(hostile),
        route_slot: RouteSlot::NONE,
        surface: Some(&NAMES.0),
        tenant: Some(&NAMES.1),
        principal: Some(&NAMES.2),
        credential: Some(&NAMES.3),
        done: Some(hostile),
        facts_age: Some(Duration::from_secs(12)),
        denial: Some(Denial::RevokedCredential),
        reported: None,
        cause: Some("wrong_mac"),
        status: 401,
        upstream: Some(hostile),
        endpoint: Some(hostile),
        attempts: 2,
        failure: None,
        bytes_out: u64::MAX,
        took: Duration::from_micros(1_234),
        completed: true,
    }
}

fn written(format: LineFormat, line: &AccessLine<'_>) -> String {
    let mut out = Vec::new();
    LineFormatter::new(format).write(line, &mut out);
    String::from_utf8(out).unwrap()
}

/// An output whose bytes a test reads, and whose first write waits until the test says so.
#[derive(Clone)]
struct Collected(Arc<Mutex<Vec<u8>>>);

impl io::Write for Collected {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Stuck {
    reached: Sender<()>,
    go: Receiver<()>,
}

impl io::Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.reached.send(());
        let _ = self.go.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn k9_every_line_is_one_json_object_whatever_is_in_it() {
    assert!(HOSTILE.len() >= 50);
    for hostile in HOSTILE {
        let text = written(LineFormat::Json, &line(hostile));
        assert_eq!(text.matches('\n').count(), 1, "{hostile:?}");
        assert!(
            text.ends_with("}\n") && text.trim_end().bytes().all(|b| matches!(b, b' '..=b'~')),
            "{text:?}"
        );
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let members = value.as_object().unwrap();
        assert_eq!(members.len(), 23, "{text}");
        for name in ["request_id", "host", "path", "route", "done", "upstream", "endpoint"] {
            assert_eq!(members[name], hostile, "{name}");
        }
        for name in ["surface", "tenant", "principal", "credential"] {
            assert_eq!(members[name], "x", "{name}");
        }
        assert_eq!(members["denial"], "revoked_credential");
    }
}

#[test]
fn k9_a_subject_of_any_text_is_escaped_too() {
    let subjects: Vec<Subject> = HOSTILE.iter().filter_map(|text| Subject::parse(text).ok()).collect();
    assert!(subjects.len() >= 20);
    for subject in &subjects {
        let of = AccessLine {
            principal: Some(subject),
            ..line("x")
        };
        let text = written(LineFormat::Json, &of);
        assert!(text.trim_end().bytes().all(|b| matches!(b, b' '..=b'~')), "{text:?}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["principal"], subject.as_str());
    }
}

#[test]
fn k9_a_line_for_a_terminal_cannot_command_it_or_pretend_another_field() {
    for hostile in HOSTILE {
        let text = written(LineFormat::Pretty, &line(hostile));
        assert_eq!(text.matches('\n').count(), 1, "{hostile:?}");
        assert!(text.trim_end().bytes().all(|b| matches!(b, b' '..=b'~')), "{text:?}");
    }
    let text = written(LineFormat::Pretty, &line("tenant=evil status=200"));
    assert!(text.contains("done=tenant=evil\\u{20}status=200 "), "{text}");
}

#[test]
fn a_line_has_the_documented_fields_and_leaves_absent_ones_out() {
    let mut plain = line("x");
    plain.client = "2001:db8::1".parse().unwrap();
    let text = written(LineFormat::Json, &plain);
    let want = concat!(
        r#"{"ts":"2026-11-22T00:37:18.042Z","level":"warn","request_id":"x","client":"2001:db8::1","version":"1.1","#,
        r#""method":"GET","host":"x","path":"x","route":"x","surface":"x","tenant":"x","principal":"x","credential":"x","done":"x","#,
        r#""denial":"revoked_credential","cause":"wrong_mac","status":401,"upstream":"x","endpoint":"x","attempts":2,"#,
        r#""bytes_out":18446744073709551615,"took_us":1234,"completed":true}"#,
        "\n"
    );
    assert_eq!(text, want);
    plain.method = None;
    plain.host = None;
    plain.path = None;
    plain.denial = None;
    plain.cause = None;
    plain.tenant = None;
    plain.completed = false;
    let text = written(LineFormat::Json, &plain);
    for absent in ["method", "host", "path", "denial", "cause", "tenant"] {
        assert!(!text.contains(&format!("\"{absent}\"")), "{text}");
    }
    assert!(
        text.contains("\"level\":\"info\"") && text.contains("\"completed\":false"),
        "{text}"
    );
}

#[test]
fn lines_are_written_on_tick_and_the_rest_when_the_worker_ends() {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let telemetry = Telemetry::new(
        LineFormat::Json,
        Some(Output::start("lines", Collected(Arc::clone(&bytes))).unwrap()),
    );
    let count = || bytes.lock().unwrap().iter().filter(|b| **b == b'\n').count();
    let worker = telemetry.worker();
    worker.record(&line("a"));
    telemetry.flush(Duration::from_secs(5));
    assert_eq!(count(), 0, "a line is buffered first");
    worker.tick();
    telemetry.flush(Duration::from_secs(5));
    assert_eq!(count(), 1);
    for _ in 0..1_000 {
        worker.record(&line("a"));
    }
    drop(worker);
    telemetry.flush(Duration::from_secs(5));
    assert_eq!(count(), 1_001);
}

#[test]
fn a_stuck_output_costs_lines_that_are_counted_and_never_a_wait() {
    let (reached, at_write) = channel();
    let (go, wait) = channel();
    let output = Output::start("stuck", Stuck { reached, go: wait }).unwrap();
    let telemetry = Telemetry::new(LineFormat::Json, Some(output));
    let worker = telemetry.worker();
    let lines = 100_000;
    worker.record(&line("a"));
    worker.tick();
    at_write.recv().unwrap();
    for _ in 0..lines {
        worker.record(&line("a"));
    }
    worker.tick();
    let text = telemetry.metrics().render();
    let dropped: u64 = value_of(&text, "durward_access_lines_dropped_total").parse().unwrap();
    assert!(dropped > lines / 2 && dropped < lines, "{dropped}");
    telemetry.flush(Duration::from_millis(10));
    drop(go);
}

#[test]
fn what_a_line_says_of_the_caller_is_written_once_and_says_the_same() {
    let mut facts = samples::facts("api", "key_1", "acme");
    facts.credential.subject = Some(NAMES.2.clone());
    let facts = &facts;
    let by_name = || AccessLine {
        tenant: Some(&facts.tenant.id),
        principal: facts.credential.subject.as_ref(),
        credential: Some(&facts.credential.id),
        ..line("a")
    };
    for format in [LineFormat::Json, LineFormat::Pretty, LineFormat::Json] {
        let kept = AccessLine {
            of: Some((facts, None)),
            ..by_name()
        };
        assert_eq!(written(format, &kept), written(format, &by_name()));
    }
    // It is what was kept that is written.
    let kept = AccessLine {
        tenant: None,
        of: Some((facts, None)),
        ..by_name()
    };
    assert_eq!(written(LineFormat::Json, &kept), written(LineFormat::Json, &by_name()));
    // What is kept for a token is its own.
    let token = samples::claims("person-9", UnixMillis(0), UnixMillis(0));
    let of_token = || AccessLine {
        principal: Some(&token.subject),
        ..by_name()
    };
    for tenant in [Some(&facts.tenant.id), None] {
        let kept = AccessLine {
            tenant,
            of: Some((facts, Some(&token))),
            ..of_token()
        };
        assert_eq!(written(LineFormat::Json, &kept), written(LineFormat::Json, &of_token()));
    }
    assert!(written(LineFormat::Json, &of_token()).contains("person-9"));
}

#[test]
fn without_an_output_requests_are_still_counted() {
    let telemetry = Telemetry::new(LineFormat::Off, None);
    let (a, b) = (telemetry.worker(), telemetry.worker());
    let slot = telemetry.route_slot("orders");
    assert_eq!(telemetry.route_slot("orders"), slot);
    assert_ne!(telemetry.route_slot("refunds"), slot);
    for worker in [&a, &b] {
        worker.begin();
        worker.begin();
        worker.record(&AccessLine {
            route_slot: slot,
            ..line("a")
        });
    }
    assert_eq!(telemetry.in_flight(), 2);
    a.record(&AccessLine {
        status: 200,
        denial: None,
        reported: None,
        done: None,
        facts_age: None,
        completed: false,
        ..line("a")
    });
    let text = telemetry.metrics().render();
    for (series, want) in [
        ("durward_requests_total{route=\"orders\",class=\"4xx\"}", "2"),
        ("durward_requests_total{route=\"_none\",class=\"aborted\"}", "1"),
        ("durward_refusals_total{denial=\"revoked_credential\"}", "2"),
        ("durward_refusals_total{denial=\"wrong_mode\"}", "0"),
        ("durward_requests_in_flight", "1"),
        ("durward_request_duration_seconds_count", "3"),
        ("durward_request_duration_seconds_bucket{le=\"0.0025\"}", "3"),
        ("durward_request_duration_seconds_bucket{le=\"0.001\"}", "0"),
        ("durward_facts_age_seconds_count", "2"),
        ("durward_facts_age_seconds_sum", "24.0"),
        ("durward_facts_age_seconds_bucket{le=\"10.0\"}", "0"),
        ("durward_facts_age_seconds_bucket{le=\"15.0\"}", "2"),
    ] {
        assert_eq!(value_of(&text, series), want, "{series}\n{text}");
    }
}

#[test]
fn route_names_beyond_the_limit_are_counted_together() {
    let telemetry = Telemetry::new(LineFormat::Off, None);
    let slots: std::collections::HashSet<_> = (0..2 * counters::MAX_ROUTE_SLOTS)
        .map(|i| telemetry.route_slot(&format!("r{i}")))
        .collect();
    assert_eq!(slots.len(), counters::MAX_ROUTE_SLOTS - 1);
}

#[test]
fn metrics_of_other_parts_appear_under_one_name_with_escaped_labels() {
    let telemetry = Telemetry::new(LineFormat::Off, None);
    telemetry.metrics().counter_fn("durward_x", "Help", &[("reason", "a")], || 1);
    telemetry
        .metrics()
        .counter_fn("durward_x", "Help", &[("reason", "b\"\n} 9\\")], || 2);
    telemetry.metrics().gauge_fn("durward_y", "Help", &[], || 3);
    let text = telemetry.metrics().render();
    assert_eq!(text.matches("# TYPE durward_x counter").count(), 1, "{text}");
    assert_eq!(value_of(&text, "durward_x_total{reason=\"a\"}"), "1");
    assert_eq!(value_of(&text, "durward_x_total{reason=\"b\\\"\\n} 9\\\\\"}"), "2");
    assert_eq!(value_of(&text, "durward_y"), "3");
    assert!(text.ends_with("# EOF\n"));
}

fn value_of<'a>(text: &'a str, series: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {series} in\n{text}"))
}
