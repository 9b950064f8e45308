//! Served routes: what the gateway itself answers. They make, list, change and end credentials.

pub mod answer;
pub mod body;
pub mod call;
pub mod engine;
pub mod entry_filter;
pub mod fields;
pub mod form;
pub mod hash_queue;
pub mod hook;
pub mod minting;
pub mod narrow;
pub mod page;
pub mod password;
pub mod throttle;
pub mod token;
pub mod trail_reader;
