//! OpenID Connect: a provider that is played here as the specifications describe it, attacks on a log-in, and hostile servers.

mod attacks;
mod flow;
mod log_out;
mod provider;
mod providers;
mod refresh;
mod settings;
