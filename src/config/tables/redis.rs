//! `[store]` of kind `redis`: one server, sentinels, or a cluster; who the gateway is there, and TLS.

use std::time::Duration;

use rustls::pki_types::ServerName;
use toml::de::DeValue;
use zeroize::Zeroizing;

use crate::config::declare::{SettingValue, absent, count, default, duration, table, url};
use crate::config::reader::{RawEntry, shorten};
use crate::config::schema::ValueKind;
use crate::config::secret::{Reference, STORE_SCHEMES, is_host_and_port};
use crate::config::source::{Located, Span};
use crate::config::units::secs;
use crate::store::redis::{Endpoint, RedisAccess, RedisTls, RedisUrl, RedisUser, Scheme, SentinelAccess, Servers, WaitReplicas};

use super::Builder;
use super::tls::ClientTlsTable;

/// Most sentinels, and most seeds of a cluster: each is asked whenever the primary is looked for.
const MAX_ADDRESSES: usize = 16;

/// Most replicas that a number may ask for: a primary with more is one whose owner should write `all`.
const MAX_AWAITED: u32 = 8;

table! {
    /// One server, sentinels, or a cluster, shared by several gateways.
    pub struct RedisTable = "`[store]` of kind `redis`" {
        /// The server. A URL with a password must be a reference (`env:…`, `file:…`). `valkey://` means
        /// `redis://`, `valkeys://` means `rediss://`, and `host:port` means `redis://host:port`.
        url: Located<Option<Reference>> = absent("one of `url`, `sentinels` and `cluster` is required"), url();
        /// Instead of `url`: `host:port` of every sentinel. More than half of this list must agree about where the
        /// primary is, so name all of them.
        sentinels: Located<Option<Vec<Located<String>>>> = absent("no sentinels");
        /// What the sentinels call the primary.
        service: Located<Option<String>> = absent("required with `sentinels`");
        /// Instead of `url`: `host:port` of some nodes of a Redis Cluster. All keys are in one slot, so one node serves
        /// them.
        cluster: Located<Option<Vec<Located<String>>>> = absent("no cluster");
        /// The ACL user, where the URL names none. Its least rights are in `docs/redis.md`.
        username: Option<Located<String>> = absent("the default user");
        /// Its password.
        password: Located<Option<Reference>> = absent("none");
        /// With `sentinels`: the number of the database. A URL has its own, a cluster has only 0.
        database: Located<u32> = default("0"), count(0, 65_535);
        /// TLS towards the servers; with a URL it must be `rediss://`. An empty table means TLS with the
        /// system's authorities.
        tls: Option<ClientTlsTable> = absent("with `rediss://`, the system's authorities; with `sentinels` and `cluster`, no TLS");
        /// The ACL user of the sentinels.
        sentinel_username: Option<Located<String>> = absent("the default user");
        /// Its password.
        sentinel_password: Located<Option<Reference>> = absent("none");
        /// TLS towards the sentinels, where it differs.
        sentinel_tls: Option<ClientTlsTable> = absent("as `tls`");
        /// The beginning of every key. 1 to 64 letters, digits, `.`, `_`, `:`, `-`.
        key_prefix: Located<String> = default("durward");
        /// Replicas that must have a change before it is acknowledged: all that could be promoted, or a number.
        /// With fewer than all a failover may lose an acknowledged revocation; see [what `wait_replicas`
        /// buys](redis.md#what-wait_replicas-buys).
        wait_replicas: Located<WaitReplicas> = default("all");
        /// How many look-ups in any second may be guesses: those of keys without a MAC (imported, or made before
        /// keys had one) and of names at a log-in, if this gateway has not met them in the last ten minutes. More are
        /// refused with 503 at once. Each address has its part of the number (the number divided by how many addresses
        /// ask). An address that has had less than its part is served beyond the number, up to as many look-ups again.
        /// Keys with a MAC and signed tokens do not count.
        unknown_lookups: u32 = default("500"), count(10, 1_000_000);
        /// How many credentials a gateway reads ahead before it is ready: those that any gateway had in use in
        /// the last fifteen minutes, the most recently used first, at most `cache_entries`. Gateways list them in Redis
        /// by fingerprint, at most 128,000 in 12 MiB. 0 reads and lists none.
        warm_start: usize = default("100000"), count(0, 1_000_000);
        /// How many credentials a second a gateway reads ahead at most. Gateways that start together take as much
        /// each. What it costs Redis is in [scale.md](scale.md#a-gateway-that-starts).
        warm_start_rate: u32 = default("20000"), count(100, 1_000_000);
        /// The longest time that reading ahead may delay readiness.
        warm_start_time: Duration = default("10s"), duration(secs(1), secs(300));
    }
}

/// The word `all`, or a number.
impl SettingValue for WaitReplicas {
    const KIND: ValueKind = ValueKind::Either(
        "`\"all\"`, or a number, 0 to 8",
        &[
            ValueKind::Choice(&["all"]),
            ValueKind::Count {
                min: 0,
                max: MAX_AWAITED as u64,
            },
        ],
    );

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        let name = entry.key.name;
        match entry.value {
            DeValue::String(word) if word == "all" => Some(Self::All),
            DeValue::String(word) => entry.error(
                format!("`{name}` cannot be `{}`", shorten(word)),
                format!("write `{name} = \"all\"`, or a number from 0 to {MAX_AWAITED} without quotes"),
            ),
            DeValue::Integer(_) => {
                let number = entry.number().and_then(|number| u32::try_from(number).ok());
                match number.filter(|number| *number <= MAX_AWAITED) {
                    Some(number) => Some(Self::Count(number)),
                    None => entry.error(
                        format!("`{name}` must be \"all\", or 0 to {MAX_AWAITED}"),
                        "\"all\" has no bound: it waits for each replica that could be promoted".to_owned(),
                    ),
                }
            }
            _ => entry.wrong(),
        }
    }
}

pub(super) enum RedisServers<'r> {
    Url(Located<Reference>),
    /// Addresses of sentinels, and what they call the primary.
    Sentinels(&'r [Located<String>], &'r str),
    Cluster(&'r [Located<String>]),
}

/// The URL as the client takes it: Valkey's schemes are Redis' by another name, and `host:port` is a URL without its scheme.
fn store_url(text: &str) -> Option<Zeroizing<String>> {
    if is_host_and_port(text) {
        return Some(Zeroizing::new(format!("redis://{text}")));
    }
    let (scheme, own) = STORE_SCHEMES.iter().find(|(scheme, _)| text.starts_with(scheme))?;
    Some(Zeroizing::new(text.replacen(scheme, own, 1)))
}

/// What would have been right, by the scheme that was written: only known ones, since the rest may be a part of a password.
fn how_to_write(scheme: Option<&str>) -> &'static str {
    match scheme {
        Some("unix" | "redis+unix" | "redis-socket") => "Unix sockets (`redis+unix`) are not supported: write host and port of the server",
        Some("tls" | "redis+tls" | "redis+ssl" | "https" | "valkey+tls") => "with TLS write rediss://user:password@host:6379/0",
        Some("tcp" | "http" | "redis+tcp") => "without TLS write redis://user:password@host:6379/0",
        Some("redis-sentinel" | "redis+sentinel") => {
            "leave `url` out, and name the sentinels: sentinels = [\"host:26379\"], service = \"…\""
        }
        Some("redis-cluster" | "redis+cluster") => "leave `url` out, and name some nodes: cluster = [\"host:6379\"]",
        _ => "for example redis://user:password@host:6379/0, or host:6379; rediss:// means TLS; valkey:// and valkeys:// work too",
    }
}

impl Builder<'_> {
    /// Where the store is, which exactly one of three keys says.
    pub(super) fn redis_servers<'r>(&self, redis: &'r RedisTable, kind: &Span) -> Option<RedisServers<'r>> {
        let places = [&redis.url.at, &redis.sentinels.at, &redis.cluster.at];
        let named: Vec<&Span> = places.into_iter().filter(|at| **at != redis.at).collect();
        if named.len() != 1 {
            let (at, message) = match named.get(1) {
                Some(second) => (*second, "one of `url`, `sentinels` and `cluster` says where the store is"),
                None => (kind, "the redis store needs `url`, `sentinels` or `cluster`"),
            };
            self.report.error(
                at,
                message,
                Some("for example `url = \"env:REDIS_URL\"`, or `url = \"redis://127.0.0.1:6379\"` where no password is needed".to_owned()),
            );
            return None;
        }
        if redis.sentinels.at != redis.at {
            let service = self.service(redis);
            let addresses = self.addresses("sentinels", &redis.sentinels)?;
            return Some(RedisServers::Sentinels(addresses, service?));
        }
        self.refuse_keys_of_sentinels(redis);
        if redis.cluster.at != redis.at {
            return self.addresses("cluster", &redis.cluster).map(RedisServers::Cluster);
        }
        let Located { value, at } = &redis.url;
        let url = value.clone()?;
        Some(RedisServers::Url(Located {
            value: url,
            at: at.clone(),
        }))
    }

    fn refuse_keys_of_sentinels(&self, redis: &RedisTable) {
        let of_sentinels = [
            ("service", &redis.service.at),
            ("database", &redis.database.at),
            (
                "sentinel_username",
                redis.sentinel_username.as_ref().map_or(&redis.at, |name| &name.at),
            ),
            ("sentinel_password", &redis.sentinel_password.at),
            ("sentinel_tls", redis.sentinel_tls.as_ref().map_or(&redis.at, |tls| &tls.at)),
        ];
        for (name, at) in of_sentinels.into_iter().filter(|(_, at)| **at != redis.at) {
            let help = if name == "database" {
                "a URL names its database at its end (`redis://host/2`); a cluster has only one"
            } else {
                "remove it, or name the sentinels"
            };
            self.report
                .error(at, format!("`{name}` belongs to `sentinels`"), Some(help.to_owned()));
        }
    }

    fn service<'r>(&self, redis: &'r RedisTable) -> Option<&'r str> {
        let Located { value, at } = &redis.service;
        if *at == redis.at {
            self.report.error(
                &redis.sentinels.at,
                "`sentinels` need `service`",
                Some("it is the name after `sentinel monitor` in their configuration".to_owned()),
            );
        }
        let service = value.as_deref()?;
        // What Sentinel itself takes.
        let valid = (1..=128).contains(&service.len())
            && service
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if !valid {
            self.report.error(
                at,
                format!("`{}` cannot be the name of a service", shorten(service)),
                Some("1 to 128 of A-Z a-z 0-9 . _ -".to_owned()),
            );
        }
        valid.then_some(service)
    }

    fn addresses<'r>(&self, name: &str, written: &'r Located<Option<Vec<Located<String>>>>) -> Option<&'r [Located<String>]> {
        let texts = written.value.as_deref()?;
        if texts.is_empty() || texts.len() > MAX_ADDRESSES {
            self.report
                .error(&written.at, format!("`{name}` names 1 to {MAX_ADDRESSES} servers"), None);
        }
        for (i, text) in texts.iter().enumerate() {
            if texts.iter().take(i).any(|before| before.value == text.value) {
                // One server would have two votes.
                self.report.error(
                    &text.at,
                    format!("`{}` is named twice", shorten(&text.value)),
                    Some("remove one".to_owned()),
                );
            }
        }
        Some(texts)
    }

    /// What holds of a redis store wherever it is.
    pub(super) fn check_redis(&self, redis: &RedisTable) {
        let users = [
            ("username", &redis.username, "password", &redis.password.at),
            (
                "sentinel_username",
                &redis.sentinel_username,
                "sentinel_password",
                &redis.sentinel_password.at,
            ),
        ];
        for (name, user, password, at) in users {
            if let (Some(user), true) = (user, *at == redis.at) {
                self.report.error(
                    &user.at,
                    format!("`{name}` needs `{password}`"),
                    Some("add a reference: `file:…` or `env:…`".to_owned()),
                );
            }
        }
        let prefix = &redis.key_prefix;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
        if !(1..=64).contains(&prefix.value.len()) || !prefix.value.bytes().all(plain) {
            self.report.error(
                &prefix.at,
                format!("`{}` cannot be a key prefix", shorten(&prefix.value)),
                Some("1 to 64 of A-Z a-z 0-9 . _ : -".to_owned()),
            );
        }
    }

    /// What a number of replicas risks, where it is known that another server may become the primary.
    pub(super) fn lint_replicas(&self, written: &RedisTable, servers: &RedisServers<'_>) {
        let who = match servers {
            RedisServers::Sentinels(..) => "the sentinels promote",
            RedisServers::Cluster(_) => "the cluster promotes",
            RedisServers::Url(_) => return,
        };
        let at = &written.wait_replicas.at;
        match written.wait_replicas.value {
            WaitReplicas::All => {}
            WaitReplicas::Count(0) => self.report.warning(
                at,
                format!("no change waits for a replica: when {who} one, acknowledged revocations may be lost for ever"),
                Some("write `wait_replicas = \"all\"`, which is the default".to_owned()),
            ),
            WaitReplicas::Count(number) => self.report.note(
                at,
                format!(
                    "with more than {number} replica{} that could be promoted, {who} one that may not have what was acknowledged",
                    if number == 1 { "" } else { "s" }
                ),
                Some("`wait_replicas = \"all\"`, which is the default, waits for each that could be promoted".to_owned()),
            ),
        }
    }

    pub(super) fn redis_access(&self, written: &RedisTable, servers: RedisServers<'_>) -> Option<RedisAccess> {
        let user = self.redis_user(written.username.as_ref(), &written.password);
        let tls = match &written.tls {
            Some(tls) => Some(self.redis_tls(tls)?),
            None => None,
        };
        match servers {
            RedisServers::Url(url) => self.access_by_url(written, &url, user?, tls),
            RedisServers::Cluster(seeds) => Some(RedisAccess {
                servers: Servers::Cluster(self.endpoints(seeds, Endpoint::parse)?),
                user: user?,
                database: 0,
                tls,
            }),
            RedisServers::Sentinels(addresses, service) => {
                let sentinel_user = self.redis_user(written.sentinel_username.as_ref(), &written.sentinel_password);
                let sentinel_tls = match &written.sentinel_tls {
                    Some(tls) => Some(self.redis_tls(tls)?),
                    None => tls.clone(),
                };
                Some(RedisAccess {
                    servers: Servers::Sentinels(Box::new(SentinelAccess {
                        addresses: self.endpoints(addresses, Endpoint::parse_sentinel)?,
                        service: service.to_owned(),
                        user: sentinel_user?,
                        tls: sentinel_tls,
                    })),
                    user: user?,
                    database: written.database.value,
                    tls,
                })
            }
        }
    }

    fn access_by_url(&self, written: &RedisTable, url: &Located<Reference>, user: RedisUser, tls: Option<RedisTls>) -> Option<RedisAccess> {
        let bytes = self.read_secret(url, "the store's URL")?;
        let Some(text) = std::str::from_utf8(&bytes).ok().and_then(store_url) else {
            let scheme = std::str::from_utf8(&bytes)
                .ok()
                .and_then(|text| text.split_once("://"))
                .map(|(scheme, _)| scheme);
            self.report.error(
                &url.at,
                "the store's URL must begin with `redis://` or `rediss://`",
                Some(how_to_write(scheme).to_owned()),
            );
            return None;
        };
        let mut parsed = match RedisUrl::parse(&text.as_str().into()) {
            Ok(parsed) => parsed,
            Err(reason) => {
                self.report.error(&url.at, reason, None);
                return None;
            }
        };
        let password = &written.password;
        let named = written
            .username
            .as_ref()
            .map(|n| &n.at)
            .or(password.value.as_ref().map(|_| &password.at));
        if let Some(at) = named {
            if parsed.user != RedisUser::default() {
                self.report.error(
                    at,
                    "the URL names a user already",
                    Some("write user and password in one of the two places".to_owned()),
                );
                return None;
            }
            parsed.user = user;
        }
        let tls = match (parsed.scheme, tls, &written.tls) {
            (Scheme::Tls, None, _) => Some(self.verified_tls(None, &url.at)?),
            (Scheme::Tls, tls, _) => tls,
            (Scheme::Plain, _, Some(table)) => {
                self.report.error(
                    &table.at,
                    "`tls` needs a URL that begins with `rediss://`",
                    Some("the URL asks for a connection without TLS".to_owned()),
                );
                return None;
            }
            (Scheme::Plain, _, None) => None,
        };
        Some(parsed.into_access(tls))
    }

    fn redis_user(&self, name: Option<&Located<String>>, password: &Located<Option<Reference>>) -> Option<RedisUser> {
        let at = &password.at;
        let password = match &password.value {
            None => None,
            Some(reference) => {
                let reference = Located {
                    value: reference.clone(),
                    at: at.clone(),
                };
                let bytes = self.read_secret(&reference, "the store's password")?;
                let Ok(text) = std::str::from_utf8(&bytes) else {
                    self.report.error(at, "the store's password is not UTF-8", None);
                    return None;
                };
                Some(text.into())
            }
        };
        Some(RedisUser {
            name: name.map(|name| name.value.clone()),
            password,
        })
    }

    fn endpoints(&self, written: &[Located<String>], parse: fn(&str) -> Option<Endpoint>) -> Option<Vec<Endpoint>> {
        let read = written.iter().map(|text| {
            let endpoint = parse(&text.value);
            if endpoint.is_none() {
                self.report.error(
                    &text.at,
                    format!("`{}` is not a server", shorten(&text.value)),
                    Some("write `host:port`; an IPv6 address in brackets".to_owned()),
                );
            }
            endpoint
        });
        // All of them are looked at, so that every mistake is found.
        read.collect::<Vec<_>>().into_iter().collect()
    }

    fn redis_tls(&self, written: &ClientTlsTable) -> Option<RedisTls> {
        self.verified_tls(Some(written), &written.at)
    }

    fn verified_tls(&self, written: Option<&ClientTlsTable>, at: &crate::config::source::Span) -> Option<RedisTls> {
        let server_name = match written.and_then(|tls| tls.server_name.as_ref()) {
            None => None,
            Some(name) => match ServerName::try_from(name.value.clone()) {
                Ok(parsed) => Some(parsed),
                Err(_) => {
                    self.report
                        .error(&name.at, format!("`{}` cannot be a server's name", shorten(&name.value)), None);
                    return None;
                }
            },
        };
        let (config, digest) = self.client_tls(written, at)?;
        Some(RedisTls {
            config: config.into(),
            server_name,
            digest,
        })
    }
}
