//! The bytes that go upstream, for fields that come in.

use super::*;

#[test]
fn h1_a_client_s_identity_headers_are_dropped_and_ours_set_once() {
    let spellings = |name: &str| [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()];
    for name in IDENTITY.iter().flat_map(|name| spellings(name)) {
        let fields = [(name.as_str(), "evil"), (name.as_str(), "evil2"), ("X-Plain", "1")];
        assert_eq!(Way::public().passes(&fields), ["X-Plain: 1"], "{name}");
        let sent = Way::admitted(principal(), 0).send(&fields).unwrap();
        assert!(!sent.concat().contains("evil"), "{name}");
    }
    assert_eq!(
        Way::admitted(principal(), 0).passes(&[("X-Tenant-Id", "evil")]),
        [
            "X-Tenant-Id: acme",
            "X-Scopes: orders:read orders:write",
            "X-Auth-Surface: keys",
            "X-Auth-Mode: live",
            "X-Auth-Subject: user-1",
            "X-Auth-Credential-Id: key-1",
        ]
    );
}

#[test]
fn h1_a_property_that_is_not_there_has_no_header() {
    let bare = Principal::new(Arc::new(samples::facts("keys", "key-1", "acme")), None);
    let sent = Way::admitted(bare, 0).passes(&[("X-Auth-Mode", "live"), ("X-Scopes", "a")]);
    assert_eq!(sent, ["X-Tenant-Id: acme", "X-Auth-Surface: keys", "X-Auth-Credential-Id: key-1"]);
}

#[test]
fn h8_a_subject_of_any_text_is_one_encoded_field() {
    for (subject, value) in [
        ("auth0|5f7c8ec7c33c6c004bbafe82", "auth0|5f7c8ec7c33c6c004bbafe82"),
        ("spiffe://example.org/web", "spiffe://example.org/web"),
        ("J\u{fc}rgen", "J%C3%BCrgen"),
        (" a", "%20a"),
        ("a%20b", "a%2520b"),
    ] {
        let mut facts = samples::facts("keys", "key-1", "acme");
        facts.credential.subject = Some(Subject::parse(subject).unwrap());
        let sent = Way::admitted(Principal::new(Arc::new(facts), None), 0).passes(&[("X-Auth-Subject", "evil")]);
        assert!(sent.contains(&format!("X-Auth-Subject: {value}")), "{sent:?}");
    }
}

#[test]
fn h1_claims_become_headers_in_the_order_of_the_surface() {
    let with = |headers: Vec<Option<Arc<str>>>| {
        let token = TokenClaims {
            subject: Subject::parse("account-1").unwrap(),
            record: principal().facts.credential.id.clone(),
            issuer: crate::base::principal::IssuerIndex(0),
            key: crate::base::principal::KeyMark([1; 16]),
            expires_at: UnixMillis(0),
            issued_at: None,
            not_before: None,
            scopes: Some(samples::scopes(&["orders:read"])),
            headers,
            memo: TokenMemo::default(),
        };
        Way::admitted(
            Principal {
                token: Some(Arc::new(token)),
                ..principal()
            },
            SESSIONS,
        )
        .send(&[("X-Auth-Role", "evil")])
    };
    let sent = with(vec![Some("org admin".into()), None]).unwrap();
    for line in [
        "X-Auth-Role: org admin",
        "X-Auth-Subject: account-1",
        "X-Scopes: orders:read",
        "X-Auth-Surface: sessions",
    ] {
        assert!(sent.iter().any(|l| l == line), "{line}: {sent:?}");
    }
    assert!(!sent.iter().any(|l| l.starts_with("X-Transaction-Id")));
    for bad in ["a\r\nX-Tenant-Id: evil", "a\0", "", " a", "a ", "\u{e4}", "a\u{7f}"] {
        assert_eq!(with(vec![Some(bad.into()), None]), Err(Denial::CorruptRecord), "{bad:?}");
    }
    assert_eq!(with(vec![None]), Err(Denial::CorruptRecord));
    assert_eq!(with(Vec::new()), Err(Denial::CorruptRecord));
}

#[test]
fn h3_what_connection_names_and_hop_by_hop_fields_are_dropped() {
    let fields = [
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("x-hop", "2"),
        ("connection", "keep-alive, TE, Upgrade, HTTP2-Settings"),
        ("Keep-Alive", "5"),
        ("Proxy-Connection", "x"),
        ("Proxy-Authorization", "x"),
        ("TE", "trailers"),
        ("Trailer", "X-T"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAM"),
        ("Content-Length", "3"),
        ("Expect", "100-Continue"),
        ("Accept", "*/*"),
        ("X-Hopper", "1"),
    ];
    assert_eq!(Way::public().passes(&fields), ["Accept: */*", "X-Hopper: 1"]);
    assert_eq!(
        Way::public().passes(&[("Connection", "close, close"), ("Close", "1")]),
        ["Close: 1"]
    );
}

#[test]
fn te_trailers_is_said_on_only_where_both_sides_want_it() {
    let way = Way {
        trailers: Trailers::Forwarded,
        ..Way::public()
    };
    assert_eq!(way.passes(&[("TE", "gzip, Trailers")]), ["TE: trailers", "Connection: TE"]);
    assert!(way.passes(&[("TE", "gzip")]).is_empty());
    assert!(Way::public().passes(&[("TE", "trailers")]).is_empty());
}

#[test]
fn h6_an_untrusted_client_s_forwarding_fields_are_rebuilt_from_the_socket() {
    let fields = [
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "evil.test"),
        ("X-Forwarded-Port", "1"),
        ("Forwarded", "for=6.6.6.6"),
        ("X-Real-IP", "1"),
        ("True-Client-IP", "1"),
        ("CF-Connecting-IP", "1"),
        ("X-Request-Id", "evil"),
        ("traceparent", "evil"),
        ("tracestate", "evil"),
    ];
    assert_eq!(
        Way::public().send(&fields).unwrap(),
        [
            "X-Request-Id: req-1",
            "X-Forwarded-For: 192.0.2.1",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: api.test"
        ]
    );
}

#[test]
fn h6_a_trusted_proxy_s_word_is_continued_from_the_client_on() {
    let fields = [
        ("X-Forwarded-For", "6.6.6.6, 1.2.3.4"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "shop.test"),
        ("X-Forwarded-For", "10.0.0.2"),
        ("traceparent", "00-a"),
        ("X-Forwarded-Port", "1"),
    ];
    assert_eq!(
        Way::through_proxy("1.2.3.4").send(&fields).unwrap(),
        [
            "traceparent: 00-a",
            "X-Request-Id: req-1",
            "X-Forwarded-For: 1.2.3.4, 10.0.0.2, 10.0.0.1",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: shop.test",
        ]
    );
    let odd = [
        ("X-Forwarded-Proto", "gopher"),
        ("X-Forwarded-Host", "a b"),
        ("X-Forwarded-For", "nonsense"),
    ];
    assert_eq!(
        Way::through_proxy("10.0.0.1").send(&odd).unwrap()[1..],
        [
            "X-Forwarded-For: 10.0.0.1",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: api.test"
        ]
    );
}

#[test]
fn h7_p14_s12_signals_to_frameworks_and_servers_are_dropped() {
    for name in [
        "X-Middleware-Subrequest",
        "X-Original-URL",
        "X-Original-Method",
        "X-Rewrite-URL",
        "X-Gateway-Tenant",
        "X-Durward-Debug",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Forwarded-Prefix",
        "X-Forwarded-Uri",
        "X-Accel-Redirect",
        "Proxy",
        "Client-Cert",
        "Remote-User",
    ] {
        assert!(Way::public().passes(&[(name, "evil")]).is_empty(), "{name}");
    }
    assert_eq!(
        Way::public()
            .passes(&[("X-Originally", "1"), ("X-Gate", "2"), ("Proxies", "3")])
            .len(),
        3
    );
}

#[test]
fn h8_a_value_that_may_not_stand_in_a_header_is_an_error_and_never_a_missing_header() {
    let mut facts = samples::facts("keys", "key-1", "acme");
    facts.credential.tenant = TenantId::parse("other").unwrap();
    let swapped = Principal::new(Arc::new(facts), None);
    assert_eq!(Way::admitted(swapped, 0).send(&[]), Err(Denial::CorruptRecord));
    assert!(Way::admitted(principal(), 0).send(&[]).is_ok());
}

#[test]
fn h8_odd_bytes_in_an_ordinary_value_pass_as_they_are() {
    let mut head = head(&[]);
    head.fields.push(b"X-A", b"\xff\xc3\x28");
    let (policy, mut out) = (policy(), Vec::new());
    let screened = policy.screen(&head).unwrap();
    let target = RequestTarget::parse(&head, Method::Get).unwrap();
    let origin = Way::public().origin;
    let facts = OutgoingHead {
        principal: None,
        origin,
        peer: origin.client,
        scheme: UriScheme::Http,
        request_id: "r",
        target: &target,
        credentials: CredentialForwarding::Removed,
        trailers: Trailers::Dropped,
    };
    policy.write_outgoing(&head, &screened, &facts, &mut out).unwrap();
    assert!(out.starts_with(b"X-A: \xff\xc3\x28\r\n"));
}

#[test]
fn credentials_are_removed_unless_the_route_forwards_them() {
    let fields = [
        ("Authorization", "Bearer l_x"),
        ("X-Api-Key", "pk"),
        ("X-API-SECRET", "sk"),
        ("X-Api-Token", "l_x"),
        ("Accept", "a"),
    ];
    assert_eq!(Way::public().passes(&fields), ["Accept: a"]);
    let forwarding = Way {
        credentials: CredentialForwarding::Forwarded,
        ..Way::public()
    };
    assert_eq!(forwarding.passes(&fields).len(), fields.len());
}

#[test]
fn h10_cookie_crumbs_are_joined_without_the_gateway_s_sessions() {
    let fields = [
        ("cookie", "a=1"),
        ("Cookie", "__Host-session=secret; b=2;"),
        ("cookie", " portal = x ;__host-session=kept"),
        ("cookie", "c"),
    ];
    assert_eq!(Way::public().passes(&fields), ["Cookie: a=1; b=2; __host-session=kept; c"]);
    let forwarding = Way {
        credentials: CredentialForwarding::Forwarded,
        ..Way::public()
    };
    assert_eq!(
        forwarding.passes(&fields),
        ["Cookie: a=1; __Host-session=secret; b=2; portal = x; __host-session=kept; c"]
    );
    assert!(Way::public().passes(&[("cookie", "portal=x"), ("cookie", ";;")]).is_empty());
}

#[test]
fn a_line_is_sent_on_as_one_name_colon_space_value_however_it_was_spaced() {
    let text = "GET /x HTTP/1.1\r\nHost:api.test\r\nX-A:1\r\nX-B: 2\r\nX-C:\t 3 \t\r\nX-D:\r\nX-E: \r\nX-Tenant-Id: evil\r\nX-F: 6\r\n\r\n";
    let mut head = RequestHead::default();
    assert!(head.parse(text.as_bytes()).is_ok());
    let (policy, mut out) = (policy(), Vec::new());
    let (screened, target) = (policy.screen(&head).unwrap(), RequestTarget::parse(&head, Method::Get).unwrap());
    let origin = Way::public().origin;
    let facts = OutgoingHead {
        principal: None,
        origin,
        peer: origin.client,
        scheme: UriScheme::Http,
        request_id: "r",
        target: &target,
        credentials: CredentialForwarding::Removed,
        trailers: Trailers::Dropped,
    };
    policy.write_outgoing(&head, &screened, &facts, &mut out).unwrap();
    let ours = "X-Request-Id: r\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: api.test\r\n";
    let expected = format!("X-A: 1\r\nX-B: 2\r\nX-C: 3\r\nX-D: \r\nX-E: \r\nX-F: 6\r\n{ours}");
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

/// The usual rules, and others that name the header of the tenant otherwise.
fn two_policies() -> (HeaderPolicy, HeaderPolicy) {
    let renamed = IdentityNames {
        tenant: "X-Owner".into(),
        ..IdentityNames::default()
    };
    (policy(), HeaderPolicy::new(renamed, &surfaces()))
}

/// These lines were written by the second of [`two_policies`].
fn assert_named_otherwise(lines: &[String]) {
    assert!(lines.contains(&"X-Owner: acme".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("X-Tenant-Id")), "{lines:?}");
}

#[test]
fn lines_that_were_written_once_are_those_of_their_rules_and_of_no_token() {
    let (first, second) = two_policies();
    let way = Way::admitted(principal(), 0);
    let sent = way.send_by(&first, &[]).unwrap();
    assert!(sent.contains(&"X-Tenant-Id: acme".to_owned()));
    // Kept with the facts now; the same rules write the same, and others their own, before and after.
    for _ in 0..2 {
        assert_eq!(way.send_by(&first, &[]).unwrap(), sent);
        assert_named_otherwise(&way.send_by(&second, &[]).unwrap());
    }
    // A token's subject and scopes are its own, though its facts have lines already.
    let told = Way::admitted(with_token(&way.principal.as_ref().unwrap().0.facts), 0)
        .send_by(&first, &[])
        .unwrap();
    assert!(told.contains(&"X-Scopes: orders:read".to_owned()), "{told:?}");
    assert!(told.contains(&"X-Auth-Subject: account-9".to_owned()), "{told:?}");
}

/// An identity by a token that hangs on these facts.
fn with_token(facts: &Arc<Facts>) -> Principal {
    let token = TokenClaims {
        subject: Subject::parse("account-9").unwrap(),
        record: facts.credential.id.clone(),
        issuer: crate::base::principal::IssuerIndex(0),
        key: crate::base::principal::KeyMark([1; 16]),
        expires_at: UnixMillis(0),
        issued_at: None,
        not_before: None,
        scopes: Some(samples::scopes(&["orders:read"])),
        headers: Vec::new(),
        memo: TokenMemo::default(),
    };
    Principal::new(facts.clone(), Some(Arc::new(token)))
}

#[test]
fn j23_lines_of_a_token_are_those_of_its_rules_and_of_the_newest_facts() {
    let (first, second) = two_policies();
    let way = Way::admitted(with_token(&principal().facts), 0);
    let sent = way.send_by(&first, &[]).unwrap();
    assert!(sent.contains(&"X-Scopes: orders:read".to_owned()), "{sent:?}");
    for _ in 0..2 {
        assert_eq!(way.send_by(&first, &[]).unwrap(), sent);
        assert_named_otherwise(&way.send_by(&second, &[]).unwrap());
    }
    // The record has lost the scope since. The token says what it said.
    let token = way.principal.as_ref().unwrap().0.token.clone();
    let narrowed = Principal {
        token_scopes: Some(samples::scopes(&[])),
        ..Principal::new(principal().facts, token)
    };
    for _ in 0..2 {
        let less = Way::admitted(narrowed.clone(), 0).send_by(&first, &[]).unwrap();
        assert!(!less.iter().any(|line| line.starts_with("X-Scopes")), "{less:?}");
    }
    assert_eq!(way.send_by(&first, &[]).unwrap(), sent);
}
