//! Surfaces of other issuers as they are written: what is built, and which mistakes are found.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::reload::reload_from;
use crate::decide::external::{ExternalRules, FetchAddresses, IssuerAlgorithm, KeySet, Tenants};
use crate::decide::surface::{ExternalSurface, SurfaceKind};
use crate::decide::token::ClaimLists;

const SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// A gateway whose surface has these issuers, beside the set in `keys.json`.
fn files(issuers: &str, set: &str) -> InMemory {
    let gateway = format!("{GATEWAY}[surfaces.jwt]\nkind = \"external_jwt\"\ncarry = [\"header:X-Jwt\"]\n{issuers}");
    let upstream = format!("{ORDERS}[[routes]]\npath = \"/j\"\naccess = {{ surfaces = [\"jwt\"] }}\n");
    let ca = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    table(&[
        ("gateway.toml", &gateway),
        ("upstreams/orders.toml", &upstream),
        ("keys.json", set),
        ("ca.pem", &ca),
        // A reload makes nothing: what serving had made is there.
        ("state/pepper", "0123456789abcdef0123456789abcdef"),
    ])
}

fn rules(loaded: &Loaded) -> &ExternalRules {
    let rules = loaded.snapshot.surfaces.iter().find_map(|surface| match &surface.kind {
        SurfaceKind::External(ExternalSurface { rules, .. }) => Some(&**rules),
        _ => None,
    });
    rules.unwrap()
}

const URL: &str = "[[surfaces.jwt.issuers]]\njwks = \"https://login.example.com:8443/keys?v=1\"\nca = \"ca.pem\"\n";

#[test]
fn an_issuer_of_a_file_has_its_keys_at_once() {
    let loaded = check(&files("[[surfaces.jwt.issuers]]\njwks = \"keys.json\"\n", SET)).unwrap();
    let issuer = &rules(&loaded).issuers[0];
    let keys = issuer.keys.usable(crate::base::clock::BootMillis(0)).unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!((issuer.subject_claim.as_str(), issuer.scopes_claim.as_str()), ("sub", "scope"));
    let any = Tenants::Claim {
        claim: "tenant".into(),
        allowed: None,
    };
    assert_eq!(issuer.tenants, any);
    assert!(
        loaded
            .warnings
            .iter()
            .any(|d| d.problem.message.contains("whichever service it was made for"))
    );
}

#[test]
fn an_issuer_of_a_url_is_fetched_with_care() {
    let loaded = check(&files(&format!("{URL}audience = \"payments\"\ntenants = [\"acme\"]\n"), SET)).unwrap();
    let issuer = &rules(&loaded).issuers[0];
    let url = issuer.keys.url().unwrap();
    assert_eq!(
        (url.host.as_str(), url.port, url.target.as_str()),
        ("login.example.com", 8443, "/keys?v=1")
    );
    assert_eq!((url.refresh, url.keep), (Duration::from_secs(30), Duration::from_secs(3_600)));
    assert_eq!(url.addresses, FetchAddresses::Public);
    assert!(matches!(&issuer.tenants, Tenants::One(tenant) if tenant.as_str() == "acme"));
    assert!(
        issuer.keys.usable(crate::base::clock::BootMillis(0)).is_none(),
        "nothing was fetched"
    );
}

#[test]
fn each_mistake_in_an_issuer_is_found() {
    let file = "[[surfaces.jwt.issuers]]\njwks = \"keys.json\"\n";
    for (issuers, message) in [
        (String::new(), "needs `issuers`"),
        ("[[surfaces.jwt.issuers]]\n".into(), "`jwks` is missing"),
        ("[[surfaces.jwt.issuers]]\njwks = \"none.json\"\n".into(), "cannot be read"),
        ("[[surfaces.jwt.issuers]]\njwks = \"ca.pem\"\n".into(), "not a set of public keys"),
        (
            "[[surfaces.jwt.issuers]]\njwks = \"http://a.test/k\"\n".into(),
            "must begin with `https://`",
        ),
        ("[[surfaces.jwt.issuers]]\njwks = \"https://u@a.test/k\"\n".into(), "cannot be read"),
        ("[[surfaces.jwt.issuers]]\njwks = \"https://a.test/k#f\"\n".into(), "cannot be read"),
        ("[[surfaces.jwt.issuers]]\njwks = \"https:///k\"\n".into(), "cannot be read"),
        (format!("{file}refresh = \"30s\"\n"), "fetched from a URL"),
        (format!("{file}insecure_private_address = true\n"), "fetched from a URL"),
        (format!("{URL}keep = \"1m\"\nrefresh = \"10m\"\n"), "`keep` is shorter"),
        (format!("{URL}refresh = \"5s\"\n"), "`refresh` must be"),
        (format!("{file}tenants = []\n"), "`tenants` is empty"),
        (format!("{file}tenants = [\"a b\"]\n"), "not a tenant's id"),
        (format!("{file}scopes = [\"a b\"]\n"), "not a scope"),
        (format!("{file}audience = \"\"\n"), "`audience` is empty"),
        (format!("{file}audience_claim = \"client_id\"\n"), "without `audience`"),
        (format!("{file}rsa_algorithm = \"HS256\"\n"), "`rsa_algorithm` cannot be `HS256`"),
        (format!("max_token = \"17KiB\"\n{file}"), "`max_token` must be"),
        (format!("claim_lists = \"xml\"\n{file}"), "`claim_lists` cannot be `xml`"),
        (format!("{file}{file}"), "each needs `issuer`"),
        (format!("{file}issuer = \"a\"\n{file}issuer = \"b\"\n"), "each needs `tenants`"),
        (
            format!("{file}issuer = \"a\"\ntenants = [\"x\"]\n{file}issuer = \"a\"\ntenants = [\"y\"]\n"),
            "there is an issuer `a` already",
        ),
    ] {
        let errors = check(&files(&issuers, SET)).unwrap_err().to_string();
        assert!(errors.contains(message), "{issuers}: {errors}");
    }
    let cookie = files("[[surfaces.jwt.issuers]]\njwks = \"keys.json\"\n", SET);
    let mut cookie_files = cookie.clone();
    let gateway = Path::new("/c/gateway.toml");
    let text = String::from_utf8(cookie.files[gateway].clone()).unwrap();
    cookie_files
        .files
        .insert(gateway.into(), text.replace("header:X-Jwt", "cookie:jwt").into_bytes());
    assert!(check(&cookie_files).unwrap_err().to_string().contains("cannot be carried in"));
    let reserved = text.replace("surfaces.jwt", "surfaces.tenant");
    cookie_files.files.insert(gateway.into(), reserved.into_bytes());
    assert!(check(&cookie_files).unwrap_err().to_string().contains("tenants' own records"));
}

#[test]
fn what_tokens_may_be_and_become_is_as_written() {
    let file = "[[surfaces.jwt.issuers]]\njwks = \"keys.json\"\n";
    let loaded = check(&files(file, SET)).unwrap();
    let usual = rules(&loaded);
    assert_eq!((usual.max_token, usual.claim_lists), (16 * 1024, ClaimLists::Spaces));
    assert_eq!(usual.issuers[0].audience_claim, "aud");
    let more = format!(
        "max_token = \"2KiB\"\nclaim_lists = \"json\"\nclaim_headers = {{ \"https://example.com/roles\" = \"X-Role\" }}\n\
         {file}audience = \"a\"\naudience_claim = \"client_id\"\nscopes = [\"https://www.googleapis.com/auth/drive\"]\n"
    );
    let loaded = check(&files(&more, SET)).unwrap();
    let written = rules(&loaded);
    assert_eq!((written.max_token, written.claim_lists), (2048, ClaimLists::Json));
    assert_eq!(written.issuers[0].audience_claim, "client_id");
    assert!(written.issuers[0].scopes.is_some());
    let url = check(&files(&format!("{URL}rsa_algorithm = \"PS512\"\n"), SET)).unwrap();
    assert_eq!(rules(&url).issuers[0].keys.url().unwrap().unnamed_rsa, IssuerAlgorithm::Ps512);
}

#[test]
fn a_key_that_is_left_out_of_a_file_is_named_in_a_warning_and_the_rest_is_used() {
    let file = "[[surfaces.jwt.issuers]]\njwks = \"keys.json\"\naudience = \"a\"\n";
    let odd = SET.replace("[{", "[{\"kid\":\"odd\"},null,{\"kty\":\"RSA\",\"use\":\"enc\"},{");
    let loaded = check(&files(file, &odd)).unwrap();
    assert_eq!(
        rules(&loaded).issuers[0]
            .keys
            .usable(crate::base::clock::BootMillis(0))
            .unwrap()
            .len(),
        1
    );
    let warnings: Vec<&str> = loaded.warnings.iter().map(|d| d.problem.message.as_str()).collect();
    let left_out = "keys of this set are left out: keys[0] (odd): `kty` is missing; keys[1]: it is not an object";
    assert!(warnings.contains(&left_out), "{warnings:?}");
    let fine = check(&files(file, SET)).unwrap();
    assert!(!fine.warnings.iter().any(|d| d.problem.message.contains("left out")));
}

#[test]
fn a_set_with_a_secret_in_it_does_not_load_and_its_text_is_not_shown() {
    let leaked = SET.replace("\"kid\"", "\"d\":\"canary-4711\",\"kid\"");
    let errors = check(&files("[[surfaces.jwt.issuers]]\njwks = \"keys.json\"\n", &leaked))
        .unwrap_err()
        .to_string();
    assert!(
        errors.contains("private or a symmetric key") && !errors.contains("canary"),
        "{errors}"
    );
}

#[test]
fn a_reload_keeps_fetched_keys_of_the_same_issuer_and_no_others() {
    let same = files(URL, SET);
    let before = check(&same).unwrap();
    let old = Arc::clone(&rules(&before).issuers[0].keys);
    old.replace(KeySet::parse(SET.as_bytes()).unwrap(), crate::base::clock::BootMillis(5));
    let keys_after = |files: &InMemory| {
        let loaded = reload_from(Path::new("/c/gateway.toml"), &before.settings, &before.snapshot, files).unwrap();
        let found = loaded.snapshot.surfaces.iter().find_map(|surface| match &surface.kind {
            SurfaceKind::External(ExternalSurface { rules, .. }) => Some(Arc::clone(&rules.issuers[0].keys)),
            _ => None,
        });
        found.unwrap()
    };
    assert!(Arc::ptr_eq(&keys_after(&same), &old));
    assert!(
        !Arc::ptr_eq(&keys_after(&files(URL, SET)), &old),
        "another authority vouches for it"
    );
}
