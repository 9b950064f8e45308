//! Ring 3: what the gateway promises its operators and callers, shown through the real binary.

mod admission;
mod basic;
mod canaries;
mod clients;
mod disconnects;
mod failures;
pub(crate) mod h2;
mod lifecycle;
mod limits;
mod live;
mod live_away;
mod live_keys;
mod live_soon;
mod outage;
mod pages;
mod pair;
mod peppers;
mod readme;
mod slow;
mod stalled;
mod streams;
mod tickets;
mod upgrade;
mod upgrade_attacks;

use serde_json::Value;

use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};

/// A number from the environment: long variants of a test ask for more than the default run.
fn scale(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// A request on a connection of its own.
fn call(gateway: &Gateway, method: &str, target: &str, fields: &[(&str, &str)]) -> Response {
    let mut client = Client::connect(gateway.address("plain"));
    client.send(&head(method, target, fields));
    client.final_response_to(method).expect("an answer")
}

/// A GET with a bearer key.
fn get(gateway: &Gateway, target: &str, key: &str) -> Response {
    call(gateway, "GET", target, &[("Authorization", &format!("Bearer {key}"))])
}

fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let lines: String = fields.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").into_bytes()
}

/// A member of a JSON object, as text.
fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("{member} in {value}")).to_owned()
}

/// The status and the code of a refusal (RFC 9457 body, `code` member).
fn refusal(response: &Response) -> (u16, String) {
    assert_eq!(response.field("cache-control"), Some("no-store"), "{response:?}");
    assert!(response.field("x-request-id").is_some(), "{response:?}");
    (response.status, text(&response.json(), "code"))
}
