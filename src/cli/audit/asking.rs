//! `durward audit query` and `show`.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::{Directories, failed};
use crate::audit::query::{EntryOrder, EntryQuery, Follower, FoundEntry, MergedMatches, QueryCost, ReadCount, StatusFilter};
use crate::audit::segments::Segments;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Printer, visible};

/// How often a follower looks for new entries.
const PAUSE: Duration = Duration::from_millis(200);

/// More than this is said before it is read without an index.
const WORTH_TELLING: u64 = 64 * 1_024 * 1_024;

#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    directories: Directories,
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Of a request, or of who changed something on a served route.
    #[arg(long, value_name = "ID")]
    credential: Option<String>,
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// The reason of a refusal, such as `revoked_credential`.
    #[arg(long, value_name = "REASON")]
    denial: Option<String>,
    /// `404`, or `4xx`.
    #[arg(long, value_name = "STATUS", value_parser = parse_status)]
    status: Option<StatusFilter>,
    /// The address of the client.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<String>,
    /// `request`, `operator`, `configuration`, `gap` and others.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// The first time: 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<i64>,
    /// The first time that is not meant any more.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<i64>,
    /// At most this many; the newest come first.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// After these, oldest first, show new entries until interrupted.
    #[arg(long)]
    follow: bool,
    /// At the end, say on standard error what was read.
    #[arg(long, conflicts_with = "follow")]
    cost: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The id of the request.
    request_id: String,
    #[command(flatten)]
    directories: Directories,
}

fn parse_status(text: &str) -> Result<StatusFilter, String> {
    StatusFilter::parse(text).ok_or_else(|| "write a status such as 404, or a class such as 4xx".to_owned())
}

fn parse_time(text: &str) -> Result<i64, String> {
    crate::audit::fields::parse_millis(text).ok_or_else(|| "write a date and time: 2027-01-31T00:00:00Z".to_owned())
}

pub(super) fn open(config: &Path, directories: &Directories) -> Result<Vec<Segments>, Failure> {
    let directories = directories.resolve(config)?;
    let trails = directories.iter().map(|directory| Segments::open(directory));
    trails.collect::<io::Result<_>>().map_err(|error| failed(error.to_string()))
}

/// Says what is read without an index, before it is read, and answers which segments it named. `limit` is how many entries are
/// wanted.
pub(crate) fn tell_cost(trails: &[Segments], query: &EntryQuery, limit: Option<u64>, printer: &Printer) -> Vec<String> {
    let costs: Vec<_> = trails.iter().map(|trail| QueryCost::of(trail, query, limit)).collect();
    let named: Vec<String> = costs.iter().flat_map(|cost| cost.without_index.clone()).collect();
    for why in &named {
        printer.remark(why);
    }
    let bytes: u64 = costs.iter().map(|cost| cost.bytes).sum();
    if bytes > WORTH_TELLING {
        printer.remark(&format!(
            "up to {} MiB are read, because no index helps there",
            bytes / 1_024 / 1_024
        ));
    }
    named
}

/// Says which segments were read whole, but for those that were `named` before.
pub(crate) fn tell_slow(remarks: &[String], named: &[String], printer: &Printer) {
    for remark in remarks.iter().filter(|remark| !named.contains(remark)) {
        printer.remark(remark);
    }
}

/// Says what was read.
fn tell_read(read: ReadCount, printer: &Printer) {
    printer.remark(&format!(
        "read {} of {} blocks, and {} KiB without an index",
        read.blocks,
        read.of_blocks,
        read.plain.div_ceil(1_024)
    ));
}

/// Fails where something could not be read: the answer lacks it.
pub(crate) fn whole(problems: &[String], printer: &Printer) -> Result<(), Failure> {
    if problems.is_empty() {
        return Ok(());
    }
    printer.warn(problems);
    Err(failed("the answer is not complete"))
}

fn print(entry: &FoundEntry, printer: &Printer) -> Result<(), Failure> {
    let value: Value = serde_json::from_str(&entry.line).map_err(|error| failed(error.to_string()))?;
    printer.print_line(&entry.line, |out| {
        let text = |name: &str| visible(value.get(name).and_then(Value::as_str).unwrap_or("-")).into_owned();
        let status = value.get("status").map_or_else(|| "-".to_owned(), ToString::to_string);
        let what = match value.get("action") {
            Some(_) => format!("{} {} {}", text("action"), text("target"), text("outcome")),
            None => format!("{} {} {status} {}", text("method"), text("path"), text("denial")),
        };
        writeln!(
            out,
            "{}  {}  {:<8}  {what}  tenant {}  credential {}  client {}  request {}",
            text("time"),
            text("gateway"),
            text("kind"),
            text("tenant"),
            text("credential"),
            text("client"),
            text("request_id"),
        )
    })
}

pub(crate) fn query(config: &Path, args: &QueryArgs, printer: &Printer) -> Result<(), Failure> {
    let trails = open(config, &args.directories)?;
    let query = EntryQuery {
        request: args.request.clone(),
        credential: args.credential.clone(),
        target: None,
        tenant: args.tenant.clone(),
        client: args.client.clone(),
        denial: args.denial.clone(),
        route: args.route.clone(),
        kind: args.kind.clone(),
        status: args.status,
        since: args.since,
        until: args.until,
        before: None,
        order: EntryOrder::NewestFirst,
    };
    let named = tell_cost(&trails, &query, Some(args.limit.into()), printer);
    // Before the query, so that no entry is missed in between.
    let mut followers: Vec<_> = trails.iter().filter(|_| args.follow).map(Follower::new).collect();
    let mut matches = MergedMatches::new(&trails, &query);
    let taken = matches.by_ref().take(args.limit as usize);
    if !args.follow {
        for (_, entry) in taken {
            print(&entry, printer)?;
        }
        tell_slow(&matches.remarks(), &named, printer);
        if args.cost {
            tell_read(matches.read(), printer);
        }
        return whole(&matches.problems(), printer);
    }
    let mut newest: Vec<_> = taken.collect();
    newest.reverse();
    for (_, entry) in newest {
        print(&entry, printer)?;
    }
    tell_slow(&matches.remarks(), &named, printer);
    printer.warn(&matches.problems());
    loop {
        for (trail, follower) in trails.iter().zip(&mut followers) {
            let found = follower.poll(trail.directory(), &query);
            for entry in found.map_err(|error| failed(error.to_string()))? {
                print(&entry, printer)?;
            }
        }
        // A thread that wakes early only looks early.
        thread::park_timeout(PAUSE);
    }
}

/// Most entries, and most bodies, that `show` shows.
const MOST_ENTRIES: usize = 1_000;

/// The answer of `show` in JSON.
#[derive(Serialize)]
struct ShownRequest {
    request_id: String,
    entries: Vec<Value>,
    bodies: Vec<Value>,
}

pub(crate) fn show(config: &Path, args: &ShowArgs, printer: &Printer) -> Result<(), Failure> {
    let trails = open(config, &args.directories)?;
    let query = EntryQuery {
        request: Some(args.request_id.clone()),
        order: EntryOrder::OldestFirst,
        ..EntryQuery::default()
    };
    let named = tell_cost(&trails, &query, None, printer);
    let mut matches = MergedMatches::new(&trails, &query);
    let found: Vec<_> = matches.by_ref().take(MOST_ENTRIES).collect();
    tell_slow(&matches.remarks(), &named, printer);
    let mut problems = matches.problems();
    // Bodies have no index. The number of an entry says in which of their segments they are.
    let bodies = trails.iter().enumerate().map(|(trail, segments)| {
        let seqs = found.iter().filter(|(of, _)| *of == trail).map(|(_, entry)| entry.seq);
        Ok(Segments::bodies(segments.directory())?.of_seqs(&seqs.collect::<Vec<_>>()))
    });
    let bodies = bodies.collect::<io::Result<Vec<_>>>().map_err(|error| failed(error.to_string()))?;
    let mut with_bodies = MergedMatches::new(&bodies, &query);
    let bodies = values(with_bodies.by_ref().take(MOST_ENTRIES));
    problems.extend(with_bodies.problems());
    let entries = values(found);
    if entries.is_empty() && problems.is_empty() {
        let message = format!("no entry of the trail has the request id `{}`", args.request_id);
        return Err(Failure::new(Exit::NotFound, message));
    }
    let shown = ShownRequest {
        request_id: args.request_id.clone(),
        entries,
        bodies,
    };
    printer.print(&shown, |out| {
        for value in shown.entries.iter().chain(&shown.bodies) {
            writeln!(out, "{}", visible(&serde_json::to_string_pretty(value)?))?;
        }
        Ok(())
    })?;
    whole(&problems, printer)
}

fn values(found: impl IntoIterator<Item = (usize, FoundEntry)>) -> Vec<Value> {
    let values = found.into_iter().map(|(_, entry)| serde_json::from_str(&entry.line));
    values.filter_map(Result::ok).collect()
}
