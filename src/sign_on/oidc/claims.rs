//! Claims in JSON: those of the ID token, and for what it lacks those of userinfo.

use crate::decide::token::json::{JsonObject, JsonValue};
use crate::sign_on::person::ProviderClaims;

/// The claims of one person. A claim is named by its whole name or by a path (`realm_access.roles`).
pub(super) struct JsonClaims<'t> {
    pub(super) first: &'t JsonObject<'t>,
    pub(super) second: Option<&'t JsonObject<'t>>,
}

impl JsonClaims<'_> {
    fn find(&self, name: &str) -> Option<&JsonValue<'_>> {
        let found = |members: &'_ JsonObject<'_>| members.find_claim(name).is_some_and(|value| *value != JsonValue::Null);
        if found(self.first) {
            return self.first.find_claim(name);
        }
        self.second?.find_claim(name).filter(|value| **value != JsonValue::Null)
    }
}

impl ProviderClaims for JsonClaims<'_> {
    fn text(&self, name: &str) -> Option<String> {
        as_text(self.find(name)?)
    }

    fn texts(&self, name: &str) -> Option<Vec<String>> {
        match self.find(name)? {
            JsonValue::List(items) => Some(items.iter().filter_map(as_text).collect()),
            one => as_text(one).map(|text| vec![text]),
        }
    }
}

/// A text, or a whole number or truth value in its notation.
fn as_text(value: &JsonValue<'_>) -> Option<String> {
    match value {
        JsonValue::Text(text) => Some(text.to_string()),
        JsonValue::Bool(truth) => Some(truth.to_string()),
        JsonValue::Integer(number) => Some(number.to_string()),
        JsonValue::Large(number) => Some(number.to_string()),
        JsonValue::Null | JsonValue::Fraction(_) | JsonValue::List(_) | JsonValue::Object(_) => None,
    }
}
