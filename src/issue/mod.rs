//! Issuers: routes that the gateway serves itself, which make, list, change and end credentials.

pub mod body;
pub mod fields;
pub mod password;
pub mod path;
pub mod spec;
pub mod throttle;
