//! OpenID providers: a code for who logged in, exchanged for tokens; log-out begun by the client; logout tokens.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};

use super::{Application, ask, form, parameter, read, seconds};
use crate::sign_on::samples;
use crate::support::identity_providers::{Front, LemonLdap, OidcProvider, RelyingParty, people};
use crate::support::issuer::{Signer, base64url};
use crate::support::wait::{PATIENCE, until};
use crate::support::webdriver::Browser;

const SECRET: &str = "a-secret-of-a-client-0123456789";
/// 32 bytes of 7, as durward writes such a value.
const NONCE: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
const VERIFIER: &str = "a-verifier-of-a-test-that-is-long-enough-0123456789";

/// One client at one provider.
struct OidcClient<'a> {
    front: &'a Front,
    discovery: Value,
    id: &'a str,
    /// `client_secret_basic`, `client_secret_post`, or `private_key_jwt` by this key.
    authentication: Authentication<'a>,
    application: &'a Application,
}

enum Authentication<'a> {
    Basic,
    Post,
    Key(&'a Signer),
}

impl OidcClient<'_> {
    fn endpoint(&self, name: &str) -> &str {
        self.discovery[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name}: {}", self.discovery))
    }

    /// The path of an endpoint.
    fn path(&self, name: &str) -> &str {
        let url = self.endpoint(name);
        let prefix = self.front.url("localhost").len();
        &url[prefix..]
    }

    fn callback(&self) -> String {
        format!("/callback/{}", self.id)
    }

    /// The URL that begins a sign-on.
    fn authorization_url(&self) -> String {
        let challenge = base64url(digest(&SHA256, VERIFIER.as_bytes()));
        let query = form(&[
            ("response_type", "code"),
            ("client_id", self.id),
            ("redirect_uri", &self.application.url(&self.callback())),
            ("scope", "openid profile email"),
            ("state", "a-state"),
            ("nonce", NONCE),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        format!("{}?{query}", self.endpoint("authorization_endpoint"))
    }

    /// Exchanges the code that the browser brought.
    fn tokens(&self, code: &str) -> Value {
        let redirect = self.application.url(&self.callback());
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &redirect),
            ("code_verifier", VERIFIER),
        ];
        let mut head = format!(
            "POST {}\r\nContent-Type: application/x-www-form-urlencoded\r\n",
            self.path("token_endpoint")
        );
        let assertion;
        match self.authentication {
            Authentication::Basic => {
                let pair = STANDARD.encode(format!("{}:{SECRET}", self.id));
                head += &format!("Authorization: Basic {pair}\r\n");
            }
            Authentication::Post => fields.extend([("client_id", self.id), ("client_secret", SECRET)]),
            Authentication::Key(key) => {
                let audience = self.endpoint("issuer");
                assertion = key.token(&json!({
                    "iss": self.id, "sub": self.id, "aud": audience, "jti": "one", "iat": seconds(), "exp": seconds() + 60,
                }));
                fields.push(("client_assertion", &assertion));
                fields.push(("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
            }
        }
        let answer = ask(self.front, "localhost", &head, &form(&fields));
        assert_eq!(answer.status, 200, "{}", answer.body.escape_ascii());
        answer.json()
    }

    fn userinfo(&self, access_token: &str) -> Value {
        let head = format!("GET {}\r\nAuthorization: Bearer {access_token}\r\n", self.path("userinfo_endpoint"));
        let answer = ask(self.front, "localhost", &head, "");
        assert_eq!(answer.status, 200, "{}", answer.body.escape_ascii());
        answer.json()
    }

    fn jwks(&self) -> Value {
        serde_json::from_str(&read(self.front, "localhost", self.path("jwks_uri"))).unwrap()
    }

    /// The claims of a token of the provider, by its own keys.
    fn claims(&self, token: &str) -> Value {
        let header = decode_header(token).unwrap();
        let set: JwkSet = serde_json::from_value(self.jwks()).unwrap();
        let key = set.find(header.kid.as_deref().expect("a key id")).expect("its key");
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[self.id]);
        validation.set_issuer(&[self.endpoint("issuer")]);
        let key = DecodingKey::from_jwk(key).unwrap();
        decode::<Value>(token, &key, &validation).unwrap().claims
    }

    /// What the callback was given: code, state and issuer.
    fn callback_query(&self) -> String {
        let request = self.application.request(&self.callback());
        let (_, query) = request.target.split_once('?').expect("a query");
        query.to_owned()
    }

    fn log_out_url(&self, id_token: &str) -> String {
        let query = form(&[
            ("id_token_hint", id_token),
            ("post_logout_redirect_uri", &self.application.url("/left")),
            ("state", "a-last-state"),
        ]);
        format!("{}?{query}", self.endpoint("end_session_endpoint"))
    }

    fn sample(&self, code: &str, tokens: &Value, userinfo: &Value) -> Value {
        json!({
            "made_at": seconds(), "discovery": self.discovery, "jwks": self.jwks(), "client_id": self.id, "nonce": NONCE,
            "code": code, "answer": tokens, "userinfo": userinfo,
        })
    }
}

fn discovery(front: &Front) -> Value {
    serde_json::from_str(&read(front, "localhost", "/.well-known/openid-configuration")).unwrap()
}

#[test]
fn oidc_provider_signs_people_on_and_tells_its_clients_when_they_leave() {
    let application = Application::start();
    let key = Signer::es256("a-key-of-the-client");
    let clients = [
        ("basic", "RS256", Authentication::Basic),
        ("post", "ES256", Authentication::Post),
        ("key", "EdDSA", Authentication::Key(&key)),
    ];
    let metadata = clients.iter().map(|(id, algorithm, authentication)| {
        let mut client = json!({
            "client_id": id,
            "id_token_signed_response_alg": algorithm,
            "redirect_uris": [application.url(&format!("/callback/{id}"))],
            "post_logout_redirect_uris": [application.url("/left")],
            "backchannel_logout_uri": application.url(&format!("/back-channel/{id}")),
            "backchannel_logout_session_required": *id != "post",
        });
        match authentication {
            Authentication::Basic => client["client_secret"] = json!(SECRET),
            Authentication::Post => {
                client["client_secret"] = json!(SECRET);
                client["token_endpoint_auth_method"] = json!("client_secret_post");
            }
            Authentication::Key(key) => {
                client["token_endpoint_auth_method"] = json!("private_key_jwt");
                client["token_endpoint_auth_signing_alg"] = json!("ES256");
                client["jwks"] = json!({ "keys": [key.jwk()] });
            }
        }
        client
    });
    let provider = OidcProvider::start(&metadata.collect());
    assert_eq!(discovery(provider.front())["issuer"], provider.issuer());
    let browser = Browser::start();
    let mut signed_on = Vec::new();
    for (id, algorithm, authentication) in clients {
        let client = OidcClient {
            front: provider.front(),
            discovery: discovery(provider.front()),
            id,
            authentication,
            application: &application,
        };
        browser.go(&client.authorization_url());
        if signed_on.is_empty() {
            // The provider remembers the browser, so later clients ask nobody.
            browser.submit(&[("login", "ann"), ("password", "anything")]);
        }
        let query = client.callback_query();
        assert_eq!(parameter(&query, "state"), "a-state");
        assert_eq!(parameter(&query, "iss"), provider.issuer());
        let code = parameter(&query, "code");
        let tokens = client.tokens(&code);
        let id_token = tokens["id_token"].as_str().unwrap().to_owned();
        assert_eq!(decode_header(&id_token).unwrap().alg, algorithm.parse::<Algorithm>().unwrap());
        let claims = client.claims(&id_token);
        assert_eq!((&claims["sub"], &claims["nonce"]), (&json!("ann"), &json!(NONCE)));
        assert_eq!(claims["groups"], people()["ann"]["groups"]);
        let userinfo = client.userinfo(tokens["access_token"].as_str().unwrap());
        assert_eq!(userinfo["email"], "ann@acme.example");
        let sample = client.sample(&code, &tokens, &userinfo);
        signed_on.push((client, id_token, claims, sample));
    }

    let (client, id_token, ..) = &signed_on[0];
    browser.go(&client.log_out_url(id_token));
    browser.submit(&[]);
    let left = application.request("/left");
    assert_eq!(parameter(left.target.split_once('?').unwrap().1, "state"), "a-last-state");
    for (client, _, claims, mut sample) in signed_on {
        let request = application.request(&format!("/back-channel/{}", client.id));
        let token = parameter(std::str::from_utf8(&request.body).unwrap(), "logout_token");
        let told = client.claims(&token);
        assert_eq!(told["sub"], "ann");
        assert_eq!(told["events"], json!({ "http://schemas.openid.net/event/backchannel-logout": {} }));
        let wanted = if client.id == "post" { &Value::Null } else { &claims["sid"] };
        assert_eq!(&told["sid"], wanted, "only some clients need to know which session");
        sample["logout_token"] = json!(token);
        let name = match client.authentication {
            Authentication::Basic => "oidc-provider-rs256",
            Authentication::Post => "oidc-provider-es256",
            Authentication::Key(_) => "oidc-provider-eddsa",
        };
        samples::keep(name, &sample);
    }
}

#[test]
fn oidc_provider_says_of_people_what_a_test_says_last() {
    let application = Application::start();
    let clients = json!([{
        "client_id": "basic",
        "client_secret": SECRET,
        "redirect_uris": [application.url("/callback/basic")],
    }]);
    let settings = json!({ "conformIdTokenClaims": true });
    let provider = OidcProvider::start_with(&clients, &settings, &[]);
    let client = OidcClient {
        front: provider.front(),
        discovery: discovery(provider.front()),
        id: "basic",
        authentication: Authentication::Basic,
        application: &application,
    };
    provider.set_people(&json!({ "cleo": { "name": "Cleo", "groups": ["guests"] } }));
    let browser = Browser::start();
    browser.go(&client.authorization_url());
    browser.submit(&[("login", "cleo"), ("password", "anything")]);
    let tokens = client.tokens(&parameter(&client.callback_query(), "code"));
    let claims = client.claims(tokens["id_token"].as_str().unwrap());
    assert_eq!((&claims["sub"], &claims["groups"]), (&json!("cleo"), &Value::Null));
    let userinfo = client.userinfo(tokens["access_token"].as_str().unwrap());
    assert_eq!(userinfo["groups"], json!(["guests"]), "some providers tell groups only there");
}

#[test]
fn lemonldap_signs_people_on_by_openid() {
    let application = Application::start();
    let portal = LemonLdap::start(&[RelyingParty {
        id: "basic",
        secret: SECRET,
        redirect_uri: &application.url("/callback/basic"),
        post_logout_redirect_uri: &application.url("/left"),
    }]);
    let client = OidcClient {
        front: portal.front(),
        discovery: discovery(portal.front()),
        id: "basic",
        authentication: Authentication::Basic,
        application: &application,
    };
    assert_eq!(client.endpoint("issuer"), portal.issuer());
    let browser = Browser::start();
    browser.go(&client.authorization_url());
    browser.submit(&[("user", "dwho"), ("password", "wrong")]);
    until("the refusal", PATIENCE, || browser.has("[trmsg='5']").then_some(()));
    assert!(application.service.requests().is_empty(), "a wrong password");
    browser.submit(&[("user", "dwho"), ("password", "dwho")]);
    let query = client.callback_query();
    assert_eq!(parameter(&query, "state"), "a-state");
    let code = parameter(&query, "code");
    let tokens = client.tokens(&code);
    let id_token = tokens["id_token"].as_str().unwrap();
    let claims = client.claims(id_token);
    assert_eq!((&claims["sub"], &claims["nonce"]), (&json!("dwho"), &json!(NONCE)));
    let userinfo = client.userinfo(tokens["access_token"].as_str().unwrap());
    assert_eq!(userinfo["email"], "dwho@badwolf.org");
    let groups = userinfo["groups"].as_array().unwrap();
    assert!(groups.contains(&json!("staff")) && groups.contains(&json!("admins")), "{userinfo}");
    samples::keep("lemonldap-openid", &client.sample(&code, &tokens, &userinfo));

    browser.go(&client.log_out_url(id_token));
    browser.submit(&[]);
    until("the way back", PATIENCE, || {
        browser.location().starts_with(&application.url("/left")).then_some(())
    });
}
