//! A steady load of many callers in turn over gateways that come and go, as behind a balancer that asks each for its readiness.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use durward::base::clock::instant;

use super::http::{Address, Line, request_of};
use super::pace::{due, millis, wait_until};
use super::{Key, number, parts};

/// Connections to each gateway.
const LINES: usize = 64;

/// How often the readiness of a gateway is asked for.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// Shares no factor with any number of callers used here, so all callers come in turn, far from each other.
const STRIDE: u64 = 7_919;

/// Seconds after a gateway's return that are told one by one.
const TOLD: u64 = 8;

/// Most seconds with a 503 that are told one by one.
const TOLD_UNAVAILABLE: usize = 20;

struct Gateway {
    port: u16,
    probes: u16,
    ready: AtomicBool,
}

/// One request: in which second it was due, which gateway answered it, with what, and how long after it was due.
struct Asked {
    second: u64,
    gateway: usize,
    status: u16,
    took: Duration,
}

#[derive(Default)]
struct Row {
    took: Vec<Duration>,
    unavailable: usize,
    other: usize,
}

/// Sends `rate` requests a second for so long, and writes for each gateway and second what callers got.
///
/// # Errors
/// Bad arguments.
pub(crate) fn run(keys: &[Key], rate: u64, lasts: Duration, gateways: &[&str]) -> io::Result<()> {
    let gateways: Vec<Gateway> = gateways
        .iter()
        .map(|gateway| {
            let (port, probes) = parts(gateway)?;
            let probes = u16::try_from(number(probes)?).map_err(io::Error::other)?;
            Ok(Gateway {
                port,
                probes,
                ready: AtomicBool::new(true),
            })
        })
        .collect::<io::Result<_>>()?;
    let (next, over, retried) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
    let start = instant();
    let asked: Vec<Asked> = std::thread::scope(|scope| {
        for gateway in &gateways {
            scope.spawn(|| watch(gateway, &over));
        }
        let callers: Vec<_> = (0..LINES)
            .map(|_| {
                scope.spawn(|| {
                    let mut lines: Vec<Line> = gateways.iter().map(|g| Line::to(Address::Port(g.port))).collect();
                    let mut asked = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let at = due(start, number, rate);
                        if at.saturating_duration_since(start) >= lasts {
                            return asked;
                        }
                        wait_until(at);
                        let key = usize::try_from(number * STRIDE).unwrap_or(0) % keys.len();
                        let request = request_of(&keys[key].key);
                        let (gateway, status) = ask(&gateways, &mut lines, number, &request, &retried);
                        asked.push(Asked {
                            second: at.saturating_duration_since(start).as_secs(),
                            gateway,
                            status,
                            took: at.elapsed(),
                        });
                    }
                })
            })
            .collect();
        let asked = callers.into_iter().filter_map(|caller| caller.join().ok()).flatten().collect();
        over.store(true, Ordering::Relaxed);
        asked
    });
    report(asked, gateways.len(), retried.into_inner())
}

/// Notes whether a gateway is ready, until the load is over.
fn watch(gateway: &Gateway, over: &AtomicBool) {
    let mut line = Line::to(Address::Port(gateway.probes));
    while !over.load(Ordering::Relaxed) {
        let ready = line
            .ask("GET /readyz HTTP/1.1\r\nHost: probe\r\n\r\n")
            .is_ok_and(|status| status == 200);
        gateway.ready.store(ready, Ordering::Relaxed);
        wait_until(instant() + PROBE_INTERVAL);
    }
}

/// Sends a request to its gateway, or to the next one if that is not ready or cannot be reached: which one answered, and with
/// what status. 0: none. If no gateway is ready all are asked, as a balancer should (docs/outage.md).
fn ask(gateways: &[Gateway], lines: &mut [Line], number: u64, request: &str, retried: &AtomicU64) -> (usize, u16) {
    let first = usize::try_from(number).unwrap_or(0) % gateways.len();
    let none_ready = gateways.iter().all(|gateway| !gateway.ready.load(Ordering::Relaxed));
    for turn in 0..gateways.len() {
        let at = (first + turn) % gateways.len();
        if !none_ready && !gateways[at].ready.load(Ordering::Relaxed) {
            continue;
        }
        match lines[at].ask(request) {
            Ok(status) => return (at, status),
            Err(_) => retried.fetch_add(1, Ordering::Relaxed),
        };
    }
    (first, 0)
}

fn report(asked: Vec<Asked>, gateways: usize, retried: u64) -> io::Result<()> {
    let mut rows: BTreeMap<(usize, u64), Row> = BTreeMap::new();
    let (mut served, mut unavailable, mut other) = (0, 0, 0);
    // Of each status but 200: how often, and in which seconds the first and the last.
    let mut refused: BTreeMap<u16, (usize, u64, u64)> = BTreeMap::new();
    for Asked {
        second,
        gateway,
        status,
        took,
    } in asked
    {
        let row = rows.entry((gateway, second)).or_default();
        row.took.push(took);
        if status != 200 {
            let (count, first, last) = refused.entry(status).or_insert((0, second, second));
            (*count, *first, *last) = (*count + 1, second.min(*first), second.max(*last));
        }
        match status {
            200 => served += 1,
            503 => (unavailable, row.unavailable) = (unavailable + 1, row.unavailable + 1),
            _ => (other, row.other) = (other + 1, row.other + 1),
        }
    }
    let mut out = io::stdout();
    writeln!(
        out,
        "{served} served, {unavailable} times 503, {other} others or unanswered, {retried} sent again to another gateway"
    )?;
    write_refusals(&mut out, &refused, &rows)?;
    for gateway in 0..gateways {
        let seconds: Vec<u64> = rows.keys().filter(|(g, _)| *g == gateway).map(|(_, second)| *second).collect();
        for (at, second) in seconds.iter().enumerate() {
            let returned = at > 0 && seconds[at - 1] + 1 < *second;
            if !returned {
                continue;
            }
            write!(
                out,
                "gateway {gateway} is back in second {second}; p99 in ms (and times 503) from then on:"
            )?;
            for told in *second..second + TOLD {
                if let Some(row) = rows.get_mut(&(gateway, told)) {
                    row.took.sort_unstable();
                    write!(out, " {:.1} ({})", millis(&row.took, 990), row.unavailable + row.other)?;
                }
            }
            writeln!(out)?;
        }
    }
    for ((gateway, second), row) in rows.iter().filter(|(_, row)| row.unavailable > 0).take(TOLD_UNAVAILABLE) {
        writeln!(out, "gateway {gateway} answered {} times 503 in second {second}", row.unavailable)?;
    }
    let mut all: Vec<f64> = rows
        .values_mut()
        .map(|row| {
            row.took.sort_unstable();
            millis(&row.took, 990)
        })
        .collect();
    all.sort_unstable_by(f64::total_cmp);
    let (middle, worst) = (all.get(all.len() / 2).unwrap_or(&0.0), all.last().unwrap_or(&0.0));
    writeln!(out, "p99 of each second and gateway: median {middle:.1} ms, worst {worst:.1} ms")
}

/// Writes what callers got instead of service, and when.
fn write_refusals(out: &mut impl Write, refused: &BTreeMap<u16, (usize, u64, u64)>, rows: &BTreeMap<(usize, u64), Row>) -> io::Result<()> {
    for (status, (count, first, last)) in refused {
        writeln!(out, "status {status}: {count} times, from second {first} to {last}")?;
    }
    let mut unserved: BTreeSet<u64> = rows.keys().map(|(_, second)| *second).collect();
    for ((_, second), row) in rows {
        if row.unavailable + row.other < row.took.len() {
            unserved.remove(second);
        }
    }
    if let (Some(first), Some(last)) = (unserved.first(), unserved.last()) {
        writeln!(
            out,
            "nobody was served in {} seconds, from second {first} to {last}",
            unserved.len()
        )?;
    }
    Ok(())
}
