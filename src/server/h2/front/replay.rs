//! The entry for fuzzing of what a client sends over HTTP/2.

use super::hpack::Decoder;
use super::{Found, Front, MAX_FRAME, PREFACE, Parts, Passed, find, join};

/// Puts what a client sends after its preface through a front, `piece` bytes at a time (at least one), and reads the header
/// blocks that pass as the library reads them. Answers whether each is one that the library can read and fits into its
/// frames, and whether the library's table begins with entries of the same sizes as the client's at the end. (It may have
/// older ones besides, which the client has forgotten and never names.) Of a connection that the client broke nothing is
/// asked, since the library ends it.
#[must_use]
pub fn tables_agree(bytes: &[u8], piece: usize) -> bool {
    let mut front = Front::new();
    let _ = front.look(&[b'x'; PREFACE]);
    let mut passed = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        match front.look(piece) {
            Passed::Unchanged => passed.extend_from_slice(piece),
            Passed::Instead => {
                while let Some(ready) = front.take_ready(usize::MAX / 2) {
                    passed.extend_from_slice(ready);
                }
            }
        }
    }
    front.broken || agrees(&passed, &front.decoder)
}

fn agrees(mut passed: &[u8], client: &Decoder) -> bool {
    let mut library = Decoder::default();
    loop {
        let length = match find(passed) {
            Found::Other(length) => length,
            Found::Block(length) => {
                let Some(parts) = passed.get(..length).and_then(Parts::of) else {
                    return false;
                };
                let block = join(parts.fragment, parts.rest);
                if parts.frame.length > MAX_FRAME || library.decode(&block, |_| {}, |_| {}).is_err() {
                    return false;
                }
                length
            }
            // What has not come whole is held back.
            Found::Partial => break,
            Found::Broken => return false,
        };
        passed = passed.get(length..).unwrap_or_default();
    }
    client.len() <= library.len() && (0..client.len()).all(|at| size(client.nth(at)) == size(library.nth(at)))
}

const fn size((name, value): (&[u8], &[u8])) -> usize {
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
        assert!(!agrees(&good, &Decoder::default()));
    }
}
