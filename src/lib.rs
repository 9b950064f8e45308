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

pub mod admin;
pub mod base;
pub mod cli;
pub mod config;
pub mod decide;
pub mod dialect;
pub mod gateway;
pub mod issue;
pub mod jwks;
pub mod limit;
pub mod resolver;
pub mod server;
pub mod snapshot;
pub mod store;
pub mod telemetry;
pub mod upstream;
pub mod wire;
