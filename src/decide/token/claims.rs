//! Claims of tokens: read as rules ask for them, and written as values of headers.

use std::io::Write as _;
use std::sync::Arc;

use crate::base::clock::UnixMillis;
use crate::base::credential::TokenFault;
use crate::base::percent::{push_encoded_item, push_encoded_words};
use crate::base::principal::TokenClaims;
use crate::base::scope::{Scope, ScopeSet};
use crate::base::text::push_decimal;

use super::json::{JsonMember, JsonValue};

/// Most audiences of one token. Tokens are made for a few services; thousands of audiences would only cost
/// comparisons.
const MAX_AUDIENCES: usize = 64;

/// The last second of the year 9999. Later times are mistakes, or attempts at an overflow.
const MAX_TIME: i64 = 253_402_300_799;

/// A `NumericDate` (RFC 7519, section 2) in range, whole or with a fraction.
pub(crate) fn read_time(value: &JsonValue<'_>) -> Result<UnixMillis, TokenFault> {
    match value {
        JsonValue::Integer(seconds) if (0..=MAX_TIME).contains(seconds) => Ok(UnixMillis(seconds * 1000)),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "in range, and a millisecond is fine enough"
        )]
        JsonValue::Fraction(seconds) if (0.0..=MAX_TIME as f64).contains(seconds) => Ok(UnixMillis((seconds * 1000.0).round() as i64)),
        _ => Err(TokenFault::MalformedTime),
    }
}

/// The times of a token, as they are written in it.
pub(in crate::decide) struct TokenTimes {
    pub(in crate::decide) not_before: Option<UnixMillis>,
    pub(in crate::decide) issued_at: Option<UnixMillis>,
    pub(in crate::decide) expires_at: UnixMillis,
}

/// Reads `exp`, and `nbf` and `iat` if they are present. [`check_begun`] judges them.
pub(in crate::decide) fn read_times(time: impl Fn(&str) -> Option<Result<UnixMillis, TokenFault>>) -> Result<TokenTimes, TokenFault> {
    Ok(TokenTimes {
        not_before: time("nbf").transpose()?,
        issued_at: time("iat").transpose()?,
        expires_at: time("exp").unwrap_or(Err(TokenFault::NoExpiry))?,
    })
}

/// Checks that `nbf` does not lie after `latest_start`, and `iat` not after `latest_issue`.
pub(in crate::decide) fn check_begun(claims: &TokenClaims, latest_start: UnixMillis, latest_issue: UnixMillis) -> Result<(), TokenFault> {
    if claims.not_before.is_some_and(|start| start > latest_start) {
        return Err(TokenFault::NotYetValid);
    }
    if claims.issued_at.is_some_and(|issued| issued > latest_issue) {
        return Err(TokenFault::IssuedInFuture);
    }
    Ok(())
}

/// Checks that a token is for this audience: the claim is this text, or a list of at most [`MAX_AUDIENCES`] texts
/// that contains it.
pub(crate) fn check_audience(value: Option<&JsonValue<'_>>, audience: &str) -> Result<(), TokenFault> {
    let named = match value {
        None => return Err(TokenFault::NoAudience),
        Some(JsonValue::Text(text)) => text == audience,
        Some(JsonValue::List(items)) => {
            items.len() <= MAX_AUDIENCES
                && items.iter().all(|item| item.text().is_some())
                && items.iter().any(|item| item.text() == Some(audience))
        }
        Some(_) => false,
    };
    if named { Ok(()) } else { Err(TokenFault::WrongAudience) }
}

/// The scopes of our own tokens, as a list of strings or as one string with spaces (RFC 8693, section 4.2). Without
/// the claim there are no scopes; a malformed claim makes the token invalid.
pub(in crate::decide) fn read_scopes(value: Option<&JsonValue<'_>>) -> Result<ScopeSet, TokenFault> {
    let parse = |word: &str| Scope::parse(word).map_err(|_| TokenFault::MalformedScopes);
    match value {
        None => Ok(ScopeSet::default()),
        Some(JsonValue::Text(text)) => text.split(' ').filter(|word| !word.is_empty()).map(parse).collect(),
        Some(JsonValue::List(items)) => items
            .iter()
            .map(|item| parse(item.text().ok_or(TokenFault::MalformedScopes)?))
            .collect(),
        Some(_) => Err(TokenFault::MalformedScopes),
    }
}

/// The scopes of tokens of other issuers, at most those of `bound`. They may come from a list of groups or roles, of
/// which some are no scopes (`Domain Users`, an object). No route can ask for those, so they are left out, and the
/// person is not refused because of them.
pub(in crate::decide) fn read_foreign_scopes(value: Option<&JsonValue<'_>>, bound: Option<&ScopeSet>) -> Result<ScopeSet, TokenFault> {
    let parse = |word: &str| match bound {
        Some(bound) => bound.find(word).cloned(),
        None => Scope::parse(word).ok(),
    };
    match value {
        None | Some(JsonValue::Null) => Ok(ScopeSet::default()),
        Some(JsonValue::Text(text)) => Ok(text.split(' ').filter_map(parse).collect()),
        Some(JsonValue::List(items)) => Ok(items.iter().filter_map(|item| parse(item.text()?)).collect()),
        Some(_) => Err(TokenFault::MalformedScopes),
    }
}

/// Longest value in bytes. A directory puts at most two hundred groups into a token, 7.4 KB as UUIDs; servers
/// commonly take a field of 8 KiB with its name (nginx, Tomcat).
pub const MAX_HEADER_VALUE: usize = 8_000;

/// How a list in a claim is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClaimLists {
    /// The items separated by one space; a space within an item is encoded.
    #[default]
    Spaces,
    /// The items separated by one comma; a comma within an item is encoded.
    Commas,
    /// As JSON of visible ASCII and spaces. Objects are then written so too.
    Json,
}

/// The value of a header, or `None` if the header is left out: for `null`, an empty text, an empty list, a value that
/// no header can hold, and a value longer than [`MAX_HEADER_VALUE`].
pub(in crate::decide) fn header_value(value: &JsonValue<'_>, lists: ClaimLists) -> Option<Arc<str>> {
    let mut out = Vec::new();
    match (value, lists) {
        (JsonValue::Null, _) => {}
        (JsonValue::Text(text), _) => push_encoded_words(&mut out, text),
        (JsonValue::List(_) | JsonValue::Object(_), ClaimLists::Json) => push_json(&mut out, value),
        (JsonValue::List(items), ClaimLists::Spaces) => push_items(&mut out, items, b' ')?,
        (JsonValue::List(items), ClaimLists::Commas) => push_items(&mut out, items, b',')?,
        (JsonValue::Object(_), _) => {}
        (JsonValue::Bool(_) | JsonValue::Integer(_) | JsonValue::Large(_) | JsonValue::Fraction(_), _) => push_json(&mut out, value),
    }
    let text = String::from_utf8(out).ok()?;
    (1..=MAX_HEADER_VALUE).contains(&text.len()).then(|| text.into())
}

/// Appends the items; empty texts are left out. `None` if an item is `null`, a list or an object: half a list would
/// mean something else.
fn push_items(out: &mut Vec<u8>, items: &[JsonValue<'_>], separator: u8) -> Option<()> {
    for item in items {
        let before = out.len();
        if before > 0 {
            out.push(separator);
        }
        let start = out.len();
        match item {
            JsonValue::Text(text) => push_encoded_item(out, text, separator),
            JsonValue::Null | JsonValue::List(_) | JsonValue::Object(_) => return None,
            _ => push_json(out, item),
        }
        if out.len() == start {
            out.truncate(before);
        }
    }
    Some(())
}

/// Appends JSON without white space between its parts. In strings, everything but visible ASCII and spaces is
/// `\uXXXX`.
fn push_json(out: &mut Vec<u8>, value: &JsonValue<'_>) {
    match value {
        JsonValue::Null => out.extend_from_slice(b"null"),
        JsonValue::Bool(true) => out.extend_from_slice(b"true"),
        JsonValue::Bool(false) => out.extend_from_slice(b"false"),
        JsonValue::Integer(number) => {
            if *number < 0 {
                out.push(b'-');
            }
            push_decimal(out, number.unsigned_abs());
        }
        JsonValue::Large(number) => push_decimal(out, *number),
        JsonValue::Fraction(number) => push_fraction(out, *number),
        JsonValue::Text(text) => push_string(out, text),
        JsonValue::List(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                push_separator(out, i);
                push_json(out, item);
            }
            out.push(b']');
        }
        JsonValue::Object(members) => push_object(out, members),
    }
}

fn push_object(out: &mut Vec<u8>, members: &[JsonMember<'_>]) {
    out.push(b'{');
    for (i, (name, value)) in members.iter().enumerate() {
        push_separator(out, i);
        push_string(out, name);
        out.push(b':');
        push_json(out, value);
    }
    out.push(b'}');
}

fn push_separator(out: &mut Vec<u8>, item: usize) {
    if item > 0 {
        out.push(b',');
    }
}

/// The shortest digits of this number, as common JSON writers have them.
fn push_fraction(out: &mut Vec<u8>, number: f64) {
    match serde_json::Number::from_f64(number) {
        Some(number) => drop(write!(out, "{number}")),
        None => out.extend_from_slice(b"null"),
    }
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', if c == '"' { b'"' } else { b'\\' }]),
            ' '..='~' => drop(write!(out, "{c}")),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    drop(write!(out, "\\u{unit:04x}"));
                }
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::token::json::JsonObject;

    fn value(json: &str, lists: ClaimLists) -> Option<String> {
        let json = format!("{{\"c\":{json}}}");
        let members = JsonObject::parse(json.as_bytes()).unwrap();
        header_value(members.find("c").unwrap(), lists).map(|text| text.to_string())
    }

    #[test]
    fn one_value_is_encoded_or_left_out_however_lists_are_written() {
        for lists in [ClaimLists::Spaces, ClaimLists::Commas, ClaimLists::Json] {
            for (json, text) in [
                ("\"clerk\"", Some("clerk")),
                ("\"J\u{fc}rgen\"", Some("J%C3%BCrgen")),
                ("\"Jane Doe\"", Some("Jane Doe")),
                ("\" a \"", Some("%20a%20")),
                ("\"50%\"", Some("50%25")),
                ("\"a\\r\\nX-Tenant-Id: b\"", Some("a%0D%0AX-Tenant-Id: b")),
                ("\"a\\u0000b\"", Some("a%00b")),
                ("\"\"", None),
                ("null", None),
                ("true", Some("true")),
                ("false", Some("false")),
                ("0", Some("0")),
                ("-7", Some("-7")),
                ("18446744073709551615", Some("18446744073709551615")),
                ("1.5", Some("1.5")),
                ("1e300", Some("1e+300")),
            ] {
                assert_eq!(value(json, lists).as_deref(), text, "{json} {lists:?}");
            }
            let long = |n: usize| value(&format!("\"{}\"", "x".repeat(n)), lists);
            assert!(long(MAX_HEADER_VALUE).is_some() && long(MAX_HEADER_VALUE + 1).is_none());
            assert_eq!(
                value(&format!("\"{}\"", "\u{fc}".repeat(2_000)), lists),
                None,
                "longer once it is encoded"
            );
        }
    }

    #[test]
    fn lists_are_separated_or_json_as_the_surface_says() {
        use ClaimLists::{Commas, Json, Spaces};
        for (json, spaces, commas, as_json) in [
            (r#"["a","b"]"#, Some("a b"), Some("a,b"), Some(r#"["a","b"]"#)),
            (
                r#"["Domain Users","b"]"#,
                Some("Domain%20Users b"),
                Some("Domain%20Users,b"),
                Some(r#"["Domain Users","b"]"#),
            ),
            (r#"["CN=a,OU=b"]"#, Some("CN=a,OU=b"), Some("CN=a%2COU=b"), Some(r#"["CN=a,OU=b"]"#)),
            (r#"["a%20b"]"#, Some("a%2520b"), Some("a%2520b"), Some(r#"["a%20b"]"#)),
            (r#"["","a",""]"#, Some("a"), Some("a"), Some(r#"["","a",""]"#)),
            (r#"[1,true,-2.5]"#, Some("1 true -2.5"), Some("1,true,-2.5"), Some("[1,true,-2.5]")),
            ("[]", None, None, Some("[]")),
            (r#"[""]"#, None, None, Some(r#"[""]"#)),
            (r#"["a",null]"#, None, None, Some(r#"["a",null]"#)),
            (r#"["a",{"id":1}]"#, None, None, Some(r#"["a",{"id":1}]"#)),
            (r#"["a",["b"]]"#, None, None, Some(r#"["a",["b"]]"#)),
            (r#"{"a":{"b":[]}}"#, None, None, Some(r#"{"a":{"b":[]}}"#)),
        ] {
            assert_eq!(value(json, Spaces).as_deref(), spaces, "{json}");
            assert_eq!(value(json, Commas).as_deref(), commas, "{json}");
            assert_eq!(value(json, Json).as_deref(), as_json, "{json}");
        }
    }

    #[test]
    fn h8_json_of_a_list_is_visible_ascii_and_reads_back_the_same() {
        for json in [
            "[\"J\u{fc}rgen\",\"\u{1f600}\",\"a\\r\\nX-Tenant-Id: b\",\"\\\"\\\\\",\"\\u007f\\u0000\"]",
            "[[[]],{\"\u{fc}\":\"x\"},1.1,-3]",
        ] {
            let written = value(json, ClaimLists::Json).unwrap();
            assert!(written.bytes().all(|b| (b' '..=b'~').contains(&b)), "{written}");
            let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            assert_eq!(read(&written), read(json));
        }
    }

    #[test]
    fn two_hundred_groups_of_a_directory_fit() {
        let groups = vec!["\"0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0\""; 200].join(",");
        for lists in [ClaimLists::Spaces, ClaimLists::Commas, ClaimLists::Json] {
            assert!(value(&format!("[{groups}]"), lists).is_some());
        }
    }
}
