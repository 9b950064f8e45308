//! What integration tests stand on: the real binary, a recording upstream, raw clients, planted secrets.

pub(crate) mod canary;
pub(crate) mod fault_proxy;
pub(crate) mod frames;
pub(crate) mod gateway;
pub(crate) mod identity_providers;
pub(crate) mod issuer;
pub(crate) mod jwks_server;
pub(crate) mod leaks;
pub(crate) mod raw;
pub(crate) mod redis;
pub(crate) mod redis_sets;
pub(crate) mod resp;
pub(crate) mod site;
pub(crate) mod stopwatch;
pub(crate) mod upstream;
pub(crate) mod wait;
pub(crate) mod webdriver;
pub(crate) mod websocket;
