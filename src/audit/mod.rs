//! The audit trail: an entry for every request however it ends, for what operators do, for changes of the configuration and
//! for what could not be recorded; and the evidence that the trail is whole. `docs/audit.md` has the format of the files.
//!
//! What the writer keeps, because `verify` rests on it:
//! - A checkpoint is signed when all that it covers is on the disk: lines, leaves, nodes and bodies.
//! - A checkpoint is appended to `trail-….checkpoints` (with an empty line after it), then it replaces `checkpoint`.
//! - A segment ends with a checkpoint of its own end, before the next segment begins; so does an orderly stop, after `stop`.
//! - Bodies are on the disk before the lines that name them. Recovery cuts a torn line, the leaves and nodes beyond the last whole
//!   line, a torn checkpoint, and bodies of entries that are not there.
//! - An entry `retention` (`"files":"trail"` or `"bodies"`, `"before_seq":N`) is on the disk before old segments are removed;
//!   an entry `erase` before the body is. So whoever removes one without an entry is found.

pub mod action;
mod archivist;
mod batch;
mod bodies;
pub mod body;
pub mod changes;
pub mod checkpoint;
pub mod closed;
pub mod configuration;
mod disk;
pub mod entry;
mod erasing;
pub(crate) mod fields;
pub mod files;
pub(crate) mod index;
pub mod mask;
mod open_files;
pub mod others;
mod pages;
pub mod prove;
pub mod query;
pub mod recovery;
pub mod report;
pub mod segments;
pub mod settings;
mod spare_time;
mod syncer;
pub mod tenants;
pub mod trail;
pub mod tree;
pub mod verify;
mod writer;
