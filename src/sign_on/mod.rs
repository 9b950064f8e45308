//! Single sign-on: people who prove at an identity provider of their tenant who they are.

pub mod saml;
