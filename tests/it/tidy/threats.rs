//! docs/threats.md against the code: a row that is referred to exists, and so does a test that a row names.

use std::collections::BTreeSet;

/// One row of a table: its id, and the tests it names as `path::name`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row<'t> {
    pub(super) id: &'t str,
    pub(super) tests: Vec<(&'t str, &'t str)>,
}

/// The rows `| K5 | attack | what durward does | tests |`.
pub(super) fn rows(page: &str) -> Vec<Row<'_>> {
    page.lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
            let (id, tests) = (*cells.first()?, *cells.last()?);
            let tests = tests.split('`').skip(1).step_by(2).filter_map(|named| named.split_once("::"));
            is_id(id).then(|| Row {
                id,
                tests: tests.collect(),
            })
        })
        .collect()
}

/// One capital letter and a number.
fn is_id(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|c| c.is_ascii_uppercase()) && text.len() > 1 && letters.all(|c| c.is_ascii_digit())
}

/// Ids that a text refers to: after `threats.md`, as a list, or as the beginning of a test's name.
pub(super) fn references(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, rest) in text.match_indices("threats.md ").map(|(at, page)| (at, &text[at + page.len()..])) {
        let mut words = rest.split([' ', ',', '\n']).filter(|word| !matches!(*word, "" | "and" | "to"));
        while let Some(id) = words
            .next()
            .map(|word| word.trim_end_matches(|c: char| !c.is_alphanumeric()))
            .filter(|id| is_id(id))
        {
            found.insert(id.to_owned());
        }
    }
    for attribute in ["#[test]", "#[tokio::test]"] {
        for (at, _) in text.match_indices(attribute) {
            let rest = text[at + attribute.len()..].trim_start().trim_start_matches("async ");
            let id = rest
                .strip_prefix("fn ")
                .and_then(|name| name.split_once('_'))
                .map(|(id, _)| id.to_ascii_uppercase());
            found.extend(id.filter(|id| is_id(id)));
        }
    }
    found
}

#[test]
fn references_are_read_from_comments_and_from_names() {
    let text = concat!(
        "//! As docs/threats.",
        "md K5, K6 and F2 say it.\n// docs/threats.",
        "md, F rows\n#[test]\nfn h8_it_holds() {}\n#[tokio::test]\nasync fn p12_it_holds() {}\nfn p99_of() {}\n#[test]\nfn a_test() {}\n"
    );
    assert_eq!(references(text).into_iter().collect::<Vec<_>>(), ["F2", "H8", "K5", "K6", "P12"]);
}

#[test]
fn rows_are_read_from_tables() {
    let page = "| id | attack |\n|---|---|\n| K5 | a | b | `tests/a.rs::k5_x`, `src/b.rs::y` |\n";
    let row = Row {
        id: "K5",
        tests: vec![("tests/a.rs", "k5_x"), ("src/b.rs", "y")],
    };
    assert_eq!(rows(page), [row]);
}
