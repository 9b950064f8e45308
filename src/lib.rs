//! durward: an authentication gateway. It terminates TLS, proves who is calling, refuses everyone else in the words that the API
//! documents, and forwards the rest with the tenant and the scopes in headers that no client can forge.
//!
//! Begin with [`gateway::handle`]: the request path from top to bottom, in the only file that knows the order of the steps. Each
//! step is one of three things: a pure decision ([`decide`]), a look-up of facts ([`resolver`] over [`store`]), or the forwarding
//! itself ([`upstream`]).
//!
//! `docs/architecture.md` is the map: the folders and the arrows between them, one request and one revocation with file names, what
//! must never be there, and where a change begins. `docs/glossary.md` has the words.
#![forbid(unsafe_code)]
#![cfg_attr(not(feature = "internals"), warn(missing_docs))]

/// The command line: all that the binary calls.
pub mod cli;

// What only the crate itself needs is private to it, so that the compiler finds what nothing uses. Tests and benchmarks
// look inside: they are built with the feature `internals`.
#[cfg(not(feature = "internals"))]
mod admin;
#[cfg(not(feature = "internals"))]
mod audit;
#[cfg(not(feature = "internals"))]
mod base;
#[cfg(not(feature = "internals"))]
mod config;
#[cfg(not(feature = "internals"))]
mod decide;
#[cfg(not(feature = "internals"))]
mod dialect;
#[cfg(not(feature = "internals"))]
mod fetch;
#[cfg(not(feature = "internals"))]
mod gateway;
#[cfg(not(feature = "internals"))]
mod issue;
#[cfg(not(feature = "internals"))]
mod jwks;
#[cfg(not(feature = "internals"))]
mod limit;
#[cfg(not(feature = "internals"))]
mod resolver;
#[cfg(not(feature = "internals"))]
mod server;
#[cfg(not(feature = "internals"))]
mod sign_on;
#[cfg(not(feature = "internals"))]
mod snapshot;
#[cfg(not(feature = "internals"))]
mod store;
#[cfg(not(feature = "internals"))]
mod telemetry;
#[cfg(not(feature = "internals"))]
mod upstream;
#[cfg(not(feature = "internals"))]
mod wire;

#[cfg(feature = "internals")]
pub mod admin;
#[cfg(feature = "internals")]
pub mod audit;
#[cfg(feature = "internals")]
pub mod base;
#[cfg(feature = "internals")]
pub mod config;
#[cfg(feature = "internals")]
pub mod decide;
#[cfg(feature = "internals")]
pub mod dialect;
#[cfg(feature = "internals")]
pub mod fetch;
#[cfg(feature = "internals")]
pub mod gateway;
#[cfg(feature = "internals")]
pub mod issue;
#[cfg(feature = "internals")]
pub mod jwks;
#[cfg(feature = "internals")]
pub mod limit;
#[cfg(feature = "internals")]
pub mod resolver;
#[cfg(feature = "internals")]
pub mod server;
#[cfg(feature = "internals")]
pub mod sign_on;
#[cfg(feature = "internals")]
pub mod snapshot;
#[cfg(feature = "internals")]
pub mod store;
#[cfg(feature = "internals")]
pub mod telemetry;
#[cfg(feature = "internals")]
pub mod upstream;
#[cfg(feature = "internals")]
pub mod wire;
