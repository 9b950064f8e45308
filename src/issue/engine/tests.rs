//! The engine over a store.
