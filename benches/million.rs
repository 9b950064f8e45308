//! Fills a store with many credentials through its own interface, tells what that cost, and finds some of them again.

mod compact;
mod records;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use durward::base::clock::{SystemClock, instant};
use durward::base::fingerprint::{Fingerprint, Pepper, PepperChecks};
use durward::base::ids::{CredentialId, SurfaceName, TenantId};
use durward::base::key::GeneratedKey;
use durward::store::CredentialStore;
use durward::store::embedded::EmbeddedStore;
use durward::store::redis::{RedisSettings, RedisStore, RedisUrl, WaitReplicas};
use futures_util::stream::{self, StreamExt};

use records::{NOW, record};

/// Creations and look-ups at a time, as many as a busy gateway has.
const AT_ONCE: usize = 256;

const OF_ONE_TENANT: usize = 100;

const LOOKUPS: usize = 50_000;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Fallible<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (store, pepper, count, hot, origin) = match &words[..] {
        [store, pepper, count, hot] => (store, pepper, count, hot, Origin::Made),
        [store, pepper, count, hot, word] if word == "compact" => (store, pepper, count, hot, Origin::Compact),
        _ => {
            return Err("million embedded:FILE|redis://… PEPPER_FILE COUNT HOT [compact]   (writes HOT lines `key tenant id`)".into());
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(store, pepper, count.parse()?, hot.parse()?, origin))
}

/// How the credentials come about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// By the store's interface.
    Made,
    /// Written into Redis ([`compact`]).
    Compact,
}

async fn run(at: &str, pepper: &str, count: usize, hot: usize, origin: Origin) -> Fallible<()> {
    let text = std::fs::read(pepper)?;
    let pepper = Pepper::new(text.trim_ascii()).ok_or("the pepper is too short")?;
    let store = open(at, &pepper).await?;
    let memory = resident();
    let started = instant();
    for tenant in 0..count.div_ceil(OF_ONE_TENANT) {
        store.create_tenant(tenant_id(tenant)?, NOW).await?;
    }
    let tenants = started.elapsed();
    let started = instant();
    let mut out = io::BufWriter::new(io::stdout());
    let fingerprints = match origin {
        Origin::Made => create(store.as_ref(), &pepper, (count, hot), &mut out).await?,
        Origin::Compact => compact::fill(at, &pepper, (count, hot), &mut out)?,
    };
    out.flush()?;
    let credentials = started.elapsed();
    let mut report = io::stderr();
    writeln!(
        report,
        "{count} credentials in {:.1} s: {:.0} a second; {} tenants one by one: {:.0} a second",
        credentials.as_secs_f64(),
        count as f64 / credentials.as_secs_f64(),
        count.div_ceil(OF_ONE_TENANT),
        count.div_ceil(OF_ONE_TENANT) as f64 / tenants.as_secs_f64(),
    )?;
    let held = fingerprints.len() * size_of::<Fingerprint>();
    writeln!(
        report,
        "this process grew by {} MiB, {} MiB of them the list of what was made",
        (resident() - memory) / 1024,
        held >> 20
    )?;
    // Whoever wants every key presents them all to gateways next.
    if hot >= count && origin == Origin::Compact {
        return Ok(());
    }
    find(store.as_ref(), &fingerprints).await
}

async fn open(at: &str, pepper: &Pepper) -> Fallible<Arc<dyn CredentialStore>> {
    if let Some(path) = at.strip_prefix("embedded:") {
        return Ok(Arc::new(EmbeddedStore::open(Path::new(path), &PepperChecks::one(pepper.check()))?));
    }
    let settings = RedisSettings {
        access: RedisUrl::parse(&at.to_owned().into())?.into_access(None),
        key_prefix: "durward".into(),
        wait_replicas: WaitReplicas::Count(0),
        lookup_timeout: Duration::from_secs(5),
        max_age: Duration::from_secs(30),
        peppers: PepperChecks::one(pepper.check()),
        registered: None,
    };
    let handle = tokio::runtime::Handle::current();
    Ok(Arc::new(RedisStore::open(settings, Arc::new(SystemClock), handle).await?))
}

/// Makes the credentials, [`AT_ONCE`] at a time; their fingerprints. `out` gets the lines of the first `hot` ones.
async fn create(
    store: &dyn CredentialStore,
    pepper: &Pepper,
    (count, hot): (usize, usize),
    out: &mut dyn Write,
) -> Fallible<Vec<Fingerprint>> {
    let made: Vec<Fallible<(Fingerprint, Option<String>)>> = stream::iter(0..count)
        .map(|number| make(store, pepper, number, hot))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut fingerprints = Vec::with_capacity(count);
    for one in made {
        let (fingerprint, line) = one?;
        fingerprints.push(fingerprint);
        if let Some(line) = line {
            writeln!(out, "{line}")?;
        }
    }
    Ok(fingerprints)
}

/// Makes one credential. The first `hot` ones are returned with their key.
async fn make(store: &dyn CredentialStore, pepper: &Pepper, number: usize, hot: usize) -> Fallible<(Fingerprint, Option<String>)> {
    let key = GeneratedKey::mint("hlive_")?;
    let surface = SurfaceName::parse("api")?;
    let tenant = tenant_id(number / OF_ONE_TENANT)?;
    let id = CredentialId::parse(&format!("key_{number}"))?;
    let record = record(id, &surface, &tenant, (pepper, &key))?;
    let fingerprint = record.fingerprint;
    store.create_credential(record).await?;
    let line = (number < hot).then(|| format!("{} {tenant} key_{number}", key.expose()));
    Ok((fingerprint, line))
}

/// Times look-ups of credentials far from each other: first one after the other, then many at a time.
async fn find(store: &dyn CredentialStore, fingerprints: &[Fingerprint]) -> Fallible<()> {
    // The stride shares no factor with any count used here, so the credentials are visited in no order.
    let chosen: Vec<Fingerprint> = (0..LOOKUPS).map(|i| fingerprints[i * 7_919 % fingerprints.len()]).collect();
    let mut times = Vec::with_capacity(LOOKUPS);
    for fingerprint in &chosen {
        let started = instant();
        let found = store.find(*fingerprint).await?;
        times.push(started.elapsed());
        found.facts.ok_or("a credential that was made is not there")?;
    }
    times.sort_unstable();
    let micros = |part: usize| times[times.len() * part / 1_000].as_secs_f64() * 1e6;
    let started = instant();
    let all = stream::iter(chosen).map(|f| store.find(f)).buffer_unordered(AT_ONCE);
    let found = all
        .filter(|found| std::future::ready(matches!(found, Ok(f) if f.facts.is_some())))
        .count()
        .await;
    if found != LOOKUPS {
        return Err(format!("only {found} of {LOOKUPS} look-ups found what was made").into());
    }
    writeln!(
        io::stderr(),
        "look-ups one by one: median {:.0} us, p99 {:.0} us, p99.9 {:.0} us; {AT_ONCE} at a time: {:.0} a second",
        micros(500),
        micros(990),
        micros(999),
        LOOKUPS as f64 / started.elapsed().as_secs_f64(),
    )?;
    Ok(())
}

fn tenant_id(number: usize) -> Fallible<TenantId> {
    Ok(TenantId::parse(&format!("tenant_{number}"))?)
}

/// Kibibytes of this process in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}
