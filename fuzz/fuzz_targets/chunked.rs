//! A chunked body is the same body however its bytes arrive, and the same that a plain reading of the
//! grammar finds.
#![no_main]

use bytes::BytesMut;
use durward::wire::body::BodyError;
use durward::wire::chunked::{BodyDecoder, Decoded};
use durward::wire::framing::Framing;
use libfuzzer_sys::fuzz_target;

/// Data, names and values of the trailers, bytes taken; `Err` for a broken body or an unfinished one.
type Body = Result<(Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>, usize), BodyError>;

fn decode(input: &[u8], step: usize) -> Body {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let (mut buf, mut data, mut trailers, mut given) = (BytesMut::new(), Vec::new(), Vec::new(), 0);
    loop {
        match decoder.decode(&mut buf)? {
            Decoded::Data(bytes) => {
                assert!(!bytes.is_empty());
                data.extend_from_slice(&bytes);
            }
            Decoded::Trailers(fields) => {
                assert!(decoder.is_done());
                trailers = fields.iter().map(|f| (f.name.to_vec(), f.value.to_vec())).collect();
            }
            Decoded::End => return Ok((data, trailers, given - buf.len())),
            Decoded::NeedMore if given == input.len() => {
                decoder.finish()?;
                unreachable!("a chunked body does not end with its connection");
            }
            Decoded::NeedMore => {
                let end = input.len().min(given + step);
                buf.extend_from_slice(&input[given..end]);
                given = end;
            }
        }
    }
}

/// A second reading, straight from the grammar: the body of a well-formed beginning of `input`.
fn read_plainly(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let rest = &input[at..];
        let end = rest.windows(2).position(|w| w == b"\r\n")?;
        let line = rest[..end].split(|b| *b == b';').next()?;
        let digits = std::str::from_utf8(line)
            .ok()
            .filter(|l| !l.is_empty() && l.len() <= 16 && l.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let size = usize::try_from(u64::from_str_radix(digits, 16).ok()?).ok()?;
        at += end + 2;
        if size == 0 {
            return Some((data, at));
        }
        data.extend_from_slice(input.get(at..at.checked_add(size)?)?);
        at += size;
        if input.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
}

fuzz_target!(|input: &[u8]| {
    let step = input.first().map_or(1, |b| usize::from(*b) % 7 + 1);
    let whole = decode(input, usize::MAX / 2);
    assert_eq!(decode(input, step), whole, "in steps of {step}");
    if let Ok((data, trailers, used)) = whole {
        let (plain, after_last_size) = read_plainly(input).expect("what was taken is well-formed");
        assert_eq!(plain, data);
        let section = &input[after_last_size..used];
        assert!(section.ends_with(b"\r\n"));
        assert_eq!(
            section.iter().filter(|b| **b == b'\n').count(),
            trailers.len() + 1,
            "each trailer line is a trailer"
        );
        assert!(input[..used].len() <= input.len());
    }
});
