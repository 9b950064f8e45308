//! Changes are found in trails that are written as a gateway writes them, and nothing else is.

use std::fmt::Write as _;
use std::fs;

use super::super::closed::close;
use super::*;

/// The entry number `seq`: a request, and at each hundredth something that changes a record.
fn line(seq: u64) -> String {
    let at = jiff::Timestamp::from_millisecond(1_000_000_000 + i64::try_from(seq).unwrap() * 1_000).unwrap();
    let head = format!("{{\"seq\":{seq},\"gateway\":\"edge-1\",\"time\":\"{at:.3}\"");
    match seq % 400 {
        100 => format!(
            "{head},\"kind\":\"operator\",\"who\":{{\"via\":\"socket\",\"uid\":7}},\"action\":\"keys.rotate\",\"target\":\"key_{seq}\",\
             \"tenant\":\"acme\",\"replaced_by\":\"key_{seq}b\",\"outcome\":\"done\",\"took_ms\":250}}\n"
        ),
        200 => format!(
            "{head},\"kind\":\"request\",\"request_id\":\"r-{seq}\",\"route\":\"mint\",\"credential\":\"acc_1\",\"tenant\":\"acme\",\
             \"took_us\":4100,\"done\":\"mint api:key_{seq} hooks:sec_{seq}\"}}\n"
        ),
        300 => format!(
            "{head},\"kind\":\"operator\",\"who\":{{\"via\":\"cli\"}},\"action\":\"keys.revoke\",\"target\":\"key_{seq}\",\
             \"outcome\":\"refused\"}}\n"
        ),
        _ => format!(
            "{head},\"kind\":\"request\",\"done\":\"list\",\"path\":\"/{}\"}}\n",
            "x".repeat(300)
        ),
    }
}

/// A trail of so many entries, in segments of 512.
fn trail(entries: u64) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for first in (0..entries).step_by(512) {
        let mut text = String::new();
        (first..entries.min(first + 512)).for_each(|seq| text.write_str(&line(seq)).unwrap());
        fs::write(directory.path().join(format!("trail-{first:020}.jsonl")), text).unwrap();
    }
    directory
}

fn at(seq: u64) -> UnixMillis {
    UnixMillis(1_000_000_000 + i64::try_from(seq).unwrap() * 1_000)
}

fn window(since: u64, until: u64) -> ChangeWindow {
    ChangeWindow {
        since: at(since),
        until: at(until),
    }
}

#[test]
fn changes_by_operators_and_by_routes_are_found_in_open_and_in_closed_segments() {
    let directory = trail(4_000);
    let found = find_changes(directory.path(), window(500, 1_400)).unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
    let seqs: Vec<u64> = found.changes.iter().map(|change| change.seq).collect();
    assert_eq!(seqs, [1_400, 1_300, 1_000, 900, 600, 500]);
    for closed in Segments::open(directory.path()).unwrap().list().iter().take(6) {
        close(closed.path()).unwrap();
    }
    assert_eq!(find_changes(directory.path(), window(500, 1_400)).unwrap(), found);
    let [.., rotated] = found.changes.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((rotated.begun, rotated.ended), (UnixMillis(at(500).0 - 250), at(500)));
    assert_eq!(
        (rotated.targets.as_slice(), rotated.action.as_str()),
        (&["key_500".to_owned(), "key_500b".to_owned()][..], "keys.rotate")
    );
    let minted = &found.changes[found.changes.len() - 2];
    assert_eq!(minted.targets, ["key_600", "sec_600"]);
    assert_eq!(
        minted.who,
        serde_json::json!({ "via": "route", "route": "mint", "credential": "acc_1", "tenant": "acme" })
    );
    assert_eq!(
        (minted.begun, minted.ended, minted.request_id.as_deref()),
        (at(600), UnixMillis(at(600).0 + 5), Some("r-600"))
    );
}

#[test]
fn what_is_refused_or_only_read_or_of_another_time_is_not_found() {
    let directory = trail(1_000);
    assert_eq!(
        find_changes(directory.path(), window(201, 499)).unwrap(),
        RecordedChanges::default()
    );
    assert_eq!(
        find_changes(directory.path(), window(2_000, 3_000)).unwrap(),
        RecordedChanges::default()
    );
}

#[test]
fn a_damaged_segment_is_told_and_the_others_are_read() {
    let directory = trail(1_500);
    let segments = Segments::open(directory.path()).unwrap();
    close(segments.list()[1].path()).unwrap();
    fs::write(directory.path().join("trail-00000000000000000512.index"), b"none").unwrap();
    let found = find_changes(directory.path(), window(0, 1_500)).unwrap();
    let seqs: Vec<u64> = found.changes.iter().map(|change| change.seq).collect();
    assert_eq!(seqs, [1_400, 1_300, 500, 200, 100]);
    assert_eq!(found.problems.len(), 1);
    assert!(found.problems[0].contains("trail-00000000000000000512"), "{:?}", found.problems);
    assert!(find_changes(Path::new("/nowhere/audit"), window(0, 1)).is_err());
}
