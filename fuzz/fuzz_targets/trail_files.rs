//! Damaged and foreign files of an audit trail, read by every command: no input panics, and what was changed is found.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use durward::audit::checkpoint::{Checkpoint, CheckpointSigner, CheckpointVerifier, notes};
use durward::audit::closed::{check, close};
use durward::audit::others::{keep_other, published};
use durward::audit::prove::{Prover, entries_of_request};
use durward::audit::query::{EntryOrder, EntryQuery, Follower, Matches, QueryCost, StatusFilter};
use durward::audit::segments::Segments;
use durward::audit::tree::{Frontier, leaf_hash};
use durward::audit::verify::verify;
use durward::base::clock::UnixMillis;
use libfuzzer_sys::fuzz_target;

/// Bytes of a page of an index, the last four of which are its CRC.
const PAGE: usize = 4_096;

/// The files that are changed.
const FILES: [&str; 10] = [
    "trail-00000000000000000000.jsonl.gz",
    "trail-00000000000000000000.index",
    "trail-00000000000000000000.leaves",
    "trail-00000000000000000000.checkpoints",
    "trail-00000000000000000256.jsonl",
    "trail-00000000000000000256.leaves",
    "trail-00000000000000000256.checkpoints",
    "nodes",
    "checkpoint",
    "others/edge-2",
];

struct Site {
    directory: PathBuf,
    signer: CheckpointSigner,
    /// What the files were.
    whole: Vec<Vec<u8>>,
}

fn line(seq: u64) -> String {
    format!(
        "{{\"seq\":{seq},\"gateway\":\"edge-1\",\"time\":\"2026-11-29T07:00:00.{:03}Z\",\"kind\":\"request\",\"request_id\":\"req-{seq}\",\
         \"client\":\"192.0.2.7\",\"route\":\"main/1\",\"credential\":\"key_{}\",\"tenant\":\"acme\",\"status\":{}}}",
        seq % 1_000,
        seq % 3,
        if seq % 5 == 0 { 403 } else { 200 }
    )
}

impl Site {
    /// A closed segment of 256 entries and an open one of 40, all of them signed.
    fn make() -> Self {
        let folder = own_folder();
        let directory = folder.join("audit");
        fs::create_dir_all(directory.join("others")).unwrap();
        let signer = CheckpointSigner::open_or_create(&folder.join("audit.key"), "durward.audit/edge-1").unwrap();
        let other = CheckpointSigner::open_or_create(&folder.join("other.key"), "durward.audit/edge-2").unwrap();
        let mut tree = Frontier::new();
        for (first, count) in [(0, 256), (256, 40)] {
            let (mut lines, mut leaves, mut signed) = (String::new(), Vec::new(), String::new());
            for seq in first..first + count {
                let line = line(seq);
                lines.push_str(&line);
                lines.push('\n');
                let leaf = leaf_hash(line.as_bytes());
                leaves.extend_from_slice(&leaf);
                if let Some(node) = tree.push(leaf) {
                    fs::write(directory.join("nodes"), node).unwrap();
                }
                if seq % 20 == 7 || seq + 1 == first + count {
                    let note = signer.sign(tree.size(), &tree.root(), UnixMillis(1_795_939_201_000));
                    signed.push_str(&note);
                    signed.push('\n');
                    fs::write(directory.join("checkpoint"), note).unwrap();
                }
            }
            let of = |ending: &str| directory.join(format!("trail-{first:020}.{ending}"));
            fs::write(of("jsonl"), lines).unwrap();
            fs::write(of("leaves"), leaves).unwrap();
            fs::write(of("checkpoints"), signed).unwrap();
        }
        close(&directory.join("trail-00000000000000000000.jsonl")).unwrap();
        keep_other(&directory, &published(&other.sign(7, &[7; 32], UnixMillis(0)), other.verifier())).unwrap();
        let whole = FILES.iter().map(|name| fs::read(directory.join(name)).unwrap()).collect();
        let site = Self { directory, signer, whole };
        let verdict = verify(&site.directory, site.signer.verifier(), &[]).unwrap();
        assert!(verdict.is_whole() && verdict.proven == 296, "{verdict:?}");
        site
    }
}

/// A folder of this process, in memory where there is such a place. libFuzzer ends the process without cleaning up, so those
/// of processes that are gone are removed here.
fn own_folder() -> PathBuf {
    const NAME: &str = "durward-fuzz-";
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    for entry in fs::read_dir(&place).unwrap().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(NAME));
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    place.join(format!("{NAME}{}", std::process::id()))
}

fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(Site::make)
}

/// CRC-32 (ISO 3309), bit by bit.
fn crc(parts: &[&[u8]]) -> u32 {
    let mut crc = !0_u32;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0xEDB8_8320 & 0_u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}

/// Gives each page of an index the CRC that it should have, so that what stands in it is believed.
fn seal(index: &mut [u8]) {
    for (number, page) in (0_u64..).zip(index.chunks_exact_mut(PAGE)) {
        let (payload, sum) = page.split_at_mut(PAGE - 4);
        sum.copy_from_slice(&crc(&[&number.to_le_bytes(), payload]).to_le_bytes());
    }
}

fn changed(whole: &[u8], how: u8, at: u32, data: &[u8]) -> Vec<u8> {
    let at = usize::try_from(at).unwrap() % (whole.len() + 1);
    let (before, behind) = whole.split_at(at);
    match how % 4 {
        0 => data.to_vec(),
        // Instead of what is there.
        1 => [before, data, behind.get(data.len()..).unwrap_or_default()].concat(),
        // In between.
        2 => [before, data, behind].concat(),
        _ => before.to_vec(),
    }
}

/// Asks as every command does.
fn ask(site: &Site) {
    let segments = Segments::open(&site.directory).unwrap();
    let _ = Segments::bodies(&site.directory).unwrap();
    let queries = [
        EntryQuery {
            request: Some("req-77".to_owned()),
            ..EntryQuery::default()
        },
        EntryQuery {
            credential: Some("key_1".to_owned()),
            status: Some(StatusFilter::Class(4)),
            since: Some(0),
            ..EntryQuery::default()
        },
        EntryQuery {
            kind: Some("request".to_owned()),
            order: EntryOrder::OldestFirst,
            ..EntryQuery::default()
        },
    ];
    for query in &queries {
        let _ = QueryCost::of(&segments, query, None);
        let mut matches = Matches::new(&segments, query);
        assert!(matches.by_ref().count() < 1_000_000);
        let _ = matches.problems();
        let _ = Follower::new(&segments).poll(&site.directory, query);
    }
    for file in segments.list() {
        if let Ok(lines) = file.lines() {
            assert!(lines.count() < 1_000_000);
        }
    }
    let _ = check(&site.directory.join(FILES[0]));
    if let Ok(prover) = Prover::open(&site.directory, site.signer.verifier()) {
        for seq in [0, 77, 255, 256, 290] {
            let _ = prover.prove(seq, line(seq).as_bytes());
        }
    }
    let _ = entries_of_request(&site.directory, "req-77");
}

// Which file, how it is changed, where, and with what.
fuzz_target!(|input: (u8, u8, u32, &[u8])| {
    let (which, how, at, data) = input;
    let site = site();
    let which = usize::from(which) % FILES.len();
    let path = site.directory.join(FILES[which]);
    let mut bytes = changed(&site.whole[which], how, at, data);
    if FILES[which].ends_with(".index") && how & 0x80 != 0 {
        seal(&mut bytes);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Checkpoint::parse_unverified(text);
        let _ = CheckpointVerifier::parse_key(text);
        let _ = site.signer.verifier().verify(text);
        let _ = notes(text);
        let _ = keep_other(&site.directory, text);
    }
    fs::write(&path, &bytes).unwrap();
    let verdict = verify(&site.directory, site.signer.verifier(), &[]).unwrap();
    ask(site);
    fs::write(&path, &site.whole[which]).unwrap();
    // What follows the signed entries may be new, or torn by a crash; the checkpoint of another gateway is no part of this trail.
    let may_go_on = matches!(which, 4..=7) && bytes.starts_with(&site.whole[which]) || which == 9;
    assert!(
        bytes == site.whole[which] || may_go_on || !verdict.is_whole(),
        "a change of {} is not found: {how} {at} {data:?}",
        FILES[which]
    );
});
