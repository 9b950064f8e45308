//! JSON objects read so strictly that two readers cannot disagree about them: no repeated member at
//! any depth, bounded in number and depth, nothing after the end.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Most members of one object and most items of one list. The richest documented session has eight;
/// what a few kilobytes can hold beyond 64 is made to be compared, not read.
const MAX_ITEMS: usize = 64;

/// The members of one JSON object, in order, each name once.
pub(in crate::decide) struct Members<'t>(Vec<(Cow<'t, str>, Value<'t>)>);

/// A value reduced to what tokens are asked for.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::decide) enum Value<'t> {
    Text(Cow<'t, str>),
    Integer(i64),
    Fraction(f64),
    List(Vec<Self>),
    /// `null`, a truth value, an object or an integer beyond 64 bits: never what a rule asks for.
    Other,
}

impl<'t> Members<'t> {
    /// Reads an object; anything else, a repeated member or trailing text is `None`.
    pub(in crate::decide) fn parse(json: &'t [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The value of a member.
    pub(in crate::decide) fn find(&self, name: &str) -> Option<&Value<'t>> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }
}

impl Value<'_> {
    /// The text, if it is one.
    pub(in crate::decide) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A string that borrows from the input unless it held escapes.
struct Text<'t>(Cow<'t, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        input.deserialize_str(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Members<'de>, A::Error> {
                read_members(map).map(Members)
            }
        }
        // `deserialize_map` and a visitor without `visit_seq`: a derived struct would take an array too.
        input.deserialize_map(MembersVisitor)
    }
}

fn read_members<'de, A: MapAccess<'de>>(mut map: A) -> Result<Vec<(Cow<'de, str>, Value<'de>)>, A::Error> {
    let mut members: Vec<(Cow<'de, str>, Value<'de>)> = Vec::with_capacity(8);
    while let Some(Text(name)) = map.next_key()? {
        if members.len() == MAX_ITEMS || members.iter().any(|(own, _)| *own == name) {
            return Err(A::Error::custom("repeated or too many members"));
        }
        members.push((name, map.next_value()?));
    }
    Ok(members)
}

impl<'de> Deserialize<'de> for Value<'de> {
    /// Depth is bounded by `serde_json`'s recursion limit of 128.
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(i64::try_from(number).map_or(Value::Other, Value::Integer))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Fraction(number))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() == MAX_ITEMS {
                return Err(A::Error::custom("too many items"));
            }
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value<'de>, A::Error> {
        read_members(map).map(|_| Value::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(json: &str) -> bool {
        Members::parse(json.as_bytes()).is_some()
    }

    #[test]
    fn an_object_is_read_and_its_values_told_apart() {
        let members = Members::parse(br#"{"a":"x","b":-1,"c":1.5,"d":["y",2],"e":null,"f":18446744073709551615,"\u0067":"z"}"#).unwrap();
        assert_eq!(members.find("a").and_then(Value::text), Some("x"));
        assert_eq!(members.find("b"), Some(&Value::Integer(-1)));
        assert_eq!(members.find("c"), Some(&Value::Fraction(1.5)));
        assert_eq!(
            members.find("d"),
            Some(&Value::List(vec![Value::Text("y".into()), Value::Integer(2)]))
        );
        assert_eq!(members.find("e"), Some(&Value::Other));
        assert_eq!(members.find("f"), Some(&Value::Other));
        assert_eq!(members.find("g").and_then(Value::text), Some("z"));
        assert_eq!(members.find("h"), None);
    }

    #[test]
    fn j10_repeated_members_are_refused_at_any_depth_and_in_any_spelling() {
        for json in [
            r#"{"a":1,"a":1}"#,
            r#"{"exp":1,"\u0065xp":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"a":1,"a":2}]}"#,
        ] {
            assert!(!reads(json), "{json}");
        }
        assert!(reads(r#"{"x":{"a":1},"a":2}"#));
    }

    #[test]
    fn j11_only_one_object_of_bounded_depth_and_size_is_read() {
        for json in [
            "[]",
            "[\"HS256\"]",
            "1",
            "null",
            "\"x\"",
            "",
            "{}{}",
            "{} x",
            "{",
            "{\"a\":1,}",
            "\u{feff}{}",
        ] {
            assert!(!reads(json), "{json}");
        }
        let nested = |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(reads(&nested(100)));
        assert!(!reads(&nested(200)));
        let many = |n: usize| format!("{{{}}}", (0..n).map(|i| format!("\"m{i}\":0")).collect::<Vec<_>>().join(","));
        assert!(reads(&many(64)));
        assert!(!reads(&many(65)));
        let list = |n| format!("{{\"a\":[{}]}}", vec!["0"; n].join(","));
        assert!(reads(&list(64)));
        assert!(!reads(&list(65)));
        assert!(!reads("{\"a\":1e999}"), "not a finite number");
        assert!(Members::parse(b"{\"a\":\"\xff\"}").is_none(), "not UTF-8");
    }
}
