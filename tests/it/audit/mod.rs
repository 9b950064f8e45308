//! The audit trail and its commands through the real binary.

mod asking;
mod bodies;
mod configuration;
mod entries;
mod events;
mod evidence;
mod explain;
mod hatchpay;
mod operator;
mod trail;
