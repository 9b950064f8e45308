//! JSON objects, read so strictly that two readers cannot disagree about them: no repeated member at any depth,
//! bounded in size and depth, nothing after the end.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::base::credential::TokenFault;

/// Deepest nesting of objects and lists. Providers nest three or four levels (`resource_access` of Keycloak,
/// `kubernetes.io`); 32 bounds the stack of the reader. The number of members and items is bounded by the bytes of
/// the token alone: a directory puts the two hundred groups of a person into it.
pub(in crate::decide) const MAX_DEPTH: u32 = 32;

/// Up to this number of members each name is compared with each other name, which is faster than sorting them.
const FEW: usize = 16;

/// The members of one JSON object, in order, each name once.
pub(crate) struct JsonObject<'t>(Vec<JsonMember<'t>>);

/// A name and its value.
pub(crate) type JsonMember<'t> = (Cow<'t, str>, JsonValue<'t>);

/// A JSON value that borrows its texts from the token where they have no escapes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum JsonValue<'t> {
    Null,
    Bool(bool),
    Text(Cow<'t, str>),
    Integer(i64),
    /// An integer beyond those of `Integer`.
    Large(u64),
    Fraction(f64),
    List(Vec<Self>),
    Object(Vec<JsonMember<'t>>),
}

impl<'t> JsonObject<'t> {
    /// Reads one JSON object.
    ///
    /// # Errors
    /// [`TokenFault::Json`] for any other value, and if something follows the object; [`TokenFault::RepeatedMember`],
    /// [`TokenFault::TooDeep`].
    pub(crate) fn parse(json: &'t [u8]) -> Result<Self, TokenFault> {
        let fault = Cell::new(TokenFault::Json);
        let mut input = serde_json::Deserializer::from_slice(json);
        let seed = Seed {
            left: MAX_DEPTH,
            fault: &fault,
        };
        // A visitor of objects only: a derived struct would take a list too.
        let members = input.deserialize_map(Top(seed)).map_err(|_| fault.get())?;
        input.end().map_err(|_| TokenFault::Json)?;
        Ok(Self(members))
    }

    /// The value of a member.
    pub(crate) fn find(&self, name: &str) -> Option<&JsonValue<'t>> {
        find(&self.0, name)
    }

    /// The value of the claim that a setting names: the member with exactly this name, dots and slashes included
    /// (`https://example.com/roles`, `custom:tenant`). If there is none, a name that begins with `/` is a JSON
    /// Pointer (RFC 6901: `/kubernetes.io/namespace`), and a name with dots is a path of members
    /// (`realm_access.roles`).
    pub(crate) fn find_claim(&self, name: &str) -> Option<&JsonValue<'t>> {
        if let Some(value) = self.find(name) {
            return Some(value);
        }
        if let Some(pointer) = name.strip_prefix('/') {
            return self.walk(pointer.split('/').map(unescape));
        }
        let is_path = name.contains('.') && !name.contains(['/', ':']);
        is_path.then(|| self.walk(name.split('.').map(Cow::Borrowed)))?
    }

    fn walk<'p>(&self, path: impl Iterator<Item = Cow<'p, str>>) -> Option<&JsonValue<'t>> {
        let (mut members, mut found) = (Some(&self.0), None);
        for name in path {
            let value = find(members?, &name)?;
            members = match value {
                JsonValue::Object(inner) => Some(inner),
                _ => None,
            };
            found = Some(value);
        }
        found
    }
}

fn find<'m, 't>(members: &'m [JsonMember<'t>], name: &str) -> Option<&'m JsonValue<'t>> {
    members.iter().find(|(own, _)| own == name).map(|(_, value)| value)
}

/// A step of a JSON Pointer (RFC 6901, section 4).
fn unescape(step: &str) -> Cow<'_, str> {
    if step.contains('~') {
        Cow::Owned(step.replace("~1", "/").replace("~0", "~"))
    } else {
        Cow::Borrowed(step)
    }
}

impl JsonValue<'_> {
    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads one value: the levels that it may have, and where the reason goes if it cannot be read.
#[derive(Clone, Copy)]
struct Seed<'f> {
    left: u32,
    fault: &'f Cell<TokenFault>,
}

impl Seed<'_> {
    /// The seed for values within this one.
    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Self { left, ..self }),
            None => Err(self.refuse(TokenFault::TooDeep)),
        }
    }

    fn refuse<E: Error>(self, fault: TokenFault) -> E {
        self.fault.set(fault);
        E::custom(fault.label())
    }

    fn read_members<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<JsonMember<'de>>, A::Error> {
        let inner = self.deeper()?;
        let mut members: Vec<JsonMember<'de>> = Vec::with_capacity(8);
        while let Some(name) = map.next_key_seed(Name)? {
            if members.len() < FEW && members.iter().any(|(own, _)| *own == name) {
                return Err(self.refuse(TokenFault::RepeatedMember));
            }
            members.push((name, map.next_value_seed(inner)?));
        }
        if members.len() > FEW && has_repeated(&members) {
            return Err(self.refuse(TokenFault::RepeatedMember));
        }
        Ok(members)
    }
}

/// Sorts the names, so that equal ones are neighbours. A token with thousands of members does not cost the square of
/// their number.
fn has_repeated(members: &[JsonMember<'_>]) -> bool {
    let mut names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| matches!(pair, [a, b] if a == b))
}

/// Reads a member's name; borrows from the input unless it held escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Cow<'de, str>, D::Error> {
        input.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Reads an object and nothing else.
struct Top<'f>(Seed<'f>);

impl<'de> Visitor<'de> for Top<'_> {
    type Value = Vec<JsonMember<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<JsonMember<'de>>, A::Error> {
        self.0.read_members(map)
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = JsonValue<'de>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<JsonValue<'de>, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = JsonValue<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<JsonValue<'de>, E> {
        Ok(i64::try_from(number).map_or(JsonValue::Large(number), JsonValue::Integer))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Fraction(number))
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Bool(truth))
    }

    fn visit_unit<E: Error>(self) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<JsonValue<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(JsonValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<JsonValue<'de>, A::Error> {
        self.read_members(map).map(JsonValue::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: &str) -> Option<TokenFault> {
        JsonObject::parse(json.as_bytes()).err()
    }

    #[test]
    fn an_object_is_read_and_its_values_told_apart() {
        let members = JsonObject::parse(
            br#"{"a":"x","b":-1,"c":1.5,"d":["y",2],"e":null,"f":18446744073709551615,"\u0067":"z","t":true,"o":{"i":1}}"#,
        )
        .unwrap();
        assert_eq!(members.find("a").and_then(JsonValue::text), Some("x"));
        assert_eq!(members.find("b"), Some(&JsonValue::Integer(-1)));
        assert_eq!(members.find("c"), Some(&JsonValue::Fraction(1.5)));
        assert_eq!(
            members.find("d"),
            Some(&JsonValue::List(vec![JsonValue::Text("y".into()), JsonValue::Integer(2)]))
        );
        assert_eq!(members.find("e"), Some(&JsonValue::Null));
        assert_eq!(members.find("f"), Some(&JsonValue::Large(u64::MAX)));
        assert_eq!(members.find("g").and_then(JsonValue::text), Some("z"));
        assert_eq!(members.find("t"), Some(&JsonValue::Bool(true)));
        assert_eq!(
            members.find("o"),
            Some(&JsonValue::Object(vec![("i".into(), JsonValue::Integer(1))]))
        );
        assert_eq!(members.find("h"), None);
    }

    #[test]
    fn a_claim_is_found_by_its_whole_name_before_any_path() {
        let json = br#"{
            "realm_access": {"roles": "of the realm"}, "kubernetes.io": {"namespace": "prod", "a/b~c": "odd"},
            "https://example.com/roles": "of a url", "custom:tenant": "acme", "x.y": "whole", "x": {"y": "inner"}, "n": "text"
        }"#;
        let members = JsonObject::parse(json).unwrap();
        for (name, text) in [
            ("realm_access.roles", Some("of the realm")),
            ("/realm_access/roles", Some("of the realm")),
            ("/kubernetes.io/namespace", Some("prod")),
            ("/kubernetes.io/a~1b~0c", Some("odd")),
            ("https://example.com/roles", Some("of a url")),
            ("custom:tenant", Some("acme")),
            ("x.y", Some("whole")),
            ("/x/y", Some("inner")),
            ("n.x", None),
            ("realm_access.", None),
            ("realm_access.roles.x", None),
            ("kubernetes.io.namespace", None),
            ("/", None),
            (".", None),
            ("", None),
        ] {
            assert_eq!(members.find_claim(name).and_then(JsonValue::text), text, "{name}");
        }
    }

    #[test]
    fn j10_repeated_members_are_refused_at_any_depth_and_in_any_spelling() {
        let many = |last: &str| {
            let names: Vec<String> = (0..3_000).map(|i| format!("\"m{i}\":0")).collect();
            format!("{{{},\"{last}\":0}}", names.join(","))
        };
        for json in [
            r#"{"a":1,"a":1}"#,
            r#"{"exp":1,"\u0065xp":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"a":1,"a":2}]}"#,
            &many("m0"),
            &many("m2999"),
        ] {
            assert_eq!(fault(json), Some(TokenFault::RepeatedMember), "{json:.60}");
        }
        assert_eq!(fault(&many("other")), None);
        assert_eq!(fault(r#"{"x":{"a":1},"a":2}"#), None);
        for count in 2..40 {
            let names = |twice: usize| {
                (0..count)
                    .map(|i| format!("\"m{}\":0", if i == count - 1 { twice } else { i }))
                    .collect::<Vec<_>>()
                    .join(",")
            };
            for twice in 0..count - 1 {
                assert_eq!(
                    fault(&format!("{{{}}}", names(twice))),
                    Some(TokenFault::RepeatedMember),
                    "{twice} of {count}"
                );
            }
            assert_eq!(fault(&format!("{{{}}}", names(count))), None);
        }
    }

    #[test]
    fn j11_only_one_object_of_bounded_depth_is_read_however_many_items_it_has() {
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
            "{\"a\":1e999}",
        ] {
            assert_eq!(fault(json), Some(TokenFault::Json), "{json}");
        }
        let nested = |open: &str, close: &str, depth: usize| format!("{{\"a\":{}1{}}}", open.repeat(depth), close.repeat(depth));
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let most = MAX_DEPTH as usize - 1;
            assert_eq!(fault(&nested(open, close, most)), None);
            for depth in [most + 1, 127, 200, 10_000] {
                assert_eq!(fault(&nested(open, close, depth)), Some(TokenFault::TooDeep), "{depth}");
            }
        }
        let list = |n| format!("{{\"a\":[{}]}}", vec!["0"; n].join(","));
        assert_eq!(fault(&list(5_000)), None);
        assert_eq!(JsonObject::parse(b"{\"a\":\"\xff\"}").err(), Some(TokenFault::Json), "not UTF-8");
    }
}
