//! Chunked bodies as text, whole and byte by byte.

use super::*;

/// Decodes `input`, given in pieces of `step` bytes: data, trailers and what is left over.
fn decode(framing: Framing, input: &[u8], step: usize) -> Result<(Vec<u8>, Option<Fields>, Vec<u8>), BodyError> {
    let mut decoder = BodyDecoder::new(framing);
    let (mut buf, mut data, mut trailers) = (BytesMut::new(), Vec::new(), None);
    let mut pieces = input.chunks(step);
    loop {
        match decoder.decode(&mut buf)? {
            Decoded::Data(bytes) => {
                assert!(!bytes.is_empty());
                data.extend_from_slice(&bytes);
            }
            Decoded::Trailers(fields) => trailers = Some(fields),
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
