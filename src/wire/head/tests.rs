//! Heads as text: each refused spelling beside the accepted one it resembles.

use super::*;

fn parse(text: &str) -> Result<(RequestHead, Progress), Denial> {
    let mut head = RequestHead::default();
    head.parse(text.as_bytes()).map(|progress| (head, progress))
}

fn refused(text: &str) -> Denial {
    parse(text).map(|(head, progress)| (head.target, progress)).expect_err(text)
}

#[test]
fn a_plain_request_is_read_whole() {
    let text = "POST /v1/orders?x=1 HTTP/1.1\r\nHost: a\r\nX-A:  b c \r\nX-E:\r\nContent-Length: 3\r\n\r\nabcGET";
    let (head, progress) = parse(text).unwrap();
    assert_eq!(progress, Progress::Complete(text.len() - 6));
    assert_eq!(
        (head.method.as_slice(), head.target.as_slice()),
        (b"POST".as_slice(), b"/v1/orders?x=1".as_slice())
    );
    assert_eq!(head.framing, Framing::Length(3));
    assert!(head.keep_alive);
    let fields: Vec<_> = head.fields.iter().map(|f| (f.name, f.value)).collect();
    let expected: [(&[u8], &[u8]); 4] = [(b"Host", b"a"), (b"X-A", b"b c"), (b"X-E", b""), (b"Content-Length", b"3")];
    assert_eq!(fields, expected);
}

#[test]
fn a_head_is_reused_without_remains() {
    let mut head = RequestHead::default();
    let first = "PUT /long/target HTTP/1.0\r\nHost: a\r\nX-A: 1\r\nContent-Length: 3\r\n\r\n";
    assert!(matches!(head.parse(first.as_bytes()), Ok(Progress::Complete(_))));
    assert!(!head.keep_alive);
    let second = "GET /s HTTP/1.1\r\nHost: b\r\n\r\n";
    assert!(matches!(head.parse(second.as_bytes()), Ok(Progress::Complete(_))));
    assert_eq!(
        (head.method.as_slice(), head.target.as_slice(), head.fields.len()),
        (b"GET".as_slice(), b"/s".as_slice(), 1)
    );
    assert_eq!(
        (head.framing, head.keep_alive, head.version),
        (Framing::None, true, Version::Http11)
    );
}

#[test]
fn every_prefix_of_a_head_is_partial() {
    let text = "GET /a HTTP/1.1\r\nHost: a\r\nCookie: a=b; c=d\r\n\r\n";
    for n in 0..text.len() {
        assert_eq!(parse(&text[..n]).map(|p| p.1), Ok(Progress::Partial), "{n}");
    }
    assert_eq!(parse(text).map(|p| p.1), Ok(Progress::Complete(text.len())));
}
