//! Heads as text: each refused spelling beside the accepted one it resembles.

use super::*;

fn parse(text: &str) -> Result<(RequestHead, ParseStatus), Denial> {
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
    assert_eq!(progress, ParseStatus::Complete(text.len() - 6));
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
    assert!(matches!(head.parse(first.as_bytes()), Ok(ParseStatus::Complete(_))));
    assert!(!head.keep_alive);
    let second = "GET /s HTTP/1.1\r\nHost: b\r\n\r\n";
    assert!(matches!(head.parse(second.as_bytes()), Ok(ParseStatus::Complete(_))));
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
        assert_eq!(parse(&text[..n]).map(|p| p.1), Ok(ParseStatus::Partial), "{n}");
    }
    assert_eq!(parse(text).map(|p| p.1), Ok(ParseStatus::Complete(text.len())));
}

#[test]
fn h5_broken_field_lines_close_the_connection() {
    for line in [
        "X-A: 1\r\n X-Tenant-Id: evil",
        "X-A: 1\r\n\tb",
        "X-A:\r\n b",
        "X-A: a\nX-Tenant-Id: evil",
        "X-A: a\rX-Tenant-Id: evil",
        "X-A: a\r\rb",
        "X-A: a\0b",
        "X-A: a\u{1}b",
        "X-A: a\u{b}b",
        "X-A: a\u{7f}b",
        "X-Tenant-Id : evil",
        "X-Tenant-Id\t: evil",
        ": evil",
        "no colon",
        " X-A: b",
        "X A: b",
        "X-\u{1}A: b",
        "X(A): b",
        "\u{e4}: b",
        "X-A: b\n",
        "\n",
        "X-A:\n",
        "X-A: b \n",
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
        assert_eq!(refused(&text), Denial::MalformedRequest, "{line:?}");
    }
    assert!(parse("GET / HTTP/1.1\r\nHost: a\r\nX-A:\ta\tb \u{e4}\u{ff} \t\r\nX-E:  \r\n\r\n").is_ok());
}

#[test]
fn h5_bare_line_feeds_are_refused_wherever_they_stand() {
    for text in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\n\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\n\nGET /x HTTP/1.1\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(refused(text), Denial::MalformedRequest, "{text:?}");
    }
}

#[test]
fn s12_a_malformed_request_line_is_refused() {
    for line in [
        "GET  / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1x",
        "GET /",
        "GET / ",
        "GET",
        "G\"T / HTTP/1.1",
        "GE{T / HTTP/1.1",
        "G\u{e4}T / HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.",
        "GET / HTTP/11",
        "GET / HTTP/1.10",
        "GET / HTTP/0.9",
        "GET / HTTP/x.y",
        "GET / HTTP1.1",
        "GET / HTTPS/1.1",
        "GET / x HTTP/1.1",
        "GET  HTTP/1.1",
        "GET HTTP/1.1",
        " GET / HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET / HTTP/1.1\r",
        "AAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1",
        "\u{16}\u{3}\u{1}",
    ] {
        let text = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(refused(&text), Denial::MalformedRequest, "{line:?}");
    }
    for line in [
        "get / HTTP/1.1",
        "TRACE * HTTP/1.0",
        "AAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1",
        "GET admin HTTP/1.1",
        "CONNECT a:1 HTTP/1.1",
    ] {
        assert!(parse(&format!("{line}\r\nHost: a\r\n\r\n")).is_ok(), "judged later: {line:?}");
    }
}

#[test]
fn s12_an_empty_line_in_front_is_refused() {
    for front in ["\r\n", "\r", "\n", " ", "\t", "\r\n\r\n"] {
        assert_eq!(
            refused(&format!("{front}GET / HTTP/1.1\r\nHost: a\r\n\r\n")),
            Denial::MalformedRequest,
            "{front:?}"
        );
    }
}

#[test]
fn s12_another_version_is_505() {
    for version in ["1.2", "2.0", "3.0", "1.9", "9.9"] {
        for text in [
            format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"),
            format!("GET / HTTP/{version}\r\n"),
        ] {
            assert_eq!(refused(&text), Denial::UnsupportedVersion, "{text:?}");
        }
    }
    assert_eq!(refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Denial::UnsupportedVersion);
}

#[test]
fn d10_a_head_over_its_limits_is_431() {
    let field = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(n - 1));
    assert_eq!(refused(&field(MAX_FIELD + 1)), Denial::HeadTooLarge);
    assert!(parse(&field(MAX_FIELD)).is_ok());
    assert_eq!(refused(&field(20_000)), Denial::HeadTooLarge);
    let fields = |n: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(n));
    assert_eq!(refused(&fields(MAX_FIELDS + 1)), Denial::HeadTooLarge);
    assert!(parse(&fields(MAX_FIELDS)).is_ok());
    let three = |n: usize| {
        format!(
            "GET / HTTP/1.1\r\nA: {0}\r\nB: {0}\r\nC: {1}\r\n\r\n",
            "a".repeat(12_000),
            "b".repeat(n)
        )
    };
    let rest = MAX_HEAD - three(0).len();
    assert_eq!(parse(&three(rest)).map(|p| p.1), Ok(ParseStatus::Complete(MAX_HEAD)));
    assert_eq!(refused(&three(rest + 1)), Denial::HeadTooLarge);
}

#[test]
fn d10_limits_hold_before_the_head_is_complete() {
    assert_eq!(
        refused(&format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(MAX_HEAD))),
        Denial::HeadTooLarge
    );
    assert_eq!(
        refused(&format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(MAX_FIELDS + 1))),
        Denial::HeadTooLarge
    );
    assert_eq!(refused(&format!("GET /{}", "a".repeat(MAX_TARGET))), Denial::TargetTooLong);
    assert_eq!(
        parse(&format!("GET /{}", "a".repeat(MAX_TARGET - 1))).map(|p| p.1),
        Ok(ParseStatus::Partial)
    );
    assert_eq!(parse("GET / HTTP/1.1\r\nX: a").map(|p| p.1), Ok(ParseStatus::Partial));
}

#[test]
fn d10_a_target_over_its_limit_is_414_whatever_follows() {
    let target = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(n - 1));
    assert_eq!(refused(&target(MAX_TARGET + 1)), Denial::TargetTooLong);
    assert_eq!(refused(&target(70_000)), Denial::TargetTooLong);
    assert!(parse(&target(MAX_TARGET)).is_ok());
    assert_eq!(refused(&format!("{}\n", target(9_000))), Denial::TargetTooLong);
    assert_eq!(refused(&"A".repeat(40_000)), Denial::HeadTooLarge);
}

#[test]
fn a_hopeless_head_is_refused_before_its_end() {
    for (text, denial) in [
        ("GET / HTTP/1.1\nHost", Denial::MalformedRequest),
        ("G\"T / HTTP/1.1\r\n", Denial::MalformedRequest),
        ("GET / HTTP/1.1\r\nno colon\r\n", Denial::MalformedRequest),
        ("GET / HTTP/1.7\r\n", Denial::UnsupportedVersion),
        ("\u{16}\u{3}\u{1}\u{2}", Denial::MalformedRequest),
        ("\r", Denial::MalformedRequest),
    ] {
        assert_eq!(refused(text), denial, "{text:?}");
    }
}

#[test]
fn a_connection_is_kept_only_if_version_and_connection_allow() {
    for (version, fields, keep) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive, Close\r\n", false),
        ("1.1", "Connection: x\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let (head, _) = parse(&format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n")).unwrap();
        assert_eq!(head.keep_alive, keep, "{version} {fields:?}");
    }
}

fn answer(text: &str) -> Result<(ResponseHead, ParseStatus), ResponseError> {
    let mut head = ResponseHead::default();
    head.parse(text.as_bytes()).map(|progress| (head, progress))
}

fn answer_framing(status: u16, fields: &str, request: RequestKind) -> Result<(Framing, bool), ResponseError> {
    let (head, _) = answer(&format!("HTTP/1.1 {status} X\r\n{fields}\r\n"))?;
    Ok((head.framing(request), head.keep_alive))
}

#[test]
fn a_response_is_read_whole_and_reused_without_remains() {
    let text = "HTTP/1.1 201 Created\r\nX-A: 1\r\nContent-Length: 3\r\n\r\nabc";
    let mut head = ResponseHead::default();
    for _ in 0..2 {
        assert_eq!(head.parse(text.as_bytes()), Ok(ParseStatus::Complete(text.len() - 3)));
        assert_eq!(
            (head.status, head.fields.len(), head.framing(RequestKind::Other)),
            (201, 2, Framing::Length(3))
        );
    }
    for n in 0..text.len() - 3 {
        assert_eq!(answer(&text[..n]).map(|a| a.1), Ok(ParseStatus::Partial), "{n}");
    }
    for good in [
        "HTTP/1.1 200\r\n\r\n",
        "HTTP/1.1 200 \r\n\r\n",
        "HTTP/1.0 200 \u{e4}\r\n\r\n",
        "HTTP/1.1 599 OK\r\n\r\n",
        "HTTP/1.1 101 X\r\n\r\n",
    ] {
        assert!(answer(good).is_ok(), "{good:?}");
    }
}

#[test]
fn s14_what_is_no_response_is_refused() {
    for bad in [
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\nX: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\n\r\n",
        "HTTP/1.1 200 OK\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 99 X\r\n\r\n",
        "HTTP/1.1 099 X\r\n\r\n",
        "HTTP/1.1 600 X\r\n\r\n",
        "HTTP/1.1 2000 X\r\n\r\n",
        "HTTP/1.1  200 X\r\n\r\n",
        "200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\n X: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "<html>",
        "SSH-2.0-x\r\n",
    ] {
        assert_eq!(answer(bad).map(|a| a.1), Err(ResponseError::Malformed), "{bad:?}");
    }
    let fields = |n: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(n));
    assert_eq!(answer(&fields(MAX_RESPONSE_FIELDS + 1)).map(|a| a.1), Err(ResponseError::TooLarge));
    assert!(answer(&fields(MAX_RESPONSE_FIELDS)).is_ok());
    let field = |n: usize| format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(n));
    assert_eq!(answer(&field(MAX_RESPONSE_HEAD)).map(|a| a.1), Err(ResponseError::TooLarge));
    assert!(answer(&(field(8_300) + "\r\n\r\n")).is_ok());
    assert!(answer(&(field(MAX_RESPONSE_HEAD - 30) + "\r\n\r\n")).is_ok());
}

#[test]
fn a_response_s_framing_follows_its_request_and_status() {
    let length = "Content-Length: 5\r\n";
    assert_eq!(answer_framing(200, length, RequestKind::Other), Ok((Framing::Length(5), true)));
    assert_eq!(answer_framing(200, length, RequestKind::Head), Ok((Framing::None, true)));
    assert_eq!(answer_framing(304, length, RequestKind::Other), Ok((Framing::None, true)));
    assert_eq!(answer_framing(204, "", RequestKind::Other), Ok((Framing::None, true)));
    assert_eq!(answer_framing(103, "", RequestKind::Other), Ok((Framing::None, true)));
    assert_eq!(answer_framing(200, "", RequestKind::Other), Ok((Framing::UntilClose, true)));
    assert_eq!(answer_framing(200, "", RequestKind::Head), Ok((Framing::None, true)));
    assert_eq!(
        answer_framing(200, "Transfer-Encoding: Chunked\r\n", RequestKind::Other),
        Ok((Framing::Chunked, true))
    );
    assert_eq!(
        answer_framing(200, "Content-Length: 5\r\nContent-Length: 5\r\n", RequestKind::Other),
        Ok((Framing::Length(5), true))
    );
    assert_eq!(
        answer_framing(200, "Content-Length: 0\r\nConnection: close\r\n", RequestKind::Other),
        Ok((Framing::Length(0), false))
    );
}

#[test]
fn s14_a_response_with_framing_in_doubt_is_refused() {
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 05\r\n",
        "Content-Length: x\r\n",
        "Content-Length:\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert_eq!(
            answer_framing(200, fields, RequestKind::Other),
            Err(ResponseError::Framing),
            "{fields:?}"
        );
    }
    assert_eq!(
        answer("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").map(|a| a.1),
        Err(ResponseError::Framing)
    );
}

#[test]
fn s14_an_answer_without_a_body_that_declares_one_costs_the_connection() {
    for (status, fields, keep) in [
        (204, "Content-Length: 5\r\n", false),
        (204, "Transfer-Encoding: chunked\r\n", false),
        (100, "Content-Length: 5\r\n", false),
        (204, "Content-Length: 0\r\n", true),
        (304, "Content-Length: 5\r\n", true),
    ] {
        assert_eq!(
            answer_framing(status, fields, RequestKind::Other),
            Ok((Framing::None, keep)),
            "{status} {fields:?}"
        );
    }
    assert!(!answer("HTTP/1.0 200 OK\r\n\r\n").unwrap().0.keep_alive);
    assert!(answer("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n").unwrap().0.keep_alive);
}

#[test]
fn the_origin_of_a_head_that_cannot_be_read_is_known_where_there_is_one() {
    let long = "x".repeat(MAX_HEAD);
    for (buf, origin) in [
        (
            "GET /a b HTTP/1.1\r\nHost: a\r\nOrigin: https://a.test\r\n\r\n".to_owned(),
            Some("https://a.test"),
        ),
        (
            "GET / HTTP/1.1\r\norigin:https://a.test\r\nCookie: ".to_owned() + &long,
            Some("https://a.test"),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\nORIGIN: \t https://a.test \r\n\r\n".to_owned(),
            Some("https://a.test"),
        ),
        ("GET / HTTP/1.1\r\nOrigin: \r\n\r\n".to_owned(), Some("")),
        (
            "GET / HTTP/1.1\r\nOrigin: https://a.test\r\nOrigin: https://b.test\r\n\r\n".to_owned(),
            None,
        ),
        ("GET / HTTP/1.1\r\nOrigin: https://a.te".to_owned(), None),
        ("GET / HTTP/1.1\r\nX-Origin: https://a.test\r\n\r\n".to_owned(), None),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\nOrigin: https://a.test\r\n".to_owned(), None),
        (
            "GET / HTTP/1.1\r\nCookie: ".to_owned() + &long + "\r\nOrigin: https://a.test\r\n\r\n",
            None,
        ),
        (String::new(), None),
    ] {
        let told = super::origin_of_unread(buf.as_bytes());
        assert_eq!(told, origin.map(str::as_bytes), "{}", buf.chars().take(80).collect::<String>());
    }
}
