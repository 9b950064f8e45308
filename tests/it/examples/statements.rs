//! `examples/README.md`: what each published document states has a test that is there, and little is missing.

use std::path::{Path, PathBuf};

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn every_statement_of_the_five_documents_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("tests/it"), &mut files);
    sources(&root.join("src"), &mut files);
    let code: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let page = std::fs::read_to_string(root.join("examples/README.md")).unwrap();
    let (mut works, mut missing) = (0, 0);
    for row in page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| statement"))
    {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [statement, here, tests] = cells[..] else {
            panic!("not three cells: {row}")
        };
        if here == "works" {
            works += 1;
            let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
            assert!(!names.is_empty(), "no test holds: {statement}");
            for name in names {
                assert!(code.contains(&format!("fn {name}(")), "there is no test {name}");
            }
        } else {
            missing += 1;
            let known = ["missing: dashboards"];
            assert!(known.iter().any(|known| here.starts_with(known)), "{statement}: {here}");
        }
    }
    assert!(works >= 130 && missing <= 12, "{works} work, {missing} are missing");
}
