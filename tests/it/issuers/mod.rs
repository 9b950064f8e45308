//! Tokens that others sign: key sets, the J rows of docs/threats.md for every algorithm, keys from a URL.

mod causes;
mod claims;
mod hatchpay;
mod live;
mod providers;
mod pss;
mod records;
mod rows;
mod sets;
mod tokens;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use durward::base::clock::{BootMillis, Now, UnixMillis};
use durward::base::credential::Unproven;
use durward::base::denial::Denial;
use durward::base::principal::TokenClaims;
use durward::decide::external::{ExternalIssuer, ExternalRules, KeySet, MAX_EXTERNAL_TOKEN, PublishedKeys, Tenants, Unverified};
use durward::decide::token::{ClaimLists, RulesId};

/// The time of the tests.
const NOW: Now = Now {
    wall: UnixMillis(1_800_000_000_000),
    boot: BootMillis(1_000_000),
};

/// Rules of one issuer that asks for everything.
fn rules(set: &str) -> ExternalRules {
    ExternalRules {
        id: RulesId::unique(),
        issuers: vec![issuer("https://issuer.test", set)],
        skew: Duration::from_secs(5),
        max_token: MAX_EXTERNAL_TOKEN,
        claim_headers: Vec::new(),
        claim_lists: ClaimLists::Spaces,
    }
}

fn issuer(name: &str, set: &str) -> ExternalIssuer {
    ExternalIssuer {
        issuer: Some(name.to_owned()),
        audience: Some("payments".to_owned()),
        audience_claim: "aud".to_owned(),
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
        keys: Arc::new(PublishedKeys::of_file(
            PathBuf::from("jwks.json"),
            KeySet::parse(set.as_bytes()).unwrap(),
        )),
    }
}

fn verdict(rules: &ExternalRules, token: &str) -> Result<TokenClaims, Denial> {
    verdict_at(rules, token, NOW)
}

fn verdict_at(rules: &ExternalRules, token: &str, now: Now) -> Result<TokenClaims, Denial> {
    explained(rules, token, now).map_err(|why| why.denial)
}

fn explained(rules: &ExternalRules, token: &str, now: Now) -> Result<TokenClaims, Unproven> {
    rules.verify(token.as_bytes(), now).map_err(|error| match error {
        Unverified::Denied(why) | Unverified::KeyWanted { otherwise: why, .. } => why,
    })
}

/// The cause that the operator is told; `None` for a token that is good, or refused without one.
fn fault(rules: &ExternalRules, token: &str) -> Option<&'static str> {
    explained(rules, token, NOW).err().and_then(|why| why.cause)
}
