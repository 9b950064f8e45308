//! Measures how fast a large trail answers: `trail make DIRECTORY ENTRIES` writes one, `trail ask DIRECTORY` asks it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use durward::audit::closed;
use durward::audit::query::{EntryQuery, Matches};
use durward::audit::segments::Segments;
use durward::base::clock::instant;

/// As `audit.segment` by default.
const SEGMENT: usize = 256 * 1_024 * 1_024;

/// The trail covers a year of 365 days.
const YEAR_MILLIS: u64 = 365 * 86_400_000;

const TENANTS: u64 = 1_000;
const CREDENTIALS: u64 = 50_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["make", directory, entries] => make(Path::new(directory), entries.parse().expect("a number of entries")),
        ["ask", directory] => ask(Path::new(directory)),
        _ => panic!("trail make DIRECTORY ENTRIES | trail ask DIRECTORY"),
    }
}

/// A number that looks random, the same in each run.
fn mixed(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30))
        .wrapping_add(0x9e37_79b9_7f4a_7c15)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

fn request_id(seq: u64) -> String {
    format!("{:016x}{:016x}", mixed(seq), mixed(!seq))
}

fn line(seq: u64, entries: u64) -> String {
    let chance = mixed(seq.wrapping_mul(7) + 3);
    let credential = (chance >> 8) % CREDENTIALS;
    let tenant = credential % TENANTS;
    let at = i64::try_from(u128::from(YEAR_MILLIS) * u128::from(seq) / u128::from(entries)).unwrap_or(0);
    let time = jiff::Timestamp::from_millisecond(1_767_225_600_000 + at).expect("a time of this year");
    let (status, denial) = match chance % 50 {
        0 => (401, ",\"denial\":\"revoked_credential\""),
        1 => (403, ",\"denial\":\"insufficient_scope\""),
        _ => (200, ""),
    };
    let mut line = format!(
        "{{\"seq\":{seq},\"gateway\":\"gw-a\",\"time\":\"{time:.3}\",\"kind\":\"request\",\"request_id\":\"{}\"",
        request_id(seq)
    );
    let _ = write!(
        line,
        ",\"client\":\"10.{}.{}.{}\",\"tls\":\"1.3\",\"version\":\"1.1\",\"method\":\"POST\",\"host\":\"api.example.com\",\"path\":\"/v1/orders/{}\",\"query\":\"expand=&page=\",\"route\":\"orders-{}\",\"surface\":\"keys\",\"credential\":\"key_{credential:08}\",\"tenant\":\"tenant-{tenant}\",\"mode\":\"live\",\"scopes_needed\":\"orders:write\",\"status\":{status}{denial},\"took_us\":{},\"facts_age_ms\":{},\"upstream\":\"orders\",\"endpoint\":\"10.0.0.1:8080\",\"attempts\":1,\"bytes_in\":512,\"bytes_out\":{},\"ended\":\"complete\",\"completed\":true,\"headers\":{{\"content-type\":\"application/json\",\"user-agent\":\"orders-client/4.1\"}},\"snapshot\":1}}",
        credential % 200,
        credential / 250,
        credential % 250,
        mixed(seq) % 10_000_000,
        chance % 20,
        chance % 9_000,
        chance % 30_000,
        chance % 4_000,
    );
    line
}

fn make(directory: &Path, entries: u64) {
    fs::create_dir_all(directory).expect("the directory");
    let began = instant();
    let (mut out, mut path, mut written) = (None::<BufWriter<File>>, PathBuf::new(), 0);
    for seq in 0..entries {
        if out.is_none() || written >= SEGMENT && seq % 256 == 0 {
            if let Some(out) = out.take() {
                finish(out, &path);
            }
            path = directory.join(format!("trail-{seq:020}.jsonl"));
            out = Some(BufWriter::new(File::create(&path).expect("a segment")));
            written = 0;
        }
        let line = line(seq, entries);
        written += line.len() + 1;
        writeln!(out.as_mut().expect("a segment"), "{line}").expect("room on the disk");
    }
    out.expect("a segment").flush().expect("room on the disk");
    println!("{entries} entries in {:?}", began.elapsed());
}

fn finish(mut out: BufWriter<File>, path: &Path) {
    out.flush().expect("room on the disk");
    let began = instant();
    closed::close(path).expect("a closed segment");
    println!("{} closed in {:?}", path.display(), began.elapsed());
}

fn ask(directory: &Path) {
    let entries = Segments::open(directory).expect("a trail");
    let newest = Matches::new(&entries, &EntryQuery::default()).next().expect("an entry").seq;
    for seq in [newest / 7, newest / 2, newest - 1] {
        let request = Some(request_id(seq));
        time(
            directory,
            "request id",
            &EntryQuery {
                request,
                ..EntryQuery::default()
            },
            usize::MAX,
        );
    }
    let credential = || Some("key_00000042".to_owned());
    time(
        directory,
        "newest 100 of a credential",
        &EntryQuery {
            credential: credential(),
            ..EntryQuery::default()
        },
        100,
    );
    time(
        directory,
        "all of a credential",
        &EntryQuery {
            credential: credential(),
            ..EntryQuery::default()
        },
        usize::MAX,
    );
    let unknown = Some("key_none".to_owned());
    time(
        directory,
        "a credential that never came",
        &EntryQuery {
            credential: unknown,
            ..EntryQuery::default()
        },
        usize::MAX,
    );
    let march = EntryQuery {
        tenant: Some("tenant-42".into()),
        since: Some(1_772_323_200_000),
        until: Some(1_775_001_600_000),
        ..EntryQuery::default()
    };
    time(directory, "a tenant's March", &march, usize::MAX);
    let refused = EntryQuery {
        denial: Some("revoked_credential".into()),
        ..march
    };
    time(directory, "of it, refused as revoked", &refused, usize::MAX);
}

fn time(directory: &Path, what: &str, query: &EntryQuery, limit: usize) {
    let began = instant();
    let segments = Segments::open(directory).expect("a trail");
    let mut matches = Matches::new(&segments, query);
    let found = matches.by_ref().take(limit).count();
    let took = began.elapsed();
    assert!(matches.problems().is_empty(), "{:?}", matches.problems());
    let read = matches.read();
    println!(
        "{what}: {found} entries in {took:?}; {} of {} blocks, {} bytes without index",
        read.blocks, read.of_blocks, read.plain
    );
}
