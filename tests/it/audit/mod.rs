//! The audit trail and its commands through the real binary.

mod evidence;
mod explain;
mod hatchpay;
