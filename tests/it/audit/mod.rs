//! The audit trail.

mod evidence;
