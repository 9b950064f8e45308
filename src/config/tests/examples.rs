//! The shipped examples load without an error and without a warning that is not explained here.

use super::*;

/// Every example that must be there.
const EXAMPLES: [&str; 6] = ["holdyn", "heldsway", "portal", "geldstuck", "hatchpay", "depotbank"];

fn files_of(example: &Path) -> InMemory {
    let mut files = InMemory::default();
    let mut add = |directory: &Path, to: &Path| {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files
                    .files
                    .insert(to.join(path.file_name().unwrap()), std::fs::read(&path).unwrap());
            }
        }
    };
    add(example, Path::new("/c"));
    add(&example.join("upstreams"), Path::new("/c/upstreams"));
    files
}

#[test]
fn every_example_is_right_before_anything_exists() {
    for name in EXAMPLES {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
        assert!(example.join("README.md").is_file(), "{name} says how to call it");
        let loaded = check(&files_of(&example)).unwrap_or_else(|errors| panic!("{name}: {errors}"));
        let warnings = loaded.warnings.iter().filter(|d| d.problem.weight != error::ProblemSeverity::Note);
        let warnings: Vec<&str> = warnings.map(|d| d.problem.message.as_str()).collect();
        let known: &[&str] = match name {
            // The document names the cookie, and its dashboard lives on a host beside the API's.
            "geldstuck" => &["other hosts of the domain, such as `app.example.com`, can set the cookie `geldstuck_session`"],
            _ => &[],
        };
        assert_eq!(warnings, known, "{name}");
        assert!(!loaded.snapshot.served_routes.is_empty(), "{name} serves something");
    }
}
