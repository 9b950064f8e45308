//! What a store says of itself, for metrics and readiness.

use crate::base::clock::BootMillis;
use crate::base::principal::Position;

use super::events;

/// Whether a store makes changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writes {
    /// Why changes are not made at present, and what to do about it; `None` when they are.
    pub refused: Option<String>,
    /// Failures to write since the process began.
    pub failed: u64,
    /// How often the store was opened again after one.
    pub reopened: u64,
}

/// How well a store's events reach this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreStatus {
    /// What the event reader is doing.
    pub reader: events::ReaderState,
    /// The position of the last event delivered to the sinks.
    pub applied: Position,
    /// When the store was last heard, on the boot clock; zero before that and for stores in-process.
    pub heard_at: BootMillis,
}
