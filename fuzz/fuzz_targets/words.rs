//! Whatever a Redis server, a sentinel or a node of a cluster tells besides answers to look-ups.
#![no_main]

use durward::store::redis::parse_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (name, bytes) = input;
    if let Some((written, again)) = parse_bytes(name, bytes) {
        assert_eq!(again, Some(written), "what was read is read again as it was");
    }
});
