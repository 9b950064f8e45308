//! Why an operation was not done: what the operator API answers and the command line exits with.

use serde::{Deserialize, Serialize};

use crate::issue::minting::MakeError;
use crate::store::{ChangeError, StoreError};

/// Why an operation was not done. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// The request is wrong; the text says what would have been right.
    #[error("{0}")]
    Usage(String),
    /// There is no such tenant or credential.
    #[error("{0}")]
    NotFound(String),
    /// The record exists already, or its state does not allow the operation.
    #[error("{0}")]
    Conflict(String),
    /// The store does not answer. The text says whether a change was made, was not made, or that this is not known.
    #[error("{0}")]
    Unavailable(String),
    /// The change was made, but the store may lose it.
    #[error("{0}")]
    Unconfirmed(String),
    /// The store answered with something that cannot be trusted.
    #[error("{0}")]
    Corrupt(String),
    /// The configuration is not valid; nothing was changed.
    #[error("{0}")]
    Configuration(String),
    /// The audit trail cannot record the operation, and the configuration refuses what is not recorded.
    #[error("{0}")]
    NotRecordable(String),
}

impl OperationError {
    /// The code in the answer's body.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::Unavailable(_) => "unavailable",
            Self::Unconfirmed(_) => "unconfirmed",
            Self::Corrupt(_) => "corrupt",
            Self::Configuration(_) => "configuration",
            Self::NotRecordable(_) => "not_recordable",
        }
    }

    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Usage(_) => 400,
            Self::NotFound(_) => 404,
            Self::Conflict(_) => 409,
            Self::Unavailable(_) | Self::Unconfirmed(_) | Self::NotRecordable(_) => 503,
            Self::Corrupt(_) => 500,
            Self::Configuration(_) => 422,
        }
    }
}

impl From<StoreError> for OperationError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable(error.to_string()),
            StoreError::Corrupt(_) | StoreError::Foreign(_) => Self::Corrupt(error.to_string()),
        }
    }
}

impl From<ChangeError> for OperationError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Store(StoreError::Unavailable(why)) => Self::Unavailable(format!(
                "the store did not answer ({why}): whether the change was made is not known; repeat the command"
            )),
            ChangeError::Store(error) => error.into(),
            ChangeError::NotMade(_) => Self::Unavailable(error.to_string()),
            ChangeError::Unconfirmed(_) => Self::Unconfirmed(error.to_string()),
            ChangeError::NotFound(_) => Self::NotFound(error.to_string()),
            ChangeError::Taken(_) | ChangeError::Conflict(_) | ChangeError::Stale | ChangeError::Full(_) => {
                Self::Conflict(error.to_string())
            }
        }
    }
}

impl From<MakeError> for OperationError {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::NoRandomness(_) | MakeError::NoToken => Self::Unavailable(error.to_string()),
            MakeError::Elsewhere | MakeError::NoPrefix => Self::Usage(error.to_string()),
            MakeError::NoMode => Self::Conflict(error.to_string()),
        }
    }
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// One of the codes of `OperationError`.
    pub code: String,
    pub message: String,
}
