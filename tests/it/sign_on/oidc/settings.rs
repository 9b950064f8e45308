//! A provider's configuration, and what is sent to it: the authorization URL and the token request.

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use durward::base::clock::UnixMillis;
use durward::decide::external::KeySet;
use durward::fetch::FetchSchemes;
use durward::sign_on::oidc::discovery::metadata_url;
use durward::sign_on::oidc::{Callback, ClientAuthentication, ClientKey, LogInValue, LogInValues, ProviderMetadata};
use serde_json::{Value, json};

use super::flow::{ISSUER, NOW, client, merge};
use super::provider::{CLIENT_ID, Provider, find, pairs_of};

fn read(changes: &str) -> Result<ProviderMetadata, &'static str> {
    let mut json = Provider::new(ISSUER).metadata_json();
    merge(&mut json, changes);
    Provider::read(&json, ISSUER).map_err(|fault| fault.label())
}

#[test]
fn a_configuration_lies_below_its_issuer() {
    for (issuer, url) in [
        ("https://idp.example", Ok("https://idp.example/.well-known/openid-configuration")),
        ("https://idp.example/", Ok("https://idp.example/.well-known/openid-configuration")),
        (
            "https://idp.example:8443/t/v2.0",
            Ok("https://idp.example:8443/t/v2.0/.well-known/openid-configuration"),
        ),
        ("http://idp.example", Err("issuer_url")),
        ("idp.example", Err("issuer_url")),
        ("https://user@idp.example", Err("issuer_url")),
        ("https://idp.example/?x", Err("issuer_query")),
        ("https://idp.example/#x", Err("issuer_query")),
    ] {
        let read = metadata_url(issuer, FetchSchemes::Https).map(|url| url.to_string());
        assert_eq!(read.as_deref().map_err(|fault| fault.label()), url, "{issuer}");
    }
    assert!(metadata_url("http://localhost:8080", FetchSchemes::InsecureHttp).is_ok());
}

#[test]
fn a_configuration_is_of_exactly_the_issuer_and_has_what_is_needed() {
    assert!(read("{}").is_ok());
    for (changes, label, twin) in [
        (r#"{"issuer":"https://evil.example"}"#, "metadata_issuer", "{}"),
        (r#"{"issuer":"https://idp.example/tenant/"}"#, "metadata_issuer", "{}"),
        (r#"{"issuer":"https://IDP.example/tenant"}"#, "metadata_issuer", "{}"),
        (r#"{"issuer":"https://idp.example/{tenantid}"}"#, "metadata_issuer", "{}"),
        (r#"{"issuer":null}"#, "metadata_member", "{}"),
        (r#"{"issuer":["https://idp.example/tenant"]}"#, "metadata_member", "{}"),
        (r#"{"authorization_endpoint":null}"#, "metadata_member", "{}"),
        (r#"{"token_endpoint":null}"#, "metadata_member", r#"{"userinfo_endpoint":null}"#),
        (r#"{"jwks_uri":7}"#, "metadata_member", "{}"),
        (
            r#"{"jwks_uri":"http://idp.example/keys"}"#,
            "metadata_url",
            r#"{"jwks_uri":"https://keys.example/"}"#,
        ),
        (r#"{"token_endpoint":"https://user:pass@idp.example/"}"#, "metadata_url", "{}"),
        (r#"{"token_endpoint":"file:///etc/passwd"}"#, "metadata_url", "{}"),
        (r#"{"authorization_endpoint":"javascript:alert(1)"}"#, "metadata_url", "{}"),
        (r#"{"userinfo_endpoint":"https://idp.example/#x"}"#, "metadata_url", "{}"),
        (
            r#"{"authorization_endpoint":"https://idp.example/?redirect_uri=https://evil.example"}"#,
            "metadata_parameter",
            r#"{"authorization_endpoint":"https://idp.example/?p=redirect_uri"}"#,
        ),
        (
            r#"{"authorization_endpoint":"https://idp.example/?%73tate=x"}"#,
            "metadata_parameter",
            "{}",
        ),
        (
            r#"{"authorization_endpoint":"https://idp.example/?a=%"}"#,
            "metadata_parameter",
            "{}",
        ),
        (
            r#"{"end_session_endpoint":"https://idp.example/?client_id=x"}"#,
            "metadata_parameter",
            "{}",
        ),
        (
            r#"{"response_types_supported":["id_token"]}"#,
            "metadata_lacks",
            r#"{"response_types_supported":null}"#,
        ),
        (r#"{"response_types_supported":"code"}"#, "metadata_member", "{}"),
        (
            r#"{"code_challenge_methods_supported":["plain"]}"#,
            "metadata_lacks",
            r#"{"code_challenge_methods_supported":null}"#,
        ),
        (
            r#"{"id_token_signing_alg_values_supported":["HS256","none"]}"#,
            "metadata_lacks",
            r#"{"id_token_signing_alg_values_supported":["HS256","EdDSA"]}"#,
        ),
        (
            r#"{"authorization_response_iss_parameter_supported":"true"}"#,
            "metadata_member",
            "{}",
        ),
    ] {
        assert_eq!(read(changes).err(), Some(label), "{changes}");
        assert!(read(twin).is_ok(), "{twin}");
    }
    for bad in ["", "[]", "<html>", "{\"issuer\":1,\"issuer\":2}", &"[".repeat(100_000)] {
        let read = ProviderMetadata::parse(bad.as_bytes(), ISSUER, FetchSchemes::Https);
        assert_eq!(read.err().map(|fault| fault.label()), Some("metadata_form"), "{bad:.30}");
    }
}

#[test]
fn the_authorization_url_says_what_is_configured() {
    let mut client = client(ISSUER);
    let metadata = read(r#"{"response_modes_supported":["query","form_post"]}"#).unwrap();
    let values = LogInValues {
        state: LogInValue::from_bytes([1; 32]),
        nonce: LogInValue::from_bytes([2; 32]),
        verifier: LogInValue::from_bytes([3; 32]),
    };
    client.prompt = Some("login".into());
    client.max_age = Some(Duration::from_secs(300));
    client.acr_values = vec!["urn:a".into(), "urn:b".into()];
    client.scopes = vec!["email".into(), "openid".into()];
    let url = client.authorization_url(&metadata, "https://app.example/cb?a=b&c", &values, Some("alice+x@acme.example"));
    let (place, query) = url.split_once('?').unwrap();
    assert_eq!(place, "https://idp.example/tenant/authorize");
    let query = pairs_of(query);
    for (name, value) in [
        ("p", "policy"),
        ("response_type", "code"),
        ("response_mode", "query"),
        ("client_id", CLIENT_ID),
        ("redirect_uri", "https://app.example/cb?a=b&c"),
        ("scope", "openid email"),
        ("state", &values.state.text()),
        ("nonce", &values.nonce.text()),
        ("code_challenge", &values.verifier.challenge()),
        ("code_challenge_method", "S256"),
        ("prompt", "login"),
        ("max_age", "300"),
        ("acr_values", "urn:a urn:b"),
        ("login_hint", "alice+x@acme.example"),
    ] {
        assert_eq!(find(&query, name), Some(value), "{name}");
    }
    assert_eq!(query.len(), 14);
}

#[test]
fn the_verifier_is_hashed_as_in_the_example_of_rfc_7636() {
    let verifier = URL_SAFE_NO_PAD.decode("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk").unwrap();
    let verifier = LogInValue::from_bytes(verifier.try_into().unwrap());
    assert_eq!(verifier.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    assert!(verifier.is(&verifier.text()) && !verifier.is("") && !verifier.is(&verifier.challenge()));
}

/// A private key as PKCS#8, and what verifies its signatures.
struct MadeKey {
    der: Vec<u8>,
    public: Vec<u8>,
    verification: &'static dyn VerificationAlgorithm,
    algorithm: &'static str,
}

#[test]
fn a_client_proves_who_it_is_with_a_key_of_each_kind() {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

    let metadata = read("{}").unwrap();
    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let ed = Ed25519KeyPair::generate().unwrap();
    let made = |der: Vec<u8>, public: &[u8], verification, algorithm| MadeKey {
        der,
        public: public.to_vec(),
        verification,
        algorithm,
    };
    let keys = [
        made(
            rsa.as_der().unwrap().as_ref().to_vec(),
            rsa.public_key().as_ref(),
            &RSA_PKCS1_2048_8192_SHA256 as _,
            "RS256",
        ),
        made(
            ec.to_pkcs8v1().unwrap().as_ref().to_vec(),
            ec.public_key().as_ref(),
            &ECDSA_P256_SHA256_FIXED as _,
            "ES256",
        ),
        made(
            ed.to_pkcs8().unwrap().as_ref().to_vec(),
            ed.public_key().as_ref(),
            &ED25519 as _,
            "EdDSA",
        ),
    ];
    for made in keys {
        let key = ClientKey::from_der(&made.der).unwrap();
        let jwk = key.jwk();
        assert_eq!(jwk["alg"], made.algorithm);
        // Who publishes it, publishes no secret, and our own reader takes it.
        let set = json!({ "keys": [jwk] }).to_string();
        let set = KeySet::parse(set.as_bytes()).unwrap();
        assert_eq!(set.len(), 1, "{:?}", set.ignored());
        let mut client = client(ISSUER);
        client.authentication = ClientAuthentication::PrivateKeyJwt(key);
        let values = LogInValues::random().unwrap();
        let callback = format!("code=c&state={}&iss=https%3A%2F%2Fidp.example%2Ftenant", values.state.text());
        let code = Callback::parse(callback.as_bytes())
            .unwrap()
            .code(&values.state, &metadata)
            .unwrap();
        let form = |now: i64| {
            let request = client.token_request(&metadata, "https://app.example/cb", &code, &values.verifier, UnixMillis(now * 1000));
            let request = request.unwrap();
            assert!(request.authorization.is_none());
            pairs_of(&request.form)
        };
        let (first, second) = (form(NOW), form(NOW));
        assert_eq!(
            find(&first, "client_assertion_type"),
            Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
        );
        let assertion = find(&first, "client_assertion").unwrap();
        assert_ne!(Some(assertion), find(&second, "client_assertion"), "each is used once");
        let (signed, signature) = assertion.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        UnparsedPublicKey::new(made.verification, &made.public)
            .verify(signed.as_bytes(), &signature)
            .unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let json = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        assert_eq!(json(header)["kid"], jwk["kid"]);
        let claims = json(claims);
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!(CLIENT_ID), &json!(CLIENT_ID)));
        assert_eq!(claims["aud"], "https://idp.example/tenant/token");
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(NOW), &json!(NOW + 60)));
    }
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    for bad in [&b""[..], b"x", p384.to_pkcs8v1().unwrap().as_ref()] {
        assert_eq!(ClientKey::from_der(bad).err().map(|fault| fault.label()), Some("client_key"));
    }
}

#[test]
fn the_thumbprint_of_a_key_is_that_of_rfc_7638() {
    // RFC 8037, appendix A.3; the key of appendix A.1 as PKCS#8.
    let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    let der = [&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20][..], &seed].concat();
    let jwk = ClientKey::from_der(&der).unwrap().jwk();
    assert_eq!(jwk["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    assert_eq!(jwk["kid"], "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}
