//! Header rules as tables: the bytes that go on, for fields that come in.

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::clock::UnixMillis;
use crate::base::ids::{Subject, TenantId};
use crate::base::principal::TokenClaims;
use crate::base::scope::Mode;
use crate::decide::method::Method;
use crate::decide::samples;
use crate::decide::surface::{Carrier, KeyOrigin};
use crate::decide::token::ClaimHeader;
use crate::wire::head::Version;

use super::*;

const SESSIONS: usize = 2;

fn surfaces() -> Vec<Surface> {
    let mut rules = samples::token_rules(&[7; 32], "dashboard");
    rules.claim_headers = vec![
        ClaimHeader {
            claim: "role".into(),
            header: "X-Auth-Role".into(),
        },
        ClaimHeader {
            claim: "tx".into(),
            header: "X-Transaction-Id".into(),
        },
    ];
    vec![
        samples::api_key(
            "keys",
            &[Carrier::Bearer, Carrier::Header("x-api-token".into())],
            "t_",
            "l_",
            KeyOrigin::Generated,
        ),
        samples::key_pair("pairs"),
        samples::session(
            "sessions",
            &[Carrier::Cookie("__Host-session".into()), Carrier::Cookie("portal".into())],
            rules,
            "accounts",
        ),
    ]
}

fn policy() -> HeaderPolicy {
    HeaderPolicy::new(IdentityNames::default(), &surfaces())
}

fn head(fields: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead {
        target: b"/x".to_vec(),
        ..RequestHead::default()
    };
    head.fields.push(b"Host", b"api.test");
    for (name, value) in fields {
        head.fields.push(name.as_bytes(), value.as_bytes());
    }
    head
}

fn screen(fields: &[(&str, &str)]) -> Result<Vec<Role>, Denial> {
    let head = head(fields);
    policy().screen(&head).map(|screened| screened.roles[1..=fields.len()].to_vec())
}

/// How a request is sent on.
struct Way {
    principal: Option<(Principal, usize)>,
    origin: Origin,
    peer: &'static str,
    credentials: CredentialForwarding,
    trailers: Trailers,
}

impl Way {
    /// Without a principal, from an untrusted peer.
    fn public() -> Self {
        let peer = "192.0.2.1";
        Self {
            principal: None,
            origin: Origin {
                client: peer.parse().unwrap(),
                trusted: false,
            },
            peer,
            credentials: CredentialForwarding::Removed,
            trailers: Trailers::Dropped,
        }
    }

    fn through_proxy(client: &str) -> Self {
        Self {
            origin: Origin {
                client: client.parse().unwrap(),
                trusted: true,
            },
            peer: "10.0.0.1",
            ..Self::public()
        }
    }

    fn admitted(principal: Principal, surface: usize) -> Self {
        Self {
            principal: Some((principal, surface)),
            ..Self::public()
        }
    }

    fn send(&self, fields: &[(&str, &str)]) -> Result<Vec<String>, Denial> {
        let (policy, surfaces, head) = (policy(), surfaces(), head(fields));
        let screened = policy.screen(&head)?;
        let target = RequestTarget::parse(&head, Method::Get)?;
        let facts = OutgoingHead {
            principal: self.principal.as_ref().map(|(p, s)| (p, &surfaces[*s])),
            origin: self.origin,
            peer: self.peer.parse::<IpAddr>().unwrap(),
            scheme: Scheme::Https,
            request_id: "req-1",
            target: &target,
            credentials: self.credentials,
            trailers: self.trailers,
        };
        let mut out = Vec::new();
        policy.write_outgoing(&head, &screened, &facts, &mut out)?;
        let text = String::from_utf8_lossy(&out).into_owned();
        assert!(text.ends_with("\r\n") && !text.replace("\r\n", "").contains(['\r', '\n']));
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// What is sent on of the received fields alone.
    fn passes(&self, fields: &[(&str, &str)]) -> Vec<String> {
        let ours = ["X-Request-Id: ", "X-Forwarded-"];
        let sent = self.send(fields).unwrap();
        sent.into_iter()
            .filter(|line| !ours.iter().any(|name| line.starts_with(name)))
            .collect()
    }
}

fn principal() -> Principal {
    let mut facts = samples::facts("keys", "key-1", "acme");
    facts.credential.mode = Some(Mode::Live);
    facts.credential.scopes = samples::scopes(&["orders:read", "orders:write"]);
    facts.credential.subject = Some(Subject::parse("user-1").unwrap());
    Principal {
        facts: Arc::new(facts),
        token: None,
    }
}

const IDENTITY: [&str; 8] = [
    "X-Tenant-Id",
    "X-Scopes",
    "X-Auth-Surface",
    "X-Auth-Mode",
    "X-Auth-Subject",
    "X-Auth-Credential-Id",
    "X-Auth-Role",
    "X-Transaction-Id",
];

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
    let bare = Principal {
        facts: Arc::new(samples::facts("keys", "key-1", "acme")),
        token: None,
    };
    let sent = Way::admitted(bare, 0).passes(&[("X-Auth-Mode", "live"), ("X-Scopes", "a")]);
    assert_eq!(sent, ["X-Tenant-Id: acme", "X-Auth-Surface: keys", "X-Auth-Credential-Id: key-1"]);
}

#[test]
fn h1_claims_become_headers_in_the_order_of_the_surface() {
    let with = |headers: Vec<Option<Arc<str>>>| {
        let token = TokenClaims {
            subject: Subject::parse("account-1").unwrap(),
            expires_at: UnixMillis(0),
            issued_at: None,
            scopes: Some(samples::scopes(&["orders:read"])),
            headers,
        };
        Way::admitted(
            Principal {
                token: Some(token),
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
fn h2_other_names_with_odd_characters_are_dropped() {
    for name in ["Some_Name", "some.name", "a~b", "User_Agent", "X_HTTP_Method_Override", "*", "a'b"] {
        assert_eq!(screen(&[(name, "1")]), Ok(vec![Role::Dropped]), "{name}");
    }
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
        [b"Grpc-Status".as_slice(), b"X-Checksum"]
    );
}

#[test]
fn te_trailers_is_said_on_only_where_both_sides_want_it() {
    let way = Way {
        trailers: Trailers::Forwarded,
        ..Way::public()
    };
    assert_eq!(way.passes(&[("TE", "gzip, Trailers")]), ["TE: trailers"]);
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
    let swapped = Principal {
        facts: Arc::new(facts),
        token: None,
    };
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
        scheme: Scheme::Http,
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
        let mut out = Fields::default();
        policy().filter_returning(&received, route, &mut out);
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
