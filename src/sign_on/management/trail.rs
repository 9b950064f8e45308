//! A provider as the audit trail tells it: what it may give, and its settings, each as a text. Of secrets and certificates it has
//! the beginning of a hash, so that a replacement shows.

use serde_json::{Map, Value};

use crate::base::fingerprint::{Fingerprint, sha256};
use crate::base::principal::CredentialRecord;
use crate::sign_on::provider::{ProviderProtocol, ProviderSettings};

use super::forms::state_word;

/// Most settings of a provider in an entry.
const MAX_TRAIL_LINES: usize = 100;

/// Most characters of one of them.
const MAX_TRAIL_LINE: usize = 300;

/// What an entry tells of a provider and its settings.
#[must_use]
pub fn trail_members(provider: &CredentialRecord, settings: &CredentialRecord) -> Map<String, Value> {
    let words = |words: Vec<&str>| Some(words).filter(|words| !words.is_empty()).map(Value::from);
    let scopes = provider.scopes.iter().map(|scope| scope.as_str()).collect();
    let roles = provider.roles().iter().map(|role| role.as_str()).collect();
    let own = ProviderSettings::of_record(settings).ok();
    let members = [
        ("state", Some(state_word(provider.state).into())),
        ("name", provider.name.as_deref().map(Value::from)),
        ("scopes", words(scopes)),
        ("roles", words(roles)),
        ("settings", own.map(|own| settings_lines(&own).into())),
    ];
    let there = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    there.collect()
}

/// The settings as an entry tells them: each as a text, without secrets.
#[must_use]
pub fn settings_lines(settings: &ProviderSettings) -> Vec<Value> {
    let mut lines = Vec::new();
    flatten("", &trail_settings(settings), &mut lines);
    let left_out = lines.len().saturating_sub(MAX_TRAIL_LINES);
    lines.truncate(MAX_TRAIL_LINES);
    if left_out > 0 {
        lines.push(format!("{left_out} more").into());
    }
    lines
}

/// Writes each value with its path: `protocol.oidc.issuer=https://…`.
fn flatten(path: &str, value: &Value, lines: &mut Vec<Value>) {
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| flatten(&below(name), value, lines)),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                flatten(&format!("{path}[{i}]"), item, lines);
            }
        }
        Value::String(text) => lines.push(format!("{path}={text}").chars().take(MAX_TRAIL_LINE).collect::<String>().into()),
        other => lines.push(format!("{path}={other}").into()),
    }
}

fn trail_settings(settings: &ProviderSettings) -> Value {
    let mut shown = settings.clone();
    let mark = |text: &str| {
        let hash = Fingerprint::from_bytes(sha256(text.as_bytes())).to_hex();
        hash.chars().take(16).collect::<String>()
    };
    for (_, text) in shown.sealed_mut() {
        *text = format!("sealed, SHA-256 {}", mark(text));
    }
    if let ProviderProtocol::Saml(saml) = &mut shown.protocol {
        let certificates = saml.certificates.iter_mut().chain(&mut saml.own_certificate);
        certificates.for_each(|text| *text = format!("SHA-256 of base64 {}", mark(text)));
    }
    serde_json::to_value(&shown).unwrap_or_default()
}
