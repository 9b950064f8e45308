//! The published schemas are those of the code; shipped and example files fit them, and files with mistakes do not.
//!
//! After a change of a key, `DURWARD_BLESS=1 cargo test --lib config::tests` writes `schemas/` and the tables of `docs/configuration.md` anew.

use std::path::PathBuf;

use serde_json::Value;

use super::cases::cors::{CORS_CASES, ROUTE_CORS_CASES};
use super::cases::served::{FORWARDED_CASES, SERVED, SERVED_CASES};
use super::cases::surfaces::SURFACE_CASES;
use super::cases::{Case, GATEWAY_CASES, UPSTREAM_CASES};
use super::*;
use crate::config::json_schema::{gateway, upstream};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Why a value does not fit a schema. Knows the words that our schemas use, and no others.
fn mistake(schema: &Value, value: &Value, document: &Value) -> Option<String> {
    let Value::Object(rules) = schema else {
        return (schema == &Value::Bool(false)).then(|| format!("{value} may not be here"));
    };
    let fits = |schema: &Value| mistake(schema, value, document).is_none();
    let all = |schemas: &Value| schemas.as_array().unwrap().iter().find_map(|one| mistake(one, value, document));
    rules.iter().find_map(|(word, rule)| {
        let wrong = |is_wrong: bool| is_wrong.then(|| format!("{value} has not {word} {rule}"));
        match word.as_str() {
            "$schema" | "title" | "description" | "default" | "$defs" | "then" => None,
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                mistake(document.pointer(pointer).unwrap(), value, document)
            }
            "type" => wrong(match rule.as_str().unwrap() {
                "object" => !value.is_object(),
                "array" => !value.is_array(),
                "string" => !value.is_string(),
                "boolean" => !value.is_boolean(),
                "integer" => !value.is_i64(),
                other => panic!("no type {other}"),
            }),
            "enum" => wrong(!rule.as_array().unwrap().contains(value)),
            "minimum" => wrong(value.as_i64().is_some_and(|n| n < rule.as_i64().unwrap())),
            "maximum" => wrong(value.as_i64().is_some_and(|n| n > rule.as_i64().unwrap_or(i64::MAX))),
            "minItems" => wrong(value.as_array().is_some_and(|items| (items.len() as u64) < rule.as_u64().unwrap())),
            "pattern" => wrong(value.as_str().is_some_and(|text| !pattern::is_match(rule.as_str().unwrap(), text))),
            "required" => wrong(value.as_object().is_some_and(|object| {
                rule.as_array()
                    .unwrap()
                    .iter()
                    .any(|name| !object.contains_key(name.as_str().unwrap()))
            })),
            "items" => value.as_array()?.iter().find_map(|item| mistake(rule, item, document)),
            "properties" => value
                .as_object()?
                .iter()
                .find_map(|(name, member)| mistake(rule.get(name)?, member, document)),
            "additionalProperties" => value.as_object()?.iter().find_map(|(name, member)| {
                let is_known = rules.get("properties").is_some_and(|known| known.get(name).is_some());
                (!is_known).then(|| mistake(rule, member, document))?
            }),
            "anyOf" => wrong(!rule.as_array().unwrap().iter().any(fits)),
            "allOf" => all(rule),
            "not" => wrong(fits(rule)),
            "if" => fits(rule).then(|| mistake(&rules["then"], value, document))?,
            other => panic!("the checker does not know {other}"),
        }
    })
}

/// The regular expressions of our schemas: literals, classes, groups with `|`, and `+`, `*`, `?`, between `^` and `$`.
mod pattern {
    pub(super) fn is_match(pattern: &str, text: &str) -> bool {
        let inner = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$')).unwrap();
        ends(inner, text).contains(&text.len())
    }

    /// Where matches of a sequence from the beginning of a text may end.
    fn ends(pattern: &str, text: &str) -> Vec<usize> {
        let alternatives = split(pattern);
        if alternatives.len() > 1 {
            return alternatives.iter().flat_map(|one| ends(one, text)).collect();
        }
        let mut places = vec![0];
        let mut rest = pattern;
        while !rest.is_empty() {
            let (atom, after) = rest.split_at(atom_length(rest));
            let count = after.chars().next().filter(|c| "+*?".contains(*c));
            rest = after.get(count.map_or(0, char::len_utf8)..).unwrap();
            places = places.iter().flat_map(|from| repeat(atom, count, text, *from)).collect();
            places.sort_unstable();
            places.dedup();
        }
        places
    }

    fn repeat(atom: &str, count: Option<char>, text: &str, from: usize) -> Vec<usize> {
        let once = |from: usize| -> Vec<usize> { one(atom, &text[from..]).into_iter().map(|n| from + n).collect() };
        let mut found = match count {
            Some('*' | '?') => vec![from],
            _ => Vec::new(),
        };
        let mut last = once(from);
        while !last.is_empty() {
            found.extend(&last);
            if !matches!(count, Some('+' | '*')) {
                break;
            }
            last = last.into_iter().flat_map(once).filter(|end| !found.contains(end)).collect();
        }
        found
    }

    /// Where one atom from the beginning of a text may end.
    fn one(atom: &str, text: &str) -> Vec<usize> {
        if let Some(group) = atom.strip_prefix('(') {
            return ends(group.strip_suffix(')').unwrap(), text);
        }
        let Some(c) = text.chars().next() else { return Vec::new() };
        let fits = match atom.strip_prefix('[') {
            Some(class) => class_has(class.strip_suffix(']').unwrap(), c),
            None => atom == "." || atom.trim_start_matches('\\').starts_with(c),
        };
        if fits { vec![c.len_utf8()] } else { Vec::new() }
    }

    fn class_has(class: &str, c: char) -> bool {
        if let Some(others) = class.strip_prefix('^') {
            return !class_has(others, c);
        }
        let chars: Vec<char> = class.chars().collect();
        let in_range = chars.windows(3).any(|w| w[1] == '-' && (w[0]..=w[2]).contains(&c));
        in_range || (c != '-' && chars.contains(&c))
    }

    fn atom_length(pattern: &str) -> usize {
        match pattern.as_bytes()[0] {
            b'\\' => 2,
            b'[' => pattern.find(']').unwrap() + 1,
            b'(' => {
                let mut depth = 0;
                let closing = pattern.char_indices().find(|(_, c)| {
                    depth += i32::from(*c == '(') - i32::from(*c == ')');
                    depth == 0
                });
                closing.unwrap().0 + 1
            }
            _ => pattern.chars().next().unwrap().len_utf8(),
        }
    }

    /// The alternatives of a pattern, as far as they are not in a group.
    fn split(pattern: &str) -> Vec<&str> {
        let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
        for (i, c) in pattern.char_indices() {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                '|' if depth == 0 => {
                    parts.push(&pattern[from..i]);
                    from = i + 1;
                }
                _ => {}
            }
        }
        parts.push(&pattern[from..]);
        parts
    }
}

fn mistake_of(schema: &Value, text: &str) -> Option<String> {
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}: {text}"));
    mistake(schema, &serde_json::to_value(table).unwrap(), schema)
}

#[test]
fn the_published_schemas_are_those_of_the_code() {
    for (name, schema) in [("gateway", gateway()), ("upstream", upstream())] {
        let path = root().join("schemas").join(name).with_extension("json");
        let text = format!("{schema:#}\n");
        if std::env::var_os("DURWARD_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(published, text, "{}; DURWARD_BLESS=1 writes it anew", path.display());
    }
}

/// Every shipped and example file, with the schema that its first line names.
fn shipped() -> Vec<(PathBuf, &'static str)> {
    let mut directories = vec![root()];
    directories.extend(
        std::fs::read_dir(root().join("examples"))
            .unwrap()
            .map(|entry| entry.unwrap().path()),
    );
    let mut files = Vec::new();
    for directory in directories.into_iter().filter(|directory| directory.join("gateway.toml").is_file()) {
        files.push((directory.join("gateway.toml"), "gateway"));
        let upstreams = std::fs::read_dir(directory.join("upstreams")).unwrap();
        files.extend(upstreams.map(|entry| (entry.unwrap().path(), "upstream")));
    }
    files
}

#[test]
fn shipped_and_example_files_fit_the_schema_that_they_name() {
    let files = shipped();
    assert!(files.len() >= 16, "{files:?}");
    for (path, name) in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let schema = if name == "gateway" { gateway() } else { upstream() };
        assert_eq!(mistake_of(&schema, &text), None, "{}", path.display());
        let named = text.lines().next().and_then(|line| line.strip_prefix("#:schema "));
        let named = named.unwrap_or_else(|| panic!("{} names no schema in its first line", path.display()));
        let named = path.parent().unwrap().join(named).canonicalize().unwrap();
        assert_eq!(
            named,
            root().join("schemas").join(name).with_extension("json").canonicalize().unwrap()
        );
    }
}

/// Parts of messages about mistakes that a schema can see: of names, kinds of values, words, and alternatives.
const OF_FORM: &[&str] = &[
    "there is no key",
    "cannot be a text",
    "cannot be this number",
    "does not belong to",
    "` is missing",
    "must be 1 to ",
    "is not a duration",
    "is not a size",
    "is not an address with a port",
    "a surface of kind `api_key` needs",
    "`serve = ",
];

#[test]
fn files_with_mistakes_of_form_do_not_fit() {
    let (gateway, upstream) = (gateway(), upstream());
    let mut seen = 0;
    let mut check = |schema: &Value, text: &str, message: &str| {
        if OF_FORM.iter().any(|part| message.contains(part)) {
            assert!(mistake_of(schema, text).is_some(), "{message}: {text}");
            seen += 1;
        }
    };
    for Case(added, _, message) in GATEWAY_CASES.iter().chain(SURFACE_CASES).chain(CORS_CASES) {
        let before = if added.starts_with('[') { "" } else { added };
        let after = if added.starts_with('[') { added } else { "" };
        check(&gateway, &format!("{before}{GATEWAY}{after}"), message);
    }
    for Case(added, _, message) in SERVED_CASES {
        check(&gateway, &format!("{GATEWAY}{SERVED}{added}"), message);
    }
    for Case(added, _, message) in UPSTREAM_CASES.iter().chain(ROUTE_CORS_CASES).chain(FORWARDED_CASES) {
        check(&upstream, &format!("{ORDERS}{added}"), message);
    }
    assert!(seen >= 25, "{seen} mistakes were looked at");
}

#[test]
fn the_checker_of_these_tests_tells_good_from_bad() {
    let is_match = pattern::is_match;
    for (good, bad) in [("30s", "30"), ("5 m", "m"), ("250ms", "1w")] {
        assert!(is_match("^[0-9]+ *(ms|s|m|h|d)$", good), "{good}");
        assert!(!is_match("^[0-9]+ *(ms|s|m|h|d)$", bad), "{bad}");
    }
    assert_eq!(mistake_of(&gateway(), GATEWAY), None);
    assert_eq!(mistake_of(&upstream(), ORDERS), None);
    assert!(mistake_of(&upstream(), GATEWAY).is_some());
}
