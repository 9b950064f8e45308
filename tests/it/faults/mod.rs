//! What becomes of callers while the store is down, slow, cut off or lying: hardening part 4.3, row by row.

mod proxy;
