//! Refusals in pieces: rendered once when the configuration is loaded, so that a request only fills in its id and its
//! details.

use bytes::Bytes;
use minijinja::{Value, context};

use crate::base::denial::FieldErrors;

use super::template::{Template, TemplateError};

/// The variables of a refusal's template.
pub const VARIABLES: [&str; 6] = ["code", "message", "status", "title", "request_id", "details"];

/// Placeholders for what differs between requests while a template is rendered. They hold private use characters that
/// no code or message has a reason to hold, in upper case, which the filter `upper` leaves as it is.
const REQUEST_ID: &str = "\u{E000}REQUEST_ID\u{E001}";
const DETAILS: &str = "\u{E000}DETAILS\u{E001}";

/// A part of a body in which everything is filled in that does not differ between requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Fixed(Bytes),
    /// The request's id, as the inside of a JSON text.
    RequestId,
    /// Messages by field, a JSON object of lists.
    Details,
}

#[derive(Debug, Clone, Copy)]
pub struct Words<'w> {
    /// `code`
    pub code: &'w str,
    /// `message`
    pub message: &'w str,
    /// `status`
    pub status: u16,
}

/// Whether a refusal has details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detailed {
    /// `details` is none.
    No,
    /// `details` is an object.
    Yes,
}

impl Template {
    /// Reads the template of a refusal and tries it.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn parse_refusal(text: &str) -> Result<Self, TemplateError> {
        let template = Self::parse(text, &VARIABLES.map(str::to_owned))?;
        let words = Words {
            code: "code",
            message: "message",
            status: 400,
        };
        template.try_refusal(&words)?;
        Ok(template)
    }

    /// Tries the template with these words.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn try_refusal(&self, words: &Words<'_>) -> Result<(), TemplateError> {
        for detailed in [Detailed::No, Detailed::Yes] {
            self.fill(words, detailed)?;
        }
        Ok(())
    }

    /// Fills in everything but the request's id and its details.
    pub(super) fn fill(&self, words: &Words<'_>, detailed: Detailed) -> Result<Vec<Piece>, TemplateError> {
        let text = self.sample(&context! {
            code => words.code,
            message => words.message,
            status => words.status,
            title => phrase(words.status),
            request_id => REQUEST_ID,
            details => match detailed {
                Detailed::No => Value::from(()),
                Detailed::Yes => Value::from(DETAILS),
            },
        })?;
        split(&text)
    }
}

fn split(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    for (i, part) in text.split(&format!("\"{DETAILS}\"")).enumerate() {
        if i > 0 {
            pieces.push(Piece::Details);
        }
        if part.contains(DETAILS) {
            return Err(TemplateError::Details);
        }
        for (j, fixed) in part.split(REQUEST_ID).enumerate() {
            if j > 0 {
                pieces.push(Piece::RequestId);
            }
            if !fixed.is_empty() {
                pieces.push(Piece::Fixed(Bytes::copy_from_slice(fixed.as_bytes())));
            }
        }
    }
    Ok(pieces)
}

/// Writes the body of one request.
pub(super) fn splice(pieces: &[Piece], request_id: &str, details: Option<&FieldErrors>) -> Bytes {
    let known: usize = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Fixed(text) => text.len(),
            Piece::RequestId => request_id.len(),
            Piece::Details => 0,
        })
        .sum();
    let mut body = Vec::with_capacity(known);
    for piece in pieces {
        match piece {
            Piece::Fixed(text) => body.extend_from_slice(text),
            Piece::RequestId => push_escaped(&mut body, request_id),
            Piece::Details => push_details(&mut body, details),
        }
    }
    body.into()
}

fn push_details(out: &mut Vec<u8>, details: Option<&FieldErrors>) {
    out.push(b'{');
    for (i, (field, messages)) in details.into_iter().flat_map(FieldErrors::iter).enumerate() {
        out.extend_from_slice(if i == 0 { b"\"" } else { b",\"" });
        push_escaped(out, field);
        out.extend_from_slice(b"\":[");
        for (j, message) in messages.iter().enumerate() {
            out.extend_from_slice(if j == 0 { b"\"" } else { b",\"" });
            push_escaped(out, message);
            out.push(b'"');
        }
        out.push(b']');
    }
    out.push(b'}');
}

/// Appends text as the inside of a JSON string (RFC 8259, section 7).
fn push_escaped(out: &mut Vec<u8>, text: &str) {
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

    const WORDS: Words<'static> = Words {
        code: "c\"1",
        message: "m\n\\",
        status: 401,
    };

    fn filled(template: &str, details: Option<&FieldErrors>) -> serde_json::Value {
        let detailed = details.map_or(Detailed::No, |_| Detailed::Yes);
        let pieces = Template::parse_refusal(template).unwrap().fill(&WORDS, detailed).unwrap();
        serde_json::from_slice(&splice(&pieces, "r\"1", details)).unwrap()
    }

    #[test]
    fn every_variable_is_filled_in() {
        let text = r#"{"c":{{ code }},"m":{{ "x " ~ message }},"s":{{ status }},"t":{{ title }},"id":{{ request_id }},"in":{{ "<" ~ request_id ~ ">" }}}"#;
        let expected = serde_json::json!({
            "c": "c\"1", "m": "x m\n\\", "s": 401, "t": "Unauthorized", "id": "r\"1", "in": "<r\"1>",
        });
        assert_eq!(filled(text, None), expected);
    }

    #[test]
    fn details_are_an_object_of_lists_or_the_member_is_left_out() {
        let text = r#"{"c":1{% if details %},"details":{{ details }}{% endif %}}"#;
        let mut errors = FieldErrors::default();
        errors.push("a\"", "is \"wrong\"");
        errors.push("a\"", "and short");
        errors.push("b", "is needed");
        let expected = serde_json::json!({"c": 1, "details": {"a\"": ["is \"wrong\"", "and short"], "b": ["is needed"]}});
        assert_eq!(filled(text, Some(&errors)), expected);
        assert_eq!(filled(text, None), serde_json::json!({"c": 1}));
        assert_eq!(filled(r#"{"d":{{ details }}}"#, None), serde_json::json!({"d": null}));
    }

    #[test]
    fn a_code_in_upper_case_leaves_the_request_id_and_details_as_they_are() {
        let mut errors = FieldErrors::default();
        errors.push("a", "is needed");
        let text = r#"{"c":{{ code | upper }},"id":{{ request_id | upper }},"d":{{ details | upper }}}"#;
        let expected = serde_json::json!({"c": "C\"1", "id": "r\"1", "d": {"a": ["is needed"]}});
        assert_eq!(filled(text, Some(&errors)), expected);
    }

    #[test]
    fn details_inside_a_text_are_refused() {
        let error = Template::parse_refusal(r#"{"d":{{ "x" ~ details }}}"#).unwrap_err();
        assert_eq!(error, TemplateError::Details);
    }

    #[test]
    fn a_branch_that_writes_no_json_is_found_with_and_without_details() {
        for text in [
            r#"{"c":1{% if details %},{% endif %}}"#,
            r#"{"c":1{% if not details %},{% endif %}}"#,
        ] {
            assert!(matches!(Template::parse_refusal(text), Err(TemplateError::NotJson(_))), "{text}");
        }
    }
}
