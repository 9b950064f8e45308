//! `[store]`: where credentials are kept, the peppers, and how old facts may become.

use std::path::Path;
use std::time::Duration;

use crate::base::fingerprint::{MAX_PEPPERS, Pepper, Peppers};
use crate::config::Purpose;
use crate::config::declare::{count, default, duration, path, table, tagged};
use crate::config::secret::Reference;
use crate::config::source::{Located, Span};
use crate::config::units::{millis, secs, write_duration};
use crate::snapshot::{StoreKind, StoreSettings};
use crate::store::embedded::first_start::{self, PepperLocation};

use super::Builder;
use super::gateway::GatewayTable;
use super::redis::RedisTable;

table! {
    /// Where credentials are stored, the peppers, and how old facts about credentials may become.
    pub struct StoreTable = "`[store]`" {
        /// The secret that turns credentials into fingerprints, at least 32 bytes, kept apart from the store; the first
        /// makes new fingerprints, all are tried; at most 8. All under which credentials may be in force are needed, on
        /// every gateway: see [a new pepper](operations.md#a-new-pepper). Of an empty embedded store a missing file is
        /// created by `durward serve`.
        pepper: Vec<Located<Reference>> = default("file:state/pepper");
        /// Oldest fact that may be used; at most the revocation bound less 5 s, which are kept for stalls, and 1 s for
        /// the shortest `stream_check`.
        max_age: Located<Duration> = default("30s"), duration(secs(1), secs(54));
        /// How long the gateway remembers that a credential does not exist. A key that is created meanwhile is announced
        /// to all gateways; if the announcement is lost, the key works after this time.
        absent_age: Duration = default("5s"), duration(millis(0), secs(5));
        /// Longest time of one look-up. If the store does not answer, a caller waits this long for a 503.
        lookup_timeout: Duration = default("250ms"), duration(millis(10), secs(5));
        /// Look-ups in flight; more are refused with 503 at once.
        max_lookups: usize = default("512"), count(1, 65_536);
        /// How long a credential that ended by itself (expired, or not used for too long) can still be listed and shown;
        /// then its record is forgotten. Those that were revoked and had no end of their own are kept for ever.
        keep_ended: Duration = default("30d"), duration(secs(3_600), secs(3_650 * 24 * 3_600));
        /// Credentials remembered, about 1 KiB each.
        cache_entries: u64 = default("100000"), count(1_000, 10_000_000);
        /// Absences that are remembered. They have memory of their own, so that guesses cannot push real credentials out.
        absent_entries: u64 = default("50000"), count(1_000, 10_000_000);
        ..kind: Located<StoreKindTable>;
    }
}

tagged! {
    /// `embedded` is one file for one gateway; `redis` is shared by several (Redis or Valkey, `noeviction`).
    pub enum StoreKindTable by "kind" = default("embedded") => {
        Embedded(EmbeddedTable) = "embedded", "the embedded store";
        Redis(Box<RedisTable>) = "redis", "the redis store";
    }
}

table! {
    /// One file for one gateway.
    pub struct EmbeddedTable = "`[store]` of kind `embedded`" {
        /// The file. Created on the first start, together with the pepper; see [a store that is not
        /// there](operations.md#a-store-that-is-not-there).
        path: Located<String> = default("state/durward.redb"), path();
    }
}

/// What must be left of the bound when a fact is as old as it may be: time for stalls, scheduling and
/// the request that just passed the check. Nothing is added for sentinels or a cluster: how long their word is
/// trusted is a part of a fact's age.
const MARGIN: Duration = Duration::from_secs(5);

/// How often open streams are judged again unless the configuration says otherwise: half of `max_age`'s
/// default, when facts are read again anyway.
const STREAM_CHECK: Duration = Duration::from_secs(15);

/// The least there is: each check may cost the store a read.
const MIN_STREAM_CHECK: Duration = Duration::from_secs(1);

impl Builder<'_> {
    pub(super) fn store(&self, gateway: &GatewayTable) -> Option<StoreSettings> {
        let written = &gateway.store;
        let limit = gateway.revocation.bound.value.saturating_sub(MARGIN + MIN_STREAM_CHECK);
        if written.max_age.value > limit {
            self.report.error(
                &written.max_age.at,
                format!(
                    "`max_age` may be at most {}: the revocation bound of {} less 5 s, and 1 s for the shortest `stream_check`",
                    write_duration(limit),
                    write_duration(gateway.revocation.bound.value)
                ),
                Some("an older fact could admit a credential that was revoked longer ago than the bound promises".to_owned()),
            );
        }
        let kind = self.store_kind(written);
        let redis = match &written.kind.value {
            StoreKindTable::Embedded(_) => None,
            StoreKindTable::Redis(redis) => Some(redis),
        };
        Some(StoreSettings {
            kind: kind?,
            pepper: self.pepper_place(written),
            max_age: written.max_age.value,
            absent_age: written.absent_age,
            lookup_timeout: written.lookup_timeout,
            max_lookups: written.max_lookups,
            keep_ended: written.keep_ended,
            unknown_lookups: redis.map(|redis| redis.unknown_lookups),
            warm_start: redis.map_or(0, |redis| redis.warm_start),
            warm_start_rate: redis.map_or(0, |redis| redis.warm_start_rate),
            warm_start_time: redis.map_or(Duration::ZERO, |redis| redis.warm_start_time),
            cache_entries: written.cache_entries,
            absent_entries: written.absent_entries,
        })
    }

    /// How often open streams are judged again. In the worst case a stream was judged by facts as old as
    /// they may be just before it is judged again, so both together must leave the margin.
    pub(super) fn stream_check(&self, gateway: &GatewayTable) -> Duration {
        let left = gateway
            .revocation
            .bound
            .value
            .saturating_sub(MARGIN)
            .saturating_sub(gateway.store.max_age.value);
        let Some(written) = &gateway.revocation.stream_check else {
            return STREAM_CHECK.min(left).max(MIN_STREAM_CHECK);
        };
        if written.value > left {
            self.report.error(
                &written.at,
                format!(
                    "`stream_check` may be at most {}: the revocation bound of {} less `max_age` and 5 s",
                    write_duration(left),
                    write_duration(gateway.revocation.bound.value)
                ),
                Some("a stream could outlive its credential for longer than the bound promises".to_owned()),
            );
        }
        written.value
    }

    fn pepper_place(&self, written: &StoreTable) -> PepperLocation {
        let StoreKindTable::Embedded(EmbeddedTable { path, .. }) = &written.kind.value else {
            return PepperLocation::Elsewhere;
        };
        let store = self.resolve(&path.value);
        let is_beside = |reference: &Reference| match reference {
            Reference::File(path) | Reference::Generate(path) => self.resolve(path).parent() == store.parent(),
            Reference::Variable(_) | Reference::Public(_) => false,
        };
        if written.pepper.iter().any(|pepper| is_beside(&pepper.value)) {
            PepperLocation::Beside
        } else {
            PepperLocation::Elsewhere
        }
    }

    fn store_kind(&self, written: &StoreTable) -> Option<StoreKind> {
        match &written.kind.value {
            StoreKindTable::Embedded(EmbeddedTable { path, .. }) => Some(StoreKind::Embedded {
                path: self.resolve(&path.value),
            }),
            StoreKindTable::Redis(redis) => {
                let servers = self.redis_servers(redis, &written.kind.at);
                self.check_redis(redis);
                let servers = servers?;
                self.lint_replicas(redis, &servers);
                Some(StoreKind::Redis {
                    access: Box::new(self.redis_access(redis, servers)?),
                    key_prefix: redis.key_prefix.value.clone(),
                    wait_replicas: redis.wait_replicas.value,
                })
            }
        }
    }

    /// The peppers. A missing file is made only for an embedded store that is not there either: a
    /// new pepper for an old store would find nobody, and with a shared store each gateway would
    /// make its own.
    pub(super) fn peppers(&self, written: &StoreTable) -> Option<Peppers> {
        let absent_store = match &written.kind.value {
            StoreKindTable::Embedded(EmbeddedTable { path, .. }) => {
                let resolved = self.resolve(&path.value);
                (!self.environment.holds_something(&resolved)).then_some((resolved, &path.at))
            }
            StoreKindTable::Redis(_) => None,
        };
        let may_create = absent_store.is_some();
        if let Some((store, at)) = &absent_store {
            self.note_beginning(written, store, at);
        }
        let peppers: Option<Vec<Pepper>> = written
            .pepper
            .iter()
            .map(|pepper| {
                let bytes = match &pepper.value {
                    Reference::File(path) | Reference::Generate(path) if self.is_absent(&self.resolve(path)) => {
                        if may_create {
                            self.read_or_generate(&self.resolve(path), &pepper.at, "the pepper")?
                        } else {
                            self.missing_pepper(written, pepper);
                            return None;
                        }
                    }
                    _ => self.read_secret(pepper, "the pepper")?,
                };
                let made = Pepper::new(&bytes);
                if made.is_none() {
                    self.report.error(
                        &pepper.at,
                        "a pepper has at least 32 bytes",
                        Some("make one with `head -c 32 /dev/urandom | base64 > FILE`".to_owned()),
                    );
                }
                made
            })
            .collect();
        if let Some(one_more) = written.pepper.get(MAX_PEPPERS) {
            self.report.error(
                &one_more.at,
                format!("at most {MAX_PEPPERS} peppers are accepted"),
                Some("`durward peppers` says which of them can be dropped".to_owned()),
            );
        }
        Peppers::new(peppers?)
    }

    /// A store that is not there is begun only together with its first pepper: the permission to begin it is made before the
    /// pepper, so that a first start that was interrupted goes on. A pepper that is there already has lost its store.
    fn note_beginning(&self, written: &StoreTable, store: &Path, at: &Span) {
        let permission = first_start::permission_marker(store);
        let is_missing = |reference: &Reference| match reference {
            Reference::File(path) | Reference::Generate(path) => self.is_absent(&self.resolve(path)),
            Reference::Variable(_) | Reference::Public(_) => false,
        };
        if written.pepper.iter().all(|pepper| is_missing(&pepper.value)) {
            self.will_permit(permission, at);
        } else if self.purpose == Purpose::Check && !permission.exists() {
            let (then, help) = match self.pepper_place(written) {
                PepperLocation::Beside => (
                    "`durward serve` does not start",
                    "mount its volume or restore a copy; to begin with an empty store, run `durward new-store` first",
                ),
                PepperLocation::Elsewhere => (
                    "`durward serve` begins an empty one, and callers get 503 until a tenant is made",
                    "if this is not the first start, mount its volume or restore a copy; if it is, run `durward tenants create` after it",
                ),
            };
            let message = format!("the store `{}` is not there, though its pepper is: {then}", store.display());
            self.report.warning(at, message, Some(help.to_owned()));
        }
    }

    fn missing_pepper(&self, written: &StoreTable, pepper: &crate::config::source::Located<Reference>) {
        let (message, help) = match &written.kind.value {
            StoreKindTable::Embedded(_) => (
                "the pepper is missing, and the store it belongs to is not empty",
                "bring the file back from where it was kept: without it no stored credential can be recognised",
            ),
            StoreKindTable::Redis(_) => (
                "the pepper is missing, and a store that gateways share needs the same one everywhere",
                "make it once with `head -c 32 /dev/urandom | base64 > FILE` and give the file to every gateway",
            ),
        };
        self.report.error(&pepper.at, message, Some(help.to_owned()));
    }
}
