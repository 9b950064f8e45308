//! Fields of bodies on served routes: those that are written, and those of the credentials accepted there.

use crate::config::source::Located;
use crate::config::written::{WrittenField, WrittenRoute, WrittenServe};
use crate::decide::surface::{BodyField, Carry, Surface};
use crate::issue::spec::{
    BodySchema, DEFAULT_MAX_BODY, Field, FieldKind, FieldMessages, Forms, Presence, TextFormat, UnknownFields, Unreadable,
};

use super::Builder;
use super::source_scope::SourceScope;

/// Longest body a served route may take: it is held in memory whole.
const MAX_BODY: u64 = 64 * 1024;
/// Longest text of a field, in characters.
const MAX_TEXT: u64 = 4_096;
/// Longest text unless configured: that of a column of many databases, and of no name that was meant.
const DEFAULT_TEXT: u64 = 255;
/// Longest secret unless configured, as that of accounts.
const DEFAULT_SECRET: u64 = 128;
/// Longest e-mail address (RFC 5321, section 4.5.3.1.3, less the brackets).
const MAX_EMAIL: u64 = 254;
/// Longest id of ours.
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
    pub(super) fn fields(&self, in_scope: &SourceScope<'_>, serve: &WrittenServe) -> Vec<Field> {
        let mut fields: Vec<Field> = in_scope.callers().flat_map(credential_fields).collect();
        self.add_fields(&mut fields, &serve.body, None);
        fields
    }

    /// Adds fields in their order, an object before its own. `of` is the path of the object they belong to.
    fn add_fields(&self, fields: &mut Vec<Field>, written: &[WrittenField], of: Option<&str>) {
        for one in written {
            if !self.check_field_name(&one.name) {
                continue;
            }
            let field = Field {
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

    fn check_members(&self, written: &WrittenField, field: &Field) {
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
    pub(super) fn body_schema(&self, in_scope: &mut SourceScope<'_>, route: &WrittenRoute, serve: &WrittenServe) -> BodySchema {
        let max = match &route.max_body_at {
            Some(at) if route.max_body > MAX_BODY => {
                self.report.error(
                    at,
                    "the body of a served route has at most 64KiB",
                    Some("it is held in memory whole".to_owned()),
                );
                DEFAULT_MAX_BODY
            }
            Some(_) => usize::try_from(route.max_body).unwrap_or(DEFAULT_MAX_BODY),
            None => DEFAULT_MAX_BODY,
        };
        let unreadable = self.unreadable(in_scope, serve);
        BodySchema {
            max,
            fields: std::mem::take(&mut in_scope.fields),
            unknown: serve.unknown_field.as_ref().map(|m| m.value.clone()),
            unreadable,
            unknown_fields: match serve.unknown_fields {
                "ignore" => UnknownFields::Ignored,
                "keep" => UnknownFields::Kept,
                _ => UnknownFields::Refused,
            },
            forms: if serve.forms.as_ref().is_some_and(|forms| forms.value) {
                Forms::Taken
            } else {
                Forms::Refused
            },
        }
    }

    /// Without a field that must be there, a body that nobody could read would pass for one that asks for nothing.
    fn unreadable(&self, in_scope: &SourceScope<'_>, serve: &WrittenServe) -> Unreadable {
        if serve.unreadable_body.value != "empty" {
            return Unreadable::Refused;
        }
        if in_scope.fields.iter().all(|field| field.presence == Presence::Optional) {
            self.report.error(
                &serve.unreadable_body.at,
                "no field is required: any body that cannot be read would be accepted",
                Some("remove it, or make a field `required`".to_owned()),
            );
        }
        Unreadable::Empty
    }

    fn field(&self, written: &WrittenField) -> Field {
        Field {
            name: written.name.value.clone(),
            kind: self.field_kind(written),
            presence: if written.required { Presence::Required } else { Presence::Optional },
            one_of: written.one_of.iter().map(|v| v.value.clone()).collect(),
            messages: messages(written),
        }
    }

    /// Keys that mean nothing for a field of this type.
    fn check_meaning(&self, written: &WrittenField) {
        let kind = written.kind.value;
        let refuse = |at: &_, name: &str| {
            self.report
                .error(at, format!("`{name}` has no meaning with `type = \"{kind}\"`"), None);
        };
        if let (Some(items), true) = (&written.items, kind != "list") {
            refuse(&items.at, "items");
        }
        if let (Some(first), "integer" | "number" | "boolean" | "object" | "any" | "secret") = (written.one_of.first(), kind) {
            refuse(&first.at, "one_of");
        }
        if let (Some(min), "list" | "boolean" | "object" | "any") = (&written.min, kind) {
            refuse(&min.at, "min");
        }
        if let (Some(max), "boolean" | "object") = (&written.max, kind) {
            refuse(&max.at, "max");
        }
        if let (Some(depth), true) = (&written.depth, kind != "any") {
            refuse(&depth.at, "depth");
        }
    }

    fn field_kind(&self, written: &WrittenField) -> FieldKind {
        let kind = written.kind.value;
        self.check_meaning(written);
        let (longest, default) = match kind {
            "integer" | "number" | "boolean" | "object" => (u64::from(u32::MAX), u64::from(u32::MAX)),
            "any" => (MAX_BODY, DEFAULT_ANY),
            "email" => (MAX_EMAIL, MAX_EMAIL),
            "id" => (MAX_ID, MAX_ID),
            "secret" => (1_024, DEFAULT_SECRET),
            _ => (MAX_TEXT, DEFAULT_TEXT),
        };
        let min = written.min.as_ref().map_or(0, |m| m.value);
        let max = written.max.as_ref().map_or(default, |m| m.value);
        if let Some(at) = written.max.as_ref().filter(|m| m.value > longest) {
            self.report
                .error(&at.at, format!("`max` of `type = \"{kind}\"` is at most {longest}"), None);
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
            "email" => text(TextFormat::Email),
            "id" => text(TextFormat::Id),
            "secret" => FieldKind::Secret {
                min: len(min),
                max: len(max),
            },
            "boolean" => FieldKind::Boolean,
            "object" => FieldKind::Object,
            "any" => FieldKind::Any {
                max: len(max),
                depth: written.depth.as_ref().map_or(DEFAULT_DEPTH, |depth| len(depth.value)),
            },
            "number" => FieldKind::Number {
                min: i64::try_from(min).unwrap_or(0),
                max: i64::try_from(max).unwrap_or(i64::MAX),
            },
            "integer" => FieldKind::Integer {
                min: i64::try_from(min).unwrap_or(0),
                max: i64::try_from(max).unwrap_or(i64::MAX),
            },
            "list" => FieldKind::TextList {
                max_items: written.items.as_ref().map_or(64, |n| len(n.value)),
                max: len(max),
            },
            _ => text(TextFormat::Any),
        }
    }

    /// A value that may be chosen and is too long is none.
    fn check_values(&self, written: &WrittenField, max: u64) {
        let long = |v: &&Located<String>| v.value.is_empty() || v.value.chars().count() as u64 > max;
        if let Some(value) = written.one_of.iter().find(long) {
            self.report
                .error(&value.at, format!("a value has 1 to {max} characters here"), None);
        }
    }
}

fn messages(written: &WrittenField) -> FieldMessages {
    let message = |name: &str| written.messages.iter().find(|(own, _)| *own == name).map(|(_, m)| m.value.clone());
    FieldMessages {
        required: message("required"),
        kind: message("type"),
        format: message("format"),
        min: message("min"),
        max: message("max"),
        one_of: message("one_of"),
    }
}

/// Fields in which a surface's credentials are presented.
fn credential_fields(surface: &Surface) -> Vec<Field> {
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

fn required(field: &BodyField, kind: FieldKind) -> Field {
    Field {
        name: field.name.clone(),
        kind,
        presence: Presence::Required,
        one_of: Vec::new(),
        messages: FieldMessages::default(),
    }
}
