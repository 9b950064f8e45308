//! Every test that needs more than one module: one binary, one link.

mod hostile;
mod ops;
mod server;
mod store;
mod support;
mod tidy;
