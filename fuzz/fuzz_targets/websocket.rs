//! Whatever either side sends through a tunnel: however it is cut, the same bytes pass, and nothing behind a Close or garbage.
#![no_main]

use durward::wire::websocket::{Extensions, FrameCheck, FrameSender, Frames};
use libfuzzer_sys::fuzz_target;

/// Feeds `bytes` in pieces, and lets pieces of them pass; how many passed, what was found at last, and how
/// things stand then.
fn tunnel(mut frames: Frames, bytes: &[u8], mut piece: impl FnMut() -> usize) -> (usize, FrameCheck, bool, bool) {
    let (mut passed, mut arrived) = (0, 0);
    loop {
        let (pass, found) = frames.check(&bytes[passed..arrived]);
        assert!(passed + pass <= arrived, "more passes than there is");
        if pass > 0 {
            // The other side may take less than it is given.
            let taken = pass.min(piece().max(1));
            frames.pass(&bytes[passed..passed + taken]);
            passed += taken;
        } else if found == FrameCheck::Garbage || arrived == bytes.len() {
            return (passed, found, frames.is_between(), frames.has_closed());
        } else {
            arrived = (arrived + piece().max(1)).min(bytes.len());
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [mode, step, bytes @ ..] = bytes else { return };
    let sender = if mode & 1 == 0 { FrameSender::Client } else { FrameSender::Server };
    let extensions = if mode & 2 == 0 { Extensions::None } else { Extensions::Agreed };
    let frames = Frames::new(sender, extensions);
    let whole = tunnel(frames, bytes, || usize::MAX / 2);
    let single = tunnel(frames, bytes, || 1);
    let mut state = u32::from(*step) | 1;
    let uneven = tunnel(frames, bytes, || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::from(state.to_be_bytes()[0])
    });
    assert_eq!(whole, single);
    assert_eq!(whole, uneven);
    let (passed, found, between, closed) = whole;
    assert!(
        passed == bytes.len() || found == FrameCheck::Garbage || bytes.len() - passed < 14,
        "only a head is held back"
    );
    assert!(!closed || !between, "nothing is put in behind a Close");
});
