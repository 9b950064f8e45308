//! How a command fails, and what the process answers then.

use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use crate::admin::OperationError;
use crate::admin::error::ErrorDetail;
use crate::config::Problems;

use super::output::Form;

/// How a command ends. The exit codes are a stable contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command was done.
    Done,
    /// The command failed for a reason that has no code of its own.
    Failed,
    /// The command or its arguments are wrong; the message says what would have been right.
    Usage,
    /// The named record does not exist.
    NotFound,
    /// The gateway or the store is not available, or a change is not confirmed.
    Unavailable,
    /// The configuration is wrong (`EX_CONFIG` of sysexits.h).
    Configuration,
}

impl Exit {
    /// The exit code of the process.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Unavailable => 4,
            Self::Configuration => 78,
        }
    }
}

/// Why a command was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) code: String,
    /// The message for people; it holds no secret.
    pub(crate) message: String,
    /// The line of the import file that it is about, from 1.
    pub(crate) line: Option<u64>,
    /// Mistakes of the configuration, each with its place.
    pub(crate) problems: Option<serde_json::Value>,
    /// Whether the log on standard error has it already, so that people do not read it twice.
    pub(crate) logged: bool,
}

/// The answer of a failed command, in JSON: these members and no others. `line` is there for a line of an import file,
/// `problems` for a configuration with mistakes.
#[derive(Serialize)]
struct ErrorLine<'a> {
    error: ErrorMembers<'a>,
}

#[derive(Serialize)]
struct ErrorMembers<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<&'a serde_json::Value>,
}

impl Failure {
    /// A failure of this kind.
    #[must_use]
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        let code = match exit {
            Exit::Done | Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::NotFound => "not_found",
            Exit::Unavailable => "unavailable",
            Exit::Configuration => "configuration",
        };
        Self {
            exit,
            code: code.into(),
            message: message.into(),
            line: None,
            problems: None,
            logged: false,
        }
    }

    /// A configuration with mistakes, which [`Printer::mistakes`](super::output::Printer::mistakes) shows to people.
    #[must_use]
    pub(super) fn of_configuration(config: &Path, problems: &Problems) -> Self {
        let number = problems.len();
        let noun = if number == 1 { "mistake" } else { "mistakes" };
        Self {
            problems: Some(problems.to_json()),
            ..Self::new(Exit::Configuration, format!("{} has {number} {noun}", config.display()))
        }
    }

    /// A change that was made and is not confirmed.
    #[must_use]
    pub(crate) fn unconfirmed(message: String) -> Self {
        Self {
            code: "unconfirmed".into(),
            ..Self::new(Exit::Unavailable, message)
        }
    }

    #[must_use]
    pub(crate) fn of_gateway(body: ErrorDetail) -> Self {
        let exit = match body.code.as_str() {
            "usage" => Exit::Usage,
            "not_found" => Exit::NotFound,
            "unavailable" | "unconfirmed" | "not_recordable" => Exit::Unavailable,
            "configuration" => Exit::Configuration,
            _ => Exit::Failed,
        };
        Self {
            code: body.code,
            ..Self::new(exit, body.message)
        }
    }

    /// Writes it to standard error.
    pub(crate) fn print(&self, form: Form) {
        // When standard error is closed, nobody can read the failure.
        let _ = match form {
            Form::Text if self.logged => Ok(()),
            Form::Text => writeln!(io::stderr(), "error: {}", self.message),
            Form::Json => writeln!(io::stderr(), "{}", self.to_json()),
        };
    }

    #[must_use]
    pub(crate) fn to_json(&self) -> String {
        let error = ErrorMembers {
            code: &self.code,
            message: &self.message,
            line: self.line,
            problems: self.problems.as_ref(),
        };
        serde_json::to_string(&ErrorLine { error }).unwrap_or_default()
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        Self::of_gateway(ErrorDetail {
            code: error.code().into(),
            message: error.to_string(),
        })
    }
}
