//! Revocations around a fault: how long after its acknowledgement each key is still admitted at each gateway.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use durward::base::clock::instant;
use durward::base::key::GeneratedKey;

use super::http::{Address, Line, request_of};
use super::pace::{due, millis, wait_until};
use super::{Key, parts};

/// After which no gateway may admit a revoked key (docs/revocation.md).
const BOUND: Duration = Duration::from_secs(60);

/// How long each key is asked for after its acknowledgement: longer than the bound.
const WATCHED: Duration = Duration::from_secs(63);

/// How long each key is in use at all gateways before it is revoked.
const KNOWN: Duration = Duration::from_secs(3);

/// How long a revocation that is not acknowledged is repeated, and how often.
const REPEATED: Duration = Duration::from_secs(60);
const REPEAT_INTERVAL: Duration = Duration::from_millis(250);

/// Between two requests with a key pass a twentieth of the time since its acknowledgement, within these limits. So a lag that
/// is told is at most that much, or half a second, too long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What became of one key.
struct Told {
    /// Tries to revoke it, the acknowledged one included.
    tries: usize,
    /// From when the revocation was due to its acknowledgement.
    acknowledged: Duration,
    /// At each gateway: from the acknowledgement to the first refusal after which it was never admitted again. Empty without an
    /// acknowledgement.
    lags: Vec<Duration>,
    /// Admissions of requests that were sent after the bound.
    too_late: usize,
    /// Admissions after a 401 that was told after the acknowledgement.
    came_back: usize,
    /// The last answer at each gateway.
    last: Vec<u16>,
}

/// Revokes `rate` keys a second, and writes for each gateway how long they were admitted.
///
/// # Errors
/// Bad arguments, no revocation was acknowledged, or a promise was broken: a revoked key was admitted after the bound, or a key
/// that nobody made was admitted.
pub(crate) fn run(keys: &[Key], rate: u64, gateways: &[&str]) -> io::Result<()> {
    let gateways: Vec<(u16, &str)> = gateways.iter().map(|gateway| parts(gateway)).collect::<io::Result<_>>()?;
    let (start, over) = (instant() + KNOWN, AtomicBool::new(false));
    let (told, made_up) = std::thread::scope(|scope| {
        let (gateways, over) = (&gateways, &over);
        let made_up = scope.spawn(move || ask_made_up(gateways, over));
        let watches: Vec<_> = (0..)
            .zip(keys)
            .map(|(number, key)| scope.spawn(move || watch(key, due(start, number, rate), gateways)))
            .collect();
        let told: Vec<Told> = watches.into_iter().filter_map(|watch| watch.join().ok()).collect();
        over.store(true, Ordering::Relaxed);
        (told, made_up.join().unwrap_or_default())
    });
    report(&told, &made_up, gateways.len())
}

/// Uses the key at all gateways, revokes it when it is due, and goes on using it until after the bound.
fn watch(key: &Key, due: Instant, gateways: &[(u16, &str)]) -> Told {
    let request = request_of(&key.key);
    let mut clients: Vec<Line> = gateways.iter().map(|(port, _)| Line::to(Address::Port(*port))).collect();
    let mut told = Told {
        tries: 0,
        acknowledged: Duration::ZERO,
        lags: Vec::new(),
        too_late: 0,
        came_back: 0,
        last: vec![0; gateways.len()],
    };
    wait_until(due.checked_sub(KNOWN).unwrap_or(due));
    while instant() < due {
        ask_all(&mut clients, &request);
        wait_until(due.min(instant() + LONGEST_PAUSE));
    }
    let Some(acknowledged) = revoke(key, due, gateways, &mut told.tries, || ask_all(&mut clients, &request)) else {
        return told;
    };
    told.acknowledged = acknowledged.saturating_duration_since(due);
    let mut refused: Vec<Option<Duration>> = vec![None; gateways.len()];
    while acknowledged.elapsed() < WATCHED {
        for (at, client) in clients.iter_mut().enumerate() {
            let sent = acknowledged.elapsed();
            let status = client.ask(&request).unwrap_or(0);
            if status == 200 {
                told.too_late += usize::from(sent > BOUND);
                told.came_back += usize::from(told.last[at] == 401);
                refused[at] = None;
            } else {
                refused[at].get_or_insert(acknowledged.elapsed());
            }
            told.last[at] = status;
        }
        let pause = (acknowledged.elapsed() / 20).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        wait_until(instant() + pause);
    }
    told.lags = refused.into_iter().map(|refused| refused.unwrap_or(WATCHED)).collect();
    told
}

fn ask_all(clients: &mut [Line], request: &str) {
    for client in clients {
        let _ = client.ask(request);
    }
}

/// Revokes a key, by the next gateway whenever one does not acknowledge it; when that was acknowledged.
fn revoke(key: &Key, due: Instant, gateways: &[(u16, &str)], tries: &mut usize, mut between: impl FnMut()) -> Option<Instant> {
    let call = format!(
        "POST /v1/keys/{}/revoke HTTP/1.1\r\nHost: operator\r\nContent-Length: 0\r\n\r\n",
        key.id
    );
    for (_, socket) in gateways.iter().cycle() {
        *tries += 1;
        if matches!(Line::to(Address::Socket((*socket).to_owned())).ask(&call), Ok(200)) {
            return Some(instant());
        }
        if due.elapsed() > REPEATED {
            break;
        }
        between();
        wait_until(instant() + REPEAT_INTERVAL);
    }
    None
}

/// Presents keys that nobody made, each once, and counts the answers by status.
fn ask_made_up(gateways: &[(u16, &str)], over: &AtomicBool) -> BTreeMap<u16, usize> {
    let mut clients: Vec<Line> = gateways.iter().map(|(port, _)| Line::to(Address::Port(*port))).collect();
    let mut answers = BTreeMap::new();
    while !over.load(Ordering::Relaxed) {
        for client in &mut clients {
            if let Ok(key) = GeneratedKey::mint("hlive_") {
                *answers.entry(client.ask(&request_of(key.expose())).unwrap_or(0)).or_default() += 1;
            }
        }
        wait_until(instant() + LONGEST_PAUSE);
    }
    answers
}

fn report(told: &[Told], made_up: &BTreeMap<u16, usize>, gateways: usize) -> io::Result<()> {
    let acknowledged: Vec<&Told> = told.iter().filter(|told| !told.lags.is_empty()).collect();
    let sum = |of: fn(&Told) -> usize| told.iter().map(of).sum::<usize>();
    let (too_late, came_back, tries) = (sum(|told| told.too_late), sum(|told| told.came_back), sum(|told| told.tries));
    let mut out = io::stdout();
    writeln!(
        out,
        "{} of {} revocations acknowledged, {} tries repeated; {too_late} admissions after the bound, {came_back} after a 401",
        acknowledged.len(),
        told.len(),
        tries - told.len(),
    )?;
    let mut waits: Vec<Duration> = acknowledged.iter().map(|told| told.acknowledged).collect();
    waits.sort_unstable();
    writeln!(
        out,
        "acknowledged after they were due: median {:.1}, worst {:.1} ms",
        millis(&waits, 500),
        millis(&waits, 1_000)
    )?;
    let mut last: BTreeMap<u16, usize> = BTreeMap::new();
    for gateway in 0..gateways {
        let mut lags: Vec<Duration> = acknowledged.iter().map(|told| told.lags[gateway]).collect();
        lags.sort_unstable();
        writeln!(
            out,
            "gateway {gateway} refused for good after: median {:.1}, p99 {:.1}, worst {:.1} ms",
            millis(&lags, 500),
            millis(&lags, 990),
            millis(&lags, 1_000),
        )?;
        for told in &acknowledged {
            *last.entry(told.last[gateway]).or_default() += 1;
        }
    }
    writeln!(
        out,
        "last answers to revoked keys: {}; to keys that nobody made: {}",
        by_status(&last),
        by_status(made_up)
    )?;
    if too_late > 0 || made_up.contains_key(&200) {
        return Err(io::Error::other("a key was admitted that must not be"));
    }
    if acknowledged.is_empty() {
        return Err(io::Error::other("no revocation was acknowledged, so nothing was measured"));
    }
    Ok(())
}

fn by_status(answers: &BTreeMap<u16, usize>) -> String {
    let words: Vec<String> = answers.iter().map(|(status, count)| format!("{count} times {status}")).collect();
    words.join(", ")
}
