//! The definition of a dialect: a built-in dialect, a template, and changes for single denials.

use crate::base::denial::{DENIALS, Denial};

use super::pieces::Words;
use super::template::{Template, TemplateError};

/// The whole definition of a dialect. Header names and values, the realm and the content type were checked: they hold
/// nothing that could end a header line.
#[derive(Debug, Clone)]
pub struct DialectSpec {
    pub name: String,
    /// `Content-Type` of every refusal.
    pub content_type: String,
    /// The body of every refusal.
    pub body: Template,
    /// `realm` of `WWW-Authenticate`.
    pub realm: String,
    /// Further headers of every refusal.
    pub headers: Vec<(String, String)>,
    /// Changes for some denials. Later changes beat earlier ones. Those of a built-in dialect come first, and within
    /// one dialect changes by code come before changes by denial.
    pub changes: Vec<(Applies, Override)>,
}

/// Which denials a change is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applies {
    /// All denials with this default code.
    Code(String),
    Denial(Denial),
}

impl Applies {
    /// Whether it is for this denial.
    #[must_use]
    pub fn includes(&self, denial: Denial) -> bool {
        match self {
            Self::Code(code) => *code == denial.row().code,
            Self::Denial(own) => *own == denial,
        }
    }
}

/// What one denial is answered with.
pub(super) struct RefusalParts<'s> {
    pub(super) words: Words<'s>,
    pub(super) template: &'s Template,
}

impl DialectSpec {
    /// The change for this denial.
    pub(super) fn find_override(&self, denial: Denial) -> Override {
        let mut found = Override::default();
        for (_, own) in self.changes.iter().filter(|(applies, _)| applies.includes(denial)) {
            found.overlay(own);
        }
        found
    }

    pub(super) fn answer<'s>(&'s self, denial: Denial, own: &'s Override) -> RefusalParts<'s> {
        RefusalParts {
            words: Words {
                code: own.code.as_deref().unwrap_or(denial.row().code),
                message: own.message.as_deref().unwrap_or(denial.row().message),
                status: own.status.unwrap_or(denial.row().status),
            },
            template: own.body.as_ref().unwrap_or(&self.body),
        }
    }

    /// The denials whose body cannot be rendered, and why.
    #[must_use]
    pub fn faults(&self) -> Vec<(Denial, TemplateError)> {
        DENIALS
            .iter()
            .filter_map(|row| {
                let own = self.find_override(row.denial);
                let answer = self.answer(row.denial, &own);
                let error = answer.template.try_refusal(&answer.words).err()?;
                Some((row.denial, error))
            })
            .collect()
    }
}

/// A change for some denials.
#[derive(Debug, Clone, Default)]
pub struct Override {
    pub status: Option<u16>,
    pub code: Option<String>,
    pub message: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Option<Template>,
}

impl Override {
    /// Lays `over` on top of this change.
    pub fn overlay(&mut self, over: &Self) {
        self.status = over.status.or(self.status);
        self.code = over.code.clone().or_else(|| self.code.take());
        self.message = over.message.clone().or_else(|| self.message.take());
        self.headers.extend(over.headers.iter().cloned());
        self.body = over.body.clone().or_else(|| self.body.take());
    }
}

pub const DEFAULT_REALM: &str = "api";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltInDialect {
    /// RFC 9457 problem details.
    Problem,
    /// `{"error":{"code","message"}}`.
    Plain,
}

impl BuiltInDialect {
    /// Both, in the order in which a snapshot has them.
    pub const ALL: [Self; 2] = [Self::Problem, Self::Plain];

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
        Template::built_in(match self {
            Self::Problem => PROBLEM,
            Self::Plain => PLAIN,
        })
    }

    /// The built-in dialect without changes.
    #[must_use]
    pub fn spec(self) -> DialectSpec {
        DialectSpec {
            name: self.name().to_owned(),
            content_type: self.content_type().to_owned(),
            body: self.body(),
            realm: DEFAULT_REALM.to_owned(),
            headers: Vec::new(),
            changes: Vec::new(),
        }
    }
}

const PROBLEM: &str = r#"{"type":"about:blank","title":{{ title }},"status":{{ status }},"detail":{{ message }},"code":{{ code }},"request_id":{{ request_id }}{% if details %},"details":{{ details }}{% endif %}}"#;

const PLAIN: &str = r#"{"error":{"code":{{ code }},"message":{{ message }}{% if details %},"details":{{ details }}{% endif %}}}"#;
