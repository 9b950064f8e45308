//! The audit trail and its commands through the real binary.

mod bodies;
mod evidence;
mod explain;
mod trail;
