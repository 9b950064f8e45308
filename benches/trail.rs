//! Makes a large audit trail with the writer that gateways have, and times questions to it through a real `durward`:
//! `trail make DIRECTORY ENTRIES`, then `trail ask DURWARD DIRECTORY`.

#![allow(clippy::print_stdout, reason = "figures are what this is run for")]

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use durward::audit::body::CapturedBodies;
use durward::audit::files::numbers;
use durward::audit::settings::{AuditSettings, Durable, OnFull};
use durward::audit::trail::Trail;
use durward::base::clock::{Clock, Now, UnixMillis, instant};
use durward::base::ids::GatewayId;
use rustix::fs::Advice;

/// As `audit.segment` by default.
const SEGMENT: u64 = 256 * 1_024 * 1_024;

/// How full the open segment is at the end. It is the part without an index, so this is the worst case nearly.
const OPEN: u64 = SEGMENT / 16 * 15;

/// The trail begins on 2026-01-01 and covers 365 days.
const BEGIN: i64 = 1_767_225_600_000;
const YEAR: u64 = 365 * 86_400_000;

const TENANTS: u64 = 1_000;
const CREDENTIALS: u64 = 50_000;

/// Entries that are handed over before it is looked whether they are written.
const STEP: u64 = 4_096;

/// How often each question is asked.
const ROUNDS: usize = 21;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["make", directory, entries] => make(Path::new(directory), entries.parse()?),
        ["ask", durward, directory] => ask(durward, Path::new(directory)),
        _ => Err("trail make DIRECTORY ENTRIES | trail ask DURWARD DIRECTORY".into()),
    }
}

/// A number that looks random, the same in each run.
fn mixed(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30))
        .wrapping_add(0x9e37_79b9_7f4a_7c15)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

fn request_id(number: u64) -> String {
    format!("{:016x}{:016x}", mixed(number), mixed(!number))
}

/// The time of the trail: that of the entry that is made.
struct EntryClock(AtomicI64);

impl Clock for EntryClock {
    fn now(&self) -> Now {
        Now {
            wall: UnixMillis(self.0.load(Ordering::Relaxed)),
            ..Now::default()
        }
    }
}

/// Writes what an entry of a request has: about 520 bytes, as those of a small API.
fn write_members(out: &mut Vec<u8>, number: u64, at: i64) -> Fallible<()> {
    let chance = mixed(number.wrapping_mul(7) + 3);
    let credential = (chance >> 8) % CREDENTIALS;
    let tenant = credential % TENANTS;
    let time = jiff::Timestamp::from_millisecond(at)?;
    let (status, denial) = match chance % 50 {
        0 => (401, ",\"denial\":\"revoked_credential\""),
        1 => (403, ",\"denial\":\"insufficient_scope\""),
        _ => (200, ""),
    };
    write!(
        out,
        ",\"time\":\"{time:.3}\",\"kind\":\"request\",\"request_id\":\"{}\",\"client\":\"10.{}.{}.{}\",\"tls\":\"1.3\",\"version\":\"1.1\",\"method\":\"POST\",\"host\":\"api.example.com\",\"path\":\"/v1/orders/{}\",\"query\":\"expand=&page=\",\"route\":\"orders-{}\",\"surface\":\"keys\"",
        request_id(number),
        credential % 200,
        credential / 250,
        credential % 250,
        mixed(number) % 10_000_000,
        chance % 20,
    )?;
    write!(
        out,
        ",\"credential\":\"key_{credential:08}\",\"tenant\":\"tenant-{tenant}\",\"mode\":\"live\",\"scopes_needed\":\"orders:write\",\"status\":{status}{denial},\"took_us\":{},\"facts_age_ms\":{},\"upstream\":\"orders\",\"endpoint\":\"10.0.0.1:8080\",\"attempts\":1,\"bytes_out\":{},\"completed\":true,\"headers\":{{\"content-type\":\"application/json\",\"user-agent\":\"orders-client/4.1\"}},\"snapshot\":1",
        chance % 9_000,
        chance % 30_000,
        chance % 4_000,
    )?;
    Ok(())
}

fn make(directory: &Path, entries: u64) -> Fallible<()> {
    let settings = AuditSettings {
        directory: directory.to_owned(),
        on_full: OnFull::DropAndCount,
        durable: Durable::Within(Duration::from_secs(1)),
        segment: SEGMENT,
        keep: Duration::from_secs(3_600 * 24 * 3_660),
        keep_bodies: Duration::from_secs(3_600),
        max_size: None,
        checkpoint: Duration::from_secs(10),
        checkpoint_file: None,
        checkpoint_command: None,
        stdout: false,
    };
    let clock = Arc::new(EntryClock(AtomicI64::new(BEGIN)));
    let trail = Trail::open(settings, &GatewayId::parse("gw-a")?, clock.clone())?;
    let worker = trail.worker();
    let began = instant();
    let mut number = 0;
    while number < entries || open_size(directory)? < OPEN {
        for _ in 0..STEP {
            let at = BEGIN + i64::try_from(u128::from(YEAR) * u128::from(number) / u128::from(entries))?;
            clock.0.store(at, Ordering::Relaxed);
            let mut made = Ok(());
            worker.push(|out| made = write_members(out, number, at), CapturedBodies::default());
            made?;
            number += 1;
        }
        worker.tick();
        // A worker that is too far ahead would drop entries, and a closer that is too far behind would fill the disk.
        while trail.figures().entries < number {
            std::thread::yield_now();
        }
        while numbers(directory, "trail", "jsonl")?.len() > 2 {
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
    while numbers(directory, "trail", "jsonl")?.len() > 1 {
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let dropped = trail.figures().dropped;
    trail.stop(Duration::from_secs(60));
    if dropped > 0 {
        return Err(format!("{dropped} entries were dropped").into());
    }
    let closed = numbers(directory, "trail", "jsonl.gz")?.len();
    println!(
        "{number} entries in {:.0?}: {closed} closed segments and an open one of {} MiB",
        began.elapsed(),
        open_size(directory)? >> 20
    );
    for ending in ["jsonl.gz", "index", "leaves", "jsonl"] {
        println!("{ending}: {} MiB", size_of(directory, ending)? >> 20);
    }
    Ok(())
}

fn open_size(directory: &Path) -> Fallible<u64> {
    let open = numbers(directory, "trail", "jsonl")?.pop();
    let path = open.map(|first| durward::audit::files::segment_file(directory, first, "jsonl"));
    Ok(path.map_or(Ok(0), |path| path.metadata().map(|data| data.len()))?)
}

fn size_of(directory: &Path, ending: &str) -> Fallible<u64> {
    let mut sum = 0;
    for first in numbers(directory, "trail", ending)? {
        sum += durward::audit::files::segment_file(directory, first, ending).metadata()?.len();
    }
    Ok(sum)
}

fn ask(durward: &str, directory: &Path) -> Fallible<()> {
    let asker = Asker {
        durward,
        directory: directory.to_str().ok_or("the directory's name is no text")?,
    };
    let newest = asker.query(&["--limit", "1", "--kind", "request"])?.lines;
    let newest: serde_json::Value = serde_json::from_str(newest.first().ok_or("the trail has no request")?)?;
    // The writer's own entry `start` came first.
    let newest = newest["seq"].as_u64().ok_or("a line without a number")? - 1;
    let open = numbers(directory, "trail", "jsonl")?.pop().ok_or("no segment is open")?;
    println!("| question | entries | blocks read | without index | median | slowest |");
    println!("|---|---|---|---|---|---|");
    let closed: Vec<String> = (1..).map(|nth| request_id(mixed(nth) % open)).take(ROUNDS).collect();
    asker.table("a request id", &each(&closed, |id| vec!["--request", id]))?;
    let recent: Vec<String> = (1..)
        .map(|nth| request_id(open + mixed(nth) % (newest - open)))
        .take(ROUNDS)
        .collect();
    asker.table("a request id of the open segment", &each(&recent, |id| vec!["--request", id]))?;
    let nobody: Vec<String> = (0..ROUNDS).map(|nth| format!("nobody-{nth}")).collect();
    asker.table("a request id that is not there", &each(&nobody, |id| vec!["--request", id]))?;
    let keys: Vec<String> = (0..ROUNDS).map(|nth| format!("key_{:08}", nth * 2_003)).collect();
    asker.table("the newest 100 of a credential", &each(&keys, |id| vec!["--credential", id]))?;
    let all = |id| vec!["--credential", id, "--limit", "1000000"];
    asker.table("all of a credential", &each(&keys, all))?;
    asker.table("a credential that never came", &each(&nobody, |id| vec!["--credential", id]))?;
    let tenants: Vec<String> = (0..ROUNDS).map(|nth| format!("tenant-{}", nth * 47)).collect();
    const MARCH: [&str; 6] = [
        "--since",
        "2026-03-01T00:00:00Z",
        "--until",
        "2026-04-01T00:00:00Z",
        "--limit",
        "1000000",
    ];
    let month = |id| [&["--tenant", id], &MARCH[..]].concat();
    asker.table("a tenant's March", &each(&tenants, month))?;
    let refused = |id| [&["--tenant", id, "--denial", "revoked_credential"], &MARCH[..]].concat();
    asker.table("of it, refused as revoked", &each(&tenants, refused))?;
    asker.table("March of a tenant that never came", &each(&nobody, month))?;
    forget(directory)?;
    let cold: Vec<String> = (1..).map(|nth| request_id(mixed(!nth) % open)).take(1).collect();
    asker.table(
        "a request id, nothing of the trail in memory",
        &each(&cold, |id| vec!["--request", id]),
    )
}

/// The arguments of each round.
fn each<'a>(values: &'a [String], arguments: impl Fn(&'a str) -> Vec<&'a str>) -> Vec<Vec<&'a str>> {
    values.iter().map(|value| arguments(value)).collect()
}

/// Asks the kernel to forget the files, so that they are read from the disk.
fn forget(directory: &Path) -> Fallible<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() {
            let file = std::fs::File::open(path)?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

struct Asker<'a> {
    durward: &'a str,
    directory: &'a str,
}

struct Answer {
    lines: Vec<String>,
    /// What `--cost` tells: numbers of blocks, of all blocks, of KiB without an index.
    cost: Vec<u64>,
    took: Duration,
}

impl Asker<'_> {
    fn query(&self, filters: &[&str]) -> Fallible<Answer> {
        let mut command = Command::new(self.durward);
        command
            .args(["audit", "query", "--json", "--cost", "--directory", self.directory])
            .args(filters);
        let began = instant();
        let output = command.output()?;
        let took = began.elapsed();
        let errors = String::from_utf8(output.stderr)?;
        if !output.status.success() {
            return Err(errors.into());
        }
        let last = errors.lines().last().ok_or("nothing is said about the cost")?;
        let numbers = last.split(|character: char| !character.is_ascii_digit());
        Ok(Answer {
            lines: String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect(),
            cost: numbers.filter_map(|number| number.parse().ok()).collect(),
            took,
        })
    }

    /// Asks each round and prints what it took; entries and blocks are those of the first one.
    fn table(&self, what: &str, rounds: &[Vec<&str>]) -> Fallible<()> {
        let answers = rounds.iter().map(|filters| self.query(filters)).collect::<Fallible<Vec<_>>>()?;
        let first = answers.first().ok_or("no rounds")?;
        let [blocks, of_blocks, plain] = first.cost[..] else {
            return Err(format!("not the cost: {:?}", first.cost).into());
        };
        let mut took: Vec<Duration> = answers.iter().map(|answer| answer.took).collect();
        took.sort();
        let shown = |took: Option<&Duration>| took.map_or(0.0, |took| took.as_secs_f64() * 1_000.0);
        println!(
            "| {what} | {} | {blocks} of {of_blocks} | {} MiB | {:.0} ms | {:.0} ms |",
            first.lines.len(),
            plain >> 10,
            shown(took.get(took.len() / 2)),
            shown(took.last())
        );
        Ok(())
    }
}
