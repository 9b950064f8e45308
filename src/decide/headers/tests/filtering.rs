//! Which fields are refused, dropped or kept, as tables.

use super::*;

#[test]
fn h2_a_protected_name_in_disguise_is_refused() {
    for name in [
        "X_Tenant_Id",
        "X.Tenant.Id",
        "X-Tenant_Id",
        "x~tenant~id",
        "X_SCOPES",
        "x_auth_role",
        "X.Transaction-Id",
        "X_Api_Key",
        "x_api_secret",
        "X.Api.Token",
        "X_Forwarded_For",
        "X_Forwarded_Anything",
        "X.Real.Ip",
        "True_Client_IP",
        "Content_Length",
        "Transfer.Encoding",
        "X_Request_Id",
        "X!Tenant'Id",
        "Set_Cookie",
    ] {
        assert_eq!(screen(&[("X-Plain", "1"), (name, "evil")]), Err(Denial::ForgedHeader), "{name}");
    }
    assert_eq!(
        screen(&[("X-Tenant-Identity", "1"), ("XTenantId", "1"), ("X-Tenant-Id-", "1")]),
        Ok(vec![Role::Plain; 3])
    );
}

#[test]
fn h2_other_names_with_odd_characters_pass_or_are_counted_or_refused() {
    let by = |odd_names, name: &str| {
        let screened = policy().with_odd_names(odd_names).screen(&head(&[(name, "1")]));
        screened.map(|s| (s.roles[1], s.odd_dropped))
    };
    for name in ["access_key", "a.b", "a~b", "User_Agent", "Content_Type", "*", "a'b"] {
        assert_eq!(by(OddNames::Forwarded, name), Ok((Role::Plain, 0)), "{name}");
        assert_eq!(by(OddNames::Dropped, name), Ok((Role::Dropped, 1)), "{name}");
        assert_eq!(by(OddNames::Refused, name), Err(Denial::MalformedRequest), "{name}");
    }
    for name in [
        "X_HTTP_Method_Override",
        "X_Original_URL",
        "x.accel.redirect",
        "Keep_Alive",
        "Proxy_Connection",
    ] {
        assert_eq!(by(OddNames::Forwarded, name), Ok((Role::Dropped, 1)), "{name}");
        assert_eq!(by(OddNames::Refused, name), Err(Denial::MalformedRequest), "{name}");
    }
    for length in [63, 64, 65, 1_000] {
        let (plain, forged) = (
            format!("a_{:x<1$}", "", length - 2),
            format!("x_forwarded_{:x<1$}", "", length - 12),
        );
        assert_eq!(by(OddNames::Forwarded, &plain), Ok((Role::Plain, 0)), "{length}");
        assert_eq!(by(OddNames::Forwarded, &forged), Err(Denial::ForgedHeader), "{length}");
    }
    assert_eq!(by(OddNames::Refused, "X-Plain"), Ok((Role::Plain, 0)));
    assert_eq!(by(OddNames::Forwarded, "X-Original-URL"), Ok((Role::Dropped, 0)));
}

#[test]
fn h2_a_configured_name_with_an_underscore_is_taken_literally_and_no_other_way() {
    let mut surfaces = surfaces();
    surfaces.push(samples::api_key(
        "old",
        &[Carrier::Header("x_old_key".into())],
        "o_",
        "p_",
        KeyOrigin::Generated,
    ));
    let policy = HeaderPolicy::new(IdentityNames::default(), &surfaces);
    let role = |name: &str| policy.screen(&head(&[(name, "1")])).map(|s| s.roles[1]);
    assert_eq!(role("X_Old_Key"), Ok(Role::Credential));
    assert_eq!(role("X-Old-Key"), Err(Denial::ForgedHeader));
    assert_eq!(role("X.Old.Key"), Err(Denial::ForgedHeader));
}

#[test]
fn h3_connection_may_not_name_a_protected_field() {
    for options in [
        "close, X-Tenant-Id",
        "X-Scopes, Authorization",
        "cookie",
        "x-api-key",
        "x_tenant_id",
        "Host",
        "content-length",
        "X-Forwarded-For",
        "X-Forwarded-New",
        "x-request-id",
        ",, ,\tX-Auth-Role",
    ] {
        assert_eq!(screen(&[("Connection", options)]), Err(Denial::ForgedHeader), "{options}");
        assert_eq!(
            screen(&[("Connection", "keep-alive"), ("connection", options)]),
            Err(Denial::ForgedHeader),
            "{options}"
        );
    }
    let many = vec!["a"; 40].join(",");
    assert_eq!(screen(&[("Connection", &many)]), Err(Denial::MalformedRequest));
}

#[test]
fn h4_only_harmless_trailers_are_kept() {
    let mut received = Fields::default();
    for name in [
        "X-Tenant-Id",
        "x_tenant_id",
        "X-Auth-Role",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Trailer",
        "X-Forwarded-For",
        "X-Api-Key",
        "X-Request-Id",
        "Content-Type",
        "Cache-Control",
        "Some_Name",
        "X_Tenant_Id",
        "X_Original_Url",
        "Connection",
        "Grpc-Status",
        "X-Checksum",
    ] {
        received.push(name.as_bytes(), b"1");
    }
    let mut kept = Fields::default();
    policy().filter_trailers(&received, &mut kept);
    assert_eq!(
        kept.iter().map(|f| f.name).collect::<Vec<_>>(),
        [b"Some_Name".as_slice(), b"Grpc-Status", b"X-Checksum"]
    );
    kept.clear();
    policy().with_odd_names(OddNames::Dropped).filter_trailers(&received, &mut kept);
    assert_eq!(kept.len(), 2);
}

#[test]
fn h11_a_response_says_nothing_of_identity_hops_or_sessions() {
    let mut received = Fields::default();
    for (name, value) in [
        ("X-Tenant-Id", "t"),
        ("x_tenant_id", "t"),
        ("X-Auth-Role", "r"),
        ("Set-Cookie", "__Host-session=evil; Path=/"),
        ("Set-Cookie", " portal =evil"),
        ("Set-Cookie", "=portal=evil"),
        ("Set-Cookie", "portal"),
        ("Set-Cookie", "theme=dark; x=portal"),
        ("Set-Cookie", "portals=1"),
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "5"),
        ("X-Accel-Redirect", "/x"),
        ("X-Durward-A", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "5"),
        ("Date", "x"),
        ("X-Request-Id", "x"),
        ("Trailer", "X-T"),
        ("Proxy-Authenticate", "x"),
        ("Content-Type", "text/plain"),
        ("Some_Name", "1"),
        ("WWW-Authenticate", "Basic"),
    ] {
        received.push(name.as_bytes(), value.as_bytes());
    }
    let returned = |route: &Route| {
        let mut out = received.clone();
        policy().filter_response(&mut out, route);
        out.iter()
            .map(|f| format!("{}: {}", f.name.escape_ascii(), f.value.escape_ascii()))
            .collect::<Vec<_>>()
    };
    let mut route = samples::route(&[Method::Get], "/x");
    let kept = [
        "Set-Cookie: theme=dark; x=portal",
        "Set-Cookie: portals=1",
        "Content-Type: text/plain",
        "Some_Name: 1",
        "WWW-Authenticate: Basic",
    ];
    assert_eq!(returned(&route), kept);
    route.options.trailers = Trailers::Forwarded;
    assert!(returned(&route).contains(&"Trailer: X-T".to_owned()));
}

#[test]
fn s7_only_100_continue_is_expected() {
    for bad in ["y 100-continue", "100-continue, 100-continue", "200-ok", "", "100-continue;q=1"] {
        assert_eq!(screen(&[("Expect", bad)]), Err(Denial::ExpectationFailed), "{bad}");
    }
    assert_eq!(screen(&[("Expect", "100-Continue")]), Ok(vec![Role::Dropped]));
    assert_eq!(
        screen(&[("Expect", "100-continue"), ("expect", "x")]),
        Err(Denial::ExpectationFailed)
    );
}

#[test]
fn more_fields_than_a_head_may_have_are_refused() {
    let many = vec![("a", "b"); MAX_FIELDS];
    assert_eq!(policy().screen(&head(&many)).map(|_| ()), Err(Denial::HeadTooLarge));
    assert!(policy().screen(&head(&many[1..])).is_ok());
    let mut h2 = head(&[]);
    h2.version = Version::Http2;
    assert!(policy().screen(&h2).is_ok());
}
