//! What becomes of callers while the store is down, slow, cut off or lying: hardening part 4.3, row by row.
//!
//! Run by `cargo test` with an age limit of 3 s and small loads; by `scripts/faults` with the defaults
//! of the product (30 s) and full loads. What the small one leaves out is said by [`the_quick_run_says_what_it_leaves_out`].

mod network;
mod proxy;
mod row;
mod scene;
mod watch;
