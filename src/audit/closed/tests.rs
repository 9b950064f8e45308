//! Rules of closed segments: what is read is what was written, and what is damaged is told.

use super::super::index::{TermField, TimeSpan, UNREADABLE};
use super::*;

/// A segment of requests of ten tenants, a hundred credentials, one each second.
fn segment(directory: &Path, entries: u64) -> PathBuf {
    let mut text = String::new();
    for seq in 0..entries {
        let time = jiff::Timestamp::from_second(1_000 + i64::try_from(seq).unwrap()).unwrap();
        let (tenant, credential) = (seq % 10, seq % 100);
        let status = if seq % 7 == 0 { 401 } else { 200 };
        text += &format!(
            "{{\"seq\":{seq},\"gateway\":\"gw-a\",\"time\":\"{time:.3}\",\"kind\":\"request\",\"request_id\":\"r-{seq}\",\"client\":\"192.0.2.{tenant}\",\"path\":\"/v1/orders/{seq}\",\"route\":\"orders\",\"credential\":\"key_{credential}\",\"tenant\":\"t{tenant}\",\"status\":{status}}}\n"
        );
    }
    let path = directory.join("trail-00000000000000000000.jsonl");
    fs::write(&path, text).unwrap();
    path
}

fn gzip_of(jsonl: &Path) -> PathBuf {
    zipped(jsonl)
}

fn lines_of(segment: &ClosedSegment) -> Vec<u8> {
    let (mut all, mut plain) = (Vec::new(), Vec::new());
    for block in segment.index().blocks().unwrap() {
        assert!(block.plain as usize <= BLOCK);
        segment.read(&block, &mut plain).unwrap();
        all.extend_from_slice(&plain);
    }
    all
}

#[test]
fn a_closed_segment_has_the_lines_of_the_plain_one() {
    let directory = tempfile::tempdir().unwrap();
    let jsonl = segment(directory.path(), 3_000);
    let text = fs::read(&jsonl).unwrap();
    close(&jsonl).unwrap();
    assert!(!jsonl.exists());
    let gzip = gzip_of(&jsonl);
    check(&gzip).unwrap();
    let closed = ClosedSegment::open(&gzip).unwrap();
    assert_eq!(lines_of(&closed), text);
    assert_eq!(closed.index().lines(), 3_000);
    let times = TimeSpan {
        first: 1_000_000,
        last: 3_999_000,
    };
    assert_eq!(closed.index().times(), times);
    // Every program reads it.
    let mut all = Vec::new();
    flate2::read::MultiGzDecoder::new(File::open(&gzip).unwrap())
        .read_to_end(&mut all)
        .unwrap();
    assert_eq!(all, text);
    let mut names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["trail-00000000000000000000.index", "trail-00000000000000000000.jsonl.gz"]);
}

#[test]
fn the_index_finds_what_has_a_value_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let jsonl = segment(directory.path(), 3_000);
    close(&jsonl).unwrap();
    let closed = ClosedSegment::open(&gzip_of(&jsonl)).unwrap();
    let find = |field, value: &str| closed.index().find(field, value).unwrap();
    let all = |keep: &dyn Fn(u32) -> bool| (0..3_000).filter(|entry| keep(*entry)).collect::<Vec<_>>();
    for entry in 0..3_000 {
        assert_eq!(find(TermField::Request, &format!("r-{entry}")), [entry]);
    }
    assert_eq!(find(TermField::Credential, "key_42"), all(&|entry| entry % 100 == 42));
    assert_eq!(find(TermField::Tenant, "t0"), all(&|entry| entry % 10 == 0));
    assert_eq!(find(TermField::Route, "orders"), all(&|_| true));
    assert_eq!(find(TermField::Client, "192.0.2.9"), all(&|entry| entry % 10 == 9));
    assert_eq!(find(TermField::Status, "401"), all(&|entry| entry % 7 == 0));
    assert_eq!(find(TermField::StatusClass, "2"), all(&|entry| entry % 7 != 0));
    for (field, value) in [
        (TermField::Request, "r-3000"),
        (TermField::Tenant, "key_42"),
        (TermField::Kind, "request"),
        (TermField::Kind, UNREADABLE),
        (TermField::Denial, ""),
    ] {
        assert!(find(field, value).is_empty(), "{value}");
    }
}

#[test]
fn several_lines_of_one_request_are_found_together() {
    let directory = tempfile::tempdir().unwrap();
    let jsonl = directory.path().join("trail-00000000000000000000.jsonl");
    let ids = ["a", "b", "a", "c", "b", "a", "a"];
    let lines = ids
        .iter()
        .enumerate()
        .map(|(seq, id)| format!("{{\"seq\":{seq},\"request_id\":\"{id}\"}}\n"));
    fs::write(&jsonl, lines.collect::<String>()).unwrap();
    close(&jsonl).unwrap();
    let closed = ClosedSegment::open(&gzip_of(&jsonl)).unwrap();
    let find = |id| closed.index().find(TermField::Request, id).unwrap();
    assert_eq!(find("a"), [0, 2, 5, 6]);
    assert_eq!(find("b"), [1, 4]);
    assert_eq!(find("c"), [3]);
    assert!(find("d").is_empty());
}

#[test]
fn lines_that_are_no_entries_are_found_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let jsonl = directory.path().join("trail-00000000000000000000.jsonl");
    fs::write(
        &jsonl,
        "{\"seq\":0,\"kind\":\"start\"}\nnot JSON\n\n{\"seq\":3,\"kind\":\"stop\"}\n",
    )
    .unwrap();
    close(&jsonl).unwrap();
    let closed = ClosedSegment::open(&gzip_of(&jsonl)).unwrap();
    assert_eq!(closed.index().find(TermField::Kind, UNREADABLE).unwrap(), [1, 2]);
    assert_eq!(closed.index().find(TermField::Kind, "stop").unwrap(), [3]);
    assert!(!closed.index().times().meets(Some(0), None));
}

#[test]
fn an_empty_segment_and_a_very_long_line_can_be_closed() {
    let directory = tempfile::tempdir().unwrap();
    let jsonl = directory.path().join("bodies-00000000000000000000.jsonl");
    for text in [
        String::new(),
        format!("{{\"seq\":0,\"request_id\":\"r\",\"masked\":\"{}\"}}\n", "x".repeat(3_000_000)),
    ] {
        fs::write(&jsonl, &text).unwrap();
        close(&jsonl).unwrap();
        let gzip = gzip_of(&jsonl);
        check(&gzip).unwrap();
        let mut reader = MemberReader::open(&gzip).unwrap();
        let (mut all, mut plain) = (Vec::new(), Vec::new());
        while reader.next(&mut plain).unwrap() {
            all.extend_from_slice(&plain);
        }
        assert_eq!(all, text.as_bytes());
    }
    assert_eq!(
        ClosedSegment::open(&gzip_of(&jsonl))
            .unwrap()
            .index()
            .find(TermField::Request, "r")
            .unwrap(),
        [0]
    );
}

#[test]
fn a_torn_line_is_refused_and_the_plain_file_stands() {
    let directory = tempfile::tempdir().unwrap();
    let jsonl = directory.path().join("trail-00000000000000000000.jsonl");
    fs::write(&jsonl, "{\"seq\":0}\n{\"seq\":1").unwrap();
    assert!(close(&jsonl).unwrap_err().to_string().contains("its last line has no end"));
    assert!(jsonl.exists());
    assert!(!gzip_of(&jsonl).exists());
}

#[test]
fn closing_goes_on_after_a_crash_at_any_place() {
    let directory = tempfile::tempdir().unwrap();
    let jsonl = segment(directory.path(), 500);
    let text = fs::read(&jsonl).unwrap();
    let gzip = gzip_of(&jsonl);
    // Half-written files under temporary names.
    fs::write(new_name(&gzip), b"half").unwrap();
    fs::write(new_name(&index_of(&jsonl)), b"half").unwrap();
    close(&jsonl).unwrap();
    check(&gzip).unwrap();
    // Everything but the removal of the plain file.
    fs::write(&jsonl, &text).unwrap();
    close(&jsonl).unwrap();
    check(&gzip).unwrap();
    assert_eq!(lines_of(&ClosedSegment::open(&gzip).unwrap()), text);
    // The index alone was renamed.
    fs::write(&jsonl, &text).unwrap();
    fs::remove_file(&gzip).unwrap();
    close(&jsonl).unwrap();
    check(&gzip).unwrap();
}

#[test]
fn each_changed_byte_of_both_files_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let jsonl = segment(directory.path(), 600);
    close(&jsonl).unwrap();
    let gzip = gzip_of(&jsonl);
    for path in [gzip.clone(), index_of(&jsonl)] {
        let whole = fs::read(&path).unwrap();
        for place in (0..whole.len()).step_by(whole.len() / 50).chain([whole.len() - 1]) {
            let mut changed = whole.clone();
            changed[place] ^= 1 << (place % 8);
            fs::write(&path, &changed).unwrap();
            assert!(check(&gzip).is_err(), "{} byte {place}", path.display());
        }
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(check(&gzip).is_err(), "{} cut at {length}", path.display());
        }
        fs::write(&path, &whole).unwrap();
    }
    check(&gzip).unwrap();
}

#[test]
fn an_index_of_another_version_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let jsonl = segment(directory.path(), 1);
    close(&jsonl).unwrap();
    let path = index_of(&jsonl);
    let mut index = fs::read(&path).unwrap();
    index[8] = 3;
    let crc = {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&0_u64.to_le_bytes());
        hasher.update(&index[..4_092]);
        hasher.finalize()
    };
    index[4_092..4_096].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &index).unwrap();
    let error = ClosedSegment::open(&gzip_of(&jsonl)).unwrap_err().to_string();
    assert!(error.contains("has version 3, and this durward reads version 2"), "{error}");
    assert!(error.contains("00000.index"), "{error}");
}
