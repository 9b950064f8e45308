//! Exit codes and messages of commands that reach no gateway.

use std::process::Command;

use crate::support::gateway::{Answer, run};
use crate::support::site::Site;

fn durward(args: &[&str]) -> Answer {
    let output = Command::new(env!("CARGO_BIN_EXE_durward")).args(args).output().unwrap();
    Answer {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn site() -> Site {
    Site::usual("127.0.0.1:9".parse().unwrap())
}

#[test]
fn wrong_usage_exits_2_and_says_what_would_have_been_right() {
    let site = site();
    let cases: [(&[&str], &str); 13] = [
        (&["srve"], "serve"),
        (&["keys"], "create"),
        (&["keys", "creat"], "create"),
        (&["keys", "create"], "--surface <NAME>"),
        (&["keys", "create", "--surface", "api"], "--tenant <ID>"),
        (
            &["keys", "create", "--surface", "api", "--tenant", "a", "--mode", "prod"],
            "test, live",
        ),
        (&["keys", "create", "--surfaces", "api"], "--surface"),
        (&["keys", "list", "--limit", "5000"], "1..=1000"),
        (&["keys", "revoke"], "<ID>"),
        (&["keys", "revoke", "../tenants"], "A-Z a-z 0-9"),
        (&["keys", "import", "--surface", "api", "--tenant", "a"], "--sha256 <HEX>"),
        (&["keys", "import", "--file", "-", "--sha256", "00"], "cannot be used with"),
        (&["tenants", "enable"], "<ID>"),
    ];
    for (args, want) in cases {
        let answer = run(&site.config(), args, b"");
        assert_eq!(answer.code, 2, "{args:?}: {answer:?}");
        assert!(answer.stderr.contains(want), "{args:?}: {}", answer.stderr);
        assert_eq!(answer.stdout, "", "{args:?}");
    }
    assert_eq!(durward(&[]).code, 2);
}

#[test]
fn help_and_version_are_no_mistake() {
    for args in [["--help"], ["--version"]] {
        let answer = durward(&args);
        assert_eq!((answer.code, answer.stderr.as_str()), (0, ""), "{answer:?}");
        assert!(answer.stdout.contains("durward"));
    }
    assert!(!durward(&["--help"]).stdout.contains("sample-upstream"));
}

#[test]
fn a_command_without_its_gateway_exits_4_and_says_which_path_and_what_to_start() {
    let site = site();
    let answer = run(&site.config(), &["keys", "list"], b"");
    assert_eq!(answer.code, 4, "{answer:?}");
    assert!(
        answer.stderr.contains("durward serve --config") && answer.stderr.contains("state/admin.sock"),
        "{answer:?}"
    );
    let answer = run(&site.config(), &["keys", "list", "--json"], b"");
    let error: serde_json::Value = serde_json::from_str(&answer.stderr).unwrap();
    assert_eq!((answer.code, &error["error"]["code"]), (4, &"unavailable".into()));
}

#[test]
fn a_configuration_that_is_missing_or_wrong_exits_78() {
    let site = site();
    for args in [&["check"][..], &["serve"], &["keys", "list"]] {
        let answer = run(&site.folder().join("nowhere.toml"), args, b"");
        assert_eq!(answer.code, 78, "{args:?}: {answer:?}");
        assert!(answer.stderr.contains("nowhere.toml"), "{answer:?}");
    }
    site.write("gateway.toml", "listenerz = []\n");
    let answer = run(&site.config(), &["check", "--json"], b"");
    let report = answer.json();
    assert_eq!((answer.code, &report["valid"]), (78, &false.into()));
    assert!(
        report["problems"]
            .as_array()
            .unwrap()
            .iter()
            .any(|p| p["line"] == 1 && p["message"].as_str().unwrap().contains("listenerz")),
        "{report}"
    );
}

#[test]
fn global_options_stand_in_any_position() {
    let site = site();
    let config = site.config().display().to_string();
    for args in [
        ["--json", "--config", &config, "check"],
        ["check", "--config", &config, "--json"],
        ["--config", &config, "check", "--json"],
    ] {
        let answer = durward(&args);
        assert_eq!(answer.code, 0, "{answer:?}");
        assert_eq!(answer.json()["valid"], true);
    }
}
