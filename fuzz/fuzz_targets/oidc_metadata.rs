//! A provider's configuration that is taken is of its issuer and sends browsers and secrets nowhere but to `https` URLs.
#![no_main]

use durward::fetch::{FetchScheme, FetchSchemes};
use durward::sign_on::oidc::{ClientAuthentication, LogInValue, LogInValues, OidcClient, ProviderMetadata, log_out_url};
use libfuzzer_sys::fuzz_target;

const ISSUER: &str = "https://i.example";

fn parameters(url: &str, name: &str) -> usize {
    let query = url.split_once('?').unwrap().1;
    query.split('&').filter(|pair| pair.split('=').next() == Some(name)).count()
}

/// A configuration with three texts as endpoints, apart by zero bytes.
fn with_endpoints(texts: &[u8]) -> Vec<u8> {
    let mut texts = texts.split(|b| *b == 0).map(String::from_utf8_lossy);
    let mut next = || texts.next().unwrap_or("https://i.example/k".into()).into_owned();
    serde_json::json!({
        "issuer": ISSUER, "authorization_endpoint": next(), "end_session_endpoint": next(), "token_endpoint": next(),
        "jwks_uri": "https://i.example/k", "response_modes_supported": ["query"],
    })
    .to_string()
    .into_bytes()
}

// The first byte chooses: a configuration as it came, or one whose endpoints are the rest.
fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let data = if choice % 4 == 0 { rest.to_vec() } else { with_endpoints(rest) };
    let Ok(metadata) = ProviderMetadata::parse(&data, ISSUER, FetchSchemes::Https) else {
        return;
    };
    let json: serde_json::Value = serde_json::from_slice(&data).unwrap();
    assert_eq!((json["issuer"].as_str(), metadata.issuer.as_str()), (Some(ISSUER), ISSUER));
    let endpoints = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
    let others = [&metadata.userinfo_endpoint, &metadata.end_session_endpoint];
    for url in endpoints.into_iter().chain(others.into_iter().flatten()) {
        assert_eq!(url.scheme, FetchScheme::Https);
        assert!(url.target.starts_with('/') && url.port != 0 && !url.host.is_empty());
        assert!(url.to_string().bytes().all(|b| b.is_ascii_graphic()));
    }
    let client = OidcClient {
        issuer: ISSUER.into(),
        client_id: "c&state=x".into(),
        authentication: ClientAuthentication::SecretBasic("s".to_owned().into()),
        scopes: Vec::new(),
        prompt: None,
        max_age: None,
        acr_values: Vec::new(),
        userinfo: false,
        refresh_tokens: true,
        algorithms: Vec::new(),
    };
    let value = LogInValue::from_bytes([1; 32]);
    let values = LogInValues {
        state: value,
        nonce: value,
        verifier: value,
    };
    let url = client.authorization_url(&metadata, "https://app.example/cb", &values, Some("a\r\nb"));
    assert!(url.starts_with("https://") && url.bytes().all(|b| b.is_ascii_graphic()));
    for name in [
        "response_type",
        "client_id",
        "redirect_uri",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
    ] {
        assert_eq!(parameters(&url, name), 1, "{name} in {url}");
    }
    if let Some(url) = log_out_url(&metadata, "c", Some("https://app.example/")) {
        for name in ["client_id", "post_logout_redirect_uri"] {
            assert_eq!(parameters(&url, name), 1, "{name} in {url}");
        }
    }
});
