//! From what somebody wrote to the settings of a provider, and from these to what is shown of them.

use serde_json::{Map, Value};

use crate::sign_on::provider::{ProviderSettings, SETTINGS_VERSION};
use crate::sign_on::seal::mark_of;

use super::authority::ProviderAuthority;
use super::error::ManagementError;

/// Adds what nobody needs to say.
pub(super) fn completed(mut settings: Value) -> Value {
    if let Some(members) = settings.as_object_mut() {
        members.entry("version").or_insert_with(|| SETTINGS_VERSION.into());
    }
    settings
}

/// Reads settings as somebody wrote them. The message names members and quotes no value, which may be a secret in the wrong place.
pub(super) fn read_settings(value: Value) -> Result<ProviderSettings, ManagementError> {
    serde_json::from_value(value).map_err(|error| {
        let text = error.to_string();
        let names = ["unknown field", "missing field", "unknown variant"]
            .iter()
            .any(|begin| text.starts_with(begin));
        let why = if names {
            format!("the settings are wrong: {}", printable_line(&text))
        } else {
            "the settings are wrong: a member is of another type than it has".to_owned()
        };
        ManagementError::request("settings", why)
    })
}

fn printable_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Sealed texts are made here and nowhere else.
pub(super) fn refuse_sealed(settings: &Map<String, Value>) -> Result<(), ManagementError> {
    let is_sealed = |name: &String| name.ends_with("_sealed") || name == "own_certificate";
    let protocols = settings.get("protocol").and_then(Value::as_object);
    let mut members = protocols.into_iter().flat_map(|all| all.values()).filter_map(Value::as_object);
    if members.any(|members| members.keys().any(is_sealed)) {
        return Err(ManagementError::request(
            "settings",
            "secrets are no part of the settings: they are handed over apart, and sealed here",
        ));
    }
    Ok(())
}

/// A JSON merge patch (RFC 7396).
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(members) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The settings as they are shown: a sealed text shows that it is there, and to operators its pepper.
pub(super) fn shown_settings(settings: &ProviderSettings, authority: &ProviderAuthority) -> Value {
    let mut shown = settings.clone();
    for (_, text) in shown.sealed_mut() {
        *text = match authority {
            ProviderAuthority::Operator => {
                let mark = mark_of(text).map_or_else(|| "?".to_owned(), |mark| mark.to_string());
                format!("sealed under pepper {mark}")
            }
            ProviderAuthority::Administrator(_) => "sealed".to_owned(),
        };
    }
    serde_json::to_value(&shown).unwrap_or_default()
}
