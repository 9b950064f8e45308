//! Single sign-on through the real binary, and its parts that need a provider.

mod confined;
mod fake;
mod geldstuck;
mod oidc;
mod routes;
mod saml_client;
mod saml_routes;
mod site;
mod tested;
