//! Every test that needs more than one module: one binary, one link.

mod e2e;
mod hostile;
mod server;
mod support;
mod tidy;
