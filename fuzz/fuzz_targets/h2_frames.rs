//! Whatever frames a client sends over HTTP/2, the library behind reads what passes, with the client's table.
#![no_main]

use durward::server::tables_agree;
use libfuzzer_sys::fuzz_target;

/// A header block of one frame: the fuzzer would spend its time on lengths otherwise.
fn framed(stream: u32, block: &[u8]) -> Vec<u8> {
    let length = u32::try_from(block.len()).unwrap_or(0).to_be_bytes();
    [&length[1..], &[1, 4], &stream.to_be_bytes(), block].concat()
}

fuzz_target!(|input: (u8, &[u8], Vec<&[u8]>)| {
    let (piece, raw, blocks) = input;
    assert!(tables_agree(raw, usize::from(piece)));
    let streams = (0..u32::MAX).map(|n| 2 * n + 1);
    let frames: Vec<u8> = streams.zip(&blocks).flat_map(|(stream, block)| framed(stream, block)).collect();
    assert!(tables_agree(&frames, usize::from(piece)));
});
