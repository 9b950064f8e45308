//! Issuers: routes that the gateway serves itself, which make, list, change and end credentials.

pub mod answer;
pub mod body;
pub mod call;
pub mod cookie;
pub mod engine;
pub mod fields;
pub mod form;
pub mod hook;
pub mod making;
pub mod narrow;
pub mod page;
pub mod password;
pub mod path;
pub mod queue;
pub mod spec;
pub mod throttle;
pub mod token;
