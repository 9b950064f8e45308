//! Whatever a client shows as a session ticket: only what a gateway made is read.
#![no_main]

use durward::server::tls::only_made_tickets_are_read;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (at, bytes) = input;
    assert!(only_made_tickets_are_read(bytes, usize::from(at)));
});
