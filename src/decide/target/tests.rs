//! P1 to P13 as tables: what is refused, what is rewritten, what passes as it is.

use super::*;

mod properties;

fn head(target: &str) -> RequestHead {
    let mut head = RequestHead {
        method: b"GET".to_vec(),
        target: target.as_bytes().to_vec(),
        ..RequestHead::default()
    };
    head.fields.push(b"Host", b"localhost");
    head
}

fn canonical(target: &str) -> Result<(String, Option<String>), Denial> {
    let head = head(target);
    RequestTarget::parse(&head, Method::Get).map(|t| (t.path.into_owned(), t.query.map(str::to_owned)))
}

fn refused(targets: &[&str]) {
    for target in targets {
        assert_eq!(canonical(target), Err(Denial::MalformedTarget), "{target:?}");
    }
}

/// What a target becomes, and what its route must take for that.
fn needs(rows: &[(&str, &str, PathForms)]) {
    for (target, path, forms) in rows {
        let head = head(target);
        let target = RequestTarget::parse(&head, Method::Get).unwrap_or_else(|denial| panic!("{target}: {denial:?}"));
        assert_eq!((target.path.as_ref(), target.forms), (*path, *forms));
    }
}

fn becomes(pairs: &[(&str, &str)]) {
    for (target, path) in pairs {
        assert_eq!(canonical(target).map(|t| t.0).as_deref(), Ok(*path), "{target:?}");
    }
}

#[test]
fn p1_dot_segments_are_refused_and_dots_in_names_pass() {
    refused(&[
        "/public/../admin",
        "/public/./../admin",
        "/..",
        "/.",
        "/../",
        "/./",
        "/a/..",
        "/a/.",
        "/...",
        "/a/..../b",
    ]);
    becomes(&[
        ("/a.b", "/a.b"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a..b", "/a..b"),
        ("/..a", "/..a"),
        ("/a..", "/a.."),
    ]);
}

#[test]
fn p2_encoded_dot_segments_are_refused_and_encoded_dots_in_names_decoded() {
    refused(&[
        "/public/%2e%2e/admin",
        "/public/.%2e/admin",
        "/public/%2E./admin",
        "/a/%2e",
        "/a/%2e/b",
        "/a/%20..%20/b",
        "/a/..%20/b",
    ]);
    becomes(&[("/a%2eb", "/a.b"), ("/%2Ewell-known/x", "/.well-known/x")]);
}

#[test]
fn p3_dot_segments_behind_encoded_slashes_and_backslashes_are_refused() {
    refused(&[
        "/public/..%2fadmin",
        "/public/%2e%2e%2fadmin",
        "/public/..%5cadmin",
        "/public/..\\admin",
        "/a\\b",
        "/a%5C..",
        "/..%5C",
        "/a%5C%2e%5Cb",
        "/a%2f..",
        "/a%2F.%2Fb",
        "/%2f..%2f",
    ]);
    needs(&[
        ("/files/a%2fb", "/files/a%2Fb", PathForms::ENCODED_SLASH),
        ("/u/CORP%5cjdoe", "/u/CORP%5Cjdoe", PathForms::ENCODED_BACKSLASH),
        ("/files/ab", "/files/ab", PathForms::NONE),
    ]);
}

#[test]
fn p4_parameters_of_dot_segments_are_refused_and_others_are_told() {
    refused(&[
        "/public/..;/admin",
        "/public/..;a=b/admin",
        "/public/.;/admin",
        "/public/%2e%2e;/admin",
        "/public/..%3b/admin",
        "/public/..%3Ba%2fadmin",
        "/;x/admin",
        "/admin/;x",
        "/a;\\b",
        "/a;%00",
        "/a;%zz",
        "/a;%ff",
        "/a;x=%2f../b",
        "/a;x=%2f",
        "/a;x=%5cy",
        "/a;x=%252e",
    ]);
    needs(&[
        ("/admin;x=y/action", "/admin;x=y/action", PathForms::PARAMETER),
        ("/admin;%78=y;z", "/admin;x=y;z", PathForms::PARAMETER),
        ("/admin;", "/admin;", PathForms::PARAMETER),
        ("/a%3bb", "/a%3Bb", PathForms::NONE),
    ]);
    let head = head("/a;v=1/b;w/c");
    assert_eq!(RequestTarget::parse(&head, Method::Get).unwrap().route_path(), "/a/b/c");
}

#[test]
fn p5_empty_segments_are_refused_and_one_trailing_slash_kept() {
    refused(&["//admin", "/public//../admin", "/admin/.", "//", "/a//", "/a//b", "///"]);
    becomes(&[("/admin/", "/admin/"), ("/", "/")]);
}

#[test]
fn p6_controls_and_broken_escapes_are_refused_and_spaces_stay_encoded() {
    refused(&[
        "/admin%00",
        "/admin%0a",
        "/a%0D",
        "/a%1f",
        "/a%7F",
        "/a%zz",
        "/%",
        "/%2",
        "/a%",
        "/a%g0",
        "/a%0",
        "/a%%20",
        "/a%u002e",
        "/a\u{7f}",
        "/a b",
        "/a\tb",
    ]);
    needs(&[
        ("/[a]", "/%5Ba%5D", PathForms::RAW_CHARACTER),
        ("/a|b^c`d", "/a%7Cb%5Ec%60d", PathForms::RAW_CHARACTER),
        ("/{a}<b>\"", "/%7Ba%7D%3Cb%3E%22", PathForms::RAW_CHARACTER),
        ("/%5ba%5D", "/%5Ba%5D", PathForms::NONE),
        ("/stra\u{df}e", "/stra%C3%9Fe", PathForms::RAW_CHARACTER),
        ("/a?q=[\u{e4}", "/a", PathForms::RAW_CHARACTER),
        ("/a?q=[|]", "/a", PathForms::NONE),
    ]);
    becomes(&[("/a%20b", "/a%20b"), ("/a%7cb%22", "/a%7Cb%22"), ("/a%2Bb+c", "/a%2Bb+c")]);
}

#[test]
fn p7_delimiters_encoded_twice_are_refused_and_other_characters_pass() {
    refused(&[
        "/public/%252e%252e/admin",
        "/%25%32%66",
        "/a%252Fb",
        "/a%255cb",
        "/a%2500",
        "/a%25252e",
        "/..%253b",
        "/a%252%65",
        "/a%250a",
        "/a%257f",
        "/a%25c0%25ae",
        "/a%25ef%25bc%258e",
        "/%25252525252525252541",
    ]);
    becomes(&[
        ("/100%25", "/100%25"),
        ("/100%25/off", "/100%25/off"),
        ("/1%25x", "/1%25x"),
        ("/1%252g", "/1%252g"),
        ("/50%2520off", "/50%2520off"),
        ("/a%253b", "/a%253b"),
        ("/%2561dmin", "/%2561dmin"),
        ("/a%25%41%41", "/a%25AA"),
        ("/50%25ff", "/50%25ff"),
    ]);
}

#[test]
fn p8_invalid_and_disguised_characters_are_refused_and_utf_8_passes_encoded() {
    refused(&[
        "/public/%c0%ae%c0%ae/admin",
        "/public/\u{ff0e}\u{ff0e}/admin",
        "/%ff",
        "/%ef%bc%8e",
        "/a%ef%bc%8eb",
        "/a%EF%BC%8Fb",
        "/a%EF%BC%BCb",
        "/%e2%80%a5",
        "/%e2%80%a6",
        "/%e2%80%a6%cd%be",
        "/%ef%b8%99/x",
        "/a%ef%bc%852e",
        "/a%c2%85b",
        "/a%e4",
        "/%ed%a0%80",
        "/%f4%90%80%80",
    ]);
    becomes(&[
        ("/stra%c3%9fe", "/stra%C3%9Fe"),
        ("/%e6%97%a5", "/%E6%97%A5"),
        ("/%F0%9F%98%80", "/%F0%9F%98%80"),
        ("/Bericht%E2%80%A6.pdf", "/Bericht%E2%80%A6.pdf"),
        ("/a%cd%beb", "/a%CD%BEb"),
        ("/100%EF%BC%85", "/100%EF%BC%85"),
    ]);
}

#[test]
fn p9_needless_escapes_are_decoded_and_case_is_kept() {
    becomes(&[
        ("/%61dmin", "/admin"),
        ("/ADMIN", "/ADMIN"),
        ("/%41dmin", "/Admin"),
        ("/a%7eb%2d%5f", "/a~b-_"),
        ("/v1/x%3acancel", "/v1/x:cancel"),
        ("/u/a%40b.c%2Cd", "/u/a@b.c,d"),
    ]);
}

#[test]
fn p10_a_fragment_is_refused_and_a_query_never_part_of_the_path() {
    refused(&[
        "/public#/../admin",
        "/public#",
        "/a?x#y",
        "#",
        "/public%23/../admin",
        "/a?x y",
        "/a?\u{7f}",
    ]);
    assert_eq!(canonical("/public?x=/../admin"), Ok(("/public".into(), Some("x=/../admin".into()))));
    assert_eq!(
        canonical("/public?a?b%zz%2e%61"),
        Ok(("/public".into(), Some("a?b%zz%2e%61".into())))
    );
    assert_eq!(canonical("/public?"), Ok(("/public".into(), Some(String::new()))));
    becomes(&[("/public%23x", "/public%23x"), ("/public%3fx", "/public%3Fx")]);
}

#[test]
fn p11_a_path_of_http_2_begins_with_a_slash() {
    let h2 = |path: &str, method| {
        let mut head = head(path);
        (head.version, head.authority) = (Version::Http2, Some(b"localhost".to_vec()));
        RequestTarget::parse(&head, method).map(|t| t.path.into_owned())
    };
    for bad in ["admin", "", "*", "//x", "http://localhost/admin", "localhost:1"] {
        assert_eq!(h2(bad, Method::Get), Err(Denial::MalformedTarget), "{bad}");
    }
    assert_eq!(h2("*", Method::Options).as_deref(), Ok("*"));
    assert_eq!(h2("/x", Method::Get).as_deref(), Ok("/x"));
}

#[test]
fn p12_a_target_without_a_slash_is_refused_and_an_asterisk_only_for_options() {
    refused(&[
        "admin",
        "localhost:1",
        "localhost",
        "",
        "*",
        "*/",
        "?x",
        "a/b",
        ":",
        "://",
        "mailto:a",
    ]);
    let options = |target: &str| {
        let head = head(target);
        RequestTarget::parse(&head, Method::Options).map(|t| t.path.into_owned())
    };
    assert_eq!(options("*").as_deref(), Ok("*"));
    assert_eq!(options("*?x"), Err(Denial::MalformedTarget));
    assert_eq!(options("http://localhost").as_deref(), Ok("*"));
}

#[test]
fn p13_absolute_form_counts_only_for_the_host_that_was_named() {
    refused(&[
        "http://evil.test/admin",
        "http://a@localhost/admin",
        "http://localhost@evil.test/",
        "http://localhost:443/admin",
        "https://localhost:80/admin",
        "http://localhost:8080/admin",
        "ftp://localhost/",
        "http:///admin",
        "http:/admin",
        "http://localhost\\/",
        "http://localhost/../admin",
        "http://localhost//admin",
        "http://localhost?x",
        "//localhost/admin",
        "ws://localhost/",
    ]);
    becomes(&[
        ("http://localhost/admin", "/admin"),
        ("http://localhost:80/admin", "/admin"),
        ("https://localhost:443/admin", "/admin"),
        ("http://localhost./admin", "/admin"),
        ("http://localhost:/admin", "/admin"),
        ("HTTPS://LOCALHOST/%61", "/a"),
        ("http://localhost", "/"),
    ]);
    let head = head("http://localhost/a?b=c");
    let target = RequestTarget::parse(&head, Method::Get).unwrap();
    assert_eq!(
        (target.path.as_ref(), target.query, target.authority.as_ref()),
        ("/a", Some("b=c"), "localhost")
    );
}

#[test]
fn a_canonical_path_is_borrowed_even_with_escapes() {
    for target in ["/v1/orders/17", "/a%20b/%C3%9F/", "/a.b/.c"] {
        let head = head(target);
        assert!(
            matches!(RequestTarget::parse(&head, Method::Get).unwrap().path, Cow::Borrowed(_)),
            "{target}"
        );
    }
}

#[test]
fn a_target_over_its_limit_is_414() {
    let long = |n: usize| format!("/{}", "a".repeat(n - 1));
    assert_eq!(canonical(&long(MAX_TARGET + 1)), Err(Denial::TargetTooLong));
    assert!(canonical(&long(MAX_TARGET)).is_ok());
}
