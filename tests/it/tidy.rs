//! House rules as tests: what a reviewer would otherwise have to look for on every change.

mod rules;
mod source;
mod threats;

use std::collections::BTreeMap;
use std::process::Command;

use source::Source;

#[test]
fn the_house_is_tidy() {
    let sources = source::read_all(&["src", "tests", "benches", "fuzz/fuzz_targets"]);
    assert!(sources.len() > 30, "the sources are not where this test looks: {}", sources.len());
    let found = rules::findings(&sources);
    assert!(found.is_empty(), "{} findings:\n{}", found.len(), found.join("\n"));
}

#[test]
fn names_and_parameters_are_tidy() {
    let found = rules::findings_in_names(&source::read_all(&["src"]));
    assert!(found.is_empty(), "{} findings:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_file_is_in_a_module() {
    let sources = source::read_all(&["src", "tests"]);
    let text = |path: &str| sources.iter().find(|source| source.path == path).map(|source| source.text.as_str());
    let mut found = Vec::new();
    for source in &sources {
        if rules::module_of(&source.path).is_some_and(|(name, parents)| {
            let declares = |parent: &String| text(parent).is_some_and(|text| rules::declares(text, &name));
            !parents.iter().any(declares)
        }) {
            found.push(format!("{}: no `mod` leads here, so none of its tests runs", source.path));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_file_without_a_module_is_caught() {
    let (name, parents) = rules::module_of("tests/it/store/redis_tls.rs").unwrap();
    assert_eq!((&*name, parents[0].as_str()), ("redis_tls", "tests/it/store/mod.rs"));
    let (name, parents) = rules::module_of("tests/it/store/mod.rs").unwrap();
    assert_eq!((&*name, parents.contains(&"tests/it/main.rs".to_owned())), ("store", true));
    assert_eq!(rules::module_of("tests/it/main.rs"), None);
    assert!(rules::declares("pub(crate) mod redis_tls;\n", "redis_tls"));
    assert!(!rules::declares("mod redis_tls_more;\n// mod redis_tls;\n", "redis_tls"));
}

#[test]
fn no_tracked_file_names_a_build_machine() {
    let mut found = Vec::new();
    let mut read = 0;
    for (path, text) in tracked_files() {
        read += 1;
        for trace in machine_traces(&text) {
            found.push(format!("{path}: {trace}"));
        }
    }
    assert!(read > 30, "only {read} files were read");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_dependency_comes_from_the_public_index() {
    let lock = std::fs::read_to_string(source::root().join("Cargo.lock")).unwrap();
    let sources: Vec<&str> = lock.lines().filter_map(|l| l.strip_prefix("source = ")).collect();
    assert!(sources.len() > 100);
    for from in sources {
        assert_eq!(from, "\"registry+https://github.com/rust-lang/crates.io-index\"");
    }
}

/// Paths and texts of everything git tracks; everything below the root outside a work tree.
fn tracked_files() -> Vec<(String, String)> {
    let root = source::root();
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output();
    let paths: Vec<String> = match listed {
        Ok(out) if out.status.success() => String::from_utf8_lossy(&out.stdout).split('\0').map(str::to_owned).collect(),
        _ => source::read_all(&["src", "tests", "benches"]).into_iter().map(|s| s.path).collect(),
    };
    paths
        .into_iter()
        .filter(|p| !p.is_empty())
        .filter_map(|p| Some((p.clone(), String::from_utf8(std::fs::read(root.join(&p)).ok()?).ok()?)))
        .collect()
}

/// Absolute paths of somebody's machine, in any file.
fn machine_traces(text: &str) -> Vec<String> {
    let in_a_path = |c: char| c.is_alphanumeric() || "_-.}*/".contains(c);
    ["work", "root", "home", "Users"]
        .iter()
        .map(|folder| format!("/{folder}/"))
        .filter(|trace| text.match_indices(trace).any(|(i, _)| !text[..i].ends_with(in_a_path)))
        .collect()
}

#[test]
fn a_machine_path_is_caught() {
    let traces = |folder: &str| machine_traces(&format!("open(\"/{folder}/x\")")).len();
    assert_eq!((traces("root"), traces("src")), (1, 0));
    assert_eq!(machine_traces("target/work/x"), Vec::<String>::new());
}

type Rule = fn(&Source) -> Vec<String>;

/// A rule finds something in the first text and nothing in the second.
fn tells_apart(rule: Rule, path: &str, bad: &str, good: &str) {
    let found = rule(&Source::parse(path, bad));
    assert!(!found.is_empty(), "not caught: {bad}");
    let found = rule(&Source::parse(path, good));
    assert!(found.is_empty(), "caught wrongly: {good}: {found:?}");
}

#[test]
fn a_first_line_without_a_reason_is_caught() {
    tells_apart(rules::first_line_says_why, "src/a.rs", "use b;\n", "//! Why.\nuse b;\n");
    tells_apart(rules::first_line_says_why, "src/a.rs", "//! (to come)\n", "//! Why.\n");
}

#[test]
fn an_arrow_that_points_up_is_caught() {
    let caught = |path, bad, good| tells_apart(rules::imports_point_down, path, bad, good);
    caught("src/decide/a.rs", "use crate::store::X;", "use crate::base::X;");
    caught(
        "src/decide/a.rs",
        "use crate::{base::{A, B}, store::C};",
        "use crate::{base::{store, B}, wire::C};",
    );
    caught(
        "src/decide/a.rs",
        "fn f() { crate::gateway::g(); }",
        "// crate::gateway::g\nfn f() { super::g(); }",
    );
    caught("src/decide/a.rs", "use super::super::store::X;", "use super::super::base::X;");
    caught("src/gateway.rs", "use super::server::X;", "use super::resolver::X;");
    caught(
        "src/wire/a.rs",
        "use crate::decide::X;",
        "#[cfg(test)]\nmod tests { use crate::decide::X; }",
    );
    assert_eq!(
        rules::imports_point_down(&Source::parse("src/novel/a.rs", "")).len(),
        1,
        "a module without a layer"
    );
}

#[test]
fn a_date_read_elsewhere_is_caught() {
    tells_apart(
        rules::no_date_is_read_from_the_library,
        "src/a.rs",
        "jiff::Timestamp::now()",
        "clock.now()",
    );
}

#[test]
fn waiting_in_a_pure_layer_is_caught() {
    tells_apart(rules::only_async_layers_await, "src/decide/a.rs", "f().await", "f().awaited");
    let there = Source::parse("src/store/a.rs", "f().await");
    assert!(rules::only_async_layers_await(&there).is_empty());
}

#[test]
fn work_left_is_caught() {
    let left = format!("// {}: more", concat!("TO", "DO"));
    tells_apart(rules::nothing_is_left_to_do, "src/a.rs", &left, "// done");
}

#[test]
fn a_name_that_says_nothing_is_caught() {
    let caught = |bad, good| tells_apart(rules::names_are_words_of_the_field, "src/a.rs", bad, good);
    caught("struct KeyManager;", "struct Keys;");
    caught("fn get_key() {}", "fn key() {}");
}

#[test]
fn an_everyday_word_as_a_term_is_caught() {
    let caught = |bad, good| tells_apart(rules::no_term_is_an_everyday_word, "src/a.rs", bad, good);
    caught("pub(crate) struct Told;", "struct GatewayReceipt;");
    caught("mod surroundings;", "mod environment; fn told() {}");
}

#[test]
fn a_tuple_of_arguments_is_caught() {
    let caught = |bad, good| tells_apart(rules::no_parameter_is_a_tuple, "src/a.rs", bad, good);
    caught("fn f(a: u8, (b, c): (u8, u8)) {}", "fn f(a: u8, b: u8) -> (u8, u8) {}");
    caught(
        "fn f<F: Fn(u8) -> u8>(g: F, with: &(u8, u8)) {}",
        "fn f(g: impl Fn((u8, u8)), all: &[(u8, u8)], unit: ()) {}",
    );
    caught("fn f(&mut self, with: (u8,)) {}", "let f = |(a, b): (u8, u8)| a + b;");
}

#[test]
fn a_type_name_in_two_files_is_caught() {
    let found = |other: &str| {
        let files = [
            Source::parse("src/a.rs", "pub(crate) struct Key;"),
            Source::parse("src/b.rs", other),
        ];
        rules::each_type_name_stands_in_one_file(&files).len()
    };
    assert_eq!(found("pub enum Key {}"), 1);
    assert_eq!(found("struct Key; pub struct Keys; #[cfg(test)] mod tests { pub struct Key; }"), 0);
}

#[test]
fn a_second_builder_and_a_banned_one_are_caught() {
    let one = || Source::parse("src/server/a.rs", "http2::Builder::new(e)");
    let two = Source::parse("src/upstream/a.rs", "http2::Builder::new(e)");
    let auto = Source::parse("src/server/b.rs", "use hyper_util::server::conn::auto;");
    assert_eq!(rules::builders_stand_in_one_file(&[one()]), Vec::<String>::new());
    assert_eq!(rules::builders_stand_in_one_file(&[one(), two]).len(), 1);
    assert_eq!(rules::builders_stand_in_one_file(&[auto]).len(), 1);
}

#[test]
fn strings_and_comments_hide_nothing_else() {
    let tricky = "let a = '\"'; let b = 'x'; fn f<'a>(x: &'a str) {} let c = \"\\\"\"; /* /* */ */ let d = br##\"\"#\"##; fn get_it() {}";
    assert_eq!(rules::names_are_words_of_the_field(&Source::parse("src/a.rs", tricky)).len(), 1);
}

#[test]
fn threats_and_tests_name_each_other() {
    let files: BTreeMap<String, String> = tracked_files().into_iter().collect();
    let page = files.get("docs/threats.md").expect("docs/threats.md");
    let rows = threats::rows(page);
    assert!(rows.len() > 100, "only {} rows were read", rows.len());
    let mut found = Vec::new();
    for row in &rows {
        for (path, test) in &row.tests {
            // A macro may make the test of the name that stands there.
            let names = |text: &String| text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == *test);
            if !files.get(*path).is_some_and(names) {
                found.push(format!("docs/threats.md {}: there is no test {path}::{test}", row.id));
            }
        }
    }
    for (path, text) in files.iter().filter(|(path, _)| *path != "docs/threats.md") {
        for id in threats::references(text) {
            if !rows.iter().any(|row| row.id == id) {
                found.push(format!("{path}: docs/threats.md has no row {id}"));
            }
        }
    }
    assert!(found.is_empty(), "{} findings:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_fuzz_target_is_built() {
    let manifest = std::fs::read_to_string(source::root().join("fuzz/Cargo.toml")).unwrap();
    let targets = source::read_all(&["fuzz/fuzz_targets"]);
    assert!(targets.len() >= 6, "{} targets", targets.len());
    for target in targets {
        let path = target.path.trim_start_matches("fuzz/");
        assert!(manifest.contains(&format!("path = \"{path}\"")), "{path} has no [[bin]]");
    }
}
