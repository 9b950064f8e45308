//! Single sign-on: identity providers, what they prove about a person, and what of it is secret.

#[allow(dead_code, reason = "the served routes of single sign-on ask it")]
pub mod directory;
pub mod log_in_record;
pub mod provider;
pub mod records;
pub mod seal;
