//! Names of the keys in Redis, all in one cluster slot by their hash tag.
//!
//! ```text
//! {durward}:meta      hash   format, pepper (all), dropped ones, history, position; how many credentials, tenants, fingerprints, roles;
//!                            list, what is known of `g`;
//!                            clock, the latest time in milliseconds that anything was made at
//! {durward}:c         hash   credential id -> record
//! {durward}:t         hash   tenant id -> record
//! {durward}:r         hash   role id -> record
//! {durward}:u         hash   credential id -> when a sliding one was last used
//! {durward}:f         hash   fingerprint -> "credential-id tenant-id", or "= tenant-id"
//! {durward}:n         hash   credential id -> how many credentials hang on it
//! {durward}:ids       zset   credential ids, all scores 0
//! {durward}:ids:<t>   zset   those of tenant t
//! {durward}:tids      zset   tenant ids
//! {durward}:rids:<t>  zset   role ids of tenant t
//! {durward}:g         hash   gateways and the list they make, see `receipts::lua`
//! {durward}:b:<n>     hash   fingerprint -> when it was said last to be in use, in 64 parts, see `scripts::busy`
//! {durward}:events    stream p = position, e = event, x = ending
//! {durward}:l:<key>   text   rate limits, see `counts`
//! ```
//!
//! Records live in hashes and not in keys of their own because Redis evicts and expires whole keys
//! only: a lost hash is noticed (`DATALOST`), a single lost key would look like an absence.

use crate::base::ids::TenantId;

use super::scripts::Kind;

/// Names of the keys under one prefix.
pub(super) struct Keys {
    pub(super) meta: String,
    pub(super) credentials: String,
    pub(super) tenants: String,
    pub(super) roles: String,
    pub(super) used: String,
    pub(super) children: String,
    pub(super) fingerprints: String,
    pub(super) ids: String,
    pub(super) role_ids: String,
    pub(super) tenant_ids: String,
    pub(super) gateways: String,
    pub(super) events: String,
    pub(super) prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        let key = |name: &str| format!("{{{prefix}}}:{name}");
        Self {
            meta: key("meta"),
            credentials: key("c"),
            tenants: key("t"),
            roles: key("r"),
            used: key("u"),
            children: key("n"),
            fingerprints: key("f"),
            ids: key("ids"),
            role_ids: key("rids"),
            tenant_ids: key("tids"),
            gateways: key("g"),
            events: key("events"),
            prefix: key(""),
        }
    }

    /// One part of the list of what was in use lately.
    pub(super) fn busy(&self, part: usize) -> String {
        format!("{}b:{part}", self.prefix)
    }

    pub(super) fn ids_of(&self, tenant: &TenantId) -> String {
        format!("{}:{tenant}", self.ids)
    }

    pub(super) fn role_ids_of(&self, tenant: &TenantId) -> String {
        format!("{}:{tenant}", self.role_ids)
    }

    pub(super) fn hash(&self, kind: Kind) -> &String {
        match kind {
            Kind::Credentials => &self.credentials,
            Kind::Tenants => &self.tenants,
            Kind::Roles => &self.roles,
        }
    }
}
