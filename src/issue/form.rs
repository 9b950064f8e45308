//! HTML forms as bodies of served routes, read as strictly as JSON by the fields of the schema.

use zeroize::Zeroizing;

use crate::base::denial::Denial;

use super::body::{BodyMember, MAX_ITEMS, MAX_MEMBERS, ParsedBody};
use crate::snapshot::body_schema::{BodySchema, FieldKind};

/// Most pairs of a form: as many as a JSON body has members, and one full list.
const MAX_PAIRS: usize = MAX_MEMBERS + MAX_ITEMS;
/// Longest name, dots included; as long as the path of a member of a JSON body.
const MAX_NAME: usize = 256;

/// Reads `application/x-www-form-urlencoded`. Each field has its name; a member of an object has a path with dots; a
/// list repeats its name. A number or a truth value is read if it is written as in JSON.
///
/// # Errors
/// [`Denial::InvalidBody`] for a broken escape, for text that is not UTF-8, for a name that is repeated although its
/// field is no list, and for too many pairs.
pub fn parse(schema: &BodySchema, form: &[u8]) -> Result<ParsedBody, Denial> {
    let mut body = ParsedBody::default();
    let mut lists: Vec<(String, Vec<String>)> = Vec::new();
    let pairs = form.split(|b| *b == b'&').filter(|pair| !pair.is_empty());
    for (count, pair) in pairs.enumerate() {
        let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        let (name, value) = pair.split_at(at);
        let (name, value) = (decode(name)?, decode(value.get(1..).unwrap_or_default())?);
        if count == MAX_PAIRS || name.len() > MAX_NAME {
            return Err(Denial::InvalidBody);
        }
        let field = schema.fields.iter().find(|field| field.name == *name);
        match field.map(|field| &field.kind) {
            Some(FieldKind::TextList { .. }) => match lists.iter_mut().find(|(own, _)| *own == *name) {
                Some((_, items)) => items.push(value.as_str().to_owned()),
                None => lists.push((name.as_str().to_owned(), vec![value.as_str().to_owned()])),
            },
            Some(kind) => body.put(&name, member(kind, value))?,
            // No field has this name, so its dots are not read as a path.
            None => body.push(&name, BodyMember::Text(value))?,
        }
    }
    for (name, items) in lists {
        if items.len() > MAX_ITEMS {
            return Err(Denial::InvalidBody);
        }
        body.put(&name, BodyMember::List(items))?;
    }
    Ok(body)
}

fn member(kind: &FieldKind, value: Zeroizing<String>) -> BodyMember {
    let scalar = match kind {
        FieldKind::Integer { .. } | FieldKind::Number { .. } | FieldKind::Boolean => serde_json::from_str::<BodyMember>(&value).ok(),
        FieldKind::Text { .. } | FieldKind::Secret { .. } | FieldKind::TextList { .. } | FieldKind::Object | FieldKind::Any { .. } => None,
    };
    match scalar {
        Some(scalar @ (BodyMember::Integer(_) | BodyMember::Number(_) | BodyMember::Flag(_))) => scalar,
        _ => BodyMember::Text(value),
    }
}

/// Decodes `application/x-www-form-urlencoded` text as the URL standard describes, and refuses what is malformed.
fn decode(text: &[u8]) -> Result<Zeroizing<String>, Denial> {
    // The whole capacity is reserved at once. The text may be a secret, and a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
                let (high, low) = (digit(rest.next()), digit(rest.next()));
                high.zip(low).map(|(high, low)| high << 4 | low).ok_or(Denial::InvalidBody)?
            }
            other => *other,
        });
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Denial::InvalidBody)?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::issue::fields::CheckedBody;
    use crate::snapshot::body_schema::{FieldMessages, FieldPresence, FieldSpec, TextFormat};

    fn schema() -> BodySchema {
        let field = |name: &str, kind| FieldSpec {
            name: name.into(),
            kind,
            presence: FieldPresence::Optional,
            one_of: Vec::new(),
            messages: FieldMessages::default(),
        };
        let text = FieldKind::Text {
            min: 0,
            max: 40,
            format: TextFormat::Any,
        };
        BodySchema {
            fields: vec![
                field("name", text.clone()),
                field("secret", FieldKind::Secret { min: 0, max: 40 }),
                field("age", FieldKind::Integer { min: 0, max: 200 }),
                field("on", FieldKind::Boolean),
                field("tags", FieldKind::TextList { max_items: 3, max: 9 }),
                field("address", FieldKind::Object),
                field("address.city", text),
            ],
            ..BodySchema::default()
        }
    }

    #[test]
    fn a_form_says_what_the_same_json_says() {
        let form = "name=J%C3%BCrgen+M.&secret=a%26b%3D%2B&age=7&on=true&tags=x&tags=y&address.city=Ulm&&";
        let json = r#"{"name":"Jürgen M.","secret":"a&b=+","age":7,"on":true,"tags":["x","y"],"address":{"city":"Ulm"}}"#;
        let (form, json) = (
            parse(&schema(), form.as_bytes()).unwrap(),
            ParsedBody::parse(json.as_bytes()).unwrap(),
        );
        for name in ["name", "secret", "age", "on", "tags", "address.city"] {
            assert_eq!(form.find(name), json.find(name), "{name}");
        }
        assert!(CheckedBody::check(&schema(), form).is_ok());
    }

    #[test]
    fn what_is_no_form_or_says_one_thing_twice_is_refused() {
        for bad in [
            "name=%",
            "name=%4",
            "name=%zz",
            "name=%FF",
            "name=a&name=b",
            "age=1&age=1",
            "address=x&address.city=y",
            "x.y=1&x.y=2",
        ] {
            assert_eq!(parse(&schema(), bad.as_bytes()).err(), Some(Denial::InvalidBody), "{bad}");
        }
        let errors = |form: &str| {
            CheckedBody::check(&schema(), parse(&schema(), form.as_bytes()).unwrap())
                .err()
                .unwrap()
        };
        for (form, field) in [
            ("age=seven", "age"),
            ("on=1", "on"),
            ("address.zip=1", "address.zip"),
            ("address=x", "address"),
            ("tags=", "tags"),
        ] {
            assert_eq!(errors(form).iter().map(|(name, _)| name).collect::<Vec<_>>(), [field], "{form}");
        }
        let many = "tags=x&".repeat(MAX_PAIRS + 1);
        assert!(parse(&schema(), many.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&schema(), &bytes);
        }
    }
}
