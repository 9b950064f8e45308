//! The behaviour of stores: one suite over every implementation, cached and not, against real processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed, and this says where"
)]

mod again;
mod asked_together;
mod bench;
mod cached;
mod cluster;
mod contract;
mod embedded;
mod failover;
mod fixture;
mod flights;
mod killed;
mod links;
mod marks;
mod peppers;
mod populated;
mod primary_at;
mod providers;
mod receipts;
mod redis;
mod redis_tls;
mod registrations;
mod replicas;
mod rests_on;
mod revalidated;
mod rights;
mod roles;
mod sentinel;
mod sweeping;
mod together;
mod trees;
mod vouching;
mod wrapper;
