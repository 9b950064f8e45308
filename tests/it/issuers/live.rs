//! Tokens of others through the real binary: keys from a file and from a URL, rotated, withdrawn, hostile.

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::issuer::{Signer, jwks};
use crate::support::jwks_server::JwksServer;
use crate::support::raw::{Client, Response};
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

const ROUTES: &str = r#"
name = "main"
endpoints = ["http://{address}"]

[[routes]]
path = "/v1/orders/**"
methods = ["GET", "POST"]
access = { surfaces = ["key", "jwt"], scopes = ["orders:read"] }
"#;

/// A surface of this issuer beside one for keys.
fn surfaces(issuer: &str) -> String {
    format!(
        "\n[surfaces.key]\nkind = \"api_key\"\ncarry = [\"header:X-Key\"]\nprefixes = [\"k_\"]\n\
         \n[surfaces.jwt]\nkind = \"external_jwt\"\nclaim_headers = {{ role = \"X-Role\" }}\n\
         \n[[surfaces.jwt.issuers]]\nscopes_claim = \"permissions\"\n{issuer}\n"
    )
}

struct House {
    upstream: Upstream,
    site: Site,
    gateway: Gateway,
}

impl House {
    fn open(issuer: &str, files: &[(&str, &str)]) -> Self {
        let upstream = Upstream::echoing();
        let plan = Plan {
            tables: surfaces(issuer),
            upstream: ROUTES.to_owned(),
            ..Plan::usual()
        };
        let site = Site::of(&plan, upstream.address);
        for (name, text) in files {
            site.write(name, text);
        }
        let gateway = Gateway::start(&site);
        gateway.json(&["tenants", "create", "acme"]);
        Self { upstream, site, gateway }
    }

    /// Keys from a URL whose server is this one.
    fn of_url(server: &JwksServer, more: &str) -> Self {
        let issuer = format!(
            "jwks = \"{}\"\nca = \"ca.pem\"\ninsecure_private_address = true\n{more}",
            server.url()
        );
        Self::open(&issuer, &[("ca.pem", &server.certificate)])
    }

    fn call(&self, token: &str) -> Response {
        let mut client = Client::connect(self.gateway.address("plain"));
        client.send(
            format!("GET /v1/orders/1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nX-Role: forged\r\n\r\n").as_bytes(),
        );
        client.response().expect("an answer")
    }

    fn status(&self, token: &str) -> u16 {
        self.call(token).status
    }
}

pub(super) fn claims_of(tenant: &str) -> Value {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    json!({ "sub": "user-7", "tenant": tenant, "permissions": ["orders:read"], "role": "clerk", "exp": now + 600 })
}

#[test]
fn tokens_of_every_algorithm_pass_and_the_service_sees_tenant_subject_and_scopes() {
    let signers = Signer::all();
    let house = House::open("jwks = \"keys.json\"", &[("keys.json", &jwks(&signers.iter().collect::<Vec<_>>()))]);
    for signer in &signers {
        house.upstream.forget();
        assert_eq!(house.status(&signer.token(&claims_of("acme"))), 200, "{}", signer.algorithm);
        let seen = &house.upstream.requests()[0];
        assert_eq!(seen.all("x-tenant-id"), ["acme"]);
        assert_eq!(seen.all("x-auth-subject"), ["user-7"]);
        assert_eq!(seen.all("x-scopes"), ["orders:read"]);
        assert_eq!(seen.all("x-auth-surface"), ["jwt"]);
        assert_eq!(seen.all("x-role"), ["clerk"]);
        for absent in ["authorization", "x-auth-credential-id", "x-auth-mode"] {
            assert_eq!(seen.all(absent), Vec::<&str>::new(), "{absent}");
        }
    }
    let signer = &signers[1];
    assert_eq!(
        house.status(&signer.token(&claims_of("nobody"))),
        401,
        "a tenant that does not exist"
    );
    let mut poor = claims_of("acme");
    poor["permissions"] = json!(["other"]);
    assert_eq!(house.status(&signer.token(&poor)), 403);
    assert_eq!(house.status(&Signer::es256("ec").token(&claims_of("acme"))), 401, "another key");
    let key = house.gateway.create_key("key", "acme", &["--scope", "orders:read"]);
    let mut client = Client::connect(house.gateway.address("plain"));
    client.send(
        format!(
            "GET /v1/orders/1 HTTP/1.1\r\nHost: localhost\r\nX-Key: {}\r\n\r\n",
            key["key"].as_str().unwrap()
        )
        .as_bytes(),
    );
    assert_eq!(client.response().unwrap().status, 200, "either is accepted on the same route");
}

#[test]
fn j16_a_disabled_tenants_tokens_end() {
    let signer = Signer::eddsa("ed");
    let house = House::open("jwks = \"keys.json\"", &[("keys.json", &jwks(&[&signer]))]);
    let token = signer.token(&claims_of("acme"));
    assert_eq!(house.status(&token), 200);
    house.gateway.json(&["tenants", "disable", "acme"]);
    until("the tenant's tokens to end", PATIENCE, || {
        (house.status(&token) == 403).then_some(())
    });
}

#[test]
fn a_file_of_keys_is_read_again_when_it_changes_and_a_bad_one_changes_nothing() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let house = House::open("jwks = \"keys.json\"", &[("keys.json", &jwks(&[&old]))]);
    let (with_old, with_new) = (old.token(&claims_of("acme")), new.token(&claims_of("acme")));
    assert_eq!((house.status(&with_old), house.status(&with_new)), (200, 401));
    house.site.write("keys.json", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}");
    assert_ne!(house.gateway.run(&["reload"]).code, 0, "a set with a secret in it");
    assert_eq!(house.status(&with_old), 200);
    house.site.write("keys.json", &jwks(&[&new]));
    until("the new keys", PATIENCE, || (house.status(&with_new) == 200).then_some(()));
    assert_eq!(house.status(&with_old), 401, "a withdrawn key");
}

#[test]
fn j5_an_unknown_key_is_fetched_once_and_strangers_cause_no_storm() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let server = JwksServer::start(&jwks(&[&old]));
    let house = House::of_url(&server, "refresh = \"1h\"");
    let (with_old, with_new) = (old.token(&claims_of("acme")), new.token(&claims_of("acme")));
    assert_eq!(house.status(&with_old), 200, "the first request waits for the first keys");
    let first = server.asked();
    assert!(first <= 2, "{first}");
    server.publish(&jwks(&[&old, &new]));
    assert_eq!(house.status(&with_new), 200, "its key was fetched for it");
    assert_eq!(server.asked(), first + 1);
    for n in 0..200 {
        let made_up = Signer::eddsa(&format!("made-up-{n}"));
        assert_eq!(house.status(&made_up.token(&claims_of("acme"))), 401);
    }
    assert_eq!(server.asked(), first + 1, "not once more within the pause");
    assert_eq!((house.status(&with_old), house.status(&with_new)), (200, 200));
    // A reload that leaves the issuer as it is keeps what is known.
    let text = house.site.read("gateway.toml");
    house.site.write("gateway.toml", &format!("{text}\n# changed\n"));
    house.gateway.json(&["reload"]);
    assert_eq!(house.status(&with_new), 200);
    assert_eq!(server.asked(), first + 1);
}

#[test]
fn the_last_good_keys_are_kept_while_an_issuer_fails_and_replaced_when_it_recovers() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let server = JwksServer::start(&jwks(&[&old]));
    let house = House::of_url(&server, "refresh = \"10s\"");
    let (token, unknown) = (old.token(&claims_of("acme")), new.token(&claims_of("acme")));
    assert_eq!(house.status(&token), 200);
    let before = server.asked();
    server.answer_with(&answer("500 Oops", "application/json", &jwks(&[&new])));
    assert_eq!((house.status(&unknown), house.status(&token)), (401, 200));
    assert!(server.asked() > before, "it was asked for the unknown key");
    server.publish(&jwks(&[&new]));
    until("the issuer's recovery", PATIENCE, || (house.status(&unknown) == 200).then_some(()));
    assert_eq!(house.status(&token), 401, "the withdrawn key");
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn b1_answers_that_are_not_a_plain_small_key_set_bring_no_keys() {
    let signer = Signer::es256("ec");
    let set = jwks(&[&signer]);
    let elsewhere = JwksServer::start(&set);
    let answers = [
        answer("200 OK", "application/json; charset=utf-8", &set),
        format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", elsewhere.url()),
        answer("500 Oops", "application/json", &set),
        answer("200 OK", "text/html", &set),
        answer("200 OK", "application/json\r\nContent-Encoding: gzip", &set),
        answer("200 OK", "application/json", &format!("{}{set}", " ".repeat(65_536))),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n{\"keys\":[".to_owned(),
        "garbage".to_owned(),
    ];
    let servers: Vec<JwksServer> = answers.iter().map(|_| JwksServer::start(&set)).collect();
    let mut issuers = String::new();
    let mut files = Vec::new();
    for (n, (server, answer)) in servers.iter().zip(&answers).enumerate() {
        server.answer_with(answer);
        let begin = if n == 0 {
            ""
        } else {
            "[[surfaces.jwt.issuers]]\nscopes_claim = \"permissions\"\n"
        };
        issuers.push_str(&format!(
            "{begin}issuer = \"i{n}\"\ntenants = [\"acme\"]\njwks = \"{}\"\nca = \"ca{n}.pem\"\ninsecure_private_address = true\n",
            server.url()
        ));
        files.push((format!("ca{n}.pem"), server.certificate.clone()));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let house = House::open(&issuers, &files);
    for (n, server) in servers.iter().enumerate() {
        let mut claims = claims_of("acme");
        claims["iss"] = json!(format!("i{n}"));
        let expected = if n == 0 { 200 } else { 503 };
        assert_eq!(house.status(&signer.token(&claims)), expected, "{:.60}", answers[n]);
        assert!(server.asked() > 0);
    }
    assert_eq!(elsewhere.asked(), 0, "redirects are not followed");
}

#[test]
fn without_keys_nobody_is_told_401() {
    let signer = Signer::es256("ec");
    let server = JwksServer::start("not a key set");
    let house = House::of_url(&server, "");
    let answer = house.call(&signer.token(&claims_of("acme")));
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.field("retry-after").is_some());
    server.publish(&jwks(&[&signer]));
    until("keys after all", PATIENCE, || {
        (house.status(&signer.token(&claims_of("acme"))) == 200).then_some(())
    });
}

#[test]
fn b1_a_private_address_is_not_asked_unless_the_operator_says_so() {
    let signer = Signer::es256("ec");
    let server = JwksServer::start(&jwks(&[&signer]));
    let issuer = format!("jwks = \"{}\"\nca = \"ca.pem\"", server.url());
    let house = House::open(&issuer, &[("ca.pem", &server.certificate)]);
    assert_eq!(house.status(&signer.token(&claims_of("acme"))), 503);
    assert_eq!(server.asked(), 0);
    let told = || String::from_utf8_lossy(&house.gateway.output()).contains("private or local address");
    until("the operator to be told", PATIENCE, || told().then_some(()));
}

#[test]
fn what_is_no_key_in_a_set_from_a_url_is_named_once_and_the_rest_is_used() {
    let signer = Signer::es256("ec");
    let mut set: Value = serde_json::from_str(&jwks(&[&signer, &signer])).unwrap();
    for odd in [
        json!({}),
        json!(null),
        json!({ "kty": "EC", "kid": 1 }),
        json!({ "kty": "RSA", "kid": "r", "e": 65_537 }),
    ] {
        set["keys"].as_array_mut().unwrap().insert(0, odd);
    }
    let server = JwksServer::start(&set.to_string());
    let house = House::of_url(&server, "refresh = \"10s\"");
    let token = signer.token(&claims_of("acme"));
    assert_eq!(house.status(&token), 200);
    let told = || {
        let output = String::from_utf8_lossy(&house.gateway.output()).into_owned();
        let lines = output.lines().filter(|line| line.contains("keys of an issuer are left out"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let first = until("the warning", PATIENCE, || told().pop());
    for part in [
        "keys[0] (r): `n` is missing",
        "keys[1]: `kid` is not of its type",
        "keys[2]: it is not an object",
        "keys[3]: `kty` is missing",
    ] {
        assert!(first.contains(part), "{first}");
    }
    let before = server.asked();
    // The same set again says nothing new.
    until("another fetch", PATIENCE, || {
        let _ = house.status(&Signer::es256("other").token(&claims_of("acme")));
        (server.asked() > before).then_some(())
    });
    assert_eq!((house.status(&token), told().len()), (200, 1));
}

#[test]
fn a_token_as_large_as_may_be_passes_and_no_other_field_is_hurt_by_it() {
    let signer = Signer::eddsa("ed");
    let house = House::open("jwks = \"keys.json\"", &[("keys.json", &jwks(&[&signer]))]);
    let sized = |note: usize| {
        let mut claims = claims_of("acme");
        claims["note"] = json!("x".repeat(note));
        signer.token(&claims)
    };
    // Base64 makes four characters of the token out of three bytes of the note.
    let most = (16_384 - sized(0).len()) / 4 * 3;
    let large = sized(most);
    assert!((16_380..=16_384).contains(&large.len()), "{}", large.len());
    let send = |token: &str, cookies: usize| {
        let mut client = Client::connect(house.gateway.address("plain"));
        let cookie = "c=".to_owned() + &"x".repeat(cookies);
        client.send(
            format!("GET /v1/orders/1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nCookie: {cookie}\r\n\r\n").as_bytes(),
        );
        client.response().expect("an answer").status
    };
    assert_eq!(send(&large, 15_000), 200, "as many cookies as ever beside it");
    assert_eq!(send(&sized(most + 9), 10), 401);
    assert_eq!(send(&large, 17_000), 431, "a head has its bound");
    assert_eq!(send(&sized(most + 3_000), 10), 431, "so has a field");
}
