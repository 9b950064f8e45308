//! Refresh tokens: what is asked with one, and each thing that may be wrong with the answer, beside its twin.

use durward::base::clock::UnixMillis;
use durward::decide::external::KeySet;
use durward::sign_on::SignOnFault;
use durward::sign_on::oidc::{Callback, ClientAuthentication, IdToken, LogInValues, OidcClient, SentSecrets, TokenAnswer};
use durward::sign_on::refresh_token::{RefreshToken, SignOnOrigin};
use serde_json::json;
use zeroize::Zeroizing;

use super::flow::{ISSUER, NOW, client, label, merge};
use super::provider::{CLIENT_ID, Provider, find, pairs_of};

fn refreshing() -> OidcClient {
    OidcClient {
        refresh_tokens: true,
        ..client(ISSUER)
    }
}

fn origin() -> SignOnOrigin {
    SignOnOrigin {
        subject: "alice-1".into(),
        nonce: "nonce-1".into(),
        session_id: Some("session-7".into()),
        auth_time: Some(UnixMillis((NOW - 3_000) * 1000)),
    }
}

/// What becomes of an ID token with these changes to the claims of a good one.
fn verdict(client: &OidcClient, claims: &str) -> Result<(), String> {
    let provider = Provider::new(ISSUER);
    let mut right = json!({
        "iss": ISSUER, "sub": "alice-1", "aud": CLIENT_ID, "iat": NOW - 1, "exp": NOW + 300, "sid": "session-7",
        "auth_time": NOW - 3_000,
    });
    merge(&mut right, claims);
    let answer = json!({ "token_type": "Bearer", "access_token": "a", "id_token": provider.signer.token(&right) });
    let answer = TokenAnswer::parse_refreshed(200, answer.to_string().as_bytes(), &SentSecrets::default()).unwrap();
    let keys = KeySet::parse(provider.keys().as_bytes()).unwrap();
    let verified = IdToken::verify_refreshed(&answer, &keys, client, &origin(), UnixMillis(NOW * 1000));
    verified.map(drop).map_err(|fault| label(&fault))
}

#[test]
fn b43_an_id_token_of_another_sign_on_renews_nothing() {
    let client = refreshing();
    for (claims, expected, twin) in [
        (r#"{"sub":"eve"}"#, "refresh_changed", "{}"),
        (r#"{"sub":null}"#, "token no_subject", "{}"),
        (r#"{"iss":"https://evil.example"}"#, "token_issuer", "{}"),
        (r#"{"aud":"other"}"#, "token_audience", r#"{"aud":["durward:acme"]}"#),
        (r#"{"azp":"other"}"#, "token_party", r#"{"azp":"durward:acme"}"#),
        (r#"{"nonce":"nonce-2"}"#, "refresh_changed", r#"{"nonce":"nonce-1"}"#),
        (r#"{"nonce":7}"#, "refresh_changed", r#"{"nonce":null}"#),
        (r#"{"sid":"session-8"}"#, "refresh_changed", r#"{"sid":null}"#),
        (r#"{"auth_time":1799999999}"#, "refresh_changed", r#"{"auth_time":null}"#),
        (r#"{"iat":1799999000}"#, "token_old", r#"{"iat":1799999900}"#),
        (r#"{"exp":1799999000}"#, "token_expired", "{}"),
        (r#"{"at_hash":"x"}"#, "access_token_hash", "{}"),
    ] {
        assert_eq!(verdict(&client, claims).err().as_deref(), Some(expected), "{claims}");
        assert_eq!(verdict(&client, twin), Ok(()), "{twin}");
    }
    let strong = OidcClient {
        acr_values: vec!["urn:gold".into()],
        max_age: Some(std::time::Duration::from_secs(60)),
        ..refreshing()
    };
    assert_eq!(verdict(&strong, r#"{"acr":"urn:lead"}"#).err().as_deref(), Some("wrong_acr"));
    for twin in ["{}", r#"{"acr":"urn:gold"}"#] {
        assert_eq!(verdict(&strong, twin), Ok(()), "{twin}: the log-in itself is not repeated");
    }
}

#[test]
fn an_answer_to_a_refresh_token_is_read_as_one() {
    let read = |status: u16, answer: &str| {
        TokenAnswer::parse_refreshed(status, answer.as_bytes(), &SentSecrets::default()).map_err(|fault| label(&fault))
    };
    for (status, answer, expected) in [
        (400, r#"{"error":"invalid_grant"}"#, "refresh_refused"),
        (400, r#"{"error":"interaction_required"}"#, "refresh_refused"),
        (400, r#"{"error":"login_required"}"#, "refresh_refused"),
        (401, r#"{"error":"invalid_client"}"#, "client_refused"),
        (400, r#"{"error":"temporarily_unavailable"}"#, "tokens_refused"),
        (200, r#"{"error":"invalid_grant"}"#, "refresh_refused"),
        (400, "{}", "token_answer_member"),
        (200, r#"{"token_type":"Bearer"}"#, "token_answer_member"),
        (200, r#"{"token_type":"mac","access_token":"a"}"#, "token_answer_member"),
        (
            200,
            r#"{"token_type":"Bearer","access_token":"a","refresh_token":7}"#,
            "token_answer_member",
        ),
        (200, "[]", "token_answer_form"),
    ] {
        assert_eq!(read(status, answer).err().as_deref(), Some(expected), "{answer}");
    }
    let good = read(200, r#"{"token_type":"Bearer","access_token":"a","refresh_token":"r"}"#).unwrap();
    assert!(!good.has_id_token());
    assert_eq!(good.refresh_token().unwrap().expose(), "r");
    let unusable = read(
        200,
        "{\"token_type\":\"Bearer\",\"access_token\":\"a\",\"refresh_token\":\"\\u00e9\"}",
    )
    .unwrap();
    assert!(unusable.refresh_token().is_none());
    let of_code = TokenAnswer::parse(400, br#"{"error":"interaction_required"}"#, &SentSecrets::default()).map_err(|fault| label(&fault));
    assert_eq!(of_code.err().as_deref(), Some("tokens_refused"), "of a code it is another error");
}

#[test]
fn the_client_proves_who_it_is_and_sends_the_refresh_token_and_nothing_else() {
    let metadata = Provider::read(&Provider::new(ISSUER).metadata_json(), ISSUER).unwrap();
    let token = RefreshToken::parse("r+1 &=").unwrap();
    let request = refreshing().refresh_request(&metadata, &token, UnixMillis(NOW * 1000)).unwrap();
    assert!(request.authorization.is_some());
    let form = pairs_of(&request.form);
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(form, [("grant_type", "refresh_token"), ("refresh_token", "r+1 &=")]);
}

#[test]
fn refresh_tokens_are_asked_for_by_the_scope_or_as_google_has_it() {
    let metadata = Provider::read(&Provider::new(ISSUER).metadata_json(), ISSUER).unwrap();
    let values = LogInValues::random().unwrap();
    let asked = |client: &OidcClient, name: &str| {
        let url = client.authorization_url(&metadata, "https://app.example/cb", &values, None);
        find(&pairs_of(url.split_once('?').unwrap().1), name).map(str::to_owned)
    };
    let mut client = refreshing();
    assert_eq!(asked(&client, "access_type").as_deref(), Some("offline"));
    client.scopes.push("offline_access".into());
    assert_eq!(asked(&client, "access_type"), None);
    assert_eq!(asked(&client, "scope").as_deref(), Some("openid email offline_access"));
    client.refresh_tokens = false;
    client.scopes.pop();
    assert_eq!(asked(&client, "access_type"), None, "nobody wants one");
}

#[test]
fn b44_what_a_provider_repeats_of_a_token_request_is_in_no_error() {
    let metadata = Provider::read(&Provider::new(ISSUER).metadata_json(), ISSUER).unwrap();
    let token = RefreshToken::parse("canary/refresh").unwrap();
    let values = LogInValues::random().unwrap();
    let (state, verifier) = (values.state.text(), values.verifier.text());
    let callback = format!("code=canary-code&state={state}&iss=https%3A%2F%2Fidp.example%2Ftenant");
    let code = Callback::parse(callback.as_bytes())
        .unwrap()
        .code(&values.state, &metadata)
        .unwrap();
    for authentication in [ClientAuthentication::SecretBasic, ClientAuthentication::SecretPost] {
        let mut client = refreshing();
        client.authentication = authentication(Zeroizing::new("canary-secret".to_owned()));
        let now = UnixMillis(NOW * 1000);
        let of_code = client
            .token_request(&metadata, "https://app.example/cb", &code, &values.verifier, now)
            .unwrap();
        let of_refresh = client.refresh_request(&metadata, &token, now).unwrap();
        let mut of_both = vec!["canary-secret".to_owned()];
        if let Some(basic) = &of_code.authorization {
            of_both.push(basic.to_str().unwrap().trim_start_matches("Basic ").to_owned());
        }
        let told = |error: &str, secrets: &[String], read: &dyn Fn(&[u8]) -> Result<TokenAnswer, SignOnFault>| {
            // As PHP writes a slash.
            let answer = json!({ "error": error, "error_description": format!("no: {}", secrets.join(" ")) }).to_string();
            let told = read(answer.replace('/', "\\/").as_bytes()).err().unwrap().to_string();
            assert!(told.contains("no: ***"), "{told}");
            for secret in secrets {
                assert!(!told.contains(secret), "{told}");
            }
        };
        let code_secrets = [of_both.clone(), vec!["canary-code".to_owned(), verifier.clone()]].concat();
        let refresh_secrets = [of_both, vec!["canary/refresh".to_owned()]].concat();
        for error in ["invalid_grant", "invalid_client", "other"] {
            told(error, &code_secrets, &|json| TokenAnswer::parse(400, json, &of_code.sent));
            told(error, &refresh_secrets, &|json| {
                TokenAnswer::parse_refreshed(400, json, &of_refresh.sent)
            });
        }
        told(&code_secrets.join(" "), &code_secrets, &|json| {
            TokenAnswer::parse(400, json, &of_code.sent)
        });
        told(&refresh_secrets.join(" "), &refresh_secrets, &|json| {
            TokenAnswer::parse_refreshed(400, json, &of_refresh.sent)
        });
    }
}
