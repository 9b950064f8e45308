//! Frames are recognised however their bytes arrive, and nothing else passes.

use super::*;

/// A frame with a payload of zeros.
fn frame(first: u8, sender: FrameSender, payload: usize) -> Vec<u8> {
    let mask = if sender == FrameSender::Client { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload {
        0..=125 => out.push(mask | u8::try_from(payload).unwrap()),
        126..=0xffff => {
            out.push(mask | 126);
            out.extend(u16::try_from(payload).unwrap().to_be_bytes());
        }
        _ => {
            out.push(mask | 127);
            out.extend((payload as u64).to_be_bytes());
        }
    }
    if sender == FrameSender::Client {
        out.extend([1, 2, 3, 4]);
    }
    out.resize(out.len() + payload, 0);
    out
}

fn frames(sender: FrameSender) -> Frames {
    Frames::new(sender, Extensions::None)
}

const BOTH: [FrameSender; 2] = [FrameSender::Client, FrameSender::Server];

#[test]
fn frames_of_every_length_pass_whole() {
    for sender in BOTH {
        let all: Vec<u8> = [0, 1, 125, 126, 0xffff, 0x1_0000]
            .iter()
            .flat_map(|len| frame(0x82, sender, *len))
            .collect();
        assert_eq!(frames(sender).check(&all), (all.len(), FrameCheck::Frames));
    }
}

#[test]
fn the_place_between_frames_is_known_wherever_a_write_ends() {
    for sender in BOTH {
        let (first, second) = (frame(0x01, sender, 130), frame(0x80, sender, 2));
        let all = [first.clone(), second.clone()].concat();
        for cut in 0..=all.len() {
            let mut passed = frames(sender);
            passed.pass(&all[..cut]);
            assert_eq!(passed.is_between(), [0, first.len(), all.len()].contains(&cut), "{cut}");
            assert_eq!(passed.check(&all[cut..]), (all.len() - cut, FrameCheck::Frames), "{cut}");
            passed.pass(&all[cut..]);
            assert!(passed.is_between());
        }
        let mut single = frames(sender);
        for byte in &all {
            single.pass(&[*byte]);
        }
        assert!(single.is_between());
    }
}

#[test]
fn a_head_that_is_not_there_wholly_is_held_back() {
    for sender in BOTH {
        let all = frame(0x82, sender, 300);
        let head = all.len() - 300;
        for len in 1..head {
            assert_eq!(frames(sender).check(&all[..len]), (0, FrameCheck::Frames), "{len}");
        }
        assert_eq!(frames(sender).check(&all[..head]).0, head);
    }
}

#[test]
fn s8_a_request_is_no_frame_whatever_its_method() {
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"] {
        let request = format!("{method} /smug HTTP/1.1\r\nHost: a\r\n\r\n");
        for sender in BOTH {
            assert_eq!(frames(sender).check(request.as_bytes()), (0, FrameCheck::Garbage), "{method}");
        }
    }
    assert_eq!(
        frames(FrameSender::Server).check(b"HTTP/1.1 200 OK\r\n\r\n"),
        (0, FrameCheck::Garbage)
    );
}

#[test]
fn what_the_protocol_forbids_does_not_pass() {
    let client = |bytes: &[u8]| frames(FrameSender::Client).check(bytes);
    for (what, bytes) in [
        ("a reserved opcode", frame(0x83, FrameSender::Client, 1)),
        ("a reserved bit", frame(0xc1, FrameSender::Client, 1)),
        ("a client without a mask", frame(0x81, FrameSender::Server, 1)),
        ("a fragmented control frame", frame(0x09, FrameSender::Client, 1)),
        ("a long control frame", frame(0x89, FrameSender::Client, 126)),
        ("a continuation of nothing", frame(0x80, FrameSender::Client, 1)),
        ("a length in a longer form than needed", vec![0x82, 0xfe, 0, 125, 0, 0, 0, 0]),
        ("a length beyond 63 bits", vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        assert_eq!(client(&bytes), (0, FrameCheck::Garbage), "{what}");
    }
    let masked_server = frame(0x81, FrameSender::Client, 1);
    assert_eq!(frames(FrameSender::Server).check(&masked_server), (0, FrameCheck::Garbage));
    let partial_head = [frame(0x01, FrameSender::Client, 1), frame(0x82, FrameSender::Client, 1)].concat();
    assert_eq!(client(&partial_head), (7, FrameCheck::Garbage), "a message within another");
    let control_between = [
        frame(0x01, FrameSender::Client, 1),
        frame(0x89, FrameSender::Client, 1),
        frame(0x80, FrameSender::Client, 1),
    ];
    assert_eq!(client(&control_between.concat()), (21, FrameCheck::Frames));
    let compressed = frame(0xc1, FrameSender::Client, 1);
    let agreed = Frames::new(FrameSender::Client, Extensions::Agreed);
    assert_eq!(agreed.check(&compressed), (compressed.len(), FrameCheck::Frames));
}

#[test]
fn nothing_passes_behind_a_close() {
    for sender in BOTH {
        let close = close_frame(sender, POLICY_VIOLATION, "gone");
        let all = [close.clone(), frame(0x81, sender, 1)].concat();
        assert_eq!(frames(sender).check(&all), (close.len(), FrameCheck::Garbage));
        let mut passed = frames(sender);
        passed.pass(&close);
        assert!(!passed.is_between(), "another Close may not be put in");
        assert!(passed.has_closed() && !frames(sender).has_closed());
    }
}

#[test]
fn a_close_frame_is_what_the_protocol_says() {
    assert_eq!(close_frame(FrameSender::Server, 1008, "x"), [0x88, 3, 3, 0xf0, b'x']);
    assert_eq!(close_frame(FrameSender::Client, 1001, ""), [0x88, 0x82, 0, 0, 0, 0, 3, 0xe9]);
}
