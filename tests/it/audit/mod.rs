//! The audit trail and its commands through the real binary.

mod asking;
mod bodies;
mod entries;
mod evidence;
mod explain;
mod hatchpay;
mod operator;
mod tenants;
mod trail;
