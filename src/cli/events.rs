//! `durward events` and `durward gateways`: what changed, and who has applied it.

use std::io;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::admin::events::{EventList, EventView};
use crate::admin::receipts::{GatewayList, GatewayView};

use super::actor::actor_name;
use super::client::OperatorClient;
use super::failure::{Exit, Failure};
use super::output::{self, Printer, visible_in_line};

#[derive(Debug, Clone, Args)]
pub(crate) struct EventArgs {
    /// Begin after this position; without it, the newest are shown.
    #[arg(long, value_name = "POSITION")]
    pub(crate) after: Option<u64>,
    /// Without a position, show this many, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000), conflicts_with = "after")]
    pub(crate) limit: u16,
    /// Show new events until interrupted.
    #[arg(long)]
    pub(crate) follow: bool,
}

/// How often a follower asks for new events. People see them at once, and the store has two small reads a second.
const PAUSE: Duration = Duration::from_millis(500);

/// Most events of one answer; the store caps pages at the same number.
const PAGE: u64 = 1_000;

/// Events that the store does not have any more, between the events before and after this line.
#[derive(Serialize)]
struct TrimmedEvents {
    gap: (u64, u64),
}

/// The store lost its data and counts from zero again.
#[derive(Serialize)]
struct NewHistory<'a> {
    history: &'a str,
}

pub(crate) fn run(client: &OperatorClient, args: &EventArgs, printer: &Printer) -> Result<(), Failure> {
    let mut after = args.after;
    let mut history: Option<String> = None;
    let mut incomplete = false;
    loop {
        let limit = if after.is_some() { PAGE } else { u64::from(args.limit) };
        let query = after.map(|after| format!("&after={after}")).unwrap_or_default();
        // Each event is shown once, so a follower waits until the trail can tell who caused it.
        let settled = if args.follow && after.is_some() { "&settled=1" } else { "" };
        let page: EventList = client.get(&format!("/v1/events?limit={limit}{query}{settled}"))?;
        if history.as_ref().is_some_and(|known| *known != page.history) {
            show_new_history(&page, printer)?;
            history = Some(page.history);
            after = Some(0);
            continue;
        }
        if let Some((first, last)) = page.trimmed {
            show_trimmed(first, last, printer)?;
        }
        let own = page.gateway.as_str();
        for event in &page.events {
            printer.print(event, |out| show(out, event, own))?;
        }
        printer.warn(&page.problems);
        incomplete |= !page.problems.is_empty();
        let last = page.events.last().map(|event| event.position);
        after = last
            .or(after.map(|after| after.max(page.trimmed.map_or(0, |gap| gap.1))))
            .or(Some(page.position));
        history = Some(page.history);
        if u64::try_from(page.events.len()).is_ok_and(|count| count == PAGE) {
            continue;
        }
        if !args.follow && incomplete {
            let message = "the audit trail was not read whole: some events may lack who caused them";
            return Err(Failure::new(Exit::Failed, message));
        }
        if !args.follow {
            return Ok(());
        }
        // A thread that wakes early only asks early.
        thread::park_timeout(PAUSE);
    }
}

fn show_trimmed(first: u64, last: u64, printer: &Printer) -> Result<(), Failure> {
    printer.print(&TrimmedEvents { gap: (first, last) }, |out| {
        writeln!(out, "events {first} to {last} are not kept any more")
    })
}

fn show_new_history(page: &EventList, printer: &Printer) -> Result<(), Failure> {
    printer.print(&NewHistory { history: &page.history }, |out| {
        writeln!(
            out,
            "the store lost its data and counts from zero again; the events below belong to a new history"
        )
    })
}

fn show(out: &mut dyn io::Write, event: &EventView, own: &str) -> io::Result<()> {
    let at = event.at.as_deref().unwrap_or("at an unknown time");
    write!(out, "{:>8}  {at:<24}  {:<10}  {}", event.position, event.kind, event.id)?;
    match (&event.action, &event.who, &event.gateway) {
        (Some(action), Some(who), _) => write!(out, "  {action} by {}", visible_in_line(&actor_name(who)))?,
        (_, _, Some(gateway)) if gateway != own => write!(out, "  through {gateway}, whose trail tells by whom")?,
        _ => {}
    }
    writeln!(out)
}

pub(crate) fn gateways(client: &OperatorClient, printer: &Printer) -> Result<(), Failure> {
    let list: GatewayList = client.get("/v1/gateways")?;
    printer.print(&list, |out| {
        let rows: Vec<_> = list.gateways.iter().map(row).collect();
        output::table(
            out,
            ["GATEWAY", "STATE", "POSITION", "BEHIND", "READER", "LAST HEARD", "VERSION"],
            &rows,
        )?;
        for gone in &list.departed {
            writeln!(
                out,
                "{} is no longer registered; it must have stopped by {}",
                gone.id, gone.stopped_by
            )?;
        }
        match &list.not_ruled_out {
            Some(unnamed) => writeln!(out, "{unnamed}"),
            None => Ok(()),
        }
    })
}

fn row(gateway: &GatewayView) -> [String; 7] {
    let id = if gateway.this {
        format!("{} (this one)", gateway.id)
    } else {
        gateway.id.clone()
    };
    [
        id,
        gateway.state.clone(),
        gateway.position.to_string(),
        gateway.behind.map_or_else(|| "unknown".to_owned(), |behind| behind.to_string()),
        gateway.reader.clone(),
        format!("{} ms ago", gateway.heard_ms_ago),
        gateway.version.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_callers_subject_stays_within_the_line_of_its_event() {
        let event = EventView {
            position: 7,
            at: None,
            kind: "credential".into(),
            id: "key_1".into(),
            who: Some(json!({ "via": "route", "route": "keys", "subject": "ann\n8  by root\u{202e}" })),
            action: Some("mint".into()),
            gateway: Some("edge-1".into()),
            seq: None,
            request_id: None,
        };
        let mut out = Vec::new();
        show(&mut out, &event, "edge-1").unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("mint by ann\\n8  by root\\u202e on route keys"), "{text}");
    }
}
