//! Single sign-on: what an identity provider proves about a person, by OpenID Connect or SAML. Everything but
//! `http`, `oidc_providers` and `probe` is pure.

pub mod fault;
pub mod http;
pub mod oidc;
pub mod oidc_providers;
pub mod person;
pub mod probe;

pub use fault::{FaultSide, ProviderPart, ProviderText, SignOnFault};
pub use http::{ProviderAccess, ProviderClient};
pub use oidc_providers::{OidcLogIn, OidcProviders};
pub use person::{PersonRules, ProviderClaims, ProviderSession, RoleRow, RoleRules, SignedOnPerson};
pub use probe::{FindingLevel, ProviderFinding, probe_oidc};
