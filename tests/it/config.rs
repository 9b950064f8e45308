//! `durward check` through the binary: every mistake at once, and what the exit code says.

use std::path::Path;
use std::process::{Command, Output};

fn check(directory: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_durward"))
        .arg("check")
        .arg("--config")
        .arg(directory.join("gateway.toml"))
        .args(more)
        .output()
        .unwrap()
}

fn write(directory: &Path, gateway: &str, upstream: &str) {
    std::fs::create_dir_all(directory.join("upstreams")).unwrap();
    std::fs::write(directory.join("gateway.toml"), gateway).unwrap();
    std::fs::write(directory.join("upstreams/orders.toml"), upstream).unwrap();
}

const GATEWAY: &str = "[[listeners]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n\
    [surfaces.api]\nkind = \"api_key\"\nprefixes = { live = \"a_live_\" }\n";
const UPSTREAM: &str = "endpoints = [\"http://127.0.0.1:9000\"]\n\
    [[routes]]\npath = \"/v1/orders/**\"\naccess = { surfaces = [\"api\"], scopes = [\"orders:read\"] }\n";

#[test]
fn six_mistakes_in_two_files_are_six_reports_and_exit_78() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = format!("wrokers = 2\n{GATEWAY}[store]\nmax_age = \"58s\"\nlookup_timeout = \"soon\"\n");
    let upstream = format!(
        "{UPSTREAM}[[routes]]\npath = \"/a\"\n[[routes]]\npath = \"b\"\naccess = \"public\"\n\
         [[routes]]\npath = \"/c\"\naccess = {{ surfaces = [\"apy\"] }}\n"
    );
    write(directory.path(), &gateway, &upstream);
    let output = check(directory.path(), &[]);
    assert_eq!(output.status.code(), Some(78));
    let told = String::from_utf8(output.stderr).unwrap();
    for (file, line, caret) in [
        ("gateway.toml", 1, "^^^^^^^"),
        ("gateway.toml", 9, "^^^^^"),
        ("gateway.toml", 10, "^^^^^^"),
        ("upstreams/orders.toml", 5, "^^^^^^^^^^"),
        ("upstreams/orders.toml", 8, "^^^"),
        ("upstreams/orders.toml", 12, "^^^^^"),
    ] {
        let place = format!("{file}:{line}:");
        let block = told
            .split("\n\n")
            .find(|b| b.contains(&place))
            .unwrap_or_else(|| panic!("{place} in\n{told}"));
        assert!(block.contains(caret), "{block}");
    }
    let output = check(directory.path(), &["--json"]);
    assert_eq!(output.status.code(), Some(78));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["problems"].as_array().unwrap().len(), 6);
}

#[test]
fn a_right_configuration_is_exit_0_and_nothing_is_made() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), GATEWAY, UPSTREAM);
    let output = check(directory.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!directory.path().join("state").exists());
}

#[test]
fn the_shipped_configuration_is_right() {
    let output = check(Path::new(env!("CARGO_MANIFEST_DIR")), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// A surface of HTTP Basic takes a pair or a key alone: what it takes is said, and nothing says the contrary.
#[test]
fn a_basic_surface_says_whether_its_password_is_a_secret_or_empty() {
    let told = |surface: &str| {
        let directory = tempfile::tempdir().unwrap();
        let gateway = format!("{GATEWAY}[surfaces.x]\nkind = \"basic\"\n{surface}");
        let upstream = UPSTREAM.replace("[\"api\"]", "[\"api\", \"x\"]");
        write(directory.path(), &gateway, &upstream);
        let output = check(directory.path(), &["--json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let problems = report["problems"].as_array().unwrap().clone();
        let told = |problem: &serde_json::Value| (problem["line"].as_u64().unwrap(), problem["message"].as_str().unwrap().to_owned());
        // Line 1: the files that a start would make.
        problems.iter().map(told).filter(|(line, _)| *line > 1).collect::<Vec<_>>()
    };
    let (key, secret) = ("key_prefixes = [\"k_\"]\n", "secret_prefixes = [\"s_\"]\n");
    for good in [
        format!("{key}{secret}"),
        format!("{key}password = \"empty\"\n"),
        format!("{key}{secret}keys = \"imported\"\n"),
    ] {
        assert_eq!(told(&good), [], "{good}");
    }
    for (bad, line, message) in [
        (key.to_owned(), 7, "a surface of kind `basic` needs `secret_prefixes`"),
        (secret.to_owned(), 7, "a surface of kind `basic` needs `key_prefixes`"),
        (
            format!("{key}{secret}password = \"empty\"\n"),
            10,
            "`secret_prefixes` has no effect",
        ),
        (format!("{key}{secret}password = \"none\"\n"), 11, "`password` cannot be `none`"),
        (
            format!("{key}{secret}carry = [\"bearer\"]\n"),
            11,
            "`carry` does not belong to a surface of kind `basic`",
        ),
        (
            format!("{key}{secret}mode = \"live\"\n"),
            11,
            "no prefix of this surface is of mode `live`",
        ),
        (
            format!("key_prefixes = {{ live = \"k_\" }}\n{secret}"),
            10,
            "must have the same modes",
        ),
        (
            format!("{key}{secret}[surfaces.y]\nkind = \"basic\"\npassword = \"empty\"\n{key}"),
            11,
            "`x` and `y` have keys that begin with `k_` in the same place",
        ),
    ] {
        let found = told(&bad);
        let matching = found.iter().any(|(at, text)| *at == line && text.contains(message));
        assert!(matching, "`{message}` in line {line}: {found:#?}");
    }
}
