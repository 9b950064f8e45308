//! Bodies of served routes: one JSON object, read so strictly that two readers cannot disagree about it. Secrets in
//! it are wiped when it is dropped.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value as Json};
use zeroize::Zeroizing;

use crate::base::denial::Denial;
use crate::wire::fields::Fields;

/// Most members of a body. The largest documented body has three. An error answer lists at most as many.
pub const MAX_MEMBERS: usize = 64;
/// Most items of one list. A token with a hundred permissions should have a role instead.
pub const MAX_ITEMS: usize = 256;
/// Longest name of a member. No schema has a longer field name, and a longer name would only be echoed.
const MAX_NAME: usize = 128;

/// A value of a body, before it is compared with a schema.
#[derive(PartialEq, Eq)]
pub enum BodyMember {
    Text(Zeroizing<String>),
    /// A whole number within 64 bits.
    Integer(i64),
    Number(Number),
    Flag(bool),
    List(Vec<String>),
    /// A list of other things.
    Items(Vec<BodyMember>),
    Object(ParsedBody),
    /// `null`, which counts as absent.
    Null,
}

impl fmt::Debug for BodyMember {
    /// Shows the kind only: the value may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(..)",
            Self::Integer(_) => "Integer(..)",
            Self::Number(_) => "Number(..)",
            Self::Flag(_) => "Flag(..)",
            Self::List(_) => "List(..)",
            Self::Items(_) => "Items(..)",
            Self::Object(_) => "Object(..)",
            Self::Null => "Null",
        })
    }
}

impl BodyMember {
    /// The value as JSON. It may be spelled differently from what was sent.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Integer(number) => (*number).into(),
            Self::Number(number) => number.clone().into(),
            Self::Flag(flag) => (*flag).into(),
            Self::List(texts) => texts.as_slice().into(),
            Self::Items(items) => items.iter().map(Self::to_json).collect(),
            Self::Object(members) => members.iter().map(|(name, member)| (name.to_owned(), member.to_json())).collect(),
            Self::Null => Json::Null,
        }
    }

    /// The nesting depth of objects and lists, this one included; 0 for a plain value.
    #[must_use]
    pub fn depth(&self) -> usize {
        match self {
            Self::Items(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(members) => 1 + members.iter().map(|(_, member)| member.depth()).max().unwrap_or(0),
            Self::List(_) => 1,
            Self::Text(_) | Self::Integer(_) | Self::Number(_) | Self::Flag(_) | Self::Null => 0,
        }
    }
}

/// The members of a body, in order, each name once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ParsedBody(Vec<(String, BodyMember)>);

impl ParsedBody {
    /// Reads a body. An empty body is an object without members, so that its missing fields are reported by name.
    ///
    /// # Errors
    /// [`Denial::InvalidBody`] for anything but one JSON object (RFC 8259), a name that is repeated within an object,
    /// an object of more than 64 members, a list of more than 256 items, or a nesting deeper than 128.
    pub fn parse(json: &[u8]) -> Result<Self, Denial> {
        if json.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(json).map_err(|_| Denial::InvalidBody)
    }

    /// The member of this name. A name with dots is a path to a member of an object. A member whose own name holds a
    /// dot is never found: the same path would have two readings.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&BodyMember> {
        let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        let member = self.0.iter().find(|(own, _)| own == name).map(|(_, member)| member)?;
        match (rest, member) {
            (None, member) => Some(member),
            (Some(rest), BodyMember::Object(members)) => members.find(rest),
            (Some(_), _) => None,
        }
    }

    /// Adds a member under exactly this name, dots included.
    ///
    /// # Errors
    /// [`Denial::InvalidBody`] if the name exists already.
    pub fn push(&mut self, name: &str, member: BodyMember) -> Result<(), Denial> {
        if self.0.iter().any(|(own, _)| own == name) {
            return Err(Denial::InvalidBody);
        }
        self.0.push((name.to_owned(), member));
        Ok(())
    }

    /// Puts a member at the end of a path.
    ///
    /// # Errors
    /// [`Denial::InvalidBody`] if a member stands there already, or if a plain value stands on the way.
    pub fn put(&mut self, path: &str, member: BodyMember) -> Result<(), Denial> {
        let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        let own = self.0.iter_mut().find(|(own, _)| own == name).map(|(_, member)| member);
        match (own, rest) {
            (Some(BodyMember::Object(members)), Some(rest)) => members.put(rest, member),
            (Some(_), _) => Err(Denial::InvalidBody),
            (None, None) => {
                self.0.push((name.to_owned(), member));
                Ok(())
            }
            (None, Some(rest)) => {
                let mut members = Self::default();
                members.put(rest, member)?;
                self.0.push((name.to_owned(), BodyMember::Object(members)));
                Ok(())
            }
        }
    }

    /// The text of a member; `None` if the member is not a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.find(name) {
            Some(BodyMember::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &BodyMember)> {
        self.0.iter().map(|(name, member)| (name.as_str(), member))
    }
}

/// Decides how a body is read. Its `Content-Type` must be `application/json` or `application/x-www-form-urlencoded`,
/// its charset, if named, UTF-8, and it must not be compressed. `text/plain` and `multipart/form-data` are refused,
/// because a page of another site can send them without a preflight (docs/threats.md B10). An empty body needs no
/// type.
///
/// # Errors
/// [`Denial::WrongMediaType`].
pub fn check_media_type(fields: &Fields) -> Result<Media, Denial> {
    let coding = fields.one("content-encoding").map_err(|_| Denial::WrongMediaType)?;
    let media = fields.one("content-type").map_err(|_| Denial::WrongMediaType)?;
    let plain = coding.is_none_or(|coding| coding.eq_ignore_ascii_case(b"identity"));
    match media {
        Some(media) if plain && is_of_type(media, b"application/json") => Ok(Media::Json),
        Some(media) if plain && is_of_type(media, b"application/x-www-form-urlencoded") => Ok(Media::Form),
        _ => Err(Denial::WrongMediaType),
    }
}

/// The media type of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// `application/json`
    Json,
    /// `application/x-www-form-urlencoded`. Any page can send it, so only routes that opt in take it.
    Form,
}

fn is_of_type(value: &[u8], wanted: &[u8]) -> bool {
    let mut parts = value.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    let is_wanted = parts.next().is_some_and(|media| media.eq_ignore_ascii_case(wanted));
    is_wanted && parts.all(|parameter| parameter.is_empty() || is_utf8_charset(parameter))
}

fn is_utf8_charset(parameter: &[u8]) -> bool {
    let Some((name, value)) = parameter.split_at_checked(8) else {
        return false;
    };
    let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
    name.eq_ignore_ascii_case(b"charset=") && value.eq_ignore_ascii_case(b"utf-8")
}

impl<'de> Deserialize<'de> for ParsedBody {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct BodyVisitor;
        impl<'de> Visitor<'de> for BodyVisitor {
            type Value = ParsedBody;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ParsedBody, A::Error> {
                read_members(map)
            }
        }
        // `deserialize_map` and a visitor without `visit_seq`: a derived struct would take an array too.
        input.deserialize_map(BodyVisitor)
    }
}

impl<'de> Deserialize<'de> for BodyMember {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(MemberVisitor)
    }
}

struct MemberVisitor;

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = BodyMember;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<BodyMember, E> {
        Ok(BodyMember::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<BodyMember, E> {
        Ok(BodyMember::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<BodyMember, E> {
        Ok(i64::try_from(number).map_or_else(|_| BodyMember::Number(number.into()), BodyMember::Integer))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<BodyMember, E> {
        let number = Number::from_f64(number).ok_or_else(|| E::custom("not a number"))?;
        Ok(BodyMember::Number(number))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<BodyMember, E> {
        Ok(BodyMember::Flag(flag))
    }

    fn visit_unit<E: Error>(self) -> Result<BodyMember, E> {
        Ok(BodyMember::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<BodyMember, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<BodyMember>()? {
            if items.len() == MAX_ITEMS {
                return Err(A::Error::custom("too many items"));
            }
            items.push(item);
        }
        Ok(list_of(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BodyMember, A::Error> {
        read_members(map).map(BodyMember::Object)
    }
}

/// A list of texts if every item is a text, otherwise a list of mixed values.
fn list_of(items: Vec<BodyMember>) -> BodyMember {
    let text = |item: &BodyMember| match item {
        BodyMember::Text(text) => Some(text.as_str().to_owned()),
        _ => None,
    };
    match items.iter().map(text).collect() {
        Some(texts) => BodyMember::List(texts),
        None => BodyMember::Items(items),
    }
}

fn read_members<'de, A: MapAccess<'de>>(mut map: A) -> Result<ParsedBody, A::Error> {
    let mut members: Vec<(String, BodyMember)> = Vec::with_capacity(8);
    while let Some(name) = map.next_key::<String>()? {
        let known = members.iter().any(|(own, _)| *own == name);
        if known || members.len() == MAX_MEMBERS || name.len() > MAX_NAME {
            return Err(A::Error::custom("repeated, too many or too long members"));
        }
        members.push((name, map.next_value()?));
    }
    Ok(ParsedBody(members))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reads(json: &str) -> bool {
        ParsedBody::parse(json.as_bytes()).is_ok()
    }

    #[test]
    fn an_object_is_read_and_its_members_told_apart() {
        let body = ParsedBody::parse(br#"{"a":"x","b":-1,"c":1.5,"d":["y","z"],"e":null,"f":["y",1],"\u0067":true,"h":{"a":1}}"#).unwrap();
        assert_eq!(body.text("a"), Some("x"));
        assert_eq!(body.find("b"), Some(&BodyMember::Integer(-1)));
        assert_eq!(body.find("d"), Some(&BodyMember::List(vec!["y".into(), "z".into()])));
        assert_eq!(body.find("e"), Some(&BodyMember::Null));
        assert_eq!(body.find("c").map(BodyMember::to_json), Some(serde_json::json!(1.5)));
        assert_eq!(body.find("f").map(BodyMember::to_json), Some(serde_json::json!(["y", 1])));
        assert_eq!(body.find("g"), Some(&BodyMember::Flag(true)));
        assert_eq!(body.find("h.a"), Some(&BodyMember::Integer(1)));
        assert_eq!(body.find("h").map(BodyMember::depth), Some(1));
        assert_eq!(body.find("i"), None);
        assert_eq!(ParsedBody::parse(b""), Ok(ParsedBody::default()), "an empty body lacks everything");
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
        assert_eq!(ParsedBody::parse(b"{\"a\":\"\xff\"}"), Err(Denial::InvalidBody), "not UTF-8");
        assert!(reads(" {\"a\" : 1}\r\n"));
    }

    #[test]
    fn a_repeated_name_is_refused_in_any_spelling() {
        assert!(!reads(r#"{"a":1,"a":1}"#));
        assert!(!reads(r#"{"role":"viewer","\u0072ole":"payer"}"#));
        assert!(reads(r#"{"a":1,"A":1}"#));
        assert!(!reads(r#"{"a":{"b":1,"b":2}}"#), "in what an object holds as well");
        let dotted = ParsedBody::parse(br#"{"a.b":"one","a":{"c":"two"}}"#).unwrap();
        assert_eq!(dotted.find("a.b"), None, "a name with a dot is no path");
        assert_eq!(dotted.text("a.c"), Some("two"));
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
        let body = ParsedBody::parse(br#"{"password":"hunter2"}"#).unwrap();
        assert!(!format!("{body:?}").contains("hunter2"));
    }

    #[test]
    fn b10_only_json_is_read() {
        let judge = |lines: &[(&str, &str)]| {
            let mut fields = Fields::default();
            for (name, value) in lines {
                fields.push(name.as_bytes(), value.as_bytes());
            }
            check_media_type(&fields) == Ok(Media::Json)
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
            let _ = ParsedBody::parse(&bytes);
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
            let body = ParsedBody::parse(serde_json::to_string(&object).unwrap().as_bytes()).unwrap();
            prop_assert_eq!(body.iter().count(), object.len());
            for (name, member) in body.iter() {
                match member {
                    BodyMember::Text(own) => prop_assert_eq!(object[name].as_str(), Some(own.as_str())),
                    BodyMember::Integer(own) => prop_assert_eq!(object[name].as_i64(), Some(*own)),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
