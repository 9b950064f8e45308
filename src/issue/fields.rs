//! Compares a body with its schema and reports the errors of all fields at once, in the words that the API documents.

use zeroize::Zeroizing;

use crate::base::denial::FieldErrors;
use crate::base::ids::is_valid_id;
use crate::base::login::is_email;

use super::body::{BodyMember, ParsedBody};
use crate::snapshot::body_schema::{BodySchema, FieldKind, FieldMessages, FieldPresence, FieldSpec, TextFormat, UnknownFields};

/// A body that fits its schema. A field that is absent, `null` or an empty text has no value.
#[derive(Debug, Default)]
pub struct CheckedBody(ParsedBody);

impl CheckedBody {
    /// Compares a body with its schema.
    ///
    /// # Errors
    /// [`FieldErrors`] with the errors of all fields.
    pub fn check(schema: &BodySchema, body: ParsedBody) -> Result<Self, FieldErrors> {
        let mut errors = FieldErrors::default();
        for field in &schema.fields {
            let of = field.name.rsplit_once('.').map(|(object, _)| body.find(object));
            // If the object itself is missing or wrong, the error names the object and not its members.
            if of.is_none_or(|object| matches!(object, Some(BodyMember::Object(_)))) {
                check_field(field, body.find(&field.name), &mut errors);
            }
        }
        if schema.unknown_fields == UnknownFields::Refused {
            refuse_unknown(schema, &body, "", &mut errors);
        }
        if errors.is_empty() { Ok(Self(body)) } else { Err(errors) }
    }

    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.text(name).filter(|text| !text.is_empty())
    }

    /// A field's text as a secret, wiped when dropped.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<Zeroizing<String>> {
        self.text(name).map(|text| Zeroizing::new(text.to_owned()))
    }

    /// The value of a field as it was sent.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&BodyMember> {
        self.0.find(name).filter(|member| !is_absent(Some(member)))
    }

    /// The whole body as it was sent, secrets included.
    #[must_use]
    pub(super) fn to_json(&self) -> serde_json::Value {
        self.0.iter().map(|(name, member)| (name.to_owned(), member.to_json())).collect()
    }

    #[must_use]
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.0.find(name) {
            Some(BodyMember::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    #[must_use]
    pub fn list(&self, name: &str) -> Option<&[String]> {
        match self.0.find(name) {
            Some(BodyMember::List(items)) => Some(items),
            _ => None,
        }
    }
}

impl FieldSpec {
    /// The message for a broken rule of this field. Actions use it for rules that only they can check: a value that
    /// is too long for its purpose, a role that does not exist.
    #[must_use]
    pub fn message(&self, rule: FieldRule) -> String {
        let FieldMessages {
            required,
            kind,
            format,
            min,
            max,
            one_of,
        } = &self.messages;
        let (own, default) = match rule {
            FieldRule::Required => (required, "The {field} field is required."),
            FieldRule::Kind => (kind, kind_message(&self.kind)),
            FieldRule::Format => (format, format_message(&self.kind)),
            FieldRule::Min(_) => (min, min_message(&self.kind)),
            FieldRule::Max(_) => (max, max_message(&self.kind)),
            FieldRule::OneOf => (one_of, "The selected {field} is invalid."),
        };
        let mut text = own.as_deref().unwrap_or(default).replace("{field}", &spaced(&self.name));
        if let FieldRule::Min(n) | FieldRule::Max(n) = rule {
            text = text.replace("{min}", &n.to_string()).replace("{max}", &n.to_string());
        }
        if text.contains("{values}") {
            text = text.replace("{values}", &self.one_of.join(", "));
        }
        text
    }
}

/// The rule that a field breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldRule {
    Required,
    /// The value must have the JSON type of the field.
    Kind,
    /// The value must have the format of the field.
    Format,
    /// The value must be at least this long or this large.
    Min(i64),
    /// The value must be at most this long, this large or this many.
    Max(i64),
    /// The value must be one of the listed values.
    OneOf,
}

/// Reports members that are no fields of the schema, also inside objects.
fn refuse_unknown(schema: &BodySchema, object: &ParsedBody, of: &str, errors: &mut FieldErrors) {
    for (name, member) in object.iter() {
        let path = if of.is_empty() { name.to_owned() } else { format!("{of}.{name}") };
        // The name of a member may hold a dot. Such a name is no path, so it names no field.
        let field = schema.fields.iter().find(|field| !name.contains('.') && field.name == path);
        match (field.map(|field| &field.kind), member) {
            (Some(FieldKind::Object), BodyMember::Object(members)) => refuse_unknown(schema, members, &path, errors),
            (Some(_), _) => {}
            (None, _) => {
                let template = schema.unknown.as_deref().unwrap_or("The {field} field is not known.");
                errors.push(&path, template.replace("{field}", &spaced(&path)));
            }
        }
    }
}

fn is_absent(member: Option<&BodyMember>) -> bool {
    match member {
        None | Some(BodyMember::Null) => true,
        Some(BodyMember::Text(text)) => text.is_empty(),
        Some(_) => false,
    }
}

fn check_field(field: &FieldSpec, member: Option<&BodyMember>, errors: &mut FieldErrors) {
    let broken = match (is_absent(member), field.presence) {
        (true, FieldPresence::Required) => vec![FieldRule::Required],
        (true, FieldPresence::Optional) => Vec::new(),
        (false, _) => broken_rules(field, member),
    };
    for rule in broken {
        errors.push(&field.name, field.message(rule));
    }
}

fn broken_rules(field: &FieldSpec, member: Option<&BodyMember>) -> Vec<FieldRule> {
    match (&field.kind, member) {
        (FieldKind::Text { min, max, format }, Some(BodyMember::Text(text))) => {
            let mut broken = Vec::from_iter(length_rule(text, *min, *max));
            if !is_of_format(text, *format) {
                broken.push(FieldRule::Format);
            }
            if !field.one_of.is_empty() && !field.one_of.iter().any(|one| *one == text.as_str()) {
                broken.push(FieldRule::OneOf);
            }
            broken
        }
        (FieldKind::Secret { min, max }, Some(BodyMember::Text(text))) => Vec::from_iter(length_rule(text, *min, *max)),
        (FieldKind::Integer { min, .. }, Some(BodyMember::Integer(number))) if number < min => vec![FieldRule::Min(*min)],
        (FieldKind::Integer { max, .. }, Some(BodyMember::Integer(number))) if number > max => vec![FieldRule::Max(*max)],
        (FieldKind::Integer { .. }, Some(BodyMember::Integer(_))) => Vec::new(),
        (FieldKind::Number { min, .. }, Some(BodyMember::Integer(number))) if number < min => vec![FieldRule::Min(*min)],
        (FieldKind::Number { max, .. }, Some(BodyMember::Integer(number))) if number > max => vec![FieldRule::Max(*max)],
        (FieldKind::Number { .. }, Some(BodyMember::Integer(_))) => Vec::new(),
        (FieldKind::Number { min, max }, Some(BodyMember::Number(number))) => {
            number_rules(number.as_f64().unwrap_or(f64::INFINITY), *min, *max)
        }
        (FieldKind::Boolean, Some(BodyMember::Flag(_))) | (FieldKind::Object, Some(BodyMember::Object(_))) => Vec::new(),
        (FieldKind::Any { max, depth }, Some(member)) => any_rules(member, *max, *depth),
        (FieldKind::TextList { max_items, max }, Some(BodyMember::List(items))) => list_rules(field, items, *max_items, *max),
        _ => vec![FieldRule::Kind],
    }
}

#[expect(clippy::cast_precision_loss, reason = "bounds are below 2^53")]
fn number_rules(number: f64, min: i64, max: i64) -> Vec<FieldRule> {
    if number < min as f64 {
        vec![FieldRule::Min(min)]
    } else if number > max as f64 {
        vec![FieldRule::Max(max)]
    } else {
        Vec::new()
    }
}

fn any_rules(member: &BodyMember, max: usize, depth: usize) -> Vec<FieldRule> {
    if member.depth() > depth {
        return vec![FieldRule::Format];
    }
    if member.to_json().to_string().len() > max {
        return vec![FieldRule::Max(number(max))];
    }
    Vec::new()
}

fn list_rules(field: &FieldSpec, items: &[String], max_items: usize, max: usize) -> Vec<FieldRule> {
    if items.len() > max_items {
        return vec![FieldRule::Max(number(max_items))];
    }
    let sound = |item: &String| !item.is_empty() && item.chars().count() <= max && !item.chars().any(char::is_control);
    let repeated = items
        .iter()
        .enumerate()
        .any(|(i, item)| items.iter().take(i).any(|other| other == item));
    if repeated || !items.iter().all(sound) {
        return vec![FieldRule::Format];
    }
    if !field.one_of.is_empty() && !items.iter().all(|item| field.one_of.contains(item)) {
        return vec![FieldRule::OneOf];
    }
    Vec::new()
}

fn length_rule(text: &str, min: usize, max: usize) -> Option<FieldRule> {
    let length = text.chars().count();
    if length < min {
        Some(FieldRule::Min(number(min)))
    } else if length > max {
        Some(FieldRule::Max(number(max)))
    } else {
        None
    }
}

fn is_of_format(text: &str, format: TextFormat) -> bool {
    !text.chars().any(char::is_control)
        && match format {
            TextFormat::Any => true,
            TextFormat::Id => is_valid_id(text),
            TextFormat::Email => is_email(text),
        }
}

fn kind_message(kind: &FieldKind) -> &'static str {
    match kind {
        FieldKind::Text { .. } | FieldKind::Secret { .. } => "The {field} field must be a string.",
        FieldKind::Integer { .. } => "The {field} field must be an integer.",
        FieldKind::Number { .. } => "The {field} field must be a number.",
        FieldKind::Boolean => "The {field} field must be true or false.",
        FieldKind::Object => "The {field} field must be an object.",
        FieldKind::Any { .. } => "The {field} field is not valid.",
        FieldKind::TextList { .. } => "The {field} field must be a list of strings.",
    }
}

fn format_message(kind: &FieldKind) -> &'static str {
    match kind {
        FieldKind::Text {
            format: TextFormat::Email, ..
        } => "The {field} field must be a valid email address.",
        _ => "The {field} field is not valid.",
    }
}

fn min_message(kind: &FieldKind) -> &'static str {
    match kind {
        FieldKind::Integer { .. } | FieldKind::Number { .. } => "The {field} field must be at least {min}.",
        _ => "The {field} field must be at least {min} characters.",
    }
}

fn max_message(kind: &FieldKind) -> &'static str {
    match kind {
        FieldKind::Integer { .. } | FieldKind::Number { .. } => "The {field} field must not be greater than {max}.",
        FieldKind::Any { .. } => "The {field} field must not be larger than {max} bytes.",
        FieldKind::TextList { .. } => "The {field} field must not have more than {max} items.",
        _ => "The {field} field must not be greater than {max} characters.",
    }
}

/// The name of a field with spaces for `_`.
fn spaced(name: &str) -> String {
    name.chars().map(|c| if c == '_' { ' ' } else { c }).collect()
}

fn number(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, kind: FieldKind) -> FieldSpec {
        FieldSpec {
            name: name.into(),
            kind,
            presence: FieldPresence::Required,
            one_of: Vec::new(),
            messages: FieldMessages::default(),
        }
    }

    fn text(name: &str, max: usize) -> FieldSpec {
        let format = TextFormat::Any;
        field(name, FieldKind::Text { min: 0, max, format })
    }

    fn judge(fields: Vec<FieldSpec>, json: &str) -> serde_json::Value {
        let schema = BodySchema {
            fields,
            ..BodySchema::default()
        };
        match CheckedBody::check(&schema, ParsedBody::parse(json.as_bytes()).unwrap()) {
            Ok(_) => serde_json::json!({}),
            Err(errors) => errors
                .iter()
                .map(|(f, m)| (f.to_owned(), serde_json::json!(m)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    #[test]
    fn every_field_that_is_missing_is_told_at_once() {
        let fields = || vec![text("api_key", 64), field("api_secret", FieldKind::Secret { min: 0, max: 128 })];
        assert_eq!(
            judge(fields(), r#"{"api_key":"","api_secret":null}"#),
            serde_json::json!({
                "api_key": ["The api key field is required."],
                "api_secret": ["The api secret field is required."],
            })
        );
        assert_eq!(judge(fields(), r#"{"api_key":"k","api_secret":"s"}"#), serde_json::json!({}));
    }

    #[test]
    fn an_optional_field_may_be_missing_and_an_unknown_one_may_not() {
        let optional = FieldSpec {
            presence: FieldPresence::Optional,
            ..text("name", 5)
        };
        assert_eq!(judge(vec![optional.clone()], "{}"), serde_json::json!({}));
        assert_eq!(judge(vec![optional.clone()], r#"{"name":null}"#), serde_json::json!({}));
        assert_eq!(
            judge(vec![optional], r#"{"nick_name":1}"#),
            serde_json::json!({"nick_name": ["The nick name field is not known."]})
        );
    }

    #[test]
    fn types_lengths_and_forms_are_held() {
        let long = |n| format!(r#"{{"api_key":"{}"}}"#, "ä".repeat(n));
        assert_eq!(
            judge(vec![text("api_key", 64)], &long(64)),
            serde_json::json!({}),
            "characters, not bytes"
        );
        assert_eq!(
            judge(vec![text("api_key", 64)], &long(65)),
            serde_json::json!({"api_key": ["The api key field must not be greater than 64 characters."]})
        );
        for json in [
            r#"{"api_key":1}"#,
            r#"{"api_key":["a"]}"#,
            r#"{"api_key":{}}"#,
            r#"{"api_key":true}"#,
        ] {
            assert_eq!(
                judge(vec![text("api_key", 64)], json),
                serde_json::json!({"api_key": ["The api key field must be a string."]}),
                "{json}"
            );
        }
        assert_eq!(
            judge(vec![text("name", 9)], r#"{"name":"a\nb"}"#),
            serde_json::json!({"name": ["The name field is not valid."]})
        );
        assert_eq!(
            judge(
                vec![field("password", FieldKind::Secret { min: 3, max: 3 })],
                r#"{"password":"a\u0000b"}"#
            ),
            serde_json::json!({}),
            "a secret is of any characters"
        );
        let seconds = || vec![field("expires_in", FieldKind::Integer { min: 1, max: 60 })];
        assert_eq!(judge(seconds(), r#"{"expires_in":60}"#), serde_json::json!({}));
        assert_eq!(
            judge(seconds(), r#"{"expires_in":61}"#),
            serde_json::json!({"expires_in": ["The expires in field must not be greater than 60."]})
        );
        assert_eq!(
            judge(seconds(), r#"{"expires_in":0}"#),
            serde_json::json!({"expires_in": ["The expires in field must be at least 1."]})
        );
        for json in [r#"{"expires_in":"60"}"#, r#"{"expires_in":1.0}"#] {
            assert_eq!(
                judge(seconds(), json),
                serde_json::json!({"expires_in": ["The expires in field must be an integer."]})
            );
        }
    }

    #[test]
    fn only_the_listed_values_are_taken() {
        let mut role = text("role", 20);
        role.one_of = vec!["payer".into(), "viewer".into()];
        assert_eq!(judge(vec![role.clone()], r#"{"role":"viewer"}"#), serde_json::json!({}));
        assert_eq!(
            judge(vec![role], r#"{"role":"admin"}"#),
            serde_json::json!({"role": ["The selected role is invalid."]})
        );
        let mut list = field("permissions", FieldKind::TextList { max_items: 2, max: 9 });
        list.one_of = vec!["view".into(), "fund".into()];
        assert_eq!(judge(vec![list.clone()], r#"{"permissions":["view"]}"#), serde_json::json!({}));
        assert_eq!(
            judge(vec![list.clone()], r#"{"permissions":[]}"#),
            serde_json::json!({}),
            "an empty list is there"
        );
        for (json, message) in [
            (r#"{"permissions":["view","rule"]}"#, "The selected permissions is invalid."),
            (r#"{"permissions":["view","view"]}"#, "The permissions field is not valid."),
            (
                r#"{"permissions":["view","fund","x"]}"#,
                "The permissions field must not have more than 2 items.",
            ),
            (r#"{"permissions":"view"}"#, "The permissions field must be a list of strings."),
            (r#"{"permissions":[""]}"#, "The permissions field is not valid."),
            ("{}", "The permissions field is required."),
            (r#"{"permissions":null}"#, "The permissions field is required."),
        ] {
            assert_eq!(
                judge(vec![list.clone()], json),
                serde_json::json!({"permissions": [message]}),
                "{json}"
            );
        }
    }

    #[test]
    fn messages_are_the_operators_word() {
        let mut key = text("api_key", 3);
        key.messages.required = Some("{field}?".into());
        key.messages.max = Some("{field} <= {max}".into());
        assert_eq!(judge(vec![key.clone()], "{}"), serde_json::json!({"api_key": ["api key?"]}));
        assert_eq!(
            judge(vec![key], r#"{"api_key":"abcd"}"#),
            serde_json::json!({"api_key": ["api key <= 3"]})
        );
    }
}
