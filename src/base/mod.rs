//! The vocabulary of the domain. No I/O except the clock, which is read here and nowhere else.

pub mod authority;
pub mod clock;
pub mod credential;
pub mod denial;
pub mod fingerprint;
pub mod ids;
pub mod interned;
pub mod key;
pub mod login;
pub mod network;
pub mod percent;
pub mod principal;
pub mod scope;
pub mod text;
