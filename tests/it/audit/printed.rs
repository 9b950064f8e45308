//! What the commands print of entries: programs get the lines as they were recorded, and a terminal nothing that steers it.

use crate::support::gateway::{Gateway, run};
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;

use super::kept::{self, ask};

/// An escape of a terminal as one character (C1), and one that turns what is written around.
const STEERING: [char; 2] = ['\u{9b}', '\u{202e}'];

#[test]
fn entries_are_printed_as_they_were_recorded_and_steer_no_terminal() {
    let upstream = Upstream::echoing();
    let plan = Plan {
        tables: "[audit]\ndirectory = \"state/audit\"\nurl = \"full\"\nheaders = [\"user-agent\"]\n".to_owned(),
        ..Plan::usual()
    };
    let site = Site::of(&plan, upstream.address);
    let gateway = Gateway::start(&site);
    let agent = format!("User-Agent: caf\u{e9} {}31m red {}\r\n", STEERING[0], STEERING[1]);
    let response = ask(&gateway, "GET", "/public/x?q=%C2%9B", &agent, b"");
    let id = response.field("x-request-id").unwrap();
    kept::entry(&site, "request", "request_id", id);
    let recorded = std::fs::read_to_string(kept::directory(&site).join(format!("trail-{:020}.jsonl", 0))).unwrap();
    let recorded = recorded.lines().find(|line| line.contains(id)).unwrap();
    assert!(recorded.contains("caf\\u00e9 \\u009b31m red \\u202e"), "{recorded}");

    // Whoever hashes what is printed has the leaf of the tree.
    let queried = run(&site.config(), &["audit", "query", "--request", id, "--json"], b"");
    assert_eq!(queried.stdout, format!("{recorded}\n"));
    for arguments in [&["audit", "show", id][..], &["audit", "query", "--request", id], &["explain", id]] {
        let shown = run(&site.config(), arguments, b"");
        assert_eq!(shown.code, 0, "{shown:?}");
        assert!(shown.stdout.contains("/public/x") && !shown.stdout.contains(STEERING), "{shown:?}");
        if arguments[1] == "show" {
            // Letters stay letters.
            assert!(shown.stdout.contains("caf\u{e9} \\u009b31m red \\u202e"), "{shown:?}");
            let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
            assert_eq!(shown, serde_json::from_str::<serde_json::Value>(recorded).unwrap());
        }
    }
}
