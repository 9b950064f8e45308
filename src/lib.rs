//! durward: an authentication gateway. It terminates TLS, proves who is calling, refuses everyone
//! else in the dialect the API documents, and forwards the rest with the tenant and the scopes in
//! headers no client can forge.
//!
//! # How to read it
//!
//! Start with [`gateway`]: it is the request path, top to bottom, and the only file that knows the
//! order of the steps. Everything it calls is one of three things: a pure decision ([`decide`]), a
//! look-up of facts ([`resolver`] over [`store`]), or the forwarding itself ([`upstream`]).
//!
//! Arrows point down and `tests/it/tidy.rs` holds them:
//!
//! ```text
//! cli -> admin -> config, server -> gateway -> issue, upstream -> resolver, dialect
//!     -> store, telemetry -> decide -> wire -> base
//! ```
//!
//! # Invariants (each is a test)
//!
//! 1. `decide` and `wire` perform no I/O and read no clock.
//! 2. No cache holds a decision: `authorize` runs on every request, on fresh-enough facts.
//! 3. Nothing reaches an upstream without a [`decide::authorize::Permit`]; only `authorize` makes one.
//! 4. The secret part of a credential never leaves extract and resolve; beyond them only the
//!    fingerprint exists. No log line, metric, error, `Debug`, audit entry or panic holds a secret.
//! 5. A store *failure* is never a 401, and an *absence* is never a 503.
//! 6. After `peer`, no forwarded header of an untrusted client exists; after `headers`, no identity
//!    header of any client exists, in any spelling.
//! 7. One `RequestTarget` is matched *and* forwarded. Ambiguous input is refused, never repaired.
//! 8. Configuration is never validated on the request path.
//! 9. Every queue, buffer, wait, table and retry has a bound.
#![forbid(unsafe_code)]
#![cfg_attr(not(feature = "internals"), warn(missing_docs))]

/// The command line: all that the binary calls.
pub mod cli;

// What only the crate itself needs is private to it, so that the compiler finds what nothing uses. Tests and benchmarks
// look inside: they are built with the feature `internals`.
#[cfg(not(feature = "internals"))]
mod admin;
#[cfg(not(feature = "internals"))]
mod base;
#[cfg(not(feature = "internals"))]
mod config;
#[cfg(not(feature = "internals"))]
mod decide;
#[cfg(not(feature = "internals"))]
mod dialect;
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
pub mod base;
#[cfg(feature = "internals")]
pub mod config;
#[cfg(feature = "internals")]
pub mod decide;
#[cfg(feature = "internals")]
pub mod dialect;
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
pub mod snapshot;
#[cfg(feature = "internals")]
pub mod store;
#[cfg(feature = "internals")]
pub mod telemetry;
#[cfg(feature = "internals")]
pub mod upstream;
#[cfg(feature = "internals")]
pub mod wire;
