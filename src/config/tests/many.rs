//! Configurations with many routes: nothing is lost among them, and what they share is read once.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::*;

#[test]
fn no_number_of_warnings_hides_an_error() {
    let many = |last: &str| {
        let mut text = String::new();
        for n in 0..report::MAX_PROBLEMS + 50 {
            // Each is warned of: its idle timeout is far longer than its response timeout.
            write!(
                text,
                "[[routes]]\npath = \"/{n}\"\nresponse_timeout = \"10ms\"\naccess = \"public\"\n"
            )
            .unwrap();
        }
        text + "[[routes]]\npath = \"/last\"\naccess = \"public\"\n" + last
    };
    let loaded = check_with("", &many("")).unwrap();
    assert_eq!(loaded.warnings.len(), report::MAX_PROBLEMS);
    let errors = check_with("", &many("dialect = \"missing\"\n")).unwrap_err();
    let messages: Vec<&str> = errors.problems.iter().map(|d| d.problem.message.as_str()).collect();
    assert_eq!(messages, ["there is no dialect `missing`"]);
}

#[test]
fn mistakes_among_many_routes_are_told_with_their_lines() {
    const ROUTES: usize = 2_000;
    let mut lines = vec!["endpoints = [\"http://127.0.0.1:9000\"]".to_owned()];
    for n in 0..ROUTES {
        let (name, path, surface) = match n {
            700 => (699, 700, "api"),
            1_200 => (1_200, 1_100, "api"),
            1_999 => (1_999, 1_999, "apj"),
            _ => (n, n, "api"),
        };
        lines.push("[[routes]]".to_owned());
        lines.push(format!("name = \"r{name}\""));
        lines.push(format!("path = \"/{path}\""));
        lines.push(format!("access = {{ surfaces = [\"{surface}\"] }}"));
    }
    let errors = check(&table(&[("gateway.toml", GATEWAY), ("upstreams/o.toml", &lines.join("\n"))])).unwrap_err();
    let told: Vec<String> = errors.problems.iter().map(|d| d.to_string()).collect();
    assert_eq!(
        told,
        [
            "/c/upstreams/o.toml:2803:8: there is a route `r699` already",
            "/c/upstreams/o.toml:4804:8: the route `r1100` takes GET for these paths already (two routes may not match the same \
             requests: change `hosts`, `methods` or `path`)",
            "/c/upstreams/o.toml:8001:24: there is no surface `apj` (did you mean `api`?)",
        ]
    );
    let shown = errors.to_string();
    assert!(shown.contains("\n4804 | path = \"/1100\"\n     |        ^^^^^^^"), "{shown}");
}

/// Counts how often the system's authorities are read.
struct CountedAuthorities {
    files: InMemory,
    authority: Vec<u8>,
    reads: Cell<usize>,
}

impl Environment for CountedAuthorities {
    fn read(&self, path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
        self.files.read(path)
    }

    fn list_toml(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.files.list_toml(directory)
    }

    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        self.files.variable(name)
    }

    fn holds_something(&self, path: &Path) -> bool {
        self.files.holds_something(path)
    }

    fn system_authorities(&self) -> Vec<Vec<u8>> {
        self.reads.set(self.reads.get() + 1);
        vec![self.authority.clone()]
    }
}

#[test]
fn the_authorities_of_the_system_are_read_once_for_all_services() {
    let mut files = table(&[("gateway.toml", GATEWAY)]);
    for n in 0..20 {
        let text = format!("endpoints = [\"https://s{n}.internal\"]\n[[routes]]\npath = \"/{n}\"\naccess = {{ surfaces = [\"api\"] }}\n");
        files.files.insert(format!("/c/upstreams/s{n}.toml").into(), text.into_bytes());
    }
    let made = rcgen::generate_simple_self_signed(["authority.test".to_owned()]).unwrap();
    let counted = CountedAuthorities {
        files,
        authority: made.cert.der().to_vec(),
        reads: Cell::new(0),
    };
    let loaded = load_from(Path::new("/c/gateway.toml"), Purpose::Check, &counted).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(loaded.snapshot.upstreams.iter().all(|spec| spec.tls.is_some()));
    assert_eq!((loaded.snapshot.upstreams.len(), counted.reads.get()), (20, 1));
}
