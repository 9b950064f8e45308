//! A report as somebody on call reads it: what the credential did in short, then what happened when.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;

use crate::audit::report::{CredentialReport, CredentialUse, ReportAction};
use crate::cli::actor::actor_name;
use crate::cli::output::{fields, table, visible_in_line};

/// Most requests of one sort that people are shown one by one. `--json` has more.
const SHOWN_USES: usize = 20;

/// Most values of one count that people are shown.
const SHOWN_VALUES: usize = 8;

/// One line of the timeline. What stands below it has no time of its own.
struct TimelineRow {
    time: String,
    gateway: String,
    what: String,
    below: Vec<String>,
}

impl TimelineRow {
    /// A line that no single gateway tells.
    fn alone(time: &str, what: &str) -> Self {
        Self {
            time: time.to_owned(),
            gateway: String::new(),
            what: what.to_owned(),
            below: Vec::new(),
        }
    }
}

pub(super) fn show(report: &CredentialReport, bound: Duration, out: &mut dyn Write) -> io::Result<()> {
    show_summary(report, out)?;
    let mut rows = rows(report, bound);
    rows.sort_by(|a, b| a.time.cmp(&b.time));
    let mut cells = Vec::new();
    for row in rows {
        cells.push([
            row.time,
            visible_in_line(&row.gateway).into_owned(),
            visible_in_line(&row.what).into_owned(),
        ]);
        cells.extend(
            row.below
                .into_iter()
                .map(|line| [String::new(), String::new(), format!("  {}", visible_in_line(&line))]),
        );
    }
    writeln!(out)?;
    table(out, ["TIME", "GATEWAY", "WHAT"], &cells)?;
    writeln!(out)?;
    if let Some(after) = &report.after {
        writeln!(
            out,
            "after the acknowledgement: {} admitted before the end held everywhere, {} refused{}",
            after.between,
            after.refused,
            after
                .last_refused
                .as_ref()
                .map_or_else(String::new, |last| format!(", the last at {}", last.time))
        )?;
        if after.open_at_end > 0 {
            writeln!(
                out,
                "requests that were open then, and ended before the end held everywhere: {}",
                after.open_at_end
            )?;
        }
        if after.only_reported > 0 {
            writeln!(
                out,
                "forwarded without identity, since the route only reports: {}",
                after.only_reported
            )?;
        }
    }
    for (name, lines) in [("note", &report.notes), ("gap", &report.gaps)] {
        for line in lines {
            writeln!(out, "{name}: {}", visible_in_line(line))?;
        }
    }
    writeln!(out, "{}", report.statement)
}

fn show_summary(report: &CredentialReport, out: &mut dyn Write) -> io::Result<()> {
    let uses = &report.uses;
    let reported = match uses.only_reported {
        0 => String::new(),
        count => format!(", {count} only reported"),
    };
    let requests = format!("{} ({} admitted, {} refused{reported})", uses.requests, uses.admitted, uses.refused);
    let use_of = |one: &Option<CredentialUse>| {
        one.as_ref()
            .map_or_else(|| "never".to_owned(), |one| format!("{} at {}", one.time, one.gateway))
    };
    let trails = report.gateways.iter().map(|trail| {
        let stopped = if trail.stopped { ", stopped" } else { "" };
        format!("{} from {} to {}{stopped}", trail.gateway, trail.from, trail.to)
    });
    fields(
        out,
        &[
            ("credential", &visible_in_line(&report.credential)),
            ("tenant", &visible_in_line(report.tenant.as_deref().unwrap_or_default())),
            ("requests", &requests),
            ("first use", &visible_in_line(&use_of(&uses.first_use))),
            ("last use", &visible_in_line(&use_of(&uses.last_use))),
            ("gateways", &counted(&uses.by_gateway)),
            ("routes", &counted(&uses.routes)),
            ("addresses", &counted(&uses.addresses)),
            ("statuses", &counted(&uses.statuses)),
            ("denials", &counted(&uses.denials)),
            ("trails", &visible_in_line(&trails.collect::<Vec<_>>().join("; "))),
        ],
    )
}

/// The values of a count, the most frequent first.
fn counted(counts: &BTreeMap<String, u64>) -> String {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let mut words: Vec<_> = sorted
        .iter()
        .take(SHOWN_VALUES)
        .map(|(value, count)| format!("{value} {count}"))
        .collect();
    if sorted.len() > SHOWN_VALUES {
        words.push(format!("and {} more", sorted.len() - SHOWN_VALUES));
    }
    visible_in_line(&words.join(", ")).into_owned()
}

fn rows(report: &CredentialReport, bound: Duration) -> Vec<TimelineRow> {
    let mut rows: Vec<_> = report.actions.iter().map(|action| of_action(action, &report.credential)).collect();
    let uses = &report.uses;
    rows.extend(uses.first_use.as_ref().map(|first| of_use("first use", first)));
    let is_shown = |last: &CredentialUse| {
        let after = report
            .after
            .as_ref()
            .map(|after| [after.between_list.last(), after.admitted_list.last()]);
        uses.first_use.as_ref() == Some(last) || after.into_iter().flatten().flatten().any(|other| other == last)
    };
    rows.extend(
        uses.last_use
            .as_ref()
            .filter(|last| !is_shown(last))
            .map(|last| of_use("last use", last)),
    );
    if let Some(end) = &report.end {
        rows.push(TimelineRow::alone(
            &end.acknowledged,
            &format!("THE END is acknowledged: {} of {}", end.action, end.of),
        ));
        rows.push(TimelineRow::alone(
            &end.holds_since,
            &format!("from here on the end holds everywhere (bound {} s)", bound.as_secs()),
        ));
    }
    if let Some(after) = &report.after {
        let lists = [
            ("admitted before the end held everywhere", &after.between_list, after.between),
            ("ADMITTED, OR OPEN, AFTER THE END", &after.admitted_list, after.admitted),
            ("refused", &after.refused_list, after.refused),
        ];
        for (what, list, count) in lists {
            let shown = list.get(..SHOWN_USES).unwrap_or(list);
            rows.extend(shown.iter().map(|one| of_use(what, one)));
            let more = count.saturating_sub(shown.len() as u64);
            if let Some(last) = shown.last().filter(|_| more > 0) {
                rows.push(TimelineRow::alone(&last.time, &format!("and {more} more {what}")));
            }
        }
        rows.extend(after.unknown_callers.iter().map(|unknown| TimelineRow {
            gateway: unknown.gateway.clone(),
            ..TimelineRow::alone(
                &unknown.first,
                &format!(
                    "{} requests refused because the store could not be asked, whoever sent them, the last at {}",
                    unknown.refused, unknown.last
                ),
            )
        }));
    }
    rows
}

fn of_use(what: &str, one: &CredentialUse) -> TimelineRow {
    let text = |part: &Option<String>| part.clone().unwrap_or_else(|| "-".into());
    let status = one.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let denial = one.denial.as_ref().map_or_else(String::new, |denial| format!(" {denial}"));
    let open = if is_long(one) {
        format!(", until {}", one.until)
    } else {
        String::new()
    };
    TimelineRow {
        time: one.time.clone(),
        gateway: one.gateway.clone(),
        what: format!(
            "{what}: {} {} from {}, {status}{denial}{open}, request {}",
            text(&one.method),
            text(&one.path),
            text(&one.client),
            text(&one.request_id)
        ),
        below: Vec::new(),
    }
}

/// Whether a request was open for a second or longer.
fn is_long(one: &CredentialUse) -> bool {
    let time = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let times = time(&one.time).zip(time(&one.until));
    times.is_some_and(|(from, to)| to.duration_since(from).as_secs() >= 1)
}

fn of_action(action: &ReportAction, credential: &str) -> TimelineRow {
    let text = |name: &str| action.entry.get(name).and_then(Value::as_str);
    let what = match text("done") {
        Some(done) => {
            let (verb, records) = done.split_once(' ').unwrap_or((done, ""));
            let who = text("subject").or_else(|| text("credential")).unwrap_or("anybody");
            format!(
                "{} by {who} with {} {}: {records}, request {}",
                served_word(verb),
                text("method").unwrap_or("-"),
                text("path").unwrap_or("-"),
                text("request_id").unwrap_or("-")
            )
        }
        None => of_operator(action, credential),
    };
    TimelineRow {
        time: action.time.clone(),
        gateway: action.gateway.clone(),
        what,
        below: receipts(action),
    }
}

fn of_operator(action: &ReportAction, credential: &str) -> String {
    let text = |name: &str| action.entry.get(name).and_then(Value::as_str);
    let name = text("action").unwrap_or("unknown");
    let (group, verb) = name.split_once('.').unwrap_or(("", name));
    let target = text("target").unwrap_or("-");
    let subject = match group {
        _ if target == credential || text("replaced_by") == Some(credential) => String::new(),
        "tenants" => format!("tenant {target} "),
        _ => format!("{target} "),
    };
    let word = match (verb, text("replaced_by")) {
        ("rotate", Some(new)) if new == credential => format!("made in place of {target}"),
        ("rotate", Some(new)) => format!("replaced by {new}"),
        _ => operator_word(verb).to_owned(),
    };
    let ends = action.entry.get("after").and_then(|after| after.get("expires_at")?.as_str());
    let ends = ends.map_or_else(String::new, |at| format!(", ends at {at}"));
    let outcome = match text("outcome") {
        Some("done") => String::new(),
        Some("refused") => format!(": REFUSED ({}), nothing was done", text("reason").unwrap_or("-")),
        _ => ": whether it was done is NOT KNOWN".to_owned(),
    };
    let message = text("message").map_or_else(String::new, |message| format!(": {message}"));
    format!(
        "{subject}{word} by {}{ends}{outcome}{message}",
        actor_name(action.entry.get("who").unwrap_or(&Value::Null))
    )
}

fn operator_word(verb: &str) -> &str {
    match verb {
        "create" => "made",
        "import" => "imported",
        "reveal" => "its secret shown",
        "enable" => "enabled",
        "disable" => "disabled",
        "revoke" => "revoked",
        "revoke_of" => "all that hangs on it revoked",
        "password" => "given a new password",
        "begin" => "made for a drill",
        "end" => "ended with its drill",
        other => other,
    }
}

fn served_word(verb: &str) -> &str {
    match verb {
        "mint" => "made",
        "rotate" => "rotated",
        "revoke" => "revoked",
        "log_out" => "logged out",
        "set_roles" => "given other roles",
        "set_password" => "given a new password",
        other => other,
    }
}

fn receipts(action: &ReportAction) -> Vec<String> {
    let wait = action.entry.get("wait");
    let gateways = wait.and_then(|wait| wait.get("gateways")?.as_array());
    let mut lines: Vec<_> = gateways.into_iter().flatten().map(receipt).collect();
    if let Some(more) = wait.and_then(|wait| wait.get("more_gateways")) {
        lines.push(format!("and {more} gateways more"));
    }
    if let Some(unnamed) = wait.and_then(|wait| wait.get("not_ruled_out")) {
        let time = |name: &str| unnamed.get(name).and_then(Value::as_str).unwrap_or("an unknown time");
        lines.push(format!(
            "gateways listed before {} cannot be ruled out; they have stopped by {}",
            time("listed_before"),
            time("stopped_by")
        ));
    }
    lines
}

fn receipt(gateway: &Value) -> String {
    let id = gateway.get("id").and_then(Value::as_str).unwrap_or("-");
    if gateway.get("confirmed").and_then(Value::as_bool) == Some(true) {
        let ms = gateway.get("ms").and_then(Value::as_u64).unwrap_or(0);
        return format!("{id} confirmed after {ms} ms");
    }
    let by = gateway.get("stopped_by").and_then(Value::as_str).unwrap_or("an unknown time");
    format!("{id} did NOT confirm; it must have stopped by {by}")
}
