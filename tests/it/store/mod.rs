//! The behaviour of stores: one suite over every implementation, cached and not, against real processes.

mod cached;
mod contract;
mod embedded;
mod fixture;
mod redis;
mod wrapper;
