//! SAML 2.0 as a service provider. What providers and browsers send is read in a confined process only ([`child`]).

pub mod assertion;
pub mod child;
pub mod client;
mod encryption;
pub mod fault;
pub mod key_pair;
pub mod logout;
pub mod metadata;
pub mod query;
pub mod request;
pub mod response;
#[cfg(any(test, feature = "internals"))]
pub mod sample;
mod signature;
pub mod verifier;
mod xml;

pub use child::SamlVerifier;
pub use fault::SamlFault;

#[cfg(test)]
mod tests;
