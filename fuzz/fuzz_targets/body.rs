//! Bodies of served routes: what is read is what another reader reads, and what fits a schema fits its bounds.
#![no_main]

use std::sync::OnceLock;

use durward::base::denial::{MAX_FIELD_ERRORS, MAX_FIELD_NAME};
use durward::issue::body::{BodyMember, MAX_ITEMS, MAX_MEMBERS, ParsedBody};
use durward::issue::fields::CheckedBody;
use durward::snapshot::body_schema::{BodySchema, FieldKind, FieldMessages, FieldPresence, FieldSpec, TextFormat};
use libfuzzer_sys::fuzz_target;

const MAX: usize = 12;

fn schema() -> &'static BodySchema {
    static SCHEMA: OnceLock<BodySchema> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let text = |format| FieldKind::Text { min: 2, max: MAX, format };
        let field = |name: &str, kind, presence, one_of: &[&str]| FieldSpec {
            name: name.into(),
            kind,
            presence,
            one_of: one_of.iter().map(|&word| word.into()).collect(),
            messages: FieldMessages::default(),
        };
        BodySchema {
            max: 16 * 1024,
            fields: vec![
                field("t", text(TextFormat::Any), FieldPresence::Required, &[]),
                field("m", text(TextFormat::Email), FieldPresence::Optional, &[]),
                field("i", text(TextFormat::Id), FieldPresence::Optional, &[]),
                field("s", FieldKind::Secret { min: 2, max: MAX }, FieldPresence::Optional, &[]),
                field("n", FieldKind::Integer { min: -5, max: 5 }, FieldPresence::Optional, &[]),
                field(
                    "l",
                    FieldKind::TextList { max_items: 3, max: MAX },
                    FieldPresence::Optional,
                    &["a", "b", "c"],
                ),
            ],
            ..BodySchema::default()
        }
    })
}

fuzz_target!(|json: &[u8]| {
    let Ok(body) = ParsedBody::parse(json) else { return };
    if !json.is_empty() {
        judge_reading(&body, json);
    }
    match CheckedBody::check(schema(), body) {
        Ok(checked) => judge_fit(&checked),
        Err(errors) => {
            assert!(!errors.is_empty());
            assert!(errors.iter().map(|(_, messages)| messages.len()).sum::<usize>() <= MAX_FIELD_ERRORS);
            assert!(errors.iter().all(|(name, _)| name.chars().count() <= MAX_FIELD_NAME));
        }
    }
});

/// Another reader says the same of the same text.
fn judge_reading(body: &ParsedBody, json: &[u8]) {
    // Numbers may be too large for the other reader.
    let Ok(other) = serde_json::from_slice::<serde_json::Value>(json) else {
        return;
    };
    let other = other.as_object().unwrap();
    assert_eq!(body.iter().count(), other.len());
    assert!(other.len() <= MAX_MEMBERS);
    for (name, member) in body.iter() {
        let value = &other[name];
        match member {
            BodyMember::Text(text) => assert_eq!(value.as_str(), Some(text.as_str())),
            BodyMember::Integer(number) => assert_eq!(value.as_i64(), Some(*number)),
            BodyMember::List(items) => {
                assert!(items.len() <= MAX_ITEMS);
                assert!(value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).eq(items));
            }
            BodyMember::Null => assert!(value.is_null()),
            BodyMember::Flag(flag) => assert_eq!(value.as_bool(), Some(*flag)),
            BodyMember::Number(_) => assert!(value.is_number() && value.as_i64().is_none()),
            BodyMember::Items(_) => assert!(value.is_array()),
            BodyMember::Object(_) => assert!(value.is_object()),
        }
    }
}

/// What was let through is within every bound of the schema.
fn judge_fit(body: &CheckedBody) {
    let long_enough = |text: &str| (2..=MAX).contains(&text.chars().count());
    let fits = |text: &str| long_enough(text) && !text.chars().any(char::is_control);
    assert!(body.text("t").is_some_and(fits));
    for name in ["m", "i"] {
        assert!(body.text(name).is_none_or(fits), "{name}");
    }
    // Of any characters.
    assert!(body.text("s").is_none_or(long_enough));
    assert!(body.text("m").is_none_or(|mail| mail.contains('@')));
    assert!(
        body.text("i")
            .is_none_or(|id| id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b)))
    );
    assert!(body.integer("n").is_none_or(|number| (-5..=5).contains(&number)));
    if let Some(items) = body.list("l") {
        assert!(items.len() <= 3 && items.iter().all(|item| ["a", "b", "c"].contains(&item.as_str())));
        assert!(items.iter().enumerate().all(|(at, item)| !items[..at].contains(item)), "repeated");
    }
}
