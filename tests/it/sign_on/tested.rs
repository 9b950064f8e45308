//! `durward providers test` at providers that are right and at broken ones, and providers that are made of their SAML metadata.

use serde_json::{Value, json};

use crate::support::gateway::{Answer, Gateway, run};
use crate::support::issuer::{Signer, jwks};
use crate::support::jwks_server::JwksServer;
use crate::support::redis::free_port;
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;

use super::site::House;

const TABLES: &str = r#"
[sign_on]
public_url = "https://api.example.com"
return_to = ["https://app.example.com/portal"]
contact = "the service desk"
ca = "ca.pem"
insecure_private_address = true

[surfaces.people]
kind = "account"

[surfaces.visit]
kind = "session_jwt"
token_kind = "visit"
secrets = "generate:state/visit"
record = "own"
lifetime = "15m"
carry = ["cookie:__Host-visit"]

[[rate_limits]]
by = "address"
rate = "1000/1m"

[[routes]]
name = "finish"
methods = ["GET"]
path = "/callback"
access = "public"
serve = "sso_finish"
mint = [{ surface = "visit", parent = "person", subject = "parent.id", scopes = "person", lifetime = "2h" }]
"#;

struct Bench {
    _upstream: Upstream,
    site: Site,
    _gateway: Gateway,
    /// A provider over TLS that gives one answer to every question.
    server: JwksServer,
}

impl Bench {
    fn start() -> Self {
        let server = JwksServer::start("{}");
        let upstream = Upstream::echoing();
        let plan = Plan {
            tables: TABLES.into(),
            ..Plan::usual()
        };
        let site = Site::of(&plan, upstream.address);
        site.write("ca.pem", &server.certificate);
        let gateway = Gateway::start(&site);
        gateway.json(&["tenants", "create", "acme"]);
        Self {
            _upstream: upstream,
            site,
            _gateway: gateway,
            server,
        }
    }

    fn issuer(&self) -> String {
        issuer_at(self.server.address.port())
    }

    fn run(&self, args: &[&str]) -> Answer {
        run(&self.site.config(), args, b"client-secret")
    }

    /// Makes an OpenID Connect provider with this issuer; its id.
    fn create(&self, issuer: &str) -> String {
        let args = [
            "--json",
            "providers",
            "create",
            "--tenant",
            "acme",
            "--kind",
            "oidc",
            "--issuer",
            issuer,
            "--client-id",
            "c",
        ];
        let made = self.run(&args);
        assert_eq!(made.code, 0, "{made:?}");
        made.json()["id"].as_str().unwrap().to_owned()
    }

    /// Answers every question with this JSON.
    fn publish(&self, answer: &Value) {
        let text = answer.to_string();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length";
        self.server.answer_with(&format!("{head}: {}\r\n\r\n{text}", text.len()));
    }

    fn test(&self, id: &str) -> TestAnswer {
        let answer = self.run(&["--json", "providers", "test", id]);
        let told: Value = serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{answer:?}"));
        assert_eq!(answer.code == 0, told["passed"] == json!(true), "{answer:?}");
        TestAnswer(told)
    }
}

struct TestAnswer(Value);

impl TestAnswer {
    /// What was found with this outcome, each as name and reason.
    fn with(&self, outcome: &str) -> Vec<String> {
        let all = self.0["checks"].as_array().unwrap().iter();
        let some = all.filter(|check| check["outcome"] == outcome);
        some.map(|check| format!("{}: {}", check["name"].as_str().unwrap(), check["why"].as_str().unwrap()))
            .collect()
    }

    fn assert_failed(&self, why: &str) {
        let failed = self.with("failed");
        assert!(failed.iter().any(|line| line.contains(why)), "{why}: {failed:?}");
    }
}

fn issuer_at(port: u16) -> String {
    format!("https://localhost:{port}")
}

/// The configuration of a provider, with its keys in the same document.
fn metadata(issuer: &str) -> Value {
    let mut all: Value = serde_json::from_str(&jwks(&[&Signer::es256("key-1")])).unwrap();
    let own = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "end_session_endpoint": format!("{issuer}/logout"),
        "backchannel_logout_supported": true,
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    });
    all.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    all
}

#[test]
fn a_provider_that_is_right_passes() {
    let house = House::open();
    let tested = run(&house.sites[0].config(), &["--json", "providers", "test", &house.provider], b"");
    assert_eq!((tested.code, &tested.json()["passed"]), (0, &json!(true)), "{tested:?}");
    house.gateways[0].json(&["providers", "disable", &house.provider]);
    let disabled = run(&house.sites[0].config(), &["--json", "providers", "test", &house.provider], b"");
    assert_eq!(disabled.code, 1, "{disabled:?}");
    assert!(disabled.stdout.contains("providers enable"), "{disabled:?}");
    assert_eq!(run(&house.sites[0].config(), &["providers", "test", "prv_none"], b"").code, 3);
}

#[test]
fn a_test_says_what_is_wrong_with_each_broken_provider() {
    let bench = Bench::start();
    let issuer = bench.issuer();
    let id = bench.create(&issuer);
    let with = |name: &str, value: Value| {
        let mut changed = metadata(&issuer);
        changed[name] = value;
        bench.publish(&changed);
        bench.test(&id)
    };
    with("issuer", json!("https://another.example")).assert_failed("another.example");
    with("token_endpoint", json!(null)).assert_failed("token_endpoint");
    with("authorization_endpoint", json!("http://plain.example/")).assert_failed("authorization_endpoint");
    with("code_challenge_methods_supported", json!(["plain"])).assert_failed("PKCE");
    let nothing = with("keys", json!([]));
    assert!(
        nothing.with("failed").len() > with("scopes_supported", json!(["openid"])).with("failed").len(),
        "{:?}",
        nothing.0
    );
    for (name, value, why) in [
        (
            "token_endpoint_auth_methods_supported",
            json!(["private_key_jwt"]),
            "private_key_jwt",
        ),
        ("backchannel_logout_supported", json!(false), "back-channel"),
        ("end_session_endpoint", json!(null), "end_session_endpoint"),
    ] {
        let warned = with(name, value);
        assert!(
            warned.with("warning").iter().any(|line| line.contains(why)),
            "{why}: {:?}",
            warned.0
        );
    }
    for (answer, why) in [
        (
            "HTTP/1.1 302 Found\r\nLocation: https://a.example/\r\nContent-Length: 0\r\n\r\n",
            "302",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nno",
            "application/json",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\nno",
            "",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n{",
            "",
        ),
        ("no HTTP at all\r\n\r\n", "HTTP"),
    ] {
        bench.server.answer_with(answer);
        bench.test(&id).assert_failed(why);
    }
    let nobody = bench.create(&issuer_at(free_port()));
    bench.test(&nobody).assert_failed("no connection");
    let stranger = JwksServer::start("{}");
    let untrusted = bench.create(&issuer_at(stranger.address.port()));
    bench.test(&untrusted).assert_failed("TLS");
}

/// A certificate of a provider that is in force for these years, as DER in base64.
fn certificate(from: i32, to: i32) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["idp.example".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(to, 1, 1));
    let made = params.self_signed(&key).unwrap();
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, made.der())
}

fn saml_metadata(certificates: &[String]) -> String {
    let keys: String = certificates
        .iter()
        .map(|text| {
            format!(
                "<md:KeyDescriptor use=\"signing\"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{text}</ds:X509Certificate>\
                 </ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"
            )
        })
        .collect();
    format!(
        "<md:EntityDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\" \
         entityID=\"https://idp.example/metadata\"><md:IDPSSODescriptor WantAuthnRequestsSigned=\"true\" \
         protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\">{keys}\
         <md:SingleLogoutService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\" Location=\"https://idp.example/slo-post\"/>\
         <md:SingleLogoutService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" Location=\"https://idp.example/slo\" \
         ResponseLocation=\"https://idp.example/slo-return\"/>\
         <md:SingleSignOnService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" Location=\"https://idp.example/sso\"/>\
         <md:SingleSignOnService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\" Location=\"https://idp.example/post\"/>\
         </md:IDPSSODescriptor></md:EntityDescriptor>"
    )
}

#[test]
fn a_saml_provider_is_made_of_its_metadata_and_tested() {
    let bench = Bench::start();
    let (current, next, old) = (certificate(2020, 2090), certificate(2021, 2091), certificate(2001, 2002));
    let file = bench.site.folder().join("idp.xml");
    let create = [
        "--json",
        "providers",
        "create",
        "--tenant",
        "acme",
        "--kind",
        "saml",
        "--metadata",
        file.to_str().unwrap(),
    ];
    std::fs::write(&file, saml_metadata(&[current.clone(), old.clone()])).unwrap();
    let made = bench.run(&create);
    assert_eq!(made.code, 0, "{made:?}");
    let made = made.json();
    let saml = &made["settings"]["protocol"]["saml"];
    assert_eq!(
        (
            &saml["entity_id"],
            &saml["sso_redirect_url"],
            &saml["sso_post_url"],
            &saml["slo_url"],
            &saml["slo_post_url"],
            &saml["slo_response_url"],
            &saml["sign_requests"]
        ),
        (
            &json!("https://idp.example/metadata"),
            &json!("https://idp.example/sso"),
            &json!("https://idp.example/post"),
            &json!("https://idp.example/slo"),
            &json!("https://idp.example/slo-post"),
            &json!("https://idp.example/slo-return"),
            &json!(true)
        )
    );
    assert_eq!(saml["certificates"], json!([current]), "what has expired is left out ...");
    let warnings = made["warnings"].to_string();
    assert!(warnings.contains("expired"), "... and told: {warnings}");
    let id = made["id"].as_str().unwrap();
    let tested = bench.test(id);
    assert_eq!(tested.with("failed"), Vec::<String>::new());

    // A rollover, from an address.
    let text = saml_metadata(&[current.clone(), next.clone()]);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/samlmetadata+xml\r\nContent-Length";
    bench.server.answer_with(&format!("{head}: {}\r\n\r\n{text}", text.len()));
    let url = format!("{}/metadata", bench.issuer());
    let both = bench.run(&["--json", "providers", "update", id, "--metadata", &url]);
    assert_eq!(both.code, 0, "{both:?}");
    assert_eq!(both.json()["settings"]["protocol"]["saml"]["certificates"], json!([current, next]));

    for (text, why) in [
        (saml_metadata(&[old]), "expired"),
        (saml_metadata(&[]), "certificate"),
        ("no XML".to_owned(), ""),
        ("<!DOCTYPE x [<!ENTITY a \"b\">]><x>&a;</x>".to_owned(), ""),
    ] {
        std::fs::write(&file, &text).unwrap();
        let refused = bench.run(&create);
        assert!(
            refused.code == 2 && refused.stderr.contains("metadata cannot be used"),
            "{refused:?}"
        );
        assert!(refused.stderr.contains(why), "{why}: {refused:?}");
    }
    let plain = bench.run(&["--json", "providers", "update", id, "--metadata", "http://localhost/metadata"]);
    assert_eq!(plain.code, 2, "{plain:?}");
    let oidc = [
        "--json",
        "providers",
        "create",
        "--tenant",
        "acme",
        "--kind",
        "oidc",
        "--metadata",
        "x",
        "--issuer",
        "https://a.example",
        "--client-id",
        "c",
    ];
    assert!(bench.run(&oidc).stderr.contains("metadata are of SAML"));
}
