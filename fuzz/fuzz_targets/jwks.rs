//! A key set that is taken holds public keys only, and no token nobody signed is ever verified by one.
#![no_main]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use durward::base::clock::{BootMillis, Now, UnixMillis};
use durward::decide::external::{ExternalIssuer, ExternalRules, KeySet, MAX_EXTERNAL_TOKEN, PublishedKeys, Tenants};
use durward::decide::token::{ClaimLists, RulesId};
use libfuzzer_sys::fuzz_target;

const NOW: Now = Now {
    wall: UnixMillis(1_000_000_000),
    boot: BootMillis(1),
};

// A key set and a token, apart by a zero byte.
fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    let (json, token) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let Ok(set) = KeySet::parse(json) else { return };
    // Numbers in members nobody asks for may be too large for the other reader.
    let Ok(other) = serde_json::from_slice::<serde_json::Value>(json) else {
        return;
    };
    let keys = other["keys"].as_array().unwrap();
    // A key that stands there twice is one.
    assert!(keys.len() >= set.len() + set.ignored().len());
    for key in keys {
        assert!(
            ["d", "p", "q", "dp", "dq", "qi", "k"]
                .iter()
                .all(|name| key.get(name).is_none_or(serde_json::Value::is_null))
        );
    }
    for alg in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"] {
        let named: Vec<_> = keys.iter().filter_map(|key| key["kid"].as_str()).collect();
        for kid in named {
            for key in set.find(Some(kid), alg).into_iter().flatten() {
                assert!(!key.verifies(b"nobody signed this", &[1; 64]) && !key.verifies(b"nobody signed this", &[1; 256]));
            }
        }
    }
    let rules = ExternalRules {
        id: RulesId::unique(),
        issuers: vec![ExternalIssuer {
            issuer: None,
            audience: None,
            audience_claim: "aud".into(),
            token_type: None,
            tenants: Tenants::Claim {
                claim: "tenant".into(),
                allowed: None,
            },
            subject_claim: "sub".into(),
            scopes_claim: "scope".into(),
            scopes: None,
            required: Vec::new(),
            max_age: None,
            keys: Arc::new(PublishedKeys::of_file(PathBuf::new(), set)),
        }],
        skew: Duration::ZERO,
        max_token: MAX_EXTERNAL_TOKEN,
        claim_headers: Vec::new(),
        claim_lists: ClaimLists::Spaces,
    };
    // A set of the fuzzer's own could hold a key it can sign with; it has not managed that yet, and
    // a token that verifies must at least be one.
    if let Ok(claims) = rules.verify(token, NOW) {
        assert!(claims.expires_at > NOW.wall && !claims.subject.as_str().is_empty());
    }
});
