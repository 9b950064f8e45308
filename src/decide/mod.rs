//! Pure decisions: facts and `now` in, a value out. No I/O, no clock, no `.await`.

pub mod accept;
pub mod audit;
pub mod authorize;
pub mod cors;
pub mod external;
pub mod extract;
pub mod headers;
pub mod host;
pub mod kinds;
pub mod method;
pub mod peer;
pub mod rate;
pub mod return_to;
pub mod route;
#[cfg(test)]
pub(crate) mod samples;
pub mod scope_grants;
pub mod surface;
pub mod target;
pub mod token;
pub mod upgrade;
pub mod validity;
