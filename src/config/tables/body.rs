//! `[routes.body.<field>]`: what the body of a served route may hold; fields of credentials are there by themselves.

use crate::config::declare::{Member, Named, absent, choice, count, default, table};
use crate::config::source::Located;
use crate::decide::surface::{BodyField, Carry, Surface};
use crate::snapshot::body_schema::{
    BodySchema, DEFAULT_MAX_BODY, FieldKind, FieldMessages, FieldPresence, FieldSpec, Forms, TextFormat, UnreadableBody,
};

use super::Builder;
use super::routes::RouteTable;
use super::serve::ServeTable;
use super::sources::SourceScope;

table! {
    /// A body is a JSON object of these fields and no others. What is wrong is told field by field, as `invalid_fields`.
    /// Fields of a credential that the route accepts in its body (`key_field`, `login_field`, …) are there by themselves;
    /// writing one down changes its messages.
    pub struct FieldTable = "`[routes.body.<field>]`" {
        /// `text` without control characters, `email`, `id` (1 to 128 of A-Z a-z 0-9 . _ : -), `secret` (of any
        /// characters; never in an answer or a log), `integer`, `number` (whole or with a fraction), `boolean`, `list` of
        /// texts without repetition, `object` with `fields` of its own, `any` JSON value within `max` bytes and `depth`.
        kind as "type": Located<FieldType> = default("text");
        /// Whether it must be there; `null` and an empty text are absent.
        required: bool = default("true");
        /// Fewest characters; least number.
        min: Option<Located<u64>> = default("0"), count(0, 4_294_967_295);
        /// Most characters, at most 4096; greatest number; most bytes of `any`, at most 65536.
        max: Option<Located<u64>> = absent("255 characters; of a `list` each item; `integer` and `number`: 4294967295; `any`: 4096 bytes"), count(1, 4_294_967_295);
        /// `any`: how deep objects and lists may be nested; 0 allows only a plain value.
        depth: Option<Located<u64>> = default("8"), count(0, 32);
        /// `object`: its fields, written like those of the body. Sources, templates and mistakes name them with dots:
        /// `body.address.city`. Objects may be nested at most four deep.
        fields: Named<FieldTable> = absent("required for `object`");
        /// `list`: most items.
        items: Option<Located<u64>> = default("64"), count(1, 256);
        /// The only values, of a text or of each item.
        one_of: Vec<Located<String>> = absent("any");
        /// What its mistakes are told as.
        messages: MessagesTable = absent("the defaults below");
    }
}

table! {
    /// `{field}` is the field's name with spaces for `_`; `{min}`, `{max}` and `{values}` are those of its rule.
    pub struct MessagesTable = "`[routes.body.<field>.messages]`" {
        /// The message for this mistake.
        required: Option<Located<String>> = absent("`The {field} field is required.`");
        /// The message for this mistake.
        kind as "type": Option<Located<String>> = absent("`The {field} field must be a string.` (`an integer`, `a list of strings`)");
        /// The message for this mistake.
        format: Option<Located<String>> = absent("`The {field} field is not valid.`");
        /// The message for this mistake.
        min: Option<Located<String>> = absent("`The {field} field must be at least {min} characters.`");
        /// The message for this mistake.
        max: Option<Located<String>> = absent("`The {field} field must not be greater than {max} characters.`");
        /// The message for this mistake.
        one_of: Option<Located<String>> = absent("`The selected {field} is invalid.`");
    }
}

choice! {
    pub enum FieldType {
        Text = "text",
        Email = "email",
        Id = "id",
        Secret = "secret",
        Integer = "integer",
        Number = "number",
        Boolean = "boolean",
        List = "list",
        Object = "object",
        Any = "any",
    }
}

/// Longest body a served route may take: it is held in memory whole.
pub(super) const MAX_BODY: u64 = 64 * 1024;
/// Longest text of a field, in characters.
const MAX_TEXT: u64 = 4_096;
/// Longest text unless configured: that of a column of many databases, and of no name that was meant.
const DEFAULT_TEXT: u64 = 255;
/// Longest secret unless configured, as that of accounts.
const DEFAULT_SECRET: u64 = 128;
/// Longest e-mail address (RFC 5321, section 4.5.3.1.3, less the brackets).
const MAX_EMAIL: u64 = 254;
const MAX_ID: u64 = 128;
/// Most fields of one body, those of its objects included.
const MAX_FIELDS: usize = 64;
/// Most objects in one another: an order with a buyer with an address has two.
const MAX_NESTED: usize = 4;
/// Largest value of any kind unless configured, in bytes: a page of text.
const DEFAULT_ANY: u64 = 4_096;
/// Deepest value of any kind unless configured.
const DEFAULT_DEPTH: usize = 8;

impl Builder<'_> {
    /// All fields: of credentials first, then as written.
    pub(super) fn fields(&self, in_scope: &SourceScope<'_>, serve: &ServeTable) -> Vec<FieldSpec> {
        let mut fields: Vec<FieldSpec> = in_scope.callers().flat_map(credential_fields).collect();
        self.add_fields(&mut fields, &serve.body, None);
        fields
    }

    /// Adds fields in their order, an object before its own. `of` is the path of the object they belong to.
    fn add_fields(&self, fields: &mut Vec<FieldSpec>, written: &Named<FieldTable>, of: Option<&str>) {
        for one in written {
            if !self.check_field_name(&one.name) {
                continue;
            }
            let field = FieldSpec {
                name: of.map_or_else(|| one.name.value.clone(), |of| format!("{of}.{}", one.name.value)),
                ..self.field(one)
            };
            self.check_members(one, &field);
            if fields.len() == MAX_FIELDS {
                self.report
                    .error(&one.name.at, format!("a body has at most {MAX_FIELDS} fields"), None);
            }
            let name = field.name.clone();
            match fields.iter_mut().find(|f| f.name == field.name) {
                // What it holds is the credential's to say; how mistakes are told is not.
                Some(own) => own.messages = field.messages,
                None => fields.push(field),
            }
            if name.split('.').count() <= MAX_NESTED {
                self.add_fields(fields, &one.fields, Some(&name));
            }
        }
    }

    fn check_members(&self, written: &Member<FieldTable>, field: &FieldSpec) {
        let first = written.fields.first().map(|first| &first.name.at);
        match (&field.kind, first) {
            (FieldKind::Object, None) => self.report.error(
                &written.kind.at,
                "an object needs `fields`",
                Some(format!("[routes.body.{}.fields.<field>], or `type = \"any\"`", field.name)),
            ),
            (FieldKind::Object, Some(at)) if field.name.split('.').count() > MAX_NESTED => {
                self.report.error(at, format!("at most {MAX_NESTED} objects can be nested"), None);
            }
            (FieldKind::Object, Some(_)) | (_, None) => {}
            (_, Some(at)) => self
                .report
                .error(at, "only an object has `fields`", Some("type = \"object\"".to_owned())),
        }
    }

    /// The schema of a body.
    pub(super) fn body_schema(&self, in_scope: &mut SourceScope<'_>, route: &RouteTable, serve: &ServeTable) -> BodySchema {
        let Located { value: max_body, at } = &route.max_body;
        let max = match max_body {
            _ if *at == route.at => DEFAULT_MAX_BODY,
            max if *max > MAX_BODY => {
                self.report.error(
                    at,
                    "the body of a served route has at most 64KiB",
                    Some("it is held in memory whole".to_owned()),
                );
                DEFAULT_MAX_BODY
            }
            max => usize::try_from(*max).unwrap_or(DEFAULT_MAX_BODY),
        };
        let unreadable = self.unreadable(in_scope, serve);
        BodySchema {
            max,
            fields: std::mem::take(&mut in_scope.fields),
            unknown: serve.unknown_field.as_ref().map(|m| m.value.clone()),
            unreadable,
            unknown_fields: serve.unknown_fields,
            forms: if serve.forms.as_ref().is_some_and(|forms| forms.value) {
                Forms::Taken
            } else {
                Forms::Refused
            },
        }
    }

    /// Without a field that must be there, a body that nobody could read would pass for one that asks for nothing.
    fn unreadable(&self, in_scope: &SourceScope<'_>, serve: &ServeTable) -> UnreadableBody {
        if serve.unreadable_body.value == UnreadableBody::Refused {
            return UnreadableBody::Refused;
        }
        if in_scope.fields.iter().all(|field| field.presence == FieldPresence::Optional) {
            self.report.error(
                &serve.unreadable_body.at,
                "no field is required: any body that cannot be read would be accepted",
                Some("remove it, or make a field `required`".to_owned()),
            );
        }
        UnreadableBody::Empty
    }

    fn field(&self, written: &Member<FieldTable>) -> FieldSpec {
        FieldSpec {
            name: written.name.value.clone(),
            kind: self.field_kind(written),
            presence: if written.required {
                FieldPresence::Required
            } else {
                FieldPresence::Optional
            },
            one_of: written.one_of.iter().map(|v| v.value.clone()).collect(),
            messages: written.messages.build(),
        }
    }

    /// Keys that mean nothing for a field of this type.
    fn check_meaning(&self, written: &Member<FieldTable>) {
        let kind = written.kind.value;
        let refuse = |at: &_, name: &str| {
            let message = format!("`{name}` has no meaning with `type = \"{}\"`", kind.as_str());
            self.report.error(at, message, None);
        };
        if let (Some(items), true) = (&written.items, kind != FieldType::List) {
            refuse(&items.at, "items");
        }
        let is_text = matches!(kind, FieldType::Text | FieldType::Email | FieldType::Id | FieldType::List);
        if let (Some(first), false) = (written.one_of.first(), is_text) {
            refuse(&first.at, "one_of");
        }
        if let (Some(min), FieldType::List | FieldType::Boolean | FieldType::Object | FieldType::Any) = (&written.min, kind) {
            refuse(&min.at, "min");
        }
        if let (Some(max), FieldType::Boolean | FieldType::Object) = (&written.max, kind) {
            refuse(&max.at, "max");
        }
        if let (Some(depth), true) = (&written.depth, kind != FieldType::Any) {
            refuse(&depth.at, "depth");
        }
    }

    fn field_kind(&self, written: &Member<FieldTable>) -> FieldKind {
        let kind = written.kind.value;
        self.check_meaning(written);
        let (longest, default) = match kind {
            FieldType::Integer | FieldType::Number | FieldType::Boolean | FieldType::Object => (u64::from(u32::MAX), u64::from(u32::MAX)),
            FieldType::Any => (MAX_BODY, DEFAULT_ANY),
            FieldType::Email => (MAX_EMAIL, MAX_EMAIL),
            FieldType::Id => (MAX_ID, MAX_ID),
            FieldType::Secret => (1_024, DEFAULT_SECRET),
            FieldType::Text | FieldType::List => (MAX_TEXT, DEFAULT_TEXT),
        };
        let min = written.min.as_ref().map_or(0, |m| m.value);
        let max = written.max.as_ref().map_or(default, |m| m.value);
        if let Some(at) = written.max.as_ref().filter(|m| m.value > longest) {
            let message = format!("`max` of `type = \"{}\"` is at most {longest}", kind.as_str());
            self.report.error(&at.at, message, None);
        }
        if min > max {
            let at = written.min.as_ref().or(written.max.as_ref()).map_or(&written.name.at, |m| &m.at);
            self.report.error(at, format!("`min` is greater than `max`, which is {max}"), None);
        }
        self.check_values(written, max);
        let len = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let text = |format| FieldKind::Text {
            min: len(min),
            max: len(max),
            format,
        };
        match kind {
            FieldType::Email => text(TextFormat::Email),
            FieldType::Id => text(TextFormat::Id),
            FieldType::Secret => FieldKind::Secret {
                min: len(min),
                max: len(max),
            },
            FieldType::Boolean => FieldKind::Boolean,
            FieldType::Object => FieldKind::Object,
            FieldType::Any => FieldKind::Any {
                max: len(max),
                depth: written.depth.as_ref().map_or(DEFAULT_DEPTH, |depth| len(depth.value)),
            },
            FieldType::Number => FieldKind::Number {
                min: i64::try_from(min).unwrap_or(0),
                max: i64::try_from(max).unwrap_or(i64::MAX),
            },
            FieldType::Integer => FieldKind::Integer {
                min: i64::try_from(min).unwrap_or(0),
                max: i64::try_from(max).unwrap_or(i64::MAX),
            },
            FieldType::List => FieldKind::TextList {
                max_items: written.items.as_ref().map_or(64, |n| len(n.value)),
                max: len(max),
            },
            FieldType::Text => text(TextFormat::Any),
        }
    }

    /// A value that may be chosen and is too long is none.
    fn check_values(&self, written: &Member<FieldTable>, max: u64) {
        let long = |v: &&Located<String>| v.value.is_empty() || v.value.chars().count() as u64 > max;
        if let Some(value) = written.one_of.iter().find(long) {
            self.report
                .error(&value.at, format!("a value has 1 to {max} characters here"), None);
        }
    }
}

impl MessagesTable {
    pub fn all(&self) -> impl Iterator<Item = &Located<String>> {
        let all = [&self.required, &self.kind, &self.format, &self.min, &self.max, &self.one_of];
        all.into_iter().flatten()
    }

    fn build(&self) -> FieldMessages {
        let text = |message: &Option<Located<String>>| message.as_ref().map(|message| message.value.clone());
        FieldMessages {
            required: text(&self.required),
            kind: text(&self.kind),
            format: text(&self.format),
            min: text(&self.min),
            max: text(&self.max),
            one_of: text(&self.one_of),
        }
    }
}

/// Fields in which a surface's credentials are presented.
fn credential_fields(surface: &Surface) -> Vec<FieldSpec> {
    let text = |field: &BodyField| {
        let kind = FieldKind::Text {
            min: 0,
            max: field.max,
            format: TextFormat::Any,
        };
        required(field, kind)
    };
    let secret = |field: &BodyField| required(field, FieldKind::Secret { min: 0, max: field.max });
    match surface.kind.carry() {
        Carry::BodyHalves { key, secret: half } => vec![text(key), secret(half)],
        Carry::Login(fields) => vec![text(&fields.login), secret(&fields.password)],
        Carry::Whole(_) | Carry::Halves { .. } | Carry::Never => Vec::new(),
    }
}

fn required(field: &BodyField, kind: FieldKind) -> FieldSpec {
    FieldSpec {
        name: field.name.clone(),
        kind,
        presence: FieldPresence::Required,
        one_of: Vec::new(),
        messages: FieldMessages::default(),
    }
}
