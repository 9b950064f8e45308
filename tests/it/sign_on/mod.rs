//! Single sign-on: its parts, its routes through the real binary, and real identity providers in a real browser.

mod administrators;
mod browser;
mod confined;
mod documented;
mod fake;
mod geldstuck;
mod links;
mod oidc;
mod onboarding;
mod peers;
mod real_messages;
mod real_tokens;
mod renewal;
mod routes;
mod saml_client;
mod saml_log_out;
mod saml_routes;
mod samples;
mod site;
mod tested;
