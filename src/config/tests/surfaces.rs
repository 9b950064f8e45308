//! Surfaces as they are built: every kind with every key.

use std::time::Duration;

use super::*;
use crate::decide::surface::{
    AccountSurface, ApiKeySurface, Carrier, CookieSpec, DEFAULT_RANDOM, HalfCarriers, KeyPairSurface, Minting, Refresh, SameSite,
    SessionRecord, SessionSurface, Surface, SurfaceKind,
};

/// The surface `x` of a configuration.
fn built(text: &str) -> Surface {
    let gateway = format!("{GATEWAY}[surfaces.x]\n{text}");
    let mut files = table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", ORDERS)]);
    files.variables.insert("S".into(), "s".repeat(32));
    files.variables.insert("T".into(), "t".repeat(32));
    let loaded = check(&files).unwrap_or_else(|e| panic!("{e}"));
    loaded.snapshot.surfaces.into_iter().find(|s| s.name.as_str() == "x").unwrap()
}

#[test]
fn a_key_has_256_random_bits_unless_it_has_more() {
    let random = |more: &str| match built(&format!("kind = \"api_key\"\nprefixes = [\"x\"]\n{more}")).kind {
        SurfaceKind::ApiKey(ApiKeySurface { random, .. }) => random,
        other => panic!("{other:?}"),
    };
    assert_eq!(random(""), DEFAULT_RANDOM);
    assert_eq!(random("random = 62\n"), 62);
}

#[test]
fn the_halves_of_a_pair_may_be_in_a_body() {
    let surface = built(
        "kind = \"key_pair\"\nkey_field = \"api_key\"\nsecret_field = \"api_secret\"\nkey_max = 64\nsecret_max = 128\nkey_prefixes = [\"k_\"]\nsecret_prefixes = [\"s_\"]\n",
    );
    assert!(surface.is_presented_in_body());
    assert!(!surface.uses_header(b"api_key"));
    let SurfaceKind::KeyPair(KeyPairSurface {
        halves: HalfCarriers::Body { key, secret },
        ..
    }) = surface.kind
    else {
        panic!("{surface:?}");
    };
    assert_eq!((key.name.as_str(), key.max), ("api_key", 64));
    assert_eq!((secret.name.as_str(), secret.max), ("api_secret", 128));
}

#[test]
fn an_account_is_presented_in_a_body_or_never() {
    let SurfaceKind::Account(AccountSurface { fields: Some(fields) }) =
        built("kind = \"account\"\nlogin_field = \"email\"\npassword_field = \"password\"\n").kind
    else {
        panic!("no fields");
    };
    assert_eq!((fields.login.name.as_str(), fields.login.max), ("email", 254));
    assert_eq!((fields.password.name.as_str(), fields.password.max), ("password", 128));
    let bare = built("kind = \"account\"\n");
    assert!(matches!(bare.kind, SurfaceKind::Account(AccountSurface { fields: None })));
    assert!(bare.is_presented_in_body() && bare.has_records());
}

const SESSION: &str = "kind = \"session_jwt\"\ntoken_kind = \"x\"\nsecrets = [\"env:S\", \"env:T\"]\n";

#[test]
fn a_session_with_records_of_its_own_is_renewed_and_set_as_a_cookie() {
    let surface = built(&format!(
        "{SESSION}record = \"own\"\ncarry = [\"bearer\", \"cookie:s\"]\nlifetime = \"15m\"\n\
         cookie = {{ same_site = \"strict\", path = \"/a\", max_age = \"12h\" }}\nrefresh = {{ after = \"5m\", header = \"X-Session-Token\" }}\n"
    ));
    assert!(surface.has_records());
    assert_eq!(surface.record_surface().as_str(), "x");
    let SurfaceKind::Session(SessionSurface {
        record, minting, carriers, ..
    }) = surface.kind
    else {
        panic!("no session");
    };
    assert_eq!(record, SessionRecord::Own);
    assert_eq!(carriers, [Carrier::BEARER, Carrier::Cookie("s".into())]);
    let expected = Minting {
        lifetime: Duration::from_secs(900),
        cookie: Some(CookieSpec {
            name: "s".into(),
            same_site: SameSite::Strict,
            path: "/a".into(),
            max_age: Some(Duration::from_secs(43_200)),
        }),
        refresh: Some(Refresh {
            after: Duration::from_secs(300),
            header: Some("X-Session-Token".into()),
        }),
    };
    assert_eq!(minting.as_deref(), Some(&expected));
}

#[test]
fn a_session_without_a_lifetime_is_minted_elsewhere() {
    let surface = built(&format!("{SESSION}record_surface = \"api\"\ncarry = [\"cookie:s\"]\n"));
    assert!(!surface.has_records());
    assert_eq!(surface.record_surface().as_str(), "api");
    assert!(matches!(surface.kind, SurfaceKind::Session(SessionSurface { minting: None, .. })));
}

#[test]
fn a_secret_named_twice_on_one_surface_is_a_warning() {
    let warned = |secrets: &str| {
        let gateway =
            format!("{GATEWAY}[surfaces.x]\nkind = \"session_jwt\"\ntoken_kind = \"x\"\nsecrets = {secrets}\nrecord_surface = \"api\"\n");
        let orders = format!("{ORDERS}[[routes]]\npath = \"/x\"\naccess = {{ surfaces = [\"x\"] }}\n");
        let mut files = table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", &orders)]);
        files.variables.insert("S".into(), "s".repeat(32));
        files.variables.insert("T".into(), "t".repeat(32));
        let loaded = check(&files).unwrap_or_else(|e| panic!("{e}"));
        loaded
            .warnings
            .iter()
            .filter(|d| d.problem.weight == error::ProblemSeverity::Warning)
            .count()
    };
    assert_eq!(warned("[\"env:S\", \"env:T\"]"), 0);
    assert_eq!(warned("[\"env:S\", \"env:S\"]"), 1);
}
