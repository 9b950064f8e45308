//! Single sign-on.

mod confined;
mod saml_client;
