//! What has ended makes nothing, and nothing made may do more than its maker may now: on routes that
//! the gateway serves itself, through the real binary and over both stores.

mod deaf;
mod held;
mod killed;
mod narrowing;
mod queue;
mod reach;
pub(crate) mod scene;
mod unconfirmed;
