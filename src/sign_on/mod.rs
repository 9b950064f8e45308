//! Single sign-on: identity providers, what they prove about a person by OpenID Connect or SAML, and what of it is secret.

pub mod client;
pub mod directory;
pub mod fault;
pub mod http;
pub mod log_in_record;
pub mod log_out_record;
pub mod oidc;
pub mod oidc_providers;
pub mod person;
pub mod probe;
pub mod provider;
pub mod records;
pub mod saml;
pub mod seal;
pub mod sign_on_secrets;

#[cfg(any(test, feature = "internals"))]
pub use fault::{FaultSide, ProviderPart, ProviderText, SignOnFault};
#[cfg(any(test, feature = "internals"))]
pub use http::{ProviderAccess, ProviderClient};
#[cfg(any(test, feature = "internals"))]
pub use oidc_providers::{OidcLogIn, OidcProviders};
#[cfg(any(test, feature = "internals"))]
pub use person::{PersonRules, ProviderClaims, ProviderSession, RoleRow, RoleRules, SignedOnPerson};
#[cfg(any(test, feature = "internals"))]
pub use probe::{FindingLevel, ProviderFinding, probe_oidc};
