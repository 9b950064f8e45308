//! Bodies of served routes: one JSON object, read so strictly that two readers cannot disagree about
//! it, and held so that its secrets are wiped.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use crate::base::denial::Denial;
use crate::wire::fields::Fields;

/// Most members of a body: the richest documented one has three. Also what one error answer may list.
pub const MAX_MEMBERS: usize = 64;
/// Most items of one list: a token with a hundred permissions is a role by another name.
pub const MAX_ITEMS: usize = 256;
/// Longest name of a member; a longer one is no field of any schema and would only be echoed.
const MAX_NAME: usize = 128;

/// What a body holds, before it is compared with a schema.
#[derive(PartialEq, Eq)]
pub enum Member {
    /// A text.
    Text(Zeroizing<String>),
    /// A whole number within 64 bits.
    Integer(i64),
    /// A list of texts.
    List(Vec<String>),
    /// `null`, which counts as absent.
    Null,
    /// Anything else: truth values, fractions, objects, lists of other things.
    Other,
}

impl fmt::Debug for Member {
    /// Which kind; what it holds may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(..)",
            Self::Integer(_) => "Integer(..)",
            Self::List(_) => "List(..)",
            Self::Null => "Null",
            Self::Other => "Other",
        })
    }
}

/// The members of a body, in order, each name once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Body(Vec<(String, Member)>);

impl Body {
    /// Reads a body. An empty one is an object without members: what it lacks is told by name.
    ///
    /// # Errors
    /// [`Denial::InvalidBody`] for anything but one JSON object (RFC 8259), a repeated name (at the
    /// top level, where names mean something), more than 64 members, a list of more than 256 items,
    /// or objects and lists more than 128 deep.
    pub fn parse(json: &[u8]) -> Result<Self, Denial> {
        if json.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(json).map_err(|_| Denial::InvalidBody)
    }

    /// The member of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Member> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, member)| member)
    }

    /// A member's text, if it is one.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.find(name) {
            Some(Member::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.0.iter().map(|(name, member)| (name.as_str(), member))
    }
}

/// Whether a body may be read as JSON: said to be `application/json`, in UTF-8 if it says a charset,
/// and not compressed. `text/plain` and form types are refused, which are what a page of another
/// site can send without asking (hardening B10). An empty body needs no type.
///
/// # Errors
/// [`Denial::WrongMediaType`].
pub fn check_media_type(fields: &Fields) -> Result<(), Denial> {
    let coding = fields.one("content-encoding").map_err(|_| Denial::WrongMediaType)?;
    let media = fields.one("content-type").map_err(|_| Denial::WrongMediaType)?;
    let plain = coding.is_none_or(|coding| coding.eq_ignore_ascii_case(b"identity"));
    if plain && media.is_some_and(is_json) {
        Ok(())
    } else {
        Err(Denial::WrongMediaType)
    }
}

fn is_json(value: &[u8]) -> bool {
    let mut parts = value.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    let is_json = parts.next().is_some_and(|media| media.eq_ignore_ascii_case(b"application/json"));
    is_json && parts.all(|parameter| parameter.is_empty() || is_utf8_charset(parameter))
}

fn is_utf8_charset(parameter: &[u8]) -> bool {
    let Some((name, value)) = parameter.split_at_checked(8) else {
        return false;
    };
    let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
    name.eq_ignore_ascii_case(b"charset=") && value.eq_ignore_ascii_case(b"utf-8")
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct BodyVisitor;
        impl<'de> Visitor<'de> for BodyVisitor {
            type Value = Body;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
                let mut members: Vec<(String, Member)> = Vec::with_capacity(8);
                while let Some(name) = map.next_key::<String>()? {
                    let known = members.iter().any(|(own, _)| *own == name);
                    if known || members.len() == MAX_MEMBERS || name.len() > MAX_NAME {
                        return Err(A::Error::custom("repeated, too many or too long members"));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Body(members))
            }
        }
        // `deserialize_map` and a visitor without `visit_seq`: a derived struct would take an array too.
        input.deserialize_map(BodyVisitor)
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(MemberVisitor)
    }
}

struct MemberVisitor;

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Member, E> {
        Ok(Member::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Member, E> {
        Ok(Member::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Member, E> {
        Ok(i64::try_from(number).map_or(Member::Other, Member::Integer))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Member, E> {
        Ok(Member::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Member, A::Error> {
        let mut items = Some(Vec::new());
        let mut count = 0;
        while let Some(item) = seq.next_element_seed(Item)? {
            count += 1;
            if count > MAX_ITEMS {
                return Err(A::Error::custom("too many items"));
            }
            match (item, &mut items) {
                (Some(item), Some(items)) => items.push(item),
                _ => items = None,
            }
        }
        Ok(items.map_or(Member::Other, Member::List))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Member, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }
}

/// An item of a list: its text, or nothing if it is something else.
struct Item;

impl<'de> DeserializeSeed<'de> for Item {
    type Value = Option<String>;
    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Option<String>, D::Error> {
        Ok(match Member::deserialize(input)? {
            Member::Text(text) => Some(text.as_str().to_owned()),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reads(json: &str) -> bool {
        Body::parse(json.as_bytes()).is_ok()
    }

    #[test]
    fn an_object_is_read_and_its_members_told_apart() {
        let body = Body::parse(br#"{"a":"x","b":-1,"c":1.5,"d":["y","z"],"e":null,"f":["y",1],"\u0067":true,"h":{"a":1}}"#).unwrap();
        assert_eq!(body.text("a"), Some("x"));
        assert_eq!(body.find("b"), Some(&Member::Integer(-1)));
        assert_eq!(body.find("d"), Some(&Member::List(vec!["y".into(), "z".into()])));
        assert_eq!(body.find("e"), Some(&Member::Null));
        for other in ["c", "f", "g", "h"] {
            assert_eq!(body.find(other), Some(&Member::Other), "{other}");
        }
        assert_eq!(body.find("i"), None);
        assert_eq!(Body::parse(b""), Ok(Body::default()), "an empty body lacks everything");
    }

    #[test]
    fn anything_but_one_object_is_refused() {
        for json in [
            "[]",
            "1",
            "null",
            "\"x\"",
            "{}{}",
            "{} x",
            "{",
            "{\"a\":1,}",
            "\u{feff}{}",
            " ",
            "{'a':1}",
            "{\"a\":NaN}",
        ] {
            assert!(!reads(json), "{json}");
        }
        assert_eq!(Body::parse(b"{\"a\":\"\xff\"}"), Err(Denial::InvalidBody), "not UTF-8");
        assert!(reads(" {\"a\" : 1}\r\n"));
    }

    #[test]
    fn a_repeated_name_is_refused_in_any_spelling() {
        assert!(!reads(r#"{"a":1,"a":1}"#));
        assert!(!reads(r#"{"role":"viewer","\u0072ole":"payer"}"#));
        assert!(reads(r#"{"a":1,"A":1}"#));
    }

    #[test]
    fn depth_and_numbers_are_bounded() {
        let nested = |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(reads(&nested(100)));
        assert!(!reads(&nested(200)));
        let many = |n: usize| format!("{{{}}}", (0..n).map(|i| format!("\"m{i}\":0")).collect::<Vec<_>>().join(","));
        assert!(reads(&many(MAX_MEMBERS)));
        assert!(!reads(&many(MAX_MEMBERS + 1)));
        let list = |n| format!("{{\"a\":[{}]}}", vec!["\"x\""; n].join(","));
        assert!(reads(&list(MAX_ITEMS)));
        assert!(!reads(&list(MAX_ITEMS + 1)));
        assert!(!reads(&format!("{{\"{}\":1}}", "n".repeat(MAX_NAME + 1))));
    }

    #[test]
    fn debug_of_a_body_shows_no_value() {
        let body = Body::parse(br#"{"password":"hunter2"}"#).unwrap();
        assert!(!format!("{body:?}").contains("hunter2"));
    }

    #[test]
    fn b10_only_json_is_read() {
        let judge = |lines: &[(&str, &str)]| {
            let mut fields = Fields::default();
            for (name, value) in lines {
                fields.push(name.as_bytes(), value.as_bytes());
            }
            check_media_type(&fields).is_ok()
        };
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
        ] {
            assert!(judge(&[("Content-Type", good)]), "{good}");
        }
        for bad in [
            "text/plain",
            "text/plain; application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/json; charset=utf-16",
            "application/json, text/plain",
            "application/problem+json",
            "",
        ] {
            assert!(!judge(&[("Content-Type", bad)]), "{bad}");
        }
        assert!(!judge(&[]));
        assert!(!judge(&[
            ("Content-Type", "application/json"),
            ("Content-Type", "application/json")
        ]));
        assert!(!judge(&[("Content-Type", "application/json"), ("Content-Encoding", "gzip")]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Body::parse(&bytes);
        }

        #[test]
        fn what_is_read_is_what_a_lenient_reader_reads(
            names in proptest::collection::btree_set("[a-z]{1,5}", 0..6), text in "\\PC{0,20}", number in any::<i64>()
        ) {
            let mut object = serde_json::Map::new();
            for (i, name) in names.iter().enumerate() {
                let value = if i % 2 == 0 { serde_json::json!(text) } else { serde_json::json!(number) };
                object.insert(name.clone(), value);
            }
            let body = Body::parse(serde_json::to_string(&object).unwrap().as_bytes()).unwrap();
            prop_assert_eq!(body.iter().count(), object.len());
            for (name, member) in body.iter() {
                match member {
                    Member::Text(own) => prop_assert_eq!(object[name].as_str(), Some(own.as_str())),
                    Member::Integer(own) => prop_assert_eq!(object[name].as_i64(), Some(*own)),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
