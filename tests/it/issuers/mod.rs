//! Tokens that others sign: key sets, the J rows of the hardening for every algorithm, keys from a URL.

mod claims;
mod hatchpay;
mod live;
mod rows;
mod sets;
mod tokens;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use durward::base::clock::{BootMillis, Now, UnixMillis};
use durward::base::denial::Denial;
use durward::base::principal::TokenClaims;
use durward::decide::external::{ExternalIssuer, ExternalRules, KeySet, Published, Tenants, Unverified};

/// The time of the tests.
const NOW: Now = Now {
    wall: UnixMillis(1_800_000_000_000),
    boot: BootMillis(1_000_000),
};

/// Rules of one issuer that asks for everything.
fn rules(set: &str) -> ExternalRules {
    ExternalRules {
        issuers: vec![issuer("https://issuer.test", set)],
        skew: Duration::from_secs(5),
        claim_headers: Vec::new(),
    }
}

fn issuer(name: &str, set: &str) -> ExternalIssuer {
    ExternalIssuer {
        issuer: Some(name.to_owned()),
        audience: Some("payments".to_owned()),
        token_type: None,
        tenants: Tenants::Claim {
            claim: "tenant".to_owned(),
            allowed: None,
        },
        subject_claim: "sub".to_owned(),
        scopes_claim: "permissions".to_owned(),
        scopes: None,
        required: Vec::new(),
        max_age: None,
        keys: Arc::new(Published::of_file(
            PathBuf::from("jwks.json"),
            KeySet::parse(set.as_bytes()).unwrap(),
        )),
    }
}

fn verdict(rules: &ExternalRules, token: &str) -> Result<TokenClaims, Denial> {
    verdict_at(rules, token, NOW)
}

fn verdict_at(rules: &ExternalRules, token: &str, now: Now) -> Result<TokenClaims, Denial> {
    rules.verify(token.as_bytes(), now).map_err(|error| match error {
        Unverified::Denied(denial) | Unverified::KeyWanted { otherwise: denial, .. } => denial,
    })
}
