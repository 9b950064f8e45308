//! The store and its peppers.

use std::path::Path;
use std::time::Duration;

use crate::base::fingerprint::{MAX_PEPPERS, Pepper, Peppers};
use crate::config::Purpose;
use crate::config::secret::Reference;
use crate::config::source::Place;
use crate::config::units::write_duration;
use crate::config::written::{WrittenGateway, WrittenStore, WrittenStoreKind};
use crate::snapshot::{StoreKind, StoreSettings};
use crate::store::embedded::beginning::{self, PepperPlace};

use super::Builder;

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
    /// Store settings.
    pub(super) fn store(&self, gateway: &WrittenGateway) -> Option<StoreSettings> {
        let written = &gateway.store;
        let limit = gateway.bound.value.saturating_sub(MARGIN + MIN_STREAM_CHECK);
        if written.max_age.value > limit {
            self.report.error(
                &written.max_age.at,
                format!(
                    "`max_age` may be at most {}: the revocation bound of {} less 5 s, and 1 s for the shortest `stream_check`",
                    write_duration(limit),
                    write_duration(gateway.bound.value)
                ),
                Some("an older fact could admit a credential that was revoked longer ago than the bound promises".to_owned()),
            );
        }
        Some(StoreSettings {
            kind: self.store_kind(written)?,
            pepper: self.pepper_place(written),
            max_age: written.max_age.value,
            absent_age: written.absent_age,
            lookup_timeout: written.lookup_timeout,
            max_lookups: written.max_lookups,
            keep_ended: written.keep_ended,
            unknown_lookups: written.unknown_lookups,
            warm_start: written.warm_start,
            warm_start_time: written.warm_start_time,
            cache_entries: written.cache_entries,
            absent_entries: written.absent_entries,
        })
    }

    /// How often open streams are judged again. In the worst case a stream was judged by facts as old as
    /// they may be just before it is judged again, so both together must leave the margin.
    pub(super) fn stream_check(&self, gateway: &WrittenGateway) -> Duration {
        let left = gateway
            .bound
            .value
            .saturating_sub(MARGIN)
            .saturating_sub(gateway.store.max_age.value);
        let Some(written) = &gateway.stream_check else {
            return STREAM_CHECK.min(left).max(MIN_STREAM_CHECK);
        };
        if written.value > left {
            self.report.error(
                &written.at,
                format!(
                    "`stream_check` may be at most {}: the revocation bound of {} less `max_age` and 5 s",
                    write_duration(left),
                    write_duration(gateway.bound.value)
                ),
                Some("a stream could outlive its credential for longer than the bound promises".to_owned()),
            );
        }
        written.value
    }

    fn pepper_place(&self, written: &WrittenStore) -> PepperPlace {
        let WrittenStoreKind::Embedded { path } = &written.kind else {
            return PepperPlace::Elsewhere;
        };
        let store = self.resolve(&path.value);
        let is_beside = |reference: &Reference| match reference {
            Reference::File(path) | Reference::Generate(path) => self.resolve(path).parent() == store.parent(),
            Reference::Variable(_) | Reference::Public(_) => false,
        };
        if written.peppers.iter().any(|pepper| is_beside(&pepper.value)) {
            PepperPlace::Beside
        } else {
            PepperPlace::Elsewhere
        }
    }

    fn store_kind(&self, written: &WrittenStore) -> Option<StoreKind> {
        match &written.kind {
            WrittenStoreKind::Embedded { path } => Some(StoreKind::Embedded {
                path: self.resolve(&path.value),
            }),
            WrittenStoreKind::Redis(redis) => {
                self.lint_replicas(redis);
                Some(StoreKind::Redis {
                    access: Box::new(self.redis_access(redis)?),
                    key_prefix: redis.key_prefix.value.clone(),
                    wait_replicas: redis.wait_replicas.value,
                })
            }
        }
    }

    /// The peppers. A missing file is made only for an embedded store that is not there either: a
    /// new pepper for an old store would find nobody, and with a shared store each gateway would
    /// make its own.
    pub(super) fn peppers(&self, written: &WrittenStore) -> Option<Peppers> {
        let absent_store = match &written.kind {
            WrittenStoreKind::Embedded { path } => {
                let resolved = self.resolve(&path.value);
                (!self.environment.holds_something(&resolved)).then_some((resolved, &path.at))
            }
            WrittenStoreKind::Redis(_) => None,
        };
        let may_create = absent_store.is_some();
        if let Some((store, at)) = &absent_store {
            self.note_beginning(written, store, at);
        }
        let peppers: Option<Vec<Pepper>> = written
            .peppers
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
        if let Some(one_more) = written.peppers.get(MAX_PEPPERS) {
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
    fn note_beginning(&self, written: &WrittenStore, store: &Path, at: &Place) {
        let permission = beginning::permission(store);
        let is_missing = |reference: &Reference| match reference {
            Reference::File(path) | Reference::Generate(path) => self.is_absent(&self.resolve(path)),
            Reference::Variable(_) | Reference::Public(_) => false,
        };
        if written.peppers.iter().all(|pepper| is_missing(&pepper.value)) {
            self.will_permit(permission, at);
        } else if self.purpose == Purpose::Check && !permission.exists() {
            let (then, help) = match self.pepper_place(written) {
                PepperPlace::Beside => (
                    "`durward serve` does not start",
                    "mount its volume or restore a copy; to begin with an empty store, run `durward new-store` first",
                ),
                PepperPlace::Elsewhere => (
                    "`durward serve` begins an empty one, and callers get 503 until a tenant is made",
                    "if this is not the first start, mount its volume or restore a copy; if it is, run `durward tenants create` after it",
                ),
            };
            let message = format!("the store `{}` is not there, though its pepper is: {then}", store.display());
            self.report.warning(at, message, Some(help.to_owned()));
        }
    }

    fn missing_pepper(&self, written: &WrittenStore, pepper: &crate::config::source::Located<Reference>) {
        let (message, help) = match &written.kind {
            WrittenStoreKind::Embedded { .. } => (
                "the pepper is missing, and the store it belongs to is not empty",
                "bring the file back from where it was kept: without it no stored credential can be recognised",
            ),
            WrittenStoreKind::Redis(_) => (
                "the pepper is missing, and a store that gateways share needs the same one everywhere",
                "make it once with `head -c 32 /dev/urandom | base64 > FILE` and give the file to every gateway",
            ),
        };
        self.report.error(&pepper.at, message, Some(help.to_owned()));
    }
}
