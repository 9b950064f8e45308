//! The entry for fuzzing of what a client sends over HTTP/2.

use super::hpack::Decoder;
use super::{BlockParts, FrameSearch, HeaderFilter, Passed, find, join};
use crate::server::h2::frame::{MAX_FRAME, PREFACE};

/// Filters what a client sends after its preface, in pieces of `piece` bytes (at least one), and reads the header
/// blocks that pass as the library reads them.
///
/// Returns whether the library can read each block, each block fits into its frames, and the library's table begins
/// with entries of the same sizes as the client's table at the end. The library's table may have older entries as well,
/// which the client has evicted and never names. A connection that the client broke always passes, since the library
/// ends it.
#[must_use]
pub fn tables_agree(bytes: &[u8], piece: usize) -> bool {
    let mut header_filter = HeaderFilter::new();
    let _ = header_filter.filter(&[b'x'; PREFACE]);
    let mut passed = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        match header_filter.filter(piece) {
            Passed::Unchanged => passed.extend_from_slice(piece),
            Passed::Replaced => {
                while let Some(ready) = header_filter.take_ready(usize::MAX / 2) {
                    passed.extend_from_slice(ready);
                }
            }
        }
    }
    header_filter.broken || agrees(&passed, &header_filter.decoder)
}

fn agrees(mut passed: &[u8], client: &Decoder) -> bool {
    let mut library = Decoder::default();
    loop {
        let length = match find(passed) {
            FrameSearch::Other(length) => length,
            FrameSearch::Block(length) => {
                let Some(parts) = passed.get(..length).and_then(BlockParts::of) else {
                    return false;
                };
                let block = join(parts.fragment, parts.rest);
                if parts.frame.length > MAX_FRAME || library.decode(&block, |_| {}, |_| {}).is_err() {
                    return false;
                }
                length
            }
            // An incomplete block is held back.
            FrameSearch::Partial => break,
            FrameSearch::Broken => return false,
        };
        passed = passed.get(length..).unwrap_or_default();
    }
    client.len() <= library.len() && (0..client.len()).all(|at| size(client, at) == size(&library, at))
}

fn size(table: &Decoder, at: usize) -> usize {
    let (name, value) = table.nth(at);
    name.len() + value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_and_bad_blocks_leave_the_tables_alike_and_another_table_is_noticed() {
        // A literal that becomes an entry: `x-a: b`; then one with a name that is none.
        let good = [&[0, 0, 7, 1, 4, 0, 0, 0, 1, 0x40, 3][..], b"x-a", &[1], b"b"].concat();
        let bad = [&[0, 0, 7, 1, 4, 0, 0, 0, 3, 0x40, 3][..], b"X a", &[1], b"b"].concat();
        for frames in [good.clone(), bad.clone(), [good.clone(), bad].concat()] {
            for piece in 1..20 {
                assert!(tables_agree(&frames, piece), "{frames:?} by {piece}");
            }
        }
        let mut client = Decoder::default();
        client.decode(&good[9..], |_| {}, |_| {}).unwrap();
        assert!(agrees(&good, &client));
        assert!(!agrees(&[], &client), "the library's table lacks an entry of the client's");
    }
}
