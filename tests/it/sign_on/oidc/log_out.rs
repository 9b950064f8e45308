//! Logout tokens: each thing that is wrong with one, beside its twin; and logging out at the provider.

use durward::base::clock::UnixMillis;
use durward::decide::external::KeySet;
use durward::sign_on::oidc::{LogoutToken, log_out_url};
use serde_json::json;

use super::flow::{ISSUER, NOW, label, merge};
use super::provider::{CLIENT_ID, Provider};
use crate::support::issuer::{Signer, base64url, jwks};

const EVENT: &str = r#"{"http://schemas.openid.net/event/backchannel-logout":{}}"#;

fn verify(signer: &Signer, token: &str) -> Result<LogoutToken, String> {
    let keys = KeySet::parse(jwks(&[signer]).as_bytes()).unwrap();
    LogoutToken::verify(token, &keys, ISSUER, CLIENT_ID, UnixMillis(NOW * 1000)).map_err(|fault| label(&fault))
}

/// What becomes of a logout token with these changes to its header and its claims.
fn verdict(signer: &Signer, header: &str, claims: &str) -> Result<LogoutToken, String> {
    let mut right = json!({
        "iss": ISSUER, "aud": CLIENT_ID, "iat": NOW, "exp": NOW + 120, "jti": "token-1", "sub": "alice-1", "sid": "session-7",
        "events": serde_json::from_str::<serde_json::Value>(EVENT).unwrap(),
    });
    let mut right_header = signer.header();
    right_header["typ"] = json!("logout+jwt");
    merge(&mut right, claims);
    merge(&mut right_header, header);
    verify(signer, &signer.token_of(&right_header.to_string(), &right.to_string()))
}

#[test]
fn a_logout_token_names_a_session_or_a_person() {
    let signer = Signer::es256("key-1");
    let token = verdict(&signer, "{}", "{}").unwrap();
    assert_eq!(
        (token.id.as_str(), token.subject.as_deref(), token.session_id.as_deref()),
        ("token-1", Some("alice-1"), Some("session-7"))
    );
    assert!(token.until > UnixMillis((NOW + 600) * 1000) && token.until < UnixMillis((NOW + 3600) * 1000));
    assert_eq!(verdict(&signer, "{}", r#"{"sid":null}"#).unwrap().session_id, None);
    assert_eq!(verdict(&signer, "{}", r#"{"sub":null}"#).unwrap().subject, None);
}

#[test]
fn b16_a_logout_token_that_is_wrong_ends_nothing() {
    let signer = Signer::es256("key-1");
    for (header, claims, expected, twin) in [
        (r#"{"typ":"at+jwt"}"#, "{}", "token wrong_type", r#"{"typ":"JWT"}"#),
        (r#"{"typ":"secevent+jwt"}"#, "{}", "token wrong_type", r#"{"typ":null}"#),
        (r#"{"alg":"HS256"}"#, "{}", "token_algorithm", "{}"),
        (r#"{"alg":"none"}"#, "{}", "unsigned", "{}"),
        (r#"{"kid":"other"}"#, "{}", "token unknown_key", "{}"),
    ] {
        assert_eq!(verdict(&signer, header, claims).err().as_deref(), Some(expected), "{header}");
        assert!(verdict(&signer, twin, "{}").is_ok(), "{twin}");
    }
    for (claims, expected, twin) in [
        (r#"{"iss":"https://evil.example"}"#, "token_issuer", "{}"),
        (r#"{"aud":"other"}"#, "token_audience", r#"{"aud":["durward:acme"]}"#),
        (r#"{"aud":null}"#, "token no_audience", "{}"),
        (r#"{"exp":null}"#, "token no_expiry", "{}"),
        (r#"{"exp":1799999940}"#, "token_expired", r#"{"exp":1799999941}"#),
        (r#"{"iat":null}"#, "token no_issue_time", "{}"),
        (r#"{"iat":1799999339}"#, "token_old", r#"{"iat":1799999340}"#),
        (r#"{"iat":1800000061}"#, "token_future", r#"{"iat":1800000060}"#),
        (r#"{"nonce":"x"}"#, "log_out_member", r#"{"nounce":"x"}"#),
        (r#"{"nonce":null,"events":null}"#, "log_out_member", r#"{"nonce":null}"#),
        (r#"{"events":{}}"#, "log_out_member", "{}"),
        (
            r#"{"events":{"http://schemas.openid.net/event/backchannel-logout":true}}"#,
            "log_out_member",
            "{}",
        ),
        (
            r#"{"events":["http://schemas.openid.net/event/backchannel-logout"]}"#,
            "log_out_member",
            "{}",
        ),
        (r#"{"jti":null}"#, "log_out_member", "{}"),
        (r#"{"jti":""}"#, "log_out_member", r#"{"jti":"x"}"#),
        (r#"{"jti":7}"#, "log_out_member", r#"{"jti":"7"}"#),
        ("{\"jti\":\"a\\u0000b\"}", "log_out_member", "{}"),
        (r#"{"sub":null,"sid":null}"#, "log_out_member", r#"{"sub":null}"#),
        (r#"{"sid":["session-7"]}"#, "log_out_member", r#"{"sid":"session-8"}"#),
        (r#"{"sub":""}"#, "subject", r#"{"sub":"x"}"#),
    ] {
        assert_eq!(verdict(&signer, "{}", claims).err().as_deref(), Some(expected), "{claims}");
        assert!(verdict(&signer, "{}", twin).is_ok(), "{twin}");
    }
    let unsigned = format!("{}.{}.", base64url(r#"{"alg":"none"}"#), base64url("{}"));
    assert_eq!(verify(&signer, &unsigned).err().as_deref(), Some("unsigned"));
}

#[test]
fn the_browser_is_sent_to_the_providers_end_of_session_without_a_token() {
    let provider = Provider::new(ISSUER);
    let mut json = provider.metadata_json();
    let metadata = Provider::read(&json, ISSUER).unwrap();
    assert_eq!(
        log_out_url(&metadata, CLIENT_ID, Some("https://app.example/bye?a=b")).as_deref(),
        Some("https://idp.example/tenant/logout?client_id=durward%3Aacme&post_logout_redirect_uri=https%3A%2F%2Fapp.example%2Fbye%3Fa%3Db")
    );
    merge(&mut json, r#"{"end_session_endpoint":null}"#);
    assert_eq!(log_out_url(&Provider::read(&json, ISSUER).unwrap(), CLIENT_ID, None), None);
}
