//! What a served route with `serve = "providers"` does: one operation on the identity providers of the caller's tenant.

use crate::base::scope::ScopeSet;

use super::served_route::ValueSource;

/// One operation of a tenant's administrators on its identity providers.
#[derive(Debug)]
pub struct ProviderRoute {
    pub operation: ProviderOperation,
    /// Scopes that a provider may give although the caller lacks them.
    pub grants: ScopeSet,
    /// Claims of a provider that accounts may keep.
    pub claims: Vec<String>,
}

/// What is done. The source says which provider it is done to.
#[derive(Debug)]
pub enum ProviderOperation {
    List,
    Show(ValueSource),
    /// The settings of a new provider name these surfaces.
    Create(ProviderSurfaces),
    Update(ValueSource),
    /// Asks the provider what a sign-on would ask.
    Test(ValueSource),
    Disable(ValueSource),
    Enable(ValueSource),
    Delete(ValueSource),
}

/// The surfaces of a provider's sessions and of its people's accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderSurfaces {
    pub session: String,
    pub account: String,
}

impl ProviderOperation {
    /// Whether the operation changes anything, or makes the gateway ask others.
    #[must_use]
    pub const fn changes(&self) -> bool {
        match self {
            Self::List | Self::Show(_) => false,
            Self::Create(_) | Self::Update(_) | Self::Test(_) | Self::Disable(_) | Self::Enable(_) | Self::Delete(_) => true,
        }
    }
}
