//! `durward explain REQUEST_ID`: what was decided about a request that was sent, and why, from its entry in the audit trail.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::audit::query::{EntryOrder, EntryQuery, MergedMatches};
use crate::audit::segments::Segments;
use crate::base::denial::Denial;
use crate::cli::audit::{Directories, tell_cost, tell_slow};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::Printer;
use crate::decide::authorize::Check;

use super::line;

/// One entry, with what it means.
#[derive(Serialize)]
struct RecordedExplanation {
    /// `forwarded`, `served`, `answered`, `refused` or `reported`, as for a request that is not sent.
    outcome: &'static str,
    /// The checks that refuse for this reason, the usual one first.
    refused_by: Vec<&'static str>,
    entry: Value,
}

pub(super) fn run(config: &Path, directories: &Directories, request_id: &str, printer: &Printer) -> Result<(), Failure> {
    let directories = directories.resolve(config)?;
    let opened: Result<Vec<Segments>, Failure> = directories
        .iter()
        .map(|directory| {
            Segments::open(directory).map_err(|error| {
                let message = format!("the trail in `{}` cannot be read: {error}", directory.display());
                Failure::new(Exit::Failed, message)
            })
        })
        .collect();
    let query = EntryQuery {
        request: Some(request_id.to_owned()),
        order: EntryOrder::OldestFirst,
        ..EntryQuery::default()
    };
    let opened = opened?;
    let named = tell_cost(&opened, &query, None, printer);
    let mut matches = MergedMatches::new(&opened, &query);
    let entries: Vec<Value> = matches
        .by_ref()
        .filter_map(|(_, found)| serde_json::from_str(&found.line).ok())
        .collect();
    tell_slow(&matches.remarks(), &named, printer);
    printer.warn(&matches.problems());
    // With `durable = "each"` a request has an entry before its response and one after it, which says more.
    let ended: Vec<&Value> = entries.iter().filter(|entry| entry["kind"] == "request").collect();
    let answered = entries.iter().filter(|entry| entry["kind"] == "answered");
    let meant: Vec<&Value> = if ended.is_empty() { answered.collect() } else { ended };
    if meant.is_empty() {
        let message = "no entry of the trail has this request id: if it is older than `audit.keep`, it is gone; \
                       to explain a request that is not sent, give METHOD and URL";
        return Err(Failure::new(Exit::NotFound, message));
    }
    for entry in meant {
        let explained = explain(entry);
        printer.print(&explained, |out| show(out, &explained))?;
    }
    Ok(())
}

fn explain(entry: &Value) -> RecordedExplanation {
    let denial = entry["denial"].as_str().and_then(Denial::of_label);
    let outcome = if entry["report_only"] == true {
        "reported"
    } else if entry["denial"].is_string() {
        "refused"
    } else if entry["upstream"].is_string() {
        "forwarded"
    } else if entry["done"].is_string() {
        "served"
    } else {
        "answered"
    };
    RecordedExplanation {
        outcome,
        refused_by: denial
            .map_or(&[][..], Check::of_denial)
            .iter()
            .filter(|check| is_possible(**check, entry))
            .map(|check| check.label())
            .collect(),
        entry: entry.clone(),
    }
}

/// Whether a check can be the one that refused. Of an admitted caller the entry has the credential.
fn is_possible(check: Check, entry: &Value) -> bool {
    match check {
        Check::CallerLimit | Check::Mode | Check::Surface | Check::Tenant => entry["credential"].is_string(),
        Check::AddressLimit => entry["credential"].is_null(),
        Check::Method => entry["method"].is_null(),
        _ => true,
    }
}

fn show(out: &mut dyn Write, explained: &RecordedExplanation) -> io::Result<()> {
    let entry = &explained.entry;
    let text = |member: &str| match &entry[member] {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    };
    let joined = |members: [&str; 2], between: &str| {
        let texts: Vec<String> = members.iter().filter_map(|member| text(member)).collect();
        (!texts.is_empty()).then(|| texts.join(between))
    };
    let reason = match (text("denial"), text("cause")) {
        (Some(denial), Some(cause)) => format!("{denial} ({cause})"),
        (denial, _) => denial.unwrap_or_default(),
    };
    match explained.outcome {
        "refused" => writeln!(out, "refused: {reason}\n")?,
        "reported" => writeln!(
            out,
            "forwarded without identity, since the route only reports; it would have been refused: {reason}\n"
        )?,
        "served" => writeln!(out, "served by durward itself\n")?,
        "answered" => writeln!(out, "answered by the gateway\n")?,
        _ => writeln!(out, "forwarded\n")?,
    }
    let url = [text("host"), text("path")].into_iter().flatten().collect::<String>();
    let rows = [
        ("time", text("time")),
        ("gateway", text("gateway")),
        ("request", text("method").map(|method| format!("{method} {url}"))),
        ("client", text("client")),
        ("route", text("route")),
        ("needed", text("scopes_needed")),
        ("surface", text("surface")),
        ("credential", text("credential")),
        ("tenant", text("tenant")),
        ("subject", text("subject")),
        ("mode", text("mode")),
        ("facts", text("facts_age_ms").map(|age| format!("{age} ms old"))),
        ("upstream", joined(["upstream", "endpoint"], " at ")),
        ("failure", text("failure")),
        ("status", text("status")),
        ("ended", text("ended")),
        ("done", text("done")),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            line(out, name, &value)?;
        }
    }
    writeln!(out)?;
    let refused = Check::ALL.iter().filter(|check| explained.refused_by.contains(&check.label()));
    let result = if explained.outcome == "reported" { "reported" } else { "refused" };
    let mut told = false;
    for check in refused {
        told = true;
        writeln!(out, "{result:<8}  {}", check.question())?;
    }
    match (told, explained.outcome) {
        (false, "forwarded" | "served" | "answered") => writeln!(out, "passed    every check of its route"),
        (false, _) => writeln!(out, "refused   not by a check of the request, but by what the reason above names"),
        (true, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_is_told_in_the_words_of_explain() {
        let of = |entry: Value| {
            let explained = explain(&entry);
            let mut text = Vec::new();
            show(&mut text, &explained).unwrap();
            (explained.outcome, explained.refused_by, String::from_utf8(text).unwrap())
        };
        let revoked = json!({ "kind": "request", "time": "2026-11-29T07:00:00.000Z", "method": "GET", "host": "a", "path": "/v1", "credential": "key_1", "denial": "revoked_credential", "status": 401 });
        let (outcome, by, text) = of(revoked.clone());
        assert_eq!((outcome, by.as_slice()), ("refused", ["force"].as_slice()));
        assert!(text.starts_with("refused: revoked_credential\n"), "{text}");
        assert!(text.contains(&format!("refused   {}", Check::Force.question())), "{text}");
        assert!(text.contains("GET a/v1"), "{text}");

        let mut reported = revoked;
        reported["report_only"] = json!(true);
        reported["upstream"] = json!("main");
        let (outcome, _, text) = of(reported);
        assert_eq!(outcome, "reported");
        assert!(text.contains("forwarded without identity"), "{text}");

        let limited = |credential: Value| of(json!({ "denial": "rate_limited", "credential": credential })).1;
        assert_eq!(limited(json!("key_1")), ["caller_limit"]);
        assert_eq!(limited(Value::Null), ["address_limit"]);

        assert_eq!(of(json!({ "upstream": "main", "status": 200 })).0, "forwarded");
        assert_eq!(of(json!({ "done": "made key_1", "status": 201 })).0, "served");
        assert_eq!(of(json!({ "status": 204 })).0, "answered");
        let (outcome, by, text) = of(json!({ "upstream": "main", "denial": "upstream_timeout", "status": 504 }));
        assert_eq!((outcome, by.len()), ("refused", 0));
        assert!(text.contains("not by a check of the request"), "{text}");
    }
}
