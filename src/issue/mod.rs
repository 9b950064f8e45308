//! Issuers: routes that the gateway serves itself, which make, list, change and end credentials.

pub mod password;
pub mod spec;
