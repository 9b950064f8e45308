//! What a dialect is made from: a base, a template, and changes for single denials.

use std::borrow::Cow;

use crate::base::denial::Denial;

use super::template::Slot::{self, Code, Message, RequestId, Status, Title};
use super::template::Template;

/// Everything that makes a dialect. Header names and values, the realm and the content type have
/// been checked: they hold nothing that could end a header line.
#[derive(Debug, Clone)]
pub struct DialectSpec {
    /// Its name.
    pub name: String,
    /// `Content-Type` of every refusal.
    pub content_type: String,
    /// The body of every refusal.
    pub body: Template,
    /// `realm` of `WWW-Authenticate`.
    pub realm: String,
    /// Further headers of every refusal.
    pub headers: Vec<(String, String)>,
    /// Changes for all denials of one default code.
    pub by_code: Vec<(String, Override)>,
    /// Changes for one denial; they beat those of its code.
    pub by_denial: Vec<(Denial, Override)>,
}

/// What differs for some denials.
#[derive(Debug, Clone, Default)]
pub struct Override {
    /// Status.
    pub status: Option<u16>,
    /// Code.
    pub code: Option<String>,
    /// Message.
    pub message: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Option<Template>,
}

impl Override {
    /// Puts what `over` says on top.
    pub fn overlay(&mut self, over: &Self) {
        self.status = over.status.or(self.status);
        self.code = over.code.clone().or_else(|| self.code.take());
        self.message = over.message.clone().or_else(|| self.message.take());
        self.headers.extend(over.headers.iter().cloned());
        self.body = over.body.clone().or_else(|| self.body.take());
    }
}

/// The default realm.
pub const DEFAULT_REALM: &str = "api";

/// The built-in dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// RFC 9457 problem details.
    Problem,
    /// `{"error":{"code","message"}}`.
    Plain,
}

impl Base {
    /// Both, in the order they come in a snapshot.
    pub const ALL: [Self; 2] = [Self::Problem, Self::Plain];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Plain => "plain",
        }
    }

    /// The base of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|b| b.name() == name)
    }

    /// Its media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Problem => "application/problem+json",
            Self::Plain => "application/json",
        }
    }

    /// Its body. `type` is `about:blank`, so RFC 9457, section 4.2.1 asks for the status phrase as
    /// `title`; what happened is in `code` and `detail`.
    #[must_use]
    pub fn body(self) -> Template {
        Template::of_slots(match self {
            Self::Problem => PROBLEM,
            Self::Plain => PLAIN,
        })
    }

    /// The dialect with nothing changed.
    #[must_use]
    pub fn spec(self) -> DialectSpec {
        DialectSpec {
            name: self.name().to_owned(),
            content_type: self.content_type().to_owned(),
            body: self.body(),
            realm: DEFAULT_REALM.to_owned(),
            headers: Vec::new(),
            by_code: Vec::new(),
            by_denial: Vec::new(),
        }
    }
}

const PROBLEM: &[Slot] = &[
    text("{\"type\":\"about:blank\",\"title\":\""),
    Title,
    text("\",\"status\":"),
    Status,
    text(",\"detail\":\""),
    Message,
    text("\",\"code\":\""),
    Code,
    text("\",\"request_id\":\""),
    RequestId,
    text("\"}"),
];

const PLAIN: &[Slot] = &[
    text("{\"error\":{\"code\":\""),
    Code,
    text("\",\"message\":\""),
    Message,
    text("\"}}"),
];

const fn text(text: &'static str) -> Slot {
    Slot::Text(Cow::Borrowed(text))
}
