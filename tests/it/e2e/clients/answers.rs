//! Answers as services give them.

use std::io::Write as _;
use std::net::Shutdown;

use super::*;
use crate::support::site::ROUTES;
use crate::support::upstream::{Then, When};

/// A service that answers by the path: `/public/<bytes of one field>`.
fn long_winded() -> Upstream {
    Upstream::scripted(When::Body, |request, stream| {
        let bytes: usize = request.target.rsplit('/').next().unwrap().parse().unwrap();
        // The gateway may have enough before the end.
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 2\r\n\r\nok",
            "a".repeat(bytes)
        );
        Ok(Then::Keep)
    })
}

#[test]
fn a_long_field_passes_and_one_over_the_limit_is_no_fault_of_the_endpoint() {
    let house = House::open(long_winded(), ROUTES, "");
    for (bytes, status) in [
        (8_300, 200),
        (60_000, 200),
        (70_000, 502),
        (70_000, 502),
        (70_000, 502),
        (70_000, 502),
        (10, 200),
    ] {
        let answer = call(&house.gateway, "GET", &format!("/public/{bytes}"), &[]);
        assert_eq!(answer.status, status, "{bytes}");
        if status == 200 {
            assert_eq!(answer.field("x-long").unwrap().len(), bytes);
        }
    }
    let output = String::from_utf8_lossy(&house.gateway.output()).into_owned();
    assert!(!output.contains("endpoint ejected"), "{output}");

    let routes = ROUTES.replacen("name = \"main\"", "name = \"main\"\nresponse_head = \"200KiB\"", 1);
    let house = House::open(long_winded(), &routes, "");
    for (bytes, status) in [(70_000, 200), (150_000, 200), (210_000, 502)] {
        assert_eq!(
            call(&house.gateway, "GET", &format!("/public/{bytes}"), &[]).status,
            status,
            "{bytes}"
        );
    }
    let routes = ROUTES.replacen("name = \"main\"", "name = \"main\"\nresponse_head = \"2GiB\"", 1);
    assert!(check(&routes, "").contains("response_head"));
}

#[test]
fn an_answer_cut_short_at_once_is_502_and_a_whole_one_passes() {
    let upstream = Upstream::scripted(When::Body, |request, stream| {
        // Head, part of the body and the end of the connection leave in one segment.
        socket2::SockRef::from(&*stream).set_tcp_cork(true)?;
        stream.write_all(match request.target.as_str() {
            "/public/length" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            "/public/chunks" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
            "/public/head" => b"HTTP/1.1 200 OK\r\nContent-Le",
            "/public/close" => b"HTTP/1.1 200 OK\r\n\r\nwhole",
            _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n",
        })?;
        stream.shutdown(Shutdown::Write)?;
        Ok(Then::Close)
    });
    let house = House::open(upstream, ROUTES, "");
    for target in ["/public/length", "/public/chunks", "/public/head"] {
        let answer = call(&house.gateway, "GET", target, &[]);
        assert_eq!(refusal(&answer), (502, "upstream_invalid".to_owned()), "{target}");
    }
    for target in ["/public/close", "/public/whole"] {
        let answer = call(&house.gateway, "GET", target, &[]);
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"whole".as_slice()), "{target}");
    }
}

#[test]
fn a_request_without_a_body_is_repeated_when_its_kept_connection_was_stale() {
    // A connection serves one request, and is closed by the next.
    let served = std::sync::Mutex::new(std::collections::HashSet::new());
    let upstream = Upstream::scripted(When::Body, move |request, stream| {
        let fresh = served.lock().unwrap().insert(request.connection);
        if !fresh {
            return Ok(Then::Close);
        }
        write!(stream, "HTTP/1.1 204 No Content\r\n\r\n")?;
        Ok(Then::Keep)
    });
    let house = House::open(upstream, ROUTES, "");
    for method in ["GET", "PUT", "DELETE"] {
        for _ in 0..6 {
            let answer = call(&house.gateway, method, "/public/x", &[("Content-Length", "0")]);
            assert_eq!(answer.status, 204, "{method}");
        }
    }
    let posts: Vec<u16> = (0..6)
        .map(|_| call(&house.gateway, "POST", "/public/x", &[("Content-Length", "0")]).status)
        .collect();
    assert!(posts.contains(&502), "a POST is never sent twice: {posts:?}");
}
