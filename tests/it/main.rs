//! Every test that needs more than one module: one binary, one link.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed"
)]

mod audit;
mod config;
mod e2e;
mod examples;
mod faults;
mod hostile;
mod issue;
mod issuers;
mod ops;
mod served;
mod server;
mod sign_on;
mod store;
mod support;
mod tidy;
