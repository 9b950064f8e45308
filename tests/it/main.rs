//! Every test that needs more than one module: one binary, one link.

mod hostile;
mod store;
mod support;
mod tidy;
