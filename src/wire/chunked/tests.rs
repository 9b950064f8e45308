//! Chunked bodies as text, whole and byte by byte.

use super::*;

/// Data, trailers, and what is left over.
type Body = (Vec<u8>, Option<Fields>, Vec<u8>);

/// Decodes `input`, given in pieces of `step` bytes.
fn decode(framing: Framing, input: &[u8], step: usize) -> Result<Body, BodyError> {
    let mut decoder = BodyDecoder::new(framing);
    let (mut buf, mut data, mut trailers) = (BytesMut::new(), Vec::new(), None);
    let mut pieces = input.chunks(step);
    loop {
        match decoder.decode(&mut buf)? {
            Decoded::Data(bytes) => {
                assert!(!bytes.is_empty());
                data.extend_from_slice(&bytes);
            }
            Decoded::Trailers(fields) => trailers = Some(*fields),
            Decoded::End => {
                let mut rest = buf.to_vec();
                pieces.for_each(|p| rest.extend_from_slice(p));
                return Ok((data, trailers, rest));
            }
            Decoded::NeedMore => match pieces.next() {
                Some(piece) => buf.extend_from_slice(piece),
                None => {
                    decoder.finish()?;
                    return Ok((data, trailers, Vec::new()));
                }
            },
        }
    }
}

#[test]
fn chunks_are_joined_and_the_next_request_is_left_alone() {
    let input = b"3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\nGET /";
    for step in [1, 2, 3, 7, 100] {
        let (data, trailers, rest) = decode(Framing::Chunked, input, step).unwrap();
        assert_eq!(
            (data.as_slice(), trailers.is_none(), rest.as_slice()),
            (b"abc0123456789".as_slice(), true, b"GET /".as_slice())
        );
    }
}

#[test]
fn trailers_come_last() {
    let input = b"1\r\na\r\n0\r\nGrpc-Status: 0\r\nX: y\r\n\r\nGET /";
    for step in [1, 5, 100] {
        let (data, trailers, rest) = decode(Framing::Chunked, input, step).unwrap();
        let trailers = trailers.unwrap();
        assert_eq!((data.as_slice(), rest.as_slice()), (b"a".as_slice(), b"GET /".as_slice()));
        assert_eq!(
            (trailers.one("grpc-status"), trailers.one("x")),
            (Ok(Some(b"0".as_slice())), Ok(Some(b"y".as_slice())))
        );
    }
}

#[test]
fn s6_a_broken_chunk_is_refused_however_it_arrives() {
    for bad in [
        "0x2\r\nab\r\n0\r\n\r\n",
        "0_2\r\nab\r\n0\r\n\r\n",
        "-2\r\nab\r\n",
        "+2\r\nab\r\n",
        "10000000000000002\r\nab\r\n",
        "\r\nab\r\n",
        ";\r\nab\r\n",
        "2\nab\n0\n\n",
        "2\r\nab\n0\r\n\r\n",
        "2;\nxx\r\nab\r\n",
        "2;a\rb\r\nab\r\n",
        "2;a\0\r\nab\r\n",
        "2\r\nabc\r\n",
        "2\r\nab0\r\n\r\n",
        " 2\r\nab\r\n",
        "2 \r\nab\r\n",
        "2\r\rab\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\nX: a\rb\r\n\r\n",
        "0\r\n: y\r\n\r\n",
        "0\r\n\nGET",
        "0\r\nX: a\r\n b\r\n\r\n",
    ] {
        for step in [1, 1000] {
            let got = decode(Framing::Chunked, bad.as_bytes(), step).map(|d| d.0);
            assert_eq!(got, Err(BodyError::Framing), "{bad:?}");
        }
    }
}

#[test]
fn a_length_body_ends_at_its_length_and_not_before() {
    for step in [1, 3, 100] {
        assert_eq!(decode(Framing::Length(3), b"abcGET", step).unwrap().2, b"GET");
        assert_eq!(decode(Framing::Length(7), b"abcGET", step).map(|d| d.0), Err(BodyError::Aborted));
        assert_eq!(decode(Framing::Length(0), b"GET", step).unwrap().2, b"GET");
        assert_eq!(decode(Framing::UntilClose, b"abcGET", step).unwrap().0, b"abcGET");
        assert_eq!(
            decode(Framing::Chunked, b"3\r\nabc\r\n", step).map(|d| d.0),
            Err(BodyError::Aborted)
        );
    }
}

#[test]
fn a_size_line_says_the_length_in_hexadecimal() {
    for (n, line) in [
        (1, "1\r\n"),
        (255, "ff\r\n"),
        (4096, "1000\r\n"),
        (usize::MAX, "ffffffffffffffff\r\n"),
        (0, ""),
    ] {
        assert_eq!(SizeLine::new(n).as_bytes(), line.as_bytes());
    }
}

#[test]
fn s6_extensions_are_dropped_and_bounded() {
    let with = |n: usize| format!("2;{}\r\nab\r\n0\r\n\r\n", "e".repeat(n));
    let limit = MAX_EXTENSION as usize;
    assert_eq!(decode(Framing::Chunked, with(limit).as_bytes(), 1000).unwrap().0, b"ab");
    assert_eq!(
        decode(Framing::Chunked, with(limit + 1).as_bytes(), 1000).map(|d| d.0),
        Err(BodyError::Framing)
    );
    let many = |n: usize| format!("{}0\r\n\r\n", format!("1;{}\r\na\r\n", "e".repeat(limit)).repeat(n));
    let most = MAX_EXTENSIONS as usize / limit;
    assert_eq!(decode(Framing::Chunked, many(most).as_bytes(), 1000).unwrap().0.len(), most);
    assert_eq!(
        decode(Framing::Chunked, many(most + 1).as_bytes(), 1000).map(|d| d.0),
        Err(BodyError::Framing)
    );
}

#[test]
fn s6_a_size_has_at_most_16_digits() {
    let zeros = "000000000000000a\r\n0123456789\r\n0000\r\n\r\n";
    assert_eq!(decode(Framing::Chunked, zeros.as_bytes(), 4).unwrap().0, b"0123456789");
    for bad in ["0000000000000000a\r\n0123456789\r\n0\r\n\r\n", "fffffffffffffffff\r\n"] {
        assert_eq!(decode(Framing::Chunked, bad.as_bytes(), 4).map(|d| d.0), Err(BodyError::Framing));
    }
    assert_eq!(
        decode(Framing::Chunked, b"ffffffffffffffff\r\nabc", 4).map(|d| d.0),
        Err(BodyError::Aborted)
    );
}

#[test]
fn a_trailer_section_is_bounded() {
    let fields = |n: usize| format!("0\r\n{}\r\n", "a: b\r\n".repeat(n));
    assert_eq!(
        decode(Framing::Chunked, fields(MAX_TRAILER_FIELDS).as_bytes(), 1000)
            .unwrap()
            .1
            .unwrap()
            .len(),
        MAX_TRAILER_FIELDS
    );
    assert_eq!(
        decode(Framing::Chunked, fields(MAX_TRAILER_FIELDS + 1).as_bytes(), 1000).map(|d| d.0),
        Err(BodyError::Framing)
    );
    let long = |n: usize| format!("0\r\na: {}", "b".repeat(n - "a: ".len()));
    assert_eq!(
        decode(Framing::Chunked, (long(MAX_TRAILERS - 4) + "\r\n\r\n").as_bytes(), 1000)
            .unwrap()
            .1
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        decode(Framing::Chunked, (long(MAX_TRAILERS - 3) + "\r\n\r\n").as_bytes(), 1000).map(|d| d.0),
        Err(BodyError::Framing)
    );
    assert_eq!(
        decode(Framing::Chunked, long(MAX_TRAILERS).as_bytes(), 1).map(|d| d.0),
        Err(BodyError::Framing)
    );
}

#[test]
fn what_is_written_as_chunks_is_read_as_the_same_body() {
    let pieces: [&[u8]; 4] = [b"a", &[7; 300], b"", &[0; 70_000]];
    let mut trailers = Fields::default();
    trailers.push(b"Grpc-Status", b"0");
    let mut wire = Vec::new();
    for piece in pieces.iter().filter(|p| !p.is_empty()) {
        wire.extend_from_slice(SizeLine::new(piece.len()).as_bytes());
        wire.extend_from_slice(piece);
        wire.extend_from_slice(CHUNK_END);
    }
    let mut plain = wire.clone();
    plain.extend_from_slice(LAST_CHUNK);
    write_trailers(&trailers, &mut wire);
    for (wire, trailing) in [(plain, 0), (wire, 1)] {
        let (data, trailers, rest) = decode(Framing::Chunked, &wire, 1000).unwrap();
        assert_eq!((data, rest.len()), (pieces.concat(), 0));
        assert_eq!(trailers.map_or(0, |t| t.len()), trailing);
    }
}
