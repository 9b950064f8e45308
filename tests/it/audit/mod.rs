//! The audit trail and its commands through the real binary.

mod asking;
mod bodies;
mod canaries;
mod configuration;
mod each;
mod entries;
mod erased;
mod events;
mod evidence;
mod explain;
mod explained;
mod hatchpay;
mod http2;
mod kept;
mod operator;
mod printed;
mod report;
mod tampering;
mod tenants;
mod trail;
mod witnesses;
