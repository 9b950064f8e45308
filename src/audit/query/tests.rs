//! Rules of queries: the filters, the order, how little is read, and what is told of files that are not as they should be.

use std::fs;
use std::os::unix::fs::FileExt as _;

use serde_json::Value;

use super::super::closed::close;
use super::*;

/// Numbers that look random, the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn time_of(seq: u64) -> String {
    let time = jiff::Timestamp::from_second(1_000 + i64::try_from(seq).unwrap()).unwrap();
    format!("{time:.3}")
}

fn line(seq: u64) -> String {
    format!(
        "{{\"seq\":{seq},\"gateway\":\"gw-a\",\"time\":\"{}\",\"kind\":\"request\",\"request_id\":\"r-{seq}\",\"client\":\"192.0.2.1\",\"route\":\"orders\",\"credential\":\"key_{}\",\"tenant\":\"t{}\",\"status\":{}}}\n",
        time_of(seq),
        seq % 100,
        seq % 10,
        if seq.is_multiple_of(7) { 401 } else { 200 }
    )
}

fn file(directory: &Path, first: u64, ending: &str) -> PathBuf {
    directory.join(format!("trail-{first:020}.{ending}"))
}

/// Three segments; the last one is written to.
fn trail() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (first, end) in [(0, 5_120), (5_120, 7_168), (7_168, 8_000)] {
        let text: String = (first..end).map(line).collect();
        fs::write(file(directory.path(), first, "jsonl"), text).unwrap();
    }
    close(&file(directory.path(), 0, "jsonl")).unwrap();
    close(&file(directory.path(), 5_120, "jsonl")).unwrap();
    directory
}

/// Changes a file of a trail after it was written.
type FileChange<'a> = &'a dyn Fn(&Path);

/// What a query finds, and what it tells.
struct Asked {
    seqs: Vec<u64>,
    problems: Vec<String>,
    remarks: Vec<String>,
    read: ReadCount,
}

fn ask(directory: &Path, query: &EntryQuery) -> Asked {
    let mut matches = Matches::new(&Segments::open(directory).unwrap(), query);
    Asked {
        seqs: matches.by_ref().map(|entry| entry.seq).collect(),
        problems: matches.problems().to_vec(),
        remarks: matches.remarks().to_vec(),
        read: matches.read(),
    }
}

fn found(directory: &Path, query: &EntryQuery) -> Vec<u64> {
    let asked = ask(directory, query);
    assert_eq!(asked.problems, [] as [String; 0]);
    asked.seqs
}

fn of_request(id: &str) -> EntryQuery {
    EntryQuery {
        request: Some(id.to_owned()),
        ..EntryQuery::default()
    }
}

fn of_tenant(id: &str) -> EntryQuery {
    EntryQuery {
        tenant: Some(id.to_owned()),
        ..EntryQuery::default()
    }
}

#[test]
fn each_filter_finds_its_entries_and_no_others() {
    let trail = trail();
    let all: Vec<u64> = (0..8_000).rev().collect();
    let keep = |keep: &dyn Fn(u64) -> bool| all.iter().copied().filter(|seq| keep(*seq)).collect::<Vec<_>>();
    let default = EntryQuery::default();
    assert_eq!(found(trail.path(), &default), all);
    assert_eq!(found(trail.path(), &of_tenant("t3")), keep(&|seq| seq % 10 == 3));
    let refused = EntryQuery {
        status: Some(StatusFilter::Class(4)),
        ..of_tenant("t3")
    };
    assert_eq!(found(trail.path(), &refused), keep(&|seq| seq % 10 == 3 && seq % 7 == 0));
    let timed = EntryQuery {
        since: Some(1_500_000),
        until: Some(1_600_000),
        ..of_tenant("t3")
    };
    assert_eq!(found(trail.path(), &timed), keep(&|seq| seq % 10 == 3 && (500..600).contains(&seq)));
    assert_eq!(found(trail.path(), &of_request("r-17")), [17]);
    assert_eq!(found(trail.path(), &of_request("r-7900")), [7_900]);
    assert!(found(trail.path(), &of_tenant("t")).is_empty());
    let oldest_first = EntryQuery {
        order: EntryOrder::OldestFirst,
        ..default
    };
    let mut oldest = found(trail.path(), &oldest_first);
    oldest.reverse();
    assert_eq!(oldest, all);
}

/// A line of a trail in which everything may be, or be absent, or stand in another place.
fn any_line(seq: u64, chance: &mut Chance) -> String {
    let text = |chance: &mut Chance, name: &str, of: u64| match chance.below(10) {
        0 => String::new(),
        // Texts that have to be escaped, and one that begins like another.
        1 => format!(",\"{name}\":\"{name}-\\u00e9\\\"{}\"", chance.below(of)),
        _ => format!(",\"{name}\":\"{name}-{}\"", chance.below(of)),
    };
    // Not in the order of the numbers: a long request is recorded late.
    let at = seq.saturating_sub(chance.below(50));
    let head = format!("{{\"seq\":{seq},\"gateway\":\"gw-a\",\"time\":\"{}\"", time_of(at));
    if chance.below(20) == 0 {
        let kind = ["operator", "gap", "drill", "answered"][usize::try_from(chance.below(4)).unwrap()];
        let who = format!(",\"who\":{{\"via\":\"route\",\"credential\":\"credential-{}\"}}", chance.below(40));
        return format!("{head},\"kind\":\"{kind}\"{who}{}}}\n", text(chance, "target", 9));
    }
    let mut line = format!("{head},\"kind\":\"request\"");
    for (name, of) in [
        ("request_id", 5_000),
        ("client", 200),
        ("route", 5),
        ("credential", 40),
        ("tenant", 9),
        ("denial", 3),
    ] {
        line += &text(chance, name, of);
    }
    let status = [200, 201, 401, 403, 404, 502][usize::try_from(chance.below(6)).unwrap()];
    line += &format!(",\"status\":{status}");
    // The client chooses these; they are not what the entry is about.
    let (tenant, credential) = (chance.below(9), chance.below(40));
    line + &format!(",\"headers\":{{\"tenant\":\"tenant-{tenant}\",\"credential\":\"credential-{credential}\"}}}}\n")
}

fn any_query(chance: &mut Chance) -> EntryQuery {
    let mut query = EntryQuery::default();
    let text = |chance: &mut Chance, name: &str, of: u64| {
        Some(match chance.below(8) {
            0 => format!("{name}-é\"{}", chance.below(of)),
            1 => format!("{name}-"),
            _ => format!("{name}-{}", chance.below(of)),
        })
    };
    for _ in 0..=chance.below(2) {
        match chance.below(10) {
            0 => query.request = text(chance, "request_id", 5_000),
            1 => query.client = text(chance, "client", 200),
            2 => query.route = text(chance, "route", 5),
            3 => query.credential = text(chance, "credential", 40),
            4 => query.tenant = text(chance, "tenant", 9),
            5 => query.denial = text(chance, "denial", 3),
            6 => query.target = text(chance, "target", 9),
            7 => query.status = Some(StatusFilter::Exact([200, 401, 500][usize::try_from(chance.below(3)).unwrap()])),
            8 => query.status = Some(StatusFilter::Class(u16::try_from(chance.below(6)).unwrap())),
            _ => query.kind = Some(["request", "operator", "gap", "none"][usize::try_from(chance.below(4)).unwrap()].to_owned()),
        }
    }
    if chance.below(2) == 0 {
        query.since = Some(1_000_000 + i64::try_from(chance.below(4_000_000)).unwrap());
    }
    if chance.below(2) == 0 {
        query.until = Some(1_000_000 + i64::try_from(chance.below(4_000_000)).unwrap());
    }
    if chance.below(2) == 0 {
        query.order = EntryOrder::OldestFirst;
    }
    query
}

/// The same question to the lines themselves.
fn scan(lines: &[Value], query: &EntryQuery) -> Vec<u64> {
    let wants = |value: &&Value| {
        let has = |wanted: &Option<String>, value: &Value| wanted.as_deref().is_none_or(|wanted| value == wanted);
        let status = value["status"].as_u64();
        let time = value["time"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let time = time.map(jiff::Timestamp::as_millisecond).unwrap();
        has(&query.request, &value["request_id"])
            && has(&query.client, &value["client"])
            && has(&query.route, &value["route"])
            && has(&query.tenant, &value["tenant"])
            && has(&query.denial, &value["denial"])
            && has(&query.target, &value["target"])
            && has(&query.kind, &value["kind"])
            && (has(&query.credential, &value["credential"]) || has(&query.credential, &value["who"]["credential"]))
            && match query.status {
                None => true,
                Some(StatusFilter::Exact(wanted)) => status == Some(wanted.into()),
                Some(StatusFilter::Class(class)) => status.map(|status| status / 100) == Some(class.into()),
            }
            && query.since.is_none_or(|since| time >= since)
            && query.until.is_none_or(|until| time < until)
    };
    let mut seqs: Vec<u64> = lines.iter().filter(wants).map(|value| value["seq"].as_u64().unwrap()).collect();
    if query.order == EntryOrder::NewestFirst {
        seqs.reverse();
    }
    seqs
}

#[test]
fn the_index_and_the_search_of_text_answer_as_a_scan_of_all_lines() {
    for seed in 0..2 {
        let mut chance = Chance(seed);
        let directory = tempfile::tempdir().unwrap();
        let (mut all, mut firsts) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            let first = all.len() as u64;
            let count = 256 * (1 + chance.below(3));
            let lines: Vec<String> = (first..first + count).map(|seq| any_line(seq, &mut chance)).collect();
            fs::write(file(directory.path(), first, "jsonl"), lines.concat()).unwrap();
            all.extend(lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()));
            firsts.push(first);
        }
        let queries: Vec<EntryQuery> = (0..60).map(|_| any_query(&mut chance)).collect();
        let answers: Vec<Vec<u64>> = queries.iter().map(|query| scan(&all, query)).collect();
        assert!(answers.iter().filter(|answer| !answer.is_empty()).count() > 20);
        // All open, then more and more of them closed, and at last one without its index.
        for closed in 0..=firsts.len() {
            if let Some(first) = closed.checked_sub(1).and_then(|at| firsts.get(at)) {
                close(&file(directory.path(), *first, "jsonl")).unwrap();
            }
            for (query, answer) in queries.iter().zip(&answers) {
                assert_eq!(&found(directory.path(), query), answer, "{closed} closed: {query:?}");
            }
        }
        fs::remove_file(file(directory.path(), firsts[1], "index")).unwrap();
        for (query, answer) in queries.iter().zip(&answers) {
            assert_eq!(&found(directory.path(), query), answer, "{query:?}");
        }
    }
}

#[test]
fn a_value_in_another_member_is_no_match() {
    let directory = tempfile::tempdir().unwrap();
    let text = "{\"seq\":0,\"kind\":\"request\",\"request_id\":\"r-1\",\"headers\":{\"request_id\":\"r-2\",\"tenant\":\"t2\"}}\n";
    fs::write(file(directory.path(), 0, "jsonl"), text).unwrap();
    assert_eq!(found(directory.path(), &of_request("r-1")), [0]);
    assert!(found(directory.path(), &of_request("r-2")).is_empty());
    assert!(found(directory.path(), &of_tenant("t2")).is_empty());
}

#[test]
fn only_the_blocks_of_the_time_and_the_tenant_are_read() {
    let trail = trail();
    let closed = EntryQuery {
        until: Some(1_000_000 + 7_168_000),
        ..EntryQuery::default()
    };
    let all = ask(trail.path(), &closed).read;
    assert_eq!(all.blocks, all.of_blocks);
    assert!(all.blocks > 20);
    let minutes = EntryQuery {
        since: Some(1_000_000),
        until: Some(1_010_000),
        ..of_tenant("t3")
    };
    let asked = ask(trail.path(), &minutes);
    assert_eq!((asked.seqs, asked.read.blocks, asked.read.of_blocks), (vec![3], 1, all.of_blocks));
    // The same time for a tenant that was not there.
    let nobody = EntryQuery {
        tenant: Some("nobody".into()),
        ..minutes
    };
    assert_eq!(ask(trail.path(), &nobody).read.blocks, 0);
    // An id stands in one block.
    assert_eq!(ask(trail.path(), &of_request("r-17")).read.blocks, 1);
}

#[test]
fn an_index_that_cannot_be_used_is_told_before_the_segment_is_read_whole() {
    let whole = |path: &Path| fs::read(path).unwrap();
    let change: [(&str, FileChange<'_>); 4] = [
        ("No such file", &|index| fs::remove_file(index).unwrap()),
        ("is cut off", &|index| fs::write(index, &whole(index)[..100]).unwrap()),
        ("is damaged in page 0", &|index| {
            let mut bytes = whole(index);
            bytes[20] ^= 1;
            fs::write(index, bytes).unwrap();
        }),
        ("is no index of durward", &|index| {
            let mut writer = super::super::pages::PageWriter::new(Vec::new());
            writer.write(b"another file of pages").unwrap();
            fs::write(index, writer.finish().unwrap()).unwrap();
        }),
    ];
    for (how, change) in change {
        let trail = trail();
        let index = file(trail.path(), 0, "index");
        change(&index);
        let query = of_request("r-17");
        let cost = QueryCost::of(&Segments::open(trail.path()).unwrap(), &query, None);
        let named = &cost.without_index[0];
        assert!(named.contains("trail-00000000000000000000.index") && named.contains(how), "{named}");
        let length = |first, ending| fs::metadata(file(trail.path(), first, ending)).unwrap().len();
        assert_eq!(cost.bytes, length(0, "jsonl.gz") + length(7_168, "jsonl"));
        let asked = ask(trail.path(), &query);
        assert_eq!(
            (asked.seqs, asked.problems, &asked.remarks),
            (vec![17], vec![], &cost.without_index)
        );
    }
}

#[test]
fn an_index_with_a_damaged_page_costs_only_time() {
    let trail = trail();
    let index = file(trail.path(), 0, "index");
    let pages = fs::metadata(&index).unwrap().len() / 4_096;
    for page in 1..pages {
        let damaged = fs::OpenOptions::new().write(true).read(true).open(&index).unwrap();
        let mut byte = [0];
        damaged.read_exact_at(&mut byte, page * 4_096 + 9).unwrap();
        damaged.write_all_at(&[byte[0] ^ 1], page * 4_096 + 9).unwrap();
        let asked = ask(trail.path(), &of_tenant("t3"));
        assert_eq!((asked.seqs.len(), asked.problems.len()), (800, 0), "page {page}");
        damaged.write_all_at(&byte, page * 4_096 + 9).unwrap();
    }
    assert_eq!(ask(trail.path(), &of_tenant("t3")).remarks, [] as [String; 0]);
}

#[test]
fn what_is_not_as_it_should_be_is_named_and_the_rest_is_answered() {
    let gap = |trail: &Path| {
        for ending in ["jsonl.gz", "index"] {
            fs::remove_file(file(trail, 5_120, ending)).unwrap();
        }
    };
    let append = |trail: &Path, first: u64, text: &str| {
        let path = file(trail, first, "jsonl");
        fs::write(&path, fs::read_to_string(&path).unwrap() + text).unwrap();
    };
    let cases: [(&str, &str, FileChange<'_>); 9] = [
        ("trail-1.jsonl: this is no segment of durward", "", &|trail| {
            fs::write(trail.join("trail-1.jsonl"), b"x").unwrap();
        }),
        ("trail-00000000000000009984.jsonl.zst: this is no segment", "", &|trail| {
            fs::write(file(trail, 9_984, "jsonl.zst"), b"x").unwrap();
        }),
        ("trail-00000000000000005120.leaves: the segment is missing", "r-6000", &|trail| {
            gap(trail);
            fs::write(file(trail, 5_120, "leaves"), b"").unwrap();
        }),
        (
            "the next entry would be 5120, and the next segment begins with entry 7168",
            "r-6000",
            &gap,
        ),
        (
            "trail-00000000000000005120.jsonl.gz: it was not written by durward",
            "r-6000",
            &|trail| {
                fs::remove_file(file(trail, 5_120, "index")).unwrap();
                fs::write(file(trail, 5_120, "jsonl.gz"), b"a newer form of a segment").unwrap();
            },
        ),
        ("trail-00000000000000005120.jsonl.gz: the block at byte", "r-7000", &|trail| {
            let path = file(trail, 5_120, "jsonl.gz");
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        (
            "trail-00000000000000007168.jsonl: its last line was not written to its end",
            "",
            &|trail| {
                append(trail, 7_168, "{\"seq\":8000,\"ga");
                fs::write(file(trail, 8_192, "jsonl"), line(8_192)).unwrap();
            },
        ),
        ("trail-00000000000000007168.jsonl: a line is no entry", "", &|trail| {
            append(trail, 7_168, "{\"seq\":8000,\"ga\n");
        }),
        ("trail-00000000000000007168.jsonl: Is a directory", "r-7900", &|trail| {
            fs::remove_file(file(trail, 7_168, "jsonl")).unwrap();
            fs::create_dir(file(trail, 7_168, "jsonl")).unwrap();
        }),
    ];
    for (told, lost, change) in cases {
        let trail = trail();
        change(trail.path());
        for id in ["r-17", "r-6000", "r-7000", "r-7900"] {
            let asked = ask(trail.path(), &of_request(id));
            if id == lost {
                assert!(asked.seqs.is_empty(), "{told}: {id}");
                assert!(asked.problems.iter().any(|problem| problem.contains(told)), "{:?}", asked.problems);
            } else if lost.is_empty() || !told.contains("5120") {
                assert_eq!(asked.seqs.len(), 1, "{told}: {id}");
            }
        }
        let all = ask(trail.path(), &EntryQuery::default());
        assert!(
            all.problems.iter().any(|problem| problem.contains(told)),
            "{told}: {:?}",
            all.problems
        );
    }
}

#[test]
fn a_line_that_is_being_written_is_not_told() {
    let trail = trail();
    let path = file(trail.path(), 7_168, "jsonl");
    fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"seq\":8000,\"ga").unwrap();
    for query in [of_request("r-7999"), of_tenant("t9"), EntryQuery::default()] {
        for order in [EntryOrder::NewestFirst, EntryOrder::OldestFirst] {
            let query = EntryQuery { order, ..query.clone() };
            assert!(found(trail.path(), &query).contains(&7_999));
        }
    }
}

#[test]
fn a_closed_segment_under_another_name_is_told() {
    let trail = trail();
    for ending in ["jsonl.gz", "index"] {
        fs::rename(file(trail.path(), 5_120, ending), file(trail.path(), 5_376, ending)).unwrap();
    }
    let asked = ask(trail.path(), &of_request("r-6000"));
    let told = "trail-00000000000000005376.jsonl.gz: its entries do not have the numbers";
    assert!(asked.problems.iter().any(|problem| problem.contains(told)), "{:?}", asked.problems);
}

#[test]
fn problems_are_bounded() {
    let trail = trail();
    for name in 0..500 {
        fs::write(trail.path().join(format!("trail-{name}")), b"").unwrap();
    }
    let problems = ask(trail.path(), &of_request("r-17")).problems;
    assert_eq!(problems.len(), MAX_PROBLEMS + 1);
    assert!(problems.last().unwrap().contains("more problems"));
}

#[test]
fn the_cost_of_a_query_is_known_before_it_reads() {
    let trail = trail();
    let segments = Segments::open(trail.path()).unwrap();
    let open = fs::metadata(file(trail.path(), 7_168, "jsonl")).unwrap().len();
    let cost = |query: &EntryQuery, limit| QueryCost::of(&segments, query, limit).bytes;
    // With an index, only what is written to.
    assert_eq!(cost(&of_tenant("t3"), None), open);
    // Without one, all of it; of a time its blocks; and with a limit what has so many entries.
    let closed = |first| fs::metadata(file(trail.path(), first, "jsonl.gz")).unwrap().len();
    let requests = EntryQuery {
        kind: Some("request".into()),
        ..EntryQuery::default()
    };
    assert_eq!(cost(&requests, Some(100)), open + closed(0) + closed(5_120));
    let minutes = EntryQuery {
        until: Some(1_010_000),
        ..EntryQuery::default()
    };
    assert!(cost(&minutes, Some(100)) < open + 64 * 1_024);
    let newest = cost(&EntryQuery::default(), Some(100));
    assert!(newest > open && newest <= open + 64 * 1_024, "{newest}");
    // It is at least what is read.
    for query in [requests, minutes, EntryQuery::default()] {
        let asked = ask(trail.path(), &query);
        let blocks = asked.read.blocks * 1_024;
        assert!(cost(&query, None) >= asked.read.plain + blocks, "{query:?}");
    }
}

/// A trail that a writer extends and closes while it is asked.
#[test]
fn while_the_writer_appends_and_closes_nothing_is_missing() {
    use crate::audit::body::CapturedBodies;
    use crate::audit::files::numbers;
    use crate::audit::open_files::NEXT_LINES;
    use crate::audit::settings::{AuditSettings, Durable, OnFull};
    use crate::audit::trail::Trail;
    use crate::base::clock::SystemClock;
    use crate::base::ids::GatewayId;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("audit");
    let settings = AuditSettings {
        directory: directory.clone(),
        on_full: OnFull::DropAndCount,
        durable: Durable::Within(Duration::from_secs(1)),
        segment: 64 * 1_024,
        keep: Duration::from_secs(3_600),
        keep_bodies: Duration::from_secs(3_600),
        max_size: None,
        checkpoint: Duration::from_secs(10),
        checkpoint_file: None,
        checkpoint_command: None,
        stdout: false,
    };
    let trail = Trail::open(settings, &GatewayId::parse("gw-1").unwrap(), Arc::new(SystemClock)).unwrap();
    let written = AtomicU64::new(0);
    let total = 20_000_u64;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let worker = trail.worker();
            for number in 0..total {
                worker.push(
                    |out| {
                        let time = time_of(number);
                        let members = format!(
                            ",\"time\":\"{time}\",\"kind\":\"request\",\"request_id\":\"r-{number}\",\"tenant\":\"t{}\"",
                            number % 10
                        );
                        out.extend_from_slice(members.as_bytes());
                    },
                    CapturedBodies::default(),
                );
                if number % 500 == 499 {
                    worker.tick();
                    // The entry `start` is the first one.
                    while trail.figures().entries < number + 2 {
                        std::thread::yield_now();
                    }
                    // A segment has its name as soon as the one before it is on the disk; its entries are to be seen since then.
                    while !numbers(&directory, "trail", NEXT_LINES).unwrap().is_empty() {
                        std::thread::yield_now();
                    }
                    written.store(number + 1, Ordering::Release);
                }
            }
        });
        let mut chance = Chance(1);
        let mut rounds = 0_u64;
        loop {
            let before = written.load(Ordering::Acquire);
            if before > 0 {
                let number = chance.below(before);
                assert_eq!(found(&directory, &of_request(&format!("r-{number}"))), [number + 1]);
                let tenant = found(&directory, &of_tenant("t3")).len() as u64;
                assert!(tenant >= before / 10, "{tenant} of {before}");
                rounds += 1;
            }
            if before == total {
                break;
            }
        }
        assert!(rounds > 2);
    });
    assert_eq!(trail.figures().dropped, 0);
    assert_eq!(found(&directory, &of_tenant("t3")).len() as u64, total / 10);
    trail.stop(Duration::from_secs(5));
    assert!(Segments::open(&directory).unwrap().list().len() > 5);
}

#[test]
fn proofs_are_found_by_the_index() {
    let trail = trail();
    // A block of other entries is damaged: whoever reads everything comes upon it.
    let path = file(trail.path(), 0, "jsonl.gz");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let of = |id: &str| crate::audit::prove::entries_of_request(trail.path(), id).unwrap();
    let found = of("r-17");
    assert_eq!((found.entries.len(), found.problems.len()), (1, 0));
    assert_eq!(found.entries[0].line, line(17).trim_end().as_bytes());
    assert_eq!(of("r-7900").entries.len(), 1);
    // What is in it is told to be missing.
    let lost = of("r-5119");
    assert!(lost.entries.is_empty() && lost.problems[0].contains("trail-00000000000000000000.jsonl.gz"));
}

#[test]
fn a_follower_sees_each_new_entry_once_through_a_new_segment() {
    let trail = trail();
    let query = EntryQuery::default();
    let mut follower = Follower::new(&Segments::open(trail.path()).unwrap());
    assert!(follower.poll(trail.path(), &query).unwrap().is_empty());
    let open = file(trail.path(), 7_168, "jsonl");
    let mut text = fs::read_to_string(&open).unwrap();
    text += &line(8_000);
    text += "{\"seq\":8001";
    fs::write(&open, &text).unwrap();
    let seqs = |follower: &mut Follower| {
        let entries = follower.poll(trail.path(), &query).unwrap();
        entries.iter().map(|entry| entry.seq).collect::<Vec<_>>()
    };
    assert_eq!(seqs(&mut follower), [8_000]);
    text.truncate(text.len() - 11);
    text += &line(8_001);
    fs::write(&open, &text).unwrap();
    close(&open).unwrap();
    fs::write(file(trail.path(), 8_002, "jsonl"), line(8_002)).unwrap();
    assert_eq!(seqs(&mut follower), [8_001, 8_002]);
    assert!(seqs(&mut follower).is_empty());
}
