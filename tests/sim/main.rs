//! Gateways, a store and a network in virtual time, with everything going wrong that a seed can think
//! of: the promise of revocation against a reference model. A binary of its own, since it uses every
//! core for a minute and must not stand in the way of tests that measure time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    reason = "numbers of a simulated Redis are small"
)]
#![allow(clippy::disallowed_methods, reason = "virtual time is read here, and how long the play takes")]
#![allow(clippy::print_stdout, reason = "figures and seeds are what this is run for")]
#![allow(clippy::too_many_arguments, reason = "an outcome has as many parts as the model judges")]
#![allow(clippy::needless_pass_by_value, reason = "acts and Lua's arguments are used once")]

mod callers;
mod calls;
mod cast;
mod chance;
mod cluster;
mod database;
mod directed;
mod directed_marks;
mod directed_receipts;
mod directed_revalidation;
mod failover;
mod faults;
mod gateway;
mod judging;
mod ledger;
mod lua;
mod model;
mod parts;
mod paths;
mod pipe;
mod plan;
mod receipts;
mod replication;
mod resp;
mod seeds;
mod sentinels;
mod served;
mod waits;
mod world;
