//! Requests at a steady rate, whatever the answers take: what a caller waits for at half of what a proxy can do.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use durward::base::clock::instant;

use super::admitted;
use super::http::{Address, Line, request_of};
use super::pace::{due, millis, wait_until};

/// Requests that may be on their way at a time.
const LINES: usize = 64;

/// Shares no factor with the number of keys, so that all come in turn.
const STRIDE: usize = 7_919;

/// Until every line has its connection.
const OPENING: Duration = Duration::from_millis(500);

/// What comes first is not counted.
const WARM: Duration = Duration::from_secs(1);

/// Sends `rate` requests a second. Writes p50, p99 and p99.9 in milliseconds, from when a request was due to its answer, and how
/// many were counted.
///
/// # Errors
/// A request was not answered with 200.
pub(crate) fn run(port: u16, keys: &[String], rate: u64, lasts: Duration) -> io::Result<()> {
    let requests: Vec<String> = keys.iter().map(|key| request_of(key)).collect();
    let next = AtomicU64::new(0);
    let start = instant() + OPENING;
    let callers: io::Result<Vec<Vec<Duration>>> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..LINES)
            .map(|_| scope.spawn(|| call(port, &requests, &next, rate, start, lasts)))
            .collect();
        let joined = callers.into_iter().map(|caller| caller.join());
        joined
            .map(|took| took.unwrap_or_else(|_| Err(io::Error::other("a caller ended"))))
            .collect()
    });
    let mut took: Vec<Duration> = callers?.into_iter().flatten().collect();
    took.sort_unstable();
    let [half, hundredth, thousandth] = [500, 990, 999].map(|thousandths| millis(&took, thousandths));
    writeln!(io::stdout(), "{half:.3} {hundredth:.3} {thousandth:.3} {}", took.len())
}

/// What one line sends: the next request that nobody else has, until the last one is due. How long the counted ones took.
fn call(port: u16, requests: &[String], next: &AtomicU64, rate: u64, start: Instant, lasts: Duration) -> io::Result<Vec<Duration>> {
    let mut line = Line::to(Address::Port(port));
    admitted(line.ask(&requests[0])?)?;
    let mut took = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let at = due(start, number, rate);
        let since = at.saturating_duration_since(start);
        if since >= WARM + lasts {
            return Ok(took);
        }
        wait_until(at);
        let key = usize::try_from(number).unwrap_or(0).wrapping_mul(STRIDE) % requests.len();
        admitted(line.ask(&requests[key])?)?;
        if since >= WARM {
            took.push(at.elapsed());
        }
    }
}
