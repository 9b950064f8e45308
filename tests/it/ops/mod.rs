//! The operator's side: the command line's contract, the private socket, probes, receipts and drills, the demo.

mod cli;
mod demo;
mod descriptors;
mod disk;
mod drill;
mod operator;
mod people;
mod providers;
mod receipts;
mod registrations;
mod replicas;
mod rights;
mod secrets;
mod sessions;
mod words;

use crate::support::gateway::Gateway;
use crate::support::raw::Client;

/// The status of a call that needs `orders:read`, with this key.
fn status(gateway: &Gateway, key: &str) -> u16 {
    let mut client = Client::connect(gateway.address("plain"));
    client.send(format!("GET /v1/orders/1 HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer {key}\r\n\r\n").as_bytes());
    client.response().expect("an answer").status
}

/// A live key of `acme` that may read orders: its id and itself.
fn make_key(gateway: &Gateway) -> (String, String) {
    let made = gateway.create_key("api", "acme", &["--mode", "live", "--scope", "orders:read"]);
    (made["id"].as_str().unwrap().into(), made["key"].as_str().unwrap().into())
}

/// Status and body of an answer of the probes.
fn probe(gateway: &Gateway, path: &str) -> (u16, String) {
    let mut client = Client::connect(gateway.probes());
    client.send(format!("GET {path} HTTP/1.1\r\nHost: probes\r\n\r\n").as_bytes());
    let answer = client.response().expect("an answer");
    (answer.status, String::from_utf8(answer.body).unwrap())
}
