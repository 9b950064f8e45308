//! The same calls by the client that the documentation shows: `DURWARD_TEST_CLIENT=curl`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::gateway::Gateway;
use crate::support::raw::Response;

/// Longest run of one curl, far above any answer here.
const LONGEST: Duration = Duration::from_secs(30);

/// Whether calls are made by curl. Another client than curl is a mistake in the environment.
pub(super) fn is_wanted() -> bool {
    match std::env::var("DURWARD_TEST_CLIENT") {
        Ok(client) => {
            assert_eq!(client, "curl", "DURWARD_TEST_CLIENT is curl or not set");
            true
        }
        Err(_) => false,
    }
}

/// A request by curl, with the fields as they are given and its own `User-Agent` and `Accept`.
pub(super) fn call(gateway: &Gateway, method: &str, target: &str, fields: &[(&str, &str)], body: &str) -> Response {
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--include",
        "--http1.1",
        "--path-as-is",
        "--globoff",
        "--max-time",
    ]);
    curl.arg(LONGEST.as_secs().to_string());
    if method == "HEAD" {
        curl.arg("--head");
    } else {
        curl.args(["--request", method]);
    }
    curl.args(["--header", "Host: localhost"]);
    for (name, value) in fields {
        // An empty value would otherwise take the field away.
        let field = if value.is_empty() {
            format!("{name};")
        } else {
            format!("{name}: {value}")
        };
        curl.args(["--header", &field]);
    }
    if !body.is_empty() || (method != "GET" && method != "HEAD") {
        let typed = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if !typed {
            // Without a body there is no type either; curl would say it is a form.
            curl.args([
                "--header",
                if body.is_empty() {
                    "Content-Type:"
                } else {
                    "Content-Type: application/json"
                },
            ]);
        }
        curl.args(["--data-binary", "@-"]);
    }
    curl.arg(format!("http://{}{target}", gateway.address("public")));
    let mut child = curl
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("curl is installed");
    // An answer may come before the body was read to its end.
    let _ = child.stdin.take().unwrap().write_all(body.as_bytes());
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "curl {method} {target}: {error}");
    parse(&output.stdout)
}

/// The final answer of what `--include` printed; curl has put chunks together.
pub(super) fn parse(printed: &[u8]) -> Response {
    let mut rest = printed;
    loop {
        let end = memchr::memmem::find(rest, b"\r\n\r\n").unwrap_or_else(|| panic!("no head in {}", rest.escape_ascii())) + 4;
        let (head, body) = rest.split_at(end);
        let mut response = crate::support::raw::parse_head(head);
        if response.status >= 200 {
            response.body = body.to_vec();
            response.complete = true;
            return response;
        }
        rest = body;
    }
}
