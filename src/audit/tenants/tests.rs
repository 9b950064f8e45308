//! Pages of a tenant's entries against a plain reading of all lines, over open and closed segments.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::audit::closed::close;

const TENANTS: [&str; 3] = ["acme", "globex", "acme-2"];
const KINDS: [&str; 5] = ["request", "request", "request", "answered", "operator"];
const DENIALS: [&str; 2] = ["insufficient_scope", "rate_limited"];

/// What stands in members that no tenant may see.
const HIDDEN: &str = "canary-of-the-operator";

/// One entry, by the numbers of its words.
#[derive(Debug, Clone)]
struct Made {
    tenant: usize,
    kind: usize,
    credential: usize,
    status: u16,
    denial: usize,
    is_reported: bool,
    mode: usize,
    time: i64,
    /// Makes the line longer, so that segments have several blocks.
    length: usize,
}

impl Made {
    fn is_own(&self, tenant: &str) -> bool {
        TENANTS[self.tenant] == tenant && KINDS[self.kind] == "request"
    }

    fn mode(&self) -> Option<Mode> {
        [None, Some(Mode::Test), Some(Mode::Live)][self.mode]
    }

    /// The denial that the tenant may know.
    fn shown_denial(&self) -> Option<&'static str> {
        DENIALS.get(self.denial).copied().filter(|_| !self.is_reported)
    }

    fn line(&self, seq: usize) -> String {
        let time = jiff::Timestamp::from_millisecond(self.time).unwrap();
        let mut members = json!({
            "request_id": format!("r-{seq}"), "path": format!("/of/{}", TENANTS[self.tenant]), "method": (["GET", "POST"][seq % 2]),
            "tenant": TENANTS[self.tenant], "credential": format!("key_{}", self.credential), "status": self.status, "route": "main/1",
            "upstream": HIDDEN, "endpoint": HIDDEN, "cause": HIDDEN, "failure": HIDDEN, "snapshot": 4_711_000, "facts_age_ms": 4_711_000,
            "attempts": 4_711_000, "who": { "via": "socket", "user": HIDDEN }, "before": { "name": HIDDEN },
            "body": { "type": HIDDEN, "stored": true }, "answer": { "type": HIDDEN }, "headers": { "user-agent": "x".repeat(self.length) },
        });
        let object = members.as_object_mut().unwrap();
        if let Some(denial) = DENIALS.get(self.denial) {
            object.insert("denial".into(), (*denial).into());
        }
        if self.is_reported {
            object.insert("report_only".into(), true.into());
        }
        if let Some(mode) = self.mode() {
            object.insert("mode".into(), mode.as_str().into());
        }
        let members = serde_json::to_string(&members).unwrap();
        format!(
            "{{\"seq\":{seq},\"gateway\":\"{HIDDEN}\",\"time\":\"{time:.3}\",\"kind\":\"{}\",{}\n",
            KINDS[self.kind],
            &members[1..]
        )
    }

    fn meets(&self, seq: usize, filter: &TenantFilter) -> bool {
        let credential = format!("key_{}", self.credential);
        let id = format!("r-{seq}");
        filter.request.as_ref().is_none_or(|wanted| *wanted == id)
            && filter.credential.as_ref().is_none_or(|wanted| *wanted == credential)
            && filter.route.as_ref().is_none_or(|wanted| wanted == "main/1")
            && filter.denial.as_deref().is_none_or(|wanted| self.shown_denial() == Some(wanted))
            && filter.method.as_deref().is_none_or(|wanted| wanted == ["GET", "POST"][seq % 2])
            && filter.mode.is_none_or(|own| self.mode().is_none_or(|mode| mode == own))
            && filter.since.is_none_or(|since| self.time >= since)
            && filter.until.is_none_or(|until| self.time < until)
            && match filter.status {
                None => true,
                Some(StatusFilter::Exact(wanted)) => self.status == wanted,
                Some(StatusFilter::Class(class)) => self.status / 100 == class,
            }
    }
}

fn made() -> impl Strategy<Value = Made> {
    let words = (
        0..3_usize,
        0..5_usize,
        0..4_usize,
        prop::sample::select(vec![200_u16, 204, 403, 429]),
    );
    (words, 0..4_usize, any::<bool>(), 0..3_usize, 0..100_000_i64, 0..900_usize).prop_map(
        |((tenant, kind, credential, status), denial, is_reported, mode, time, length)| Made {
            tenant,
            kind,
            credential,
            status,
            denial,
            is_reported,
            mode,
            time,
            length,
        },
    )
}

fn filter() -> impl Strategy<Value = TenantFilter> {
    let some =
        |words: &[&str]| prop::option::weighted(0.2, prop::sample::select(words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()));
    let status = prop::sample::select(vec![StatusFilter::Exact(200), StatusFilter::Class(4), StatusFilter::Class(2)]);
    (
        some(&["r-1", "r-40", "nobody"]),
        some(&["key_1", "key_2", "none"]),
        some(&["main/1", "none"]),
        some(&DENIALS),
        some(&["GET", "POST"]),
        prop::option::weighted(0.3, status),
        prop::option::weighted(0.3, 0..100_000_i64),
        prop::option::weighted(0.3, 0..100_000_i64),
        prop::sample::select(vec![None, Some(Mode::Test), Some(Mode::Live)]),
    )
        .prop_map(
            |(request, credential, route, denial, method, status, since, until, mode)| TenantFilter {
                request,
                credential,
                route,
                denial,
                method,
                status,
                since,
                until,
                mode,
            },
        )
}

/// Writes segments of so many entries, the last one with what is left and a torn line; closes those that are said.
fn write(directory: &Path, entries: &[Made], cuts: &[usize], is_closed: &[bool]) {
    let mut begins: Vec<usize> = cuts.iter().map(|cut| cut % entries.len().max(1)).chain([0]).collect();
    begins.sort_unstable();
    begins.dedup();
    let ends = begins.iter().copied().skip(1).chain([entries.len()]);
    for (number, (begin, end)) in begins.iter().copied().zip(ends).enumerate() {
        let path = directory.join(format!("trail-{begin:020}.jsonl"));
        let mut text: String = (begin..end).map(|seq| entries[seq].line(seq)).collect();
        let is_last = end == entries.len();
        if is_last {
            text.push_str("{\"seq\":");
        }
        fs::write(&path, text).unwrap();
        if !is_last && is_closed[number % is_closed.len()] {
            close(&path).unwrap();
        }
    }
}

fn bounds(entries: usize, read: u64) -> PageBounds {
    PageBounds {
        entries,
        size: 64 * 1024,
        read,
        time: Duration::from_secs(60),
    }
}

/// The ids of the requests on all pages from here on.
fn all(directory: &Path, tenant: &str, filter: &TenantFilter, before: Option<u64>, bounds: PageBounds) -> Vec<String> {
    let tenant = TenantId::parse(tenant).unwrap();
    let (mut ids, mut before) = (Vec::new(), before);
    loop {
        let page = read_page(directory, &tenant, filter, before, bounds).unwrap();
        assert_eq!(page.problems, [] as [String; 0]);
        assert!(page.entries.len() <= bounds.entries);
        for entry in page.entries {
            let entry = entry.into_json();
            let text = entry.to_string();
            assert!(!text.contains(HIDDEN) && !text.contains("4711000"), "{text}");
            assert_eq!(entry["path"], format!("/of/{tenant}"), "{text}");
            assert!(
                entry
                    .as_object()
                    .unwrap()
                    .keys()
                    .all(|name| TENANT_MEMBERS.contains(&name.as_str()))
            );
            ids.push(entry["request_id"].as_str().unwrap().to_owned());
        }
        let Some(next) = page.next else { return ids };
        assert!(before.is_none_or(|before| next < before), "{before:?} {next}");
        before = Some(next);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is asked from wherever: a tenant is given each of its own requests that is meant, once, and nothing else.
    #[test]
    fn k10_a_tenant_is_given_its_own_requests_and_nothing_of_others(
        entries in prop::collection::vec(made(), 1..500),
        cuts in prop::collection::vec(0..500_usize, 0..5),
        is_closed in prop::collection::vec(any::<bool>(), 1..5),
        filter in filter(),
        tenant in 0..3_usize,
        before in prop::option::of(0..600_u64),
        limit in 1..60_usize,
        read in prop::sample::select(vec![1_u64, 100_000, u64::MAX]),
    ) {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &entries, &cuts, &is_closed);
        let tenant = TENANTS[tenant];
        let meant = entries.iter().enumerate().rev().filter(|(seq, entry)| {
            before.is_none_or(|before| (*seq as u64) < before) && entry.is_own(tenant) && entry.meets(*seq, &filter)
        });
        let meant: Vec<String> = meant.map(|(seq, _)| format!("r-{seq}")).collect();
        prop_assert_eq!(all(directory.path(), tenant, &filter, before, bounds(limit, read)), meant);
    }
}

fn plain(tenant: usize, length: usize) -> Made {
    Made {
        tenant,
        kind: 0,
        credential: 1,
        status: 200,
        denial: 9,
        is_reported: false,
        mode: 0,
        time: 0,
        length,
    }
}

#[test]
fn a_page_ends_where_it_has_read_enough_and_the_next_one_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    // One entry of acme, the oldest, and two blocks of a megabyte of the others.
    let mut entries = vec![plain(0, 0)];
    entries.extend((0..3_000).map(|_| plain(1, 600)));
    write(directory.path(), &entries, &[], &[false]);
    let tenant = TenantId::parse("acme").unwrap();
    let first = read_page(directory.path(), &tenant, &TenantFilter::default(), None, bounds(10, 1)).unwrap();
    assert!(first.entries.is_empty() && first.next.is_some(), "{first:?}");
    assert_eq!(
        all(directory.path(), "acme", &TenantFilter::default(), None, bounds(10, 1)),
        ["r-0"]
    );
    let late = PageBounds {
        time: Duration::ZERO,
        ..bounds(10, u64::MAX)
    };
    let first = read_page(directory.path(), &tenant, &TenantFilter::default(), None, late).unwrap();
    assert!(first.entries.is_empty() && first.next.is_some(), "{first:?}");
    assert_eq!(all(directory.path(), "acme", &TenantFilter::default(), None, late), ["r-0"]);
    let small = PageBounds {
        size: 1,
        ..bounds(10, u64::MAX)
    };
    let globex = TenantId::parse("globex").unwrap();
    let page = read_page(directory.path(), &globex, &TenantFilter::default(), None, small).unwrap();
    assert_eq!(page.entries.len(), 1);
}

#[test]
fn a_request_that_was_only_reported_as_refused_looks_served() {
    let directory = tempfile::tempdir().unwrap();
    let reported = Made {
        denial: 0,
        is_reported: true,
        ..plain(0, 0)
    };
    write(directory.path(), &[reported], &[], &[false]);
    let tenant = TenantId::parse("acme").unwrap();
    let page = read_page(directory.path(), &tenant, &TenantFilter::default(), None, bounds(10, 1)).unwrap();
    let entry = page.entries[0].clone().into_json();
    assert!(entry.get("denial").is_none() && entry.get("report_only").is_none(), "{entry}");
    let by_denial = TenantFilter {
        denial: Some(DENIALS[0].to_owned()),
        ..TenantFilter::default()
    };
    assert_eq!(all(directory.path(), "acme", &by_denial, None, bounds(10, 1)), [] as [String; 0]);
}

#[test]
fn what_is_damaged_is_told_and_everything_else_is_given() {
    let directory = tempfile::tempdir().unwrap();
    let entries: Vec<Made> = (0..600).map(|_| plain(0, 600)).collect();
    write(directory.path(), &entries, &[150, 200, 300], &[true]);
    let tenant = TenantId::parse("acme").unwrap();
    let read = |before| read_page(directory.path(), &tenant, &TenantFilter::default(), before, bounds(10, 1)).unwrap();
    let zipped = directory.path().join(format!("trail-{:020}.jsonl.gz", 0));
    let mut bytes = fs::read(&zipped).unwrap();
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    fs::write(&zipped, bytes).unwrap();
    let zipped = directory.path().join(format!("trail-{:020}.index", 150));
    fs::remove_file(zipped).unwrap();
    // A line that is none, in the segment that is written to.
    let open = directory.path().join(format!("trail-{:020}.jsonl", 300));
    let text = fs::read_to_string(&open).unwrap();
    fs::write(&open, text.replacen("{\"seq\":450,", "{\"seq\":x,", 1)).unwrap();
    let (mut ids, mut before, mut damaged) = (Vec::new(), None, 0);
    loop {
        let page = read(before);
        damaged += usize::from(!page.problems.is_empty());
        ids.extend(
            page.entries
                .into_iter()
                .map(|entry| entry.into_json()["request_id"].as_str().unwrap().to_owned()),
        );
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let unique: std::collections::BTreeSet<&String> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "nothing comes twice");
    assert!(damaged >= 3, "{damaged} pages tell of damage");
    // The line that is none, the segment of fifty without an index, and the block of at most 64 KiB.
    assert!(ids.len() < 549 && ids.len() > 549 - 100, "{}", ids.len());
    let has = |seq: u64| ids.contains(&format!("r-{seq}"));
    assert!(!(150..200).any(has) && (200..300).all(has));
    assert!(ids.contains(&"r-451".to_owned()) && ids.contains(&"r-449".to_owned()) && ids.contains(&"r-0".to_owned()));
}
