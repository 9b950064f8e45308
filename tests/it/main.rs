//! Every test that needs more than one module: one binary, one link.

mod e2e;
mod hostile;
mod support;
mod tidy;
