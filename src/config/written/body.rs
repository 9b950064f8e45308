//! `[routes.body.<field>]`: what the body of a served route may hold.

use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::source::Located;

/// `[routes.body.<field>]`.
pub static FIELD: Schema = Schema {
    parts: &[],
    name: "`[routes.body.<field>]`",
    about: "A body is a JSON object of these fields and no others. What is wrong is told field by field, as `invalid_fields`. Fields of a credential that the route accepts in its body (`key_field`, `login_field`, …) are there by themselves; writing one down changes its messages.",
    keys: &[
        Key {
            name: "type",
            kind: Kind::Choice(&[
                "text", "email", "id", "secret", "integer", "number", "boolean", "list", "object", "any",
            ]),
            default: Fallback::Value("text"),
            about: "`text` without control characters, `email`, `id` (1 to 128 of A-Z a-z 0-9 . _ : -), `secret` (of any characters; never in an answer or a log), `integer`, `number` (whole or with a fraction), `boolean`, `list` of texts without repetition, `object` with `fields` of its own, `any` JSON value within `max` bytes and `depth`.",
        },
        Key {
            name: "required",
            kind: Kind::Either("`true` or `false`", &[]),
            default: Fallback::Absent("`true`"),
            about: "Whether it must be there; `null` and an empty text are absent.",
        },
        Key {
            name: "min",
            kind: Kind::Count {
                min: 0,
                max: 4_294_967_295,
            },
            default: Fallback::Value("0"),
            about: "Fewest characters; least number.",
        },
        Key {
            name: "max",
            kind: Kind::Count {
                min: 1,
                max: 4_294_967_295,
            },
            default: Fallback::Absent("255 characters; of a `list` each item; `integer` and `number`: 4294967295; `any`: 4096 bytes"),
            about: "Most characters, at most 4096; greatest number; most bytes of `any`, at most 65536.",
        },
        Key {
            name: "depth",
            kind: Kind::Count { min: 0, max: 32 },
            default: Fallback::Value("8"),
            about: "`any`: how deep objects and lists may be nested; 0 allows only a plain value.",
        },
        Key {
            name: "fields",
            kind: Kind::Named(&FIELD),
            default: Fallback::Absent("required for `object`"),
            about: "`object`: its fields, written like those of the body. Sources, templates and mistakes name them with dots: `body.address.city`. Objects may be nested at most four deep.",
        },
        Key {
            name: "items",
            kind: Kind::Count { min: 1, max: 256 },
            default: Fallback::Value("64"),
            about: "`list`: most items.",
        },
        Key {
            name: "one_of",
            kind: Kind::Texts,
            default: Fallback::Absent("any"),
            about: "The only values, of a text or of each item.",
        },
        Key {
            name: "messages",
            kind: Kind::Table(&MESSAGES),
            default: Fallback::Absent("the defaults below"),
            about: "What its mistakes are told as.",
        },
    ],
};

/// `[routes.body.<field>.messages]`.
pub const MESSAGES: Schema = Schema {
    parts: &[],
    name: "`[routes.body.<field>.messages]`",
    about: "`{field}` is the field's name with spaces for `_`; `{min}`, `{max}` and `{values}` are those of its rule.",
    keys: &[
        message("required", "`The {field} field is required.`"),
        message("type", "`The {field} field must be a string.` (`an integer`, `a list of strings`)"),
        message("format", "`The {field} field is not valid.`"),
        message("min", "`The {field} field must be at least {min} characters.`"),
        message("max", "`The {field} field must not be greater than {max} characters.`"),
        message("one_of", "`The selected {field} is invalid.`"),
    ],
};

const fn message(name: &'static str, default: &'static str) -> Key {
    Key {
        name,
        kind: Kind::Text,
        default: Fallback::Absent(default),
        about: "The message for this mistake.",
    }
}

/// A field as written.
#[derive(Debug)]
pub struct WrittenField {
    /// Its name.
    pub name: Located<String>,
    /// Its type.
    pub kind: Located<&'static str>,
    /// Whether it must be there.
    pub required: bool,
    /// Least.
    pub min: Option<Located<u64>>,
    /// Most.
    pub max: Option<Located<u64>>,
    /// Most items.
    pub items: Option<Located<u64>>,
    /// Deepest.
    pub depth: Option<Located<u64>>,
    /// Fields of an object.
    pub fields: Vec<WrittenField>,
    /// Only these.
    pub one_of: Vec<Located<String>>,
    /// Messages by name.
    pub messages: Vec<(&'static str, Located<String>)>,
}

/// Reads one field.
#[must_use]
pub fn read(name: Located<String>, section: &Section<'_>) -> WrittenField {
    let messages = section.section("messages");
    WrittenField {
        name,
        kind: section.choice("type"),
        required: section.flag("required").is_none_or(|f| f.value),
        min: section.count("min"),
        max: section.count("max"),
        items: section.count("items"),
        depth: section.count("depth"),
        fields: section.named("fields").into_iter().map(|(name, s)| read(name, &s)).collect(),
        one_of: section.texts("one_of"),
        messages: MESSAGES
            .keys
            .iter()
            .filter_map(|key| Some((key.name, messages.as_ref()?.text(key.name)?)))
            .collect(),
    }
}
