//! What the rows of both files are told with: a good token and its variations, keys of all algorithms.

use std::sync::OnceLock;

use durward::base::denial::Denial;
use serde_json::{Value, json};

use super::{NOW, rules, verdict};
use crate::support::issuer::{Signer, jwks};

pub(super) const INVALID: Denial = Denial::InvalidToken;

pub(super) fn seconds(offset: i64) -> i64 {
    NOW.wall.secs() + offset
}

/// What a good token claims.
pub(super) fn good() -> Value {
    json!({
        "iss": "https://issuer.test", "aud": "payments", "sub": "user-7", "tenant": "acme",
        "permissions": ["transactions:read", "roles:read"],
        "iat": seconds(-10), "exp": seconds(600),
    })
}

pub(super) fn with(member: &str, value: Value) -> Value {
    let mut claims = good();
    claims[member] = value;
    claims
}

pub(super) fn without(member: &str) -> Value {
    let mut claims = good();
    claims.as_object_mut().unwrap().remove(member);
    claims
}

pub(super) fn set(signers: &[Signer]) -> String {
    jwks(&signers.iter().collect::<Vec<_>>())
}

/// Keys that all rows share: a new RSA key takes its time.
pub(super) fn signers() -> &'static [Signer; 9] {
    static SIGNERS: OnceLock<[Signer; 9]> = OnceLock::new();
    SIGNERS.get_or_init(Signer::all)
}

/// Runs a row for each algorithm, with rules over the keys of all.
pub(super) fn each(row: impl Fn(&Signer, &dyn Fn(&str) -> Result<(), Denial>)) {
    let signers = signers();
    let rules = rules(&set(signers));
    for signer in signers {
        row(signer, &|token| verdict(&rules, token).map(drop));
    }
}

/// A header with another member.
pub(super) fn header_with(signer: &Signer, member: &str, value: Value) -> String {
    let mut header = signer.header();
    header[member] = value;
    header.to_string()
}
