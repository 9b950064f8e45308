//! Every kind of file of a trail, tampered with in every way: found, and named; what cannot be found takes nothing away.

use std::collections::BTreeMap;

use durward::audit::checkpoint::notes;
use durward::audit::closed::close;
use durward::audit::verify::{Finding, TrailWitness};

use super::evidence::{Chance, Trail, assert_whole, first_of, lines};

/// Bytes of a hash, and of a page of an index.
const HASH: usize = 32;
const PAGE: usize = 4_096;

/// Tries of each way on each file.
const TRIES: usize = 3;

/// What was tampered with is found in this file, or in one of the same segment. Which file a body has been in cannot be known
/// when the file is gone, but which entry it belongs to.
fn is_named(found: &Finding, file: &str) -> bool {
    let of = |name: &str| (name.split('-').next().map(str::to_owned), first_of(name));
    found.file == file
        || (file.contains('-') && of(&found.file) == of(file))
        || (file.starts_with("bodies-") && found.file.starts_with("bodies") && found.seq == first_of(file))
}

/// The parts that a file is made of.
fn units(name: &str, bytes: &[u8]) -> Vec<Vec<u8>> {
    let ends = |ending: &str| name.ends_with(ending);
    if name == "nodes" || ends(".leaves") {
        return bytes.chunks(HASH).map(<[u8]>::to_vec).collect();
    }
    if ends(".index") {
        return bytes.chunks(PAGE).map(<[u8]>::to_vec).collect();
    }
    if ends(".checkpoints") {
        let text = std::str::from_utf8(bytes).unwrap();
        return notes(text).0.into_iter().map(|note| format!("{note}\n").into_bytes()).collect();
    }
    if ends(".gz") {
        // A member begins with the head that durward writes.
        let head = &bytes[..10];
        let mut begins: Vec<usize> = memchr::memmem::find_iter(bytes, head).collect();
        begins.push(bytes.len());
        return begins.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect();
    }
    lines(bytes)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Flip,
    RemoveUnit,
    SwapUnits,
    ReplayUnit,
    /// In the middle of a unit, as a careless hand would.
    Truncate,
    /// As the file was at an earlier time.
    Rewind,
    RemoveFile,
    Empty,
    /// Another file of the same kind.
    Exchange,
    /// Bytes at its end.
    Append,
}

const WAYS: [Way; 10] = [
    Way::Flip,
    Way::RemoveUnit,
    Way::SwapUnits,
    Way::ReplayUnit,
    Way::Truncate,
    Way::Rewind,
    Way::RemoveFile,
    Way::Empty,
    Way::Exchange,
    Way::Append,
];

/// The file tampered with; `None` if it is gone.
fn tampered(way: Way, name: &str, files: &BTreeMap<String, Vec<u8>>, chance: &mut Chance) -> Option<Vec<u8>> {
    let bytes = &files[name];
    let mut units = units(name, bytes);
    assert_eq!(units.concat(), *bytes, "{name}");
    let (one, other) = (chance.below(units.len()), chance.below(units.len()));
    let (low, high) = (one.min(other), one.max(other));
    match way {
        Way::Flip => {
            let mut bytes = bytes.clone();
            let at = chance.below(bytes.len());
            bytes[at] ^= 1 << chance.below(8);
            return Some(bytes);
        }
        Way::RemoveUnit => drop(units.remove(low)),
        Way::SwapUnits => units.swap(low, high),
        Way::ReplayUnit => units.insert(high + 1, units[low].clone()),
        Way::Truncate => return Some(bytes[..chance.below(bytes.len())].to_vec()),
        Way::Rewind => units.truncate(low),
        Way::RemoveFile => return None,
        Way::Empty => units.clear(),
        Way::Exchange => {
            let kind = |name: &str| {
                name.trim_matches(|character: char| character.is_ascii_digit())
                    .replace(|c: char| c.is_ascii_digit(), "")
            };
            let alike: Vec<&String> = files.keys().filter(|known| *known != name && kind(known) == kind(name)).collect();
            return Some(if alike.is_empty() {
                bytes.clone()
            } else {
                files[alike[chance.below(alike.len())]].clone()
            });
        }
        Way::Append => units.push(b"{\"seq\":1}\n".to_vec()),
    }
    Some(units.concat())
}

#[test]
fn each_kind_of_file_tampered_with_in_each_way_is_found_and_named() {
    let trail = Trail::whole();
    for first in [3, 605] {
        close(&trail.directory.join(format!("bodies-{first:020}.jsonl"))).unwrap();
    }
    let untouched = trail.files();
    let kinds: std::collections::BTreeSet<String> = untouched
        .keys()
        .map(|name| name.replace(|character: char| character.is_ascii_digit(), ""))
        .collect();
    assert_eq!(
        kinds.iter().map(String::as_str).collect::<Vec<_>>(),
        [
            "bodies-.index",
            "bodies-.jsonl",
            "bodies-.jsonl.gz",
            "checkpoint",
            "nodes",
            "trail-.checkpoints",
            "trail-.index",
            "trail-.jsonl",
            "trail-.jsonl.gz",
            "trail-.leaves"
        ]
    );
    let mut chance = Chance(1_808);
    let (mut done, mut missed) = (0, Vec::new());
    for name in untouched.keys() {
        for way in WAYS {
            for _ in 0..TRIES {
                let mut files = untouched.clone();
                match tampered(way, name, &untouched, &mut chance) {
                    Some(bytes) if bytes == untouched[name] => continue,
                    Some(bytes) => drop(files.insert(name.clone(), bytes)),
                    None => drop(files.remove(name)),
                }
                trail.write_files(&files);
                let verdict = trail.verify();
                done += 1;
                // A checkpoint between others can be left out: everything is proven by those that are there.
                let harmless = name.ends_with(".checkpoints") && way == Way::RemoveUnit && verdict.proven == 1_802;
                match verdict.findings.first() {
                    None if harmless => {}
                    None => missed.push(format!("{name} {way:?}: not found")),
                    Some(first) if is_named(first, name) => {}
                    Some(first) => missed.push(format!("{name} {way:?}: named {first:?}")),
                }
                if matches!(way, Way::RemoveFile | Way::Empty) {
                    break;
                }
            }
        }
    }
    assert_eq!(missed, [""; 0], "of {done}");
    assert!(done > 300, "{done}");
    trail.write_files(&untouched);
    assert_whole(&trail.verify());
}

#[test]
fn a_directory_of_yesterday_is_whole_by_itself_and_found_by_any_witness_of_today() {
    let mut trail = Trail::begin();
    trail.add_requests(900);
    trail.stop();
    let yesterday = trail.files();
    trail.add_requests(900);
    trail.stop();
    let today = trail.files();
    let witness = |note: &String| TrailWitness {
        source: "others/edge-1 of edge-2".to_owned(),
        note: note.clone(),
    };
    let newest = witness(trail.signed.last().unwrap());
    assert_whole(&trail.verify_with(std::slice::from_ref(&newest)));
    // All of it goes back, so it agrees with itself: this is what witnesses are for.
    trail.write_files(&yesterday);
    assert_whole(&trail.verify());
    let verdict = trail.verify_with(std::slice::from_ref(&newest));
    assert_eq!(verdict.findings[0].seq, 901, "{verdict:?}");
    // A witness of yesterday says nothing against it.
    assert_whole(&trail.verify_with(&[witness(&trail.signed[5])]));
    // Some of it goes back.
    for name in yesterday.keys().filter(|name| yesterday[*name] != today[*name]) {
        let mut mixed = today.clone();
        mixed.insert(name.clone(), yesterday[name].clone());
        trail.write_files(&mixed);
        let verdict = trail.verify();
        assert!(!verdict.is_whole(), "{name} of yesterday");
        assert!(
            verdict.findings.iter().any(|finding| is_named(finding, name)),
            "{name}: {:?}",
            verdict.findings
        );
    }
    trail.write_files(&today);
    assert_whole(&trail.verify());
}
