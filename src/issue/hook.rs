//! The requests of hooks, and what the answers mean. No I/O.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

use crate::base::denial::Denial;
use crate::dialect::answer::{SECRETS, put};

use super::answer::{self, AnswerData};
use super::call::ServedCall;
use crate::snapshot::served_route::{Hook, HookFields, HookValue, PathPart};

/// Longest answer of a service in bytes. It is held in memory and becomes part of an answer of ours.
pub const MAX_ANSWER: usize = 64 * 1024;

/// A request of a hook, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRequest {
    pub target: String,
    pub body: Option<Vec<u8>>,
}

/// What the status of the service means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookVerdict {
    Yes,
    No(Denial),
    /// The service could not answer.
    Failed(Denial),
}

/// Writes the request that asks the service before the step.
///
/// # Errors
/// [`Denial::NotFound`] for a path that cannot be written, [`Denial::Internal`] for a body that cannot be written.
pub fn before_request(hook: &Hook, call: &ServedCall) -> Result<HookRequest, Denial> {
    let context = answer::context(call, &AnswerData::default())?;
    write(hook, call, &context)
}

/// Writes the request that tells the service about the step, without the secrets that the step makes. It is written
/// before the step is taken.
///
/// # Errors
/// As [`before_request`].
pub fn after_request(hook: &Hook, call: &ServedCall, mut context: Json) -> Result<HookRequest, Denial> {
    strip_secrets(context.get_mut("credential"));
    for made in context.get_mut("minted").and_then(Json::as_array_mut).into_iter().flatten() {
        strip_secrets(Some(made));
    }
    write(hook, call, &context)
}

fn strip_secrets(record: Option<&mut Json>) {
    if let Some(record) = record.and_then(Json::as_object_mut) {
        for name in SECRETS {
            record.remove(name);
        }
    }
}

fn write(hook: &Hook, call: &ServedCall, context: &Json) -> Result<HookRequest, Denial> {
    let body = hook.body.as_ref().map(|template| {
        template.render(context).map_err(|error| {
            tracing::error!(%error, "the body of a hook cannot be written");
            Denial::Internal
        })
    });
    let mut target = String::new();
    for part in &hook.path {
        match part {
            PathPart::Fixed(text) => target.push_str(text),
            PathPart::Value(value) => {
                let text = match value {
                    HookValue::Source(source) => call.find_text(source, None),
                    HookValue::Credential => context["credential"]["id"].as_str().map(str::to_owned),
                };
                push_segment(&mut target, &text.ok_or(Denial::NotFound)?)?;
            }
        }
    }
    Ok(HookRequest {
        target,
        body: body.transpose()?,
    })
}

/// Appends one path segment. A text that two services might read differently is refused: an escape, a slash, path
/// parameters, dots.
///
/// # Errors
/// [`Denial::NotFound`].
fn push_segment(target: &mut String, text: &str) -> Result<(), Denial> {
    let ambiguous = |c: char| matches!(c, '%' | '/' | '\\' | ';') || c.is_control();
    if text.is_empty() || matches!(text, "." | "..") || text.chars().any(ambiguous) {
        return Err(Denial::NotFound);
    }
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte) {
            target.push(char::from(byte));
        } else {
            let _ = write!(target, "%{byte:02X}");
        }
    }
    Ok(())
}

/// The meaning of a status: 2xx is yes, 4xx is no, and for any other status the service could not answer. Four
/// statuses of 4xx speak about the connection or the moment and not about the question, so for them the service could
/// not answer either.
#[must_use]
pub const fn verdict(status: u16) -> HookVerdict {
    match status {
        200..=299 => HookVerdict::Yes,
        429 | 503 => HookVerdict::Failed(Denial::Overloaded),
        408 | 504 => HookVerdict::Failed(Denial::UpstreamTimeout),
        421 | 425 => HookVerdict::Failed(Denial::UpstreamInvalid),
        404 | 410 => HookVerdict::No(Denial::NotFound),
        400..=499 => HookVerdict::No(Denial::RefusedByService),
        _ => HookVerdict::Failed(Denial::UpstreamInvalid),
    }
}

/// The members of a service's answer that the template may use. An answer without a body is an empty object.
///
/// # Errors
/// [`Denial::UpstreamInvalid`] if the answer is used and its body is no JSON object.
pub fn read(fields: &HookFields, body: &[u8]) -> Result<Json, Denial> {
    if *fields == HookFields::Unused {
        return Ok(Json::Null);
    }
    let answer: Map<String, Json> = match body {
        [] => Map::new(),
        body => serde_json::from_slice(body).map_err(|_| Denial::UpstreamInvalid)?,
    };
    let HookFields::Named(names) = fields else {
        return Ok(answer.into());
    };
    let answer = Json::from(answer);
    let mut selected = Json::Object(Map::new());
    for name in names {
        let value = name.split('.').try_fold(&answer, |at, member| at.get(member));
        put(&mut selected, name, value.cloned().unwrap_or_default());
    }
    Ok(selected)
}

/// The data for the template if the service could not answer: every named field is `null`.
#[must_use]
pub fn nothing(fields: &HookFields) -> Json {
    match fields {
        HookFields::Unused | HookFields::Whole => Json::Null,
        HookFields::Named(_) => read(fields, b"").unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_one_segment_or_names_nothing() {
        let segment = |text: &str| {
            let mut target = "/t/".to_owned();
            push_segment(&mut target, text).map(|()| target)
        };
        assert_eq!(segment("tx_1:a@b").unwrap(), "/t/tx_1:a@b");
        assert_eq!(segment("a b?c#dü").unwrap(), "/t/a%20b%3Fc%23d%C3%BC");
        for bad in ["", ".", "..", "a/b", "a\\b", "a%2Fb", "%2e%2e", "a;b", "a\r\nX: y", "\u{0}"] {
            assert_eq!(segment(bad), Err(Denial::NotFound), "{bad:?}");
        }
    }

    #[test]
    fn a_status_says_yes_or_no_or_nothing() {
        for yes in [200, 201, 204, 299] {
            assert_eq!(verdict(yes), HookVerdict::Yes, "{yes}");
        }
        for no in [400, 401, 402, 403, 409, 422, 451] {
            assert_eq!(verdict(no), HookVerdict::No(Denial::RefusedByService), "{no}");
        }
        assert_eq!(verdict(404), HookVerdict::No(Denial::NotFound));
        for nothing in [101, 199, 300, 304, 408, 421, 425, 429, 500, 502, 503, 504, 599] {
            assert!(matches!(verdict(nothing), HookVerdict::Failed(_)), "{nothing}");
        }
    }

    #[test]
    fn only_the_named_fields_of_an_answer_are_kept_and_what_is_not_there_is_null() {
        let body = br#"{"id":"tx_1","buyer":{"name":"Ann","iban":"DE1"},"secret":1}"#;
        let named = |names: &[&str]| HookFields::Named(names.iter().map(|n| (*n).to_owned()).collect());
        assert_eq!(
            read(&named(&["id", "buyer.name", "seller.name", "id.x"][..3]), body).unwrap(),
            json!({"id": "tx_1", "buyer": {"name": "Ann"}, "seller": {"name": null}})
        );
        assert_eq!(read(&HookFields::Whole, body).unwrap()["secret"], json!(1));
        assert_eq!(read(&HookFields::Whole, b"").unwrap(), json!({}));
        for bad in ["[]", "1", "null", "{", "<html>", "\u{feff}{}"] {
            assert_eq!(read(&HookFields::Whole, bad.as_bytes()), Err(Denial::UpstreamInvalid), "{bad}");
            assert_eq!(read(&HookFields::Unused, bad.as_bytes()), Ok(Json::Null), "nobody asked");
        }
    }
}
