//! A callback gives a code only with the `state` of the log-in and the issuer of its provider, each once.
#![no_main]

use std::sync::OnceLock;

use durward::fetch::FetchSchemes;
use durward::sign_on::oidc::{Callback, LogInValue, ProviderMetadata};
use libfuzzer_sys::fuzz_target;

const ISSUER: &str = "https://i.example";

fn metadata() -> &'static ProviderMetadata {
    static METADATA: OnceLock<ProviderMetadata> = OnceLock::new();
    METADATA.get_or_init(|| {
        let json = br#"{"issuer":"https://i.example","authorization_endpoint":"https://i.example/a","token_endpoint":"https://i.example/t",
            "jwks_uri":"https://i.example/k","authorization_response_iss_parameter_supported":true}"#;
        ProviderMetadata::parse(json, ISSUER, FetchSchemes::Https).unwrap()
    })
}

/// The values of a name, by another reader.
fn values(query: &str, name: &str) -> Vec<String> {
    let decode = |text: &str| durward::base::percent::decode(&text.replace('+', " ")).unwrap();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .filter(|(own, _)| decode(own) == name)
        .map(|(_, value)| decode(value))
        .collect()
}

// The first byte chooses: a query as it came, or one with parts of a right callback before the rest.
fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let right = [
        "code=abc",
        "state=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "iss=https%3A%2F%2Fi.example",
    ];
    let mut query = Vec::new();
    for (bit, part) in right.iter().enumerate() {
        if choice >> bit & 1 == 1 {
            query.extend_from_slice(part.as_bytes());
            query.push(b'&');
        }
    }
    query.extend_from_slice(rest);
    let data = query.as_slice();
    let Ok(callback) = Callback::parse(data) else { return };
    let query = std::str::from_utf8(data).unwrap();
    let state = LogInValue::from_bytes([0; 32]);
    assert_eq!(values(query, "state"), [callback.state()]);
    match callback.code(&state, metadata()) {
        Ok(_) => {
            assert_eq!(values(query, "state"), [state.text()]);
            assert_eq!(values(query, "iss"), [ISSUER]);
            assert_eq!(values(query, "code").len(), 1);
        }
        Err(fault) => assert!(fault.to_string().chars().all(|c| !c.is_control()), "{fault}"),
    }
});
