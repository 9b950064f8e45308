//! Single sign-on: identity providers, what they prove about a person by OpenID Connect or SAML, and what of it is secret.

pub mod client;
pub mod directory;
pub mod fault;
pub mod http;
pub mod log_in_record;
pub mod oidc;
pub mod oidc_providers;
pub mod person;
pub mod probe;
pub mod provider;
pub mod records;
pub mod saml;
pub mod seal;

pub use fault::{FaultSide, ProviderPart, ProviderText, SignOnFault};
pub use http::{ProviderAccess, ProviderClient};
pub use oidc_providers::{OidcLogIn, OidcProviders};
pub use person::{PersonRules, ProviderClaims, ProviderSession, RoleRow, RoleRules, SignedOnPerson};
pub use probe::{FindingLevel, ProviderFinding, probe_oidc};
