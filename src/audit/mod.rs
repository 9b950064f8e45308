//! The audit trail: an entry for every request however it ends, for what operators do, for changes of the configuration and
//! for what could not be recorded; and the evidence that the trail is whole. `docs/audit.md` has the format of the files.

pub mod body;
pub mod mask;
pub mod settings;
