//! Body templates: JSON with placeholders inside its texts, so that what is filled in can never change its shape.

use std::borrow::Cow;

use bytes::Bytes;

/// A checked template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Slot>);

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slot {
    /// Written as it is.
    Text(Cow<'static, str>),
    /// The code.
    Code,
    /// The message.
    Message,
    /// The status.
    Status,
    /// The status phrase.
    Title,
    /// The request's id.
    RequestId,
}

/// A part of a body with everything filled in that does not differ between requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Written as it is.
    Fixed(Bytes),
    /// The request's id, escaped.
    RequestId,
}

/// What fills a template.
#[derive(Debug, Clone, Copy)]
pub struct Words<'w> {
    /// `{code}`
    pub code: &'w str,
    /// `{message}`
    pub message: &'w str,
    /// `{status}`
    pub status: u16,
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// A placeholder that does not exist; where it begins, and its text with braces.
    #[error("there is no placeholder `{1}`")]
    Unknown(usize, String),
    /// A brace inside a text that begins no placeholder.
    #[error("a brace inside a text must belong to a placeholder")]
    Brace(usize),
}

/// The placeholders' words.
pub const PLACEHOLDERS: [&str; 5] = ["code", "message", "status", "title", "request_id"];

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError`], with the byte position where it applies.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
            return Err(TemplateError::NotJson(error.to_string()));
        }
        let mut slots = Vec::new();
        let (mut inside, mut escaped, mut from) = (false, false, 0);
        let mut at = 0;
        while let Some(byte) = text.as_bytes().get(at) {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if inside => escaped = true,
                b'"' => inside = !inside,
                b'{' if inside => {
                    let (slot, len) = placeholder(text, at)?;
                    push_text(&mut slots, text.get(from..at).unwrap_or(""));
                    slots.push(slot);
                    at += len;
                    from = at;
                    continue;
                }
                b'}' if inside => return Err(TemplateError::Brace(at)),
                _ => {}
            }
            at += 1;
        }
        push_text(&mut slots, text.get(from..).unwrap_or(""));
        Ok(Self(slots))
    }

    /// A template known to be right.
    pub(super) fn of_slots(slots: &[Slot]) -> Self {
        Self(slots.to_vec())
    }

    /// Fills in everything but the request id.
    #[must_use]
    pub fn fill(&self, words: &Words<'_>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut fixed = Vec::new();
        for slot in &self.0 {
            match slot {
                Slot::Text(text) => fixed.extend_from_slice(text.as_bytes()),
                Slot::Code => push_escaped(&mut fixed, words.code),
                Slot::Message => push_escaped(&mut fixed, words.message),
                Slot::Status => fixed.extend_from_slice(words.status.to_string().as_bytes()),
                Slot::Title => fixed.extend_from_slice(phrase(words.status).as_bytes()),
                Slot::RequestId => {
                    pieces.push(Piece::Fixed(std::mem::take(&mut fixed).into()));
                    pieces.push(Piece::RequestId);
                }
            }
        }
        if !fixed.is_empty() {
            pieces.push(Piece::Fixed(fixed.into()));
        }
        pieces
    }
}

fn push_text(slots: &mut Vec<Slot>, text: &str) {
    if !text.is_empty() {
        slots.push(Slot::Text(Cow::Owned(text.to_owned())));
    }
}

/// The placeholder that begins at `at`, and its length with braces.
fn placeholder(text: &str, at: usize) -> Result<(Slot, usize), TemplateError> {
    let rest = text.get(at + 1..).unwrap_or("");
    let end = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    if end == 0 || rest.as_bytes().get(end) != Some(&b'}') {
        return Err(TemplateError::Brace(at));
    }
    let word = rest.get(..end).unwrap_or("");
    let slot = match word {
        "code" => Slot::Code,
        "message" => Slot::Message,
        "status" => Slot::Status,
        "title" => Slot::Title,
        "request_id" => Slot::RequestId,
        _ => return Err(TemplateError::Unknown(at, format!("{{{word}}}"))),
    };
    Ok((slot, end + 2))
}

/// Appends text as the inside of a JSON string (RFC 8259, section 7).
pub(super) fn push_escaped(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
}

/// The phrase of a status (RFC 9110, section 15).
fn phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|s| s.canonical_reason())
        .unwrap_or("Error")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> String {
        let words = Words {
            code: "c\"1",
            message: "m\n\\",
            status: 401,
        };
        let pieces = Template::parse(template).unwrap().fill(&words);
        let mut out = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Fixed(bytes) => out.extend_from_slice(&bytes),
                Piece::RequestId => push_escaped(&mut out, "r\"1"),
            }
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn placeholders_are_filled_and_escaped() {
        let body = filled(r#"{"a":{"code":"{code}","m":"x {message} y","s":"{status}","t":"{title}"},"id":"{request_id}"}"#);
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value["a"]["code"], "c\"1");
        assert_eq!(value["a"]["m"], "x m\n\\ y");
        assert_eq!(value["a"]["s"], "401");
        assert_eq!(value["a"]["t"], "Unauthorized");
        assert_eq!(value["id"], "r\"1");
    }

    #[test]
    fn what_is_not_a_template_is_refused_with_its_place() {
        assert!(matches!(Template::parse(r#"{"a":}"#), Err(TemplateError::NotJson(_))));
        assert!(matches!(Template::parse(r#"{"a":{code}}"#), Err(TemplateError::NotJson(_))));
        assert_eq!(Template::parse(r#"{"a":"{cod}"}"#), Err(TemplateError::Unknown(6, "{cod}".into())));
        assert_eq!(Template::parse(r#"{"a":"{ code}"}"#), Err(TemplateError::Brace(6)));
        assert_eq!(Template::parse(r#"{"a":"}"}"#), Err(TemplateError::Brace(6)));
    }

    #[test]
    fn an_escaped_quote_does_not_end_a_text() {
        assert_eq!(filled(r#"{"a":"\"{status}\\"}"#), r#"{"a":"\"401\\"}"#);
    }
}
