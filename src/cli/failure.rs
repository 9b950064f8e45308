//! How a command fails, and what the process answers then.

use std::io::{self, Write as _};

use crate::admin::OperationError;
use crate::admin::api::{Failure as Told, FailureBody};

use super::output::Form;

/// Exit codes: a stable contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Wrong usage; the message says what would have been right.
    Usage,
    /// There is no such thing.
    NotFound,
    /// Unavailable, or not confirmed.
    Unavailable,
    /// The configuration is wrong (`EX_CONFIG` of sysexits.h).
    Configuration,
}

impl Exit {
    /// The process's exit code.
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
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// A code for programs.
    pub code: String,
    /// What people read; holds no secret.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
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
        }
    }

    /// A change that was made and is not confirmed.
    #[must_use]
    pub(crate) fn unconfirmed(message: String) -> Self {
        Self {
            exit: Exit::Unavailable,
            code: "unconfirmed".into(),
            message,
        }
    }

    /// What the gateway told.
    #[must_use]
    pub fn told(body: FailureBody) -> Self {
        let exit = match body.code.as_str() {
            "usage" => Exit::Usage,
            "not_found" => Exit::NotFound,
            "unavailable" | "unconfirmed" => Exit::Unavailable,
            "configuration" => Exit::Configuration,
            _ => Exit::Failed,
        };
        Self {
            exit,
            code: body.code,
            message: body.message,
        }
    }

    /// Writes it to standard error.
    pub(crate) fn print(&self, form: Form) {
        // Nobody is left to tell when standard error is gone.
        let _ = match form {
            Form::Text => writeln!(io::stderr(), "error: {}", self.message),
            Form::Json => {
                let error = FailureBody {
                    code: self.code.clone(),
                    message: self.message.clone(),
                };
                writeln!(io::stderr(), "{}", serde_json::to_string(&Told { error }).unwrap_or_default())
            }
        };
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        Self::told(FailureBody {
            code: error.code().into(),
            message: error.to_string(),
        })
    }
}
