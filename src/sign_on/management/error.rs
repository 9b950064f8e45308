//! Why an identity provider was not made, changed or shown.

use crate::base::fingerprint::PepperMark;
use crate::base::ids::{CredentialId, TenantId};
use crate::sign_on::provider::SettingsMistake;
use crate::sign_on::seal::SealError;
use crate::store::StoreError;

/// Why something was not done with an identity provider. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManagementError {
    /// Everything that is wrong with the settings.
    #[error("the settings are wrong:\n  {}", lines(.0))]
    Settings(Vec<SettingsMistake>),
    /// One thing that is wrong with the request, outside of the settings or in the form of them.
    #[error("{}", .0.why)]
    Request(SettingsMistake),
    /// The request names a role that the tenant cannot use.
    #[error("tenant `{tenant}` cannot use a role `{role}`")]
    UnknownRole {
        field: &'static str,
        tenant: TenantId,
        /// As it was written, printable.
        role: String,
    },
    /// There is no such provider here.
    #[error("{0}")]
    NotFound(String),
    /// Whoever asks may not do it.
    #[error("{0}")]
    Forbidden(&'static str),
    #[error("the identity provider {0} is deleted")]
    Deleted(CredentialId),
    /// A secret of the provider was sealed under a pepper that is gone.
    #[error("`{0}` cannot be opened: {1}; give it again")]
    Sealed(&'static str, SealError),
    /// What is sealed now would be lost.
    #[error("the first pepper of this gateway ({0}) is being dropped: put another one first, and start the gateway again")]
    PepperLeaving(PepperMark),
    /// A domain belongs to another tenant.
    #[error("{0}")]
    DomainTaken(String),
    /// There are as many providers as there may be.
    #[error("{0}")]
    Full(String),
    /// The gateway cannot do it now.
    #[error("{0}")]
    Unavailable(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ManagementError {
    /// One thing that is wrong with a member of the request.
    pub(super) fn request(field: &str, why: impl Into<String>) -> Self {
        Self::Request(mistake(field, why))
    }
}

pub(super) fn mistake(field: &str, why: impl Into<String>) -> SettingsMistake {
    SettingsMistake {
        field: field.to_owned(),
        why: why.into(),
    }
}

fn lines(mistakes: &[SettingsMistake]) -> String {
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    lines.join("\n  ")
}
