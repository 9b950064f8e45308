//! Models that explore every order in which reads, changes and events can meet.

mod model;
mod write_model;
