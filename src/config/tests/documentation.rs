//! `docs/configuration.md` says of every key what the code does: its tables are written from the code's.
//!
//! After a change of a key, `DURWARD_BLESS=1 cargo test --lib config::tests` writes them and `schemas/` anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::*;
use crate::base::denial::DENIALS;
use crate::config::schema::{Fallback, Schema, SchemaPart, Setting};

const BEGIN: &str = "<!-- begin: written from the code, see src/config/tests/documentation.rs -->\n";
const END: &str = "<!-- end -->\n";

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")
}

fn document() -> String {
    std::fs::read_to_string(path()).unwrap()
}

/// Every table, each once, in the order they are met.
pub(super) fn schemas() -> Vec<&'static Schema> {
    fn visit(schema: &'static Schema, found: &mut Vec<&'static Schema>) {
        if found.iter().any(|s| std::ptr::eq(*s, schema)) {
            return;
        }
        found.push(schema);
        visit_parts(schema, found);
    }
    fn visit_parts(schema: &'static Schema, found: &mut Vec<&'static Schema>) {
        for key in schema.keys {
            if let Some(inner) = key.kind.table() {
                visit(inner, found);
            }
        }
        for part in schema.parts {
            match part {
                SchemaPart::Keys(keys) => visit_parts(keys, found),
                SchemaPart::Choice(choice) => choice.alternatives.iter().for_each(|one| visit(one.schema, found)),
            }
        }
    }
    let mut found = Vec::new();
    visit(GatewayTable::SCHEMA, &mut found);
    visit(UpstreamTable::SCHEMA, &mut found);
    found
}

/// The rows of a table: of its tags first, then its own, then those of its parts.
fn rows(schema: &'static Schema) -> Vec<&'static Setting> {
    let mut rows: Vec<&'static Setting> = Vec::new();
    for part in schema.parts {
        if let SchemaPart::Choice(choice) = part {
            rows.push(&choice.tag);
        }
    }
    rows.extend(schema.keys);
    for part in schema.parts {
        if let SchemaPart::Keys(keys) = part {
            rows.extend(self::rows(keys));
        }
    }
    rows
}

fn tables() -> String {
    let mut text = String::new();
    for schema in schemas() {
        write!(text, "### {}\n\n{}\n\n", schema.name, schema.about).unwrap();
        for part in schema.parts {
            if let SchemaPart::Choice(choice) = part {
                let names: Vec<&str> = choice.alternatives.iter().map(|one| one.schema.name).collect();
                write!(text, "Its further keys are those of one of these: {}.\n\n", names.join("; ")).unwrap();
            }
        }
        if rows(schema).is_empty() {
            text.push_str("No further keys.\n\n");
            continue;
        }
        text.push_str("| setting | value | without it | |\n|---|---|---|---|\n");
        for key in rows(schema) {
            let default = match key.default {
                Fallback::Required => "required".to_owned(),
                Fallback::Value(value) => format!("`{value}`"),
                Fallback::Absent(meaning) => meaning.to_owned(),
            };
            let cell = |text: &str| text.replace('|', "\\|");
            let kind = key.kind.to_string();
            writeln!(
                text,
                "| `{}` | {} | {} | {} |",
                key.name,
                cell(&kind),
                cell(&default),
                cell(key.about)
            )
            .unwrap();
        }
        text.push('\n');
    }
    text.push_str("### Denials\n\n| denial | status | code | message |\n|---|---|---|---|\n");
    for row in DENIALS {
        writeln!(text, "| `{}` | {} | `{}` | {} |", row.label, row.status, row.code, row.message).unwrap();
    }
    text.push('\n');
    text
}

#[test]
fn the_documented_keys_are_the_keys_of_the_code() {
    let document = document();
    let (before, rest) = document.split_once(BEGIN).expect("the beginning of the tables");
    let (inside, after) = rest.split_once(END).expect("the end of the tables");
    if std::env::var_os("DURWARD_BLESS").is_some() {
        std::fs::write(path(), format!("{before}{BEGIN}\n{}{END}{after}", tables())).unwrap();
        return;
    }
    let expected = format!("\n{}", tables());
    for (number, (is, ought)) in inside.lines().zip(expected.lines()).enumerate() {
        assert_eq!(is, ought, "line {number} of the tables; DURWARD_BLESS=1 writes them anew");
    }
    assert_eq!(inside, expected);
    assert!(schemas().iter().map(|s| s.keys.len()).sum::<usize>() > 100, "the tables are there");
}

#[test]
fn the_documented_examples_load() {
    let document = document();
    let mut blocks = document
        .split("```toml\n")
        .skip(1)
        .filter_map(|b| b.split_once("```"))
        .map(|(text, _)| text);
    let (gateway, upstream) = (blocks.next().unwrap(), blocks.next().unwrap());
    let mut files = table(&[("gateway.toml", gateway), ("upstreams/orders.toml", upstream)]);
    files.variables.insert("PORTAL_SECRET".into(), "s".repeat(32));
    let loaded = check(&files).unwrap_or_else(|errors| panic!("{errors}"));
    let warnings = loaded
        .warnings
        .iter()
        .filter(|d| d.problem.weight == error::ProblemSeverity::Warning);
    assert_eq!(warnings.map(|d| d.to_string()).collect::<Vec<_>>(), [] as [String; 0]);
    assert_eq!(blocks.count(), 0, "an example that no test reads");
}
