//! `[store]`: where credentials are kept, the peppers, and how old facts may become.

use std::time::Duration;

use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::secret::Reference;
use crate::config::source::Located;
use crate::config::units::{millis, secs};

use super::gateway::sub_or_default;
pub use redis::{STORE_TLS, WrittenRedis, WrittenRedisPlace, WrittenSentinels};

mod redis;

/// `[store]`.
pub const STORE: Schema = Schema {
    parts: &[],
    name: "`[store]`",
    about: "`embedded` is one file for one gateway; `redis` is shared by several (Redis or Valkey, `noeviction`).",
    keys: &[
        Key {
            name: "kind",
            kind: Kind::Choice(&["embedded", "redis"]),
            default: Fallback::Value("embedded"),
            about: "Which store.",
        },
        Key {
            name: "path",
            kind: Kind::Path,
            default: Fallback::Value("state/durward.redb"),
            about: "`embedded`: the file. Created on the first start, together with the pepper; see [a store that is not there](operations.md#a-store-that-is-not-there).",
        },
        Key {
            name: "url",
            kind: Kind::Url,
            default: Fallback::Absent("one of `url`, `sentinels` and `cluster` is required with `redis`"),
            about: "`redis`: the server. A URL with a password must be a reference (`env:…`, `file:…`). `valkey://` means `redis://`, `valkeys://` means `rediss://`, and `host:port` means `redis://host:port`.",
        },
        Key {
            name: "sentinels",
            kind: Kind::Texts,
            default: Fallback::Absent("no sentinels"),
            about: "Instead of `url`: `host:port` of every sentinel. More than half of this list must agree about where the primary is, so name all of them.",
        },
        Key {
            name: "service",
            kind: Kind::Text,
            default: Fallback::Absent("required with `sentinels`"),
            about: "What the sentinels call the primary.",
        },
        Key {
            name: "cluster",
            kind: Kind::Texts,
            default: Fallback::Absent("no cluster"),
            about: "Instead of `url`: `host:port` of some nodes of a Redis Cluster. All keys are in one slot, so one node serves them.",
        },
        Key {
            name: "username",
            kind: Kind::Text,
            default: Fallback::Absent("the default user"),
            about: "`redis`: the ACL user, where the URL names none. Its least rights are in `docs/redis.md`.",
        },
        Key {
            name: "password",
            kind: Kind::Secret,
            default: Fallback::Absent("none"),
            about: "`redis`: its password.",
        },
        Key {
            name: "database",
            kind: Kind::Count { min: 0, max: 65_535 },
            default: Fallback::Value("0"),
            about: "With `sentinels`: the number of the database. A URL has its own, a cluster has only 0.",
        },
        Key {
            name: "tls",
            kind: Kind::Table(&STORE_TLS),
            default: Fallback::Absent("with `rediss://`, the system's authorities; with `sentinels` and `cluster`, no TLS"),
            about: "`redis`: TLS towards the servers; with a URL it must be `rediss://`. An empty table means TLS with the system's authorities.",
        },
        Key {
            name: "sentinel_username",
            kind: Kind::Text,
            default: Fallback::Absent("the default user"),
            about: "The ACL user of the sentinels.",
        },
        Key {
            name: "sentinel_password",
            kind: Kind::Secret,
            default: Fallback::Absent("none"),
            about: "Its password.",
        },
        Key {
            name: "sentinel_tls",
            kind: Kind::Table(&STORE_TLS),
            default: Fallback::Absent("as `tls`"),
            about: "TLS towards the sentinels, where it differs.",
        },
        Key {
            name: "key_prefix",
            kind: Kind::Text,
            default: Fallback::Value("durward"),
            about: "`redis`: the beginning of every key. 1 to 64 letters, digits, `.`, `_`, `:`, `-`.",
        },
        Key {
            name: "wait_replicas",
            kind: Kind::Either("`\"all\"`, or a number, 0 to 8", &[]),
            default: Fallback::Value("all"),
            about: "`redis`: replicas that must have a change before it is acknowledged: all that could be promoted, or a number. With fewer than all a failover may lose an acknowledged revocation; see [what `wait_replicas` buys](redis.md#what-wait_replicas-buys).",
        },
        Key {
            name: "pepper",
            kind: Kind::Secrets,
            default: Fallback::Value("file:state/pepper"),
            about: "The secret that turns credentials into fingerprints, at least 32 bytes, kept apart from the store; the first makes new fingerprints, all are tried; at most 8. All under which credentials may be in force are needed, on every gateway: see [a new pepper](operations.md#a-new-pepper). Of an empty embedded store a missing file is created by `durward serve`.",
        },
        Key {
            name: "max_age",
            kind: Kind::Duration {
                min: secs(1),
                max: secs(54),
            },
            default: Fallback::Value("30s"),
            about: "Oldest fact that may be used; at most the revocation bound less 5 s, which are kept for stalls, and 1 s for the shortest `stream_check`.",
        },
        Key {
            name: "absent_age",
            kind: Kind::Duration {
                min: millis(0),
                max: secs(5),
            },
            default: Fallback::Value("5s"),
            about: "How long an unknown credential is remembered as absent. A key created meanwhile is pushed; 5 s bounds what a lost push may cost.",
        },
        Key {
            name: "lookup_timeout",
            kind: Kind::Duration {
                min: millis(10),
                max: secs(5),
            },
            default: Fallback::Value("250ms"),
            about: "Deadline of one look-up. A caller waits this long before 503 when the store hangs.",
        },
        Key {
            name: "max_lookups",
            kind: Kind::Count { min: 1, max: 65_536 },
            default: Fallback::Value("512"),
            about: "Look-ups in flight; more are refused with 503 at once.",
        },
        Key {
            name: "keep_ended",
            kind: Kind::Duration {
                min: Duration::from_secs(3_600),
                max: Duration::from_secs(3_650 * 24 * 3_600),
            },
            default: Fallback::Value("30d"),
            about: "How long a credential that ended by itself (expired, or not used for too long) can still be listed and shown; then its record is forgotten. Those that were revoked and had no end of their own are kept for ever.",
        },
        Key {
            name: "unknown_lookups",
            kind: Kind::Count { min: 10, max: 1_000_000 },
            default: Fallback::Value("500"),
            about: "`redis`: how many look-ups in any second may be guesses: those of keys without a MAC (imported, or made before keys had one) and of names at a log-in, if this gateway has not met them in the last ten minutes. More are refused with 503 at once. Each address has its part of the number (the number divided by how many addresses ask). An address that has had less than its part is served beyond the number, up to as many look-ups again. Keys with a MAC and signed tokens do not count.",
        },
        Key {
            name: "warm_start",
            kind: Kind::Count { min: 0, max: 1_000_000 },
            default: Fallback::Value("100000"),
            about: "`redis`: how many credentials a gateway reads ahead before it is ready: those that any gateway had in use in the last fifteen minutes, the most recently used first, at most `cache_entries`. Gateways list them in Redis by fingerprint, at most 128,000 in 12 MiB. 0 reads and lists none.",
        },
        Key {
            name: "warm_start_time",
            kind: Kind::Duration {
                min: Duration::from_secs(1),
                max: Duration::from_secs(300),
            },
            default: Fallback::Value("10s"),
            about: "`redis`: the longest time that reading ahead may delay readiness. A gateway reads some 10,000 credentials a second.",
        },
        Key {
            name: "cache_entries",
            kind: Kind::Count {
                min: 1_000,
                max: 10_000_000,
            },
            default: Fallback::Value("100000"),
            about: "Credentials remembered, about 1 KiB each.",
        },
        Key {
            name: "absent_entries",
            kind: Kind::Count {
                min: 1_000,
                max: 10_000_000,
            },
            default: Fallback::Value("50000"),
            about: "Absences remembered, in a memory of their own that cannot push real credentials out.",
        },
    ],
};

/// `[store]` as written.
#[derive(Debug)]
pub struct WrittenStore {
    /// Which store.
    pub kind: WrittenStoreKind,
    /// Where `kind` stands.
    pub kind_at: crate::config::source::Place,
    /// Peppers.
    pub peppers: Vec<Located<Reference>>,
    /// Oldest usable fact.
    pub max_age: Located<Duration>,
    /// How long an absence is remembered.
    pub absent_age: Duration,
    /// Deadline of one look-up.
    pub lookup_timeout: Duration,
    /// Look-ups in flight.
    pub max_lookups: usize,
    /// How long what ended by itself is kept.
    pub keep_ended: Duration,
    /// Look-ups a second of credentials not met lately; of a Redis store only.
    pub unknown_lookups: Option<u32>,
    /// Credentials read ahead at a start.
    pub warm_start: usize,
    /// How long that may take.
    pub warm_start_time: Duration,
    /// Credentials remembered.
    pub cache_entries: u64,
    /// Absences remembered.
    pub absent_entries: u64,
}

/// Which store, as written.
#[derive(Debug)]
pub enum WrittenStoreKind {
    /// A redb file.
    Embedded {
        /// Its path.
        path: Located<String>,
    },
    /// Redis or Valkey.
    Redis(Box<WrittenRedis>),
}

/// Reads `[store]` of `gateway.toml`.
#[must_use]
pub fn read(gateway: &Section<'_>) -> WrittenStore {
    sub_or_default(gateway, "store", &STORE, read_section)
}

fn read_section(section: &Section<'_>) -> WrittenStore {
    let kind = section.choice("kind");
    let is_redis = kind.value == "redis";
    let foreign: &[&str] = if is_redis { &["path"] } else { &redis::KEYS };
    for name in foreign.iter().filter(|n| section.raw(n).is_some()) {
        section.report().error(
            &section.place_of(name),
            format!("`{name}` does not belong to the {} store", kind.value),
            Some("remove it, or change `kind`".to_owned()),
        );
    }
    let size = |name| usize::try_from(section.count_or_default(name)).unwrap_or(usize::MAX);
    let mut peppers = Reference::read_list(section, "pepper");
    if peppers.is_empty() {
        peppers.extend(
            Reference::parse("file:state/pepper")
                .ok()
                .map(|value| Located { value, at: section.at() }),
        );
    }
    WrittenStore {
        kind: if is_redis {
            WrittenStoreKind::Redis(Box::new(redis::read(section)))
        } else {
            WrittenStoreKind::Embedded {
                path: section.text_or_default("path"),
            }
        },
        kind_at: kind.at,
        peppers,
        max_age: section.duration_or_default("max_age"),
        absent_age: section.duration_or_default("absent_age").value,
        lookup_timeout: section.duration_or_default("lookup_timeout").value,
        max_lookups: size("max_lookups"),
        keep_ended: section.duration_or_default("keep_ended").value,
        unknown_lookups: is_redis.then(|| u32::try_from(section.count_or_default("unknown_lookups")).unwrap_or(u32::MAX)),
        warm_start: if is_redis { size("warm_start") } else { 0 },
        warm_start_time: section.duration_or_default("warm_start_time").value,
        cache_entries: section.count_or_default("cache_entries"),
        absent_entries: section.count_or_default("absent_entries"),
    }
}
