//! Revocations at a steady rate, and how long after each acknowledgement the gateways refuse the key.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use durward::base::clock::instant;

use super::http::{Address, Line, request_of};
use super::pace::{due, millis, wait_until};
use super::{Key, parts};

/// Revocations that may be on their way at a time.
const LINES: usize = 48;

/// Keys a second that are asked for, before and after their revocation, at each gateway.
const WATCHED: u64 = 20;

/// How long a revoked key is asked for. Longer than any bound of the promise.
const GIVE_UP: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Told {
    /// From when it was due to the acknowledgement.
    acknowledged: Vec<Duration>,
    /// From the acknowledgement to the first refusal, at each gateway.
    lags: Vec<Duration>,
    failed: usize,
    still_admitted: usize,
}

/// Revokes `rate` keys a second for so long, in turn through each gateway, and writes how long that took.
///
/// # Errors
/// Bad arguments, or fewer keys than are to be revoked.
pub(crate) fn run(keys: &[Key], rate: u64, lasts: Duration, gateways: &[&str]) -> io::Result<()> {
    let gateways: Vec<(u16, &str)> = gateways.iter().map(|gateway| parts(gateway)).collect::<io::Result<_>>()?;
    if (keys.len() as u64) < rate * lasts.as_secs() {
        return Err(io::Error::other("there are fewer keys than revocations"));
    }
    let (next, start) = (AtomicU64::new(0), instant());
    let parts: Vec<Told> = std::thread::scope(|scope| {
        let gateways = &gateways;
        let next = &next;
        let lines: Vec<_> = (0..LINES)
            .map(|line| scope.spawn(move || revoke(keys, next, (start, rate, lasts), gateways, line)))
            .collect();
        lines.into_iter().filter_map(|line| line.join().ok()).collect()
    });
    let took = start.elapsed();
    let mut all = Told::default();
    for part in parts {
        all.acknowledged.extend(part.acknowledged);
        all.lags.extend(part.lags);
        all.failed += part.failed;
        all.still_admitted += part.still_admitted;
    }
    all.acknowledged.sort_unstable();
    all.lags.sort_unstable();
    let (made, lags) = (&all.acknowledged, &all.lags);
    let mut out = io::stdout();
    writeln!(
        out,
        "{} revocations acknowledged, {} failed, in {:.1} s: {:.0} a second of {rate}; from when each was due: median {:.1}, p99 {:.1}, worst {:.1} ms",
        made.len(),
        all.failed,
        took.as_secs_f64(),
        made.len() as f64 / took.as_secs_f64(),
        millis(made, 500),
        millis(made, 990),
        millis(made, 1_000),
    )?;
    writeln!(
        out,
        "refused after the acknowledgement, {} keys at {} gateways: median {:.1}, p99 {:.1}, worst {:.1} ms; {} times still admitted after a minute",
        lags.len() / gateways.len().max(1),
        gateways.len(),
        millis(lags, 500),
        millis(lags, 990),
        millis(lags, 1_000),
        all.still_admitted,
    )
}

/// Revokes keys on one connection to the operators' socket of one gateway.
fn revoke(
    keys: &[Key],
    next: &AtomicU64,
    (start, rate, lasts): (std::time::Instant, u64, Duration),
    gateways: &[(u16, &str)],
    line: usize,
) -> Told {
    let mut told = Told::default();
    let mut operator = Line::to(Address::Socket(gateways[line % gateways.len()].1.to_owned()));
    let mut clients: Vec<Line> = gateways.iter().map(|(port, _)| Line::to(Address::Port(*port))).collect();
    let one_in = (rate / WATCHED).max(1);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let at = due(start, number, rate);
        if at.saturating_duration_since(start) >= lasts {
            return told;
        }
        wait_until(at);
        let key = &keys[usize::try_from(number).unwrap_or(0) % keys.len()];
        let request = request_of(&key.key);
        // A watched key is known to every gateway when it ends.
        let is_watched = number.is_multiple_of(one_in) && clients.iter_mut().all(|client| matches!(client.ask(&request), Ok(200)));
        let call = format!(
            "POST /v1/keys/{}/revoke HTTP/1.1\r\nHost: operator\r\nContent-Length: 0\r\n\r\n",
            key.id
        );
        if !matches!(operator.ask(&call), Ok(200)) {
            told.failed += 1;
            continue;
        }
        let acknowledged = instant();
        told.acknowledged.push(acknowledged.saturating_duration_since(at));
        if !is_watched {
            continue;
        }
        let mut admitting: Vec<&mut Line> = clients.iter_mut().collect();
        while !admitting.is_empty() && acknowledged.elapsed() < GIVE_UP {
            admitting.retain_mut(|client| {
                let refused = matches!(client.ask(&request), Ok(401));
                if refused {
                    told.lags.push(acknowledged.elapsed());
                }
                !refused
            });
        }
        told.still_admitted += admitting.len();
    }
}
