//! Where a store in Redis is.

use std::time::Duration;

use crate::base::fingerprint::PepperChecks;

use super::{RedisAccess, Registered, WaitReplicas};

/// Where the store is and how it is used.
#[derive(Clone)]
pub struct RedisSettings {
    /// Where, and as whom.
    pub access: RedisAccess,
    /// Prefix of every key; becomes a hash tag.
    pub key_prefix: String,
    /// Replicas that must have a change before it is acknowledged.
    pub wait_replicas: WaitReplicas,
    /// Deadline of one look-up.
    pub lookup_timeout: Duration,
    /// Oldest usable fact: says how often those are asked who know which server is the primary.
    pub max_age: Duration,
    /// What tells this gateway's peppers from others.
    pub peppers: PepperChecks,
    /// Who reads here to admit by it, and announces itself: look-ups fail while it is not registered. `None` for
    /// what admits nobody.
    pub registered: Option<Registered>,
}

impl std::fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisSettings")
            .field("access", &self.access)
            .field("key_prefix", &self.key_prefix)
            .field("wait_replicas", &self.wait_replicas)
            .finish_non_exhaustive()
    }
}
