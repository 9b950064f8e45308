//! JSON Schema (draft 2020-12) of the configuration files, for editors; made from the declarations.
//!
//! What relates several keys or needs a file is said by `durward check` alone.

use serde_json::{Map, Value, json};

use super::declare::DeclaredTable;
use super::schema::{Alternative, Fallback, Schema, SchemaPart, Setting, TaggedChoice, ValueKind};
use super::tables::gateway::GatewayTable;
use super::tables::upstreams::UpstreamTable;

const DURATION: &str = "^[0-9]+ *(ms|s|m|h|d)$";
const SIZE: &str = "^[0-9]+ *(B|KiB|MiB|GiB)?$";
const ADDRESS: &str = r"^([0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]+$";
const SECRET: &str = "^((file|generate):.+|env:[A-Za-z_][A-Za-z0-9_]*)$";
const URL: &str = "^((file|generate|rediss?|valkeys?):.+|env:[A-Za-z_][A-Za-z0-9_]*|[^@]+:[0-9]+)$";

#[must_use]
pub fn gateway() -> Value {
    document(GatewayTable::SCHEMA)
}

/// The schema of a file of the `upstreams` directory.
#[must_use]
pub fn upstream() -> Value {
    document(UpstreamTable::SCHEMA)
}

fn document(root: &'static Schema) -> Value {
    let mut definitions = Map::new();
    let mut document = closed(root, &mut definitions);
    document.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    document.insert("title".to_owned(), json!(root.name.trim_matches('`')));
    document.insert("$defs".to_owned(), Value::Object(definitions));
    Value::Object(document)
}

/// A table that has no other keys than those of its declaration.
fn closed(schema: &'static Schema, definitions: &mut Map<String, Value>) -> Map<String, Value> {
    let mut object = members(schema, definitions);
    object.insert("type".to_owned(), json!("object"));
    object.insert("description".to_owned(), json!(schema.about));
    object.insert("additionalProperties".to_owned(), json!(false));
    object
}

/// The keys of a table, its required ones, and what follows from its tags. Keys of alternatives are named here, and
/// described where their alternative is chosen.
fn members(schema: &'static Schema, definitions: &mut Map<String, Value>) -> Map<String, Value> {
    let mut properties = Map::new();
    let (mut required, mut all_of) = (Vec::new(), Vec::new());
    collect(schema, &mut properties, &mut required, &mut all_of, definitions);
    let mut object = Map::new();
    object.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        object.insert("required".to_owned(), json!(required));
    }
    if !all_of.is_empty() {
        object.insert("allOf".to_owned(), json!(all_of));
    }
    object
}

fn collect(
    schema: &'static Schema,
    properties: &mut Map<String, Value>,
    required: &mut Vec<&'static str>,
    all_of: &mut Vec<Value>,
    definitions: &mut Map<String, Value>,
) {
    for key in schema.keys {
        add(key, properties, required, definitions);
    }
    for part in schema.parts {
        match part {
            SchemaPart::Keys(schema) => collect(schema, properties, required, all_of, definitions),
            SchemaPart::Choice(choice) => {
                add(&choice.tag, properties, required, definitions);
                for key in choice.alternatives.iter().flat_map(|one| one.schema.all_keys()) {
                    properties.entry(key.name).or_insert(json!(true));
                }
                all_of.extend(choice.alternatives.iter().map(|one| consequence(choice, one, definitions)));
            }
        }
    }
}

fn add(key: &'static Setting, properties: &mut Map<String, Value>, required: &mut Vec<&'static str>, definitions: &mut Map<String, Value>) {
    properties.insert(key.name.to_owned(), property(key, definitions));
    if matches!(key.default, Fallback::Required) {
        required.push(key.name);
    }
}

/// If this alternative is chosen, its keys are there and those of the others are not.
fn consequence(choice: &'static TaggedChoice, one: &'static Alternative, definitions: &mut Map<String, Value>) -> Value {
    let tag = choice.tag.name;
    let condition = match (one.words, choice.tag.default) {
        ([], _) => json!({ "not": { "required": [tag] } }),
        (words, Fallback::Value(default)) if words.contains(&default) => json!({ "properties": { tag: { "enum": words } } }),
        (words, _) => json!({ "properties": { tag: { "enum": words } }, "required": [tag] }),
    };
    let mut then = members(one.schema, definitions);
    if let Some(Value::Object(properties)) = then.get_mut("properties") {
        for key in choice.alternatives.iter().flat_map(|other| other.schema.all_keys()) {
            if key.name != tag && !one.schema.may_have(key.name) {
                properties.insert(key.name.to_owned(), json!(false));
            }
        }
    }
    json!({ "if": condition, "then": then })
}

fn property(key: &'static Setting, definitions: &mut Map<String, Value>) -> Value {
    let mut property = value(&key.kind, definitions);
    if let Some(object) = property.as_object_mut() {
        let about = match key.default {
            Fallback::Absent(meaning) => format!("{} Without it: {meaning}.", key.about),
            Fallback::Required | Fallback::Value(_) => key.about.to_owned(),
        };
        object.insert("description".to_owned(), json!(about));
        match key.default {
            Fallback::Value(text) => {
                let typed = matches!(key.kind, ValueKind::Count { .. } | ValueKind::Flag);
                let parsed = typed.then(|| serde_json::from_str(text).ok()).flatten();
                object.insert("default".to_owned(), parsed.unwrap_or_else(|| json!(text)));
            }
            Fallback::Required if matches!(key.kind, ValueKind::Tables(_)) => {
                object.insert("minItems".to_owned(), json!(1));
            }
            Fallback::Required | Fallback::Absent(_) => {}
        }
    }
    property
}

fn value(kind: &ValueKind, definitions: &mut Map<String, Value>) -> Value {
    match kind {
        ValueKind::Text | ValueKind::Path => json!({ "type": "string" }),
        ValueKind::Address => json!({ "type": "string", "pattern": ADDRESS }),
        ValueKind::Flag => json!({ "type": "boolean" }),
        ValueKind::Count { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        ValueKind::Duration { .. } => json!({ "type": "string", "pattern": DURATION }),
        ValueKind::Size { min, max } => json!({ "anyOf": [
            { "type": "integer", "minimum": min, "maximum": max },
            { "type": "string", "pattern": SIZE },
        ] }),
        ValueKind::Choice(words) => json!({ "enum": words }),
        ValueKind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        ValueKind::Secret => json!({ "type": "string", "pattern": SECRET }),
        ValueKind::Secrets => json!({ "anyOf": [
            { "type": "string", "pattern": SECRET },
            { "type": "array", "items": { "type": "string", "pattern": SECRET }, "minItems": 1 },
        ] }),
        ValueKind::Url => json!({ "type": "string", "pattern": URL }),
        ValueKind::Pairs => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        ValueKind::Sources => json!({ "type": "object", "additionalProperties": { "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" } },
        ] } }),
        ValueKind::Table(schema) => reference(schema(), definitions),
        ValueKind::Tables(schema) => json!({ "type": "array", "items": reference(schema(), definitions) }),
        ValueKind::Named(schema) => json!({ "type": "object", "additionalProperties": reference(schema(), definitions) }),
        ValueKind::Either(_, forms) => {
            let forms: Vec<Value> = forms.iter().map(|form| value(form, definitions)).collect();
            match <[Value; 1]>::try_from(forms) {
                Ok([one]) => one,
                Err(forms) => json!({ "anyOf": forms }),
            }
        }
    }
}

/// A table by its name among the definitions, since tables hold tables of their own kind.
fn reference(schema: &'static Schema, definitions: &mut Map<String, Value>) -> Value {
    let words = schema
        .name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("-");
    if !definitions.contains_key(&name) {
        definitions.insert(name.clone(), Value::Null);
        let object = closed(schema, definitions);
        definitions.insert(name.clone(), Value::Object(object));
    }
    json!({ "$ref": format!("#/$defs/{name}") })
}
