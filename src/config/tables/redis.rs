//! Access to a redis store: its addresses, who the gateway is there, and TLS.

use rustls::pki_types::ServerName;
use zeroize::Zeroizing;

use crate::config::reader::shorten;
use crate::config::secret::{Reference, STORE_SCHEMES, is_host_and_port};
use crate::config::source::Located;
use crate::config::written::{WrittenClientTls, WrittenRedis, WrittenRedisPlace, WrittenSentinels};
use crate::store::redis::{Endpoint, RedisAccess, RedisTls, RedisUrl, RedisUser, Scheme, SentinelAccess, Servers, WaitReplicas};

use super::Builder;

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
    /// What a number of replicas risks, where it is known that another server may become the primary.
    pub(super) fn lint_replicas(&self, written: &WrittenRedis) {
        let who = match written.place {
            Some(WrittenRedisPlace::Sentinels(_)) => "the sentinels promote",
            Some(WrittenRedisPlace::Cluster(_)) => "the cluster promotes",
            Some(WrittenRedisPlace::Url(_)) | None => return,
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

    pub(super) fn redis_access(&self, written: &WrittenRedis) -> Option<RedisAccess> {
        let user = self.redis_user(written.username.as_ref(), written.password.as_ref());
        let tls = match &written.tls {
            Some(tls) => Some(self.redis_tls(tls)?),
            None => None,
        };
        match written.place.as_ref()? {
            WrittenRedisPlace::Url(url) => self.access_by_url(written, url, user?, tls),
            WrittenRedisPlace::Cluster(seeds) => Some(RedisAccess {
                servers: Servers::Cluster(self.endpoints(seeds, Endpoint::parse)?),
                user: user?,
                database: 0,
                tls,
            }),
            WrittenRedisPlace::Sentinels(sentinels) => self.access_by_sentinels(sentinels, user?, tls),
        }
    }

    fn access_by_sentinels(&self, written: &WrittenSentinels, user: RedisUser, tls: Option<RedisTls>) -> Option<RedisAccess> {
        let sentinel_user = self.redis_user(written.username.as_ref(), written.password.as_ref());
        let sentinel_tls = match &written.tls {
            Some(tls) => Some(self.redis_tls(tls)?),
            None => tls.clone(),
        };
        Some(RedisAccess {
            servers: Servers::Sentinels(Box::new(SentinelAccess {
                addresses: self.endpoints(&written.addresses, Endpoint::parse_sentinel)?,
                service: written.service.value.clone(),
                user: sentinel_user?,
                tls: sentinel_tls,
            })),
            user,
            database: written.database,
            tls,
        })
    }

    fn access_by_url(
        &self,
        written: &WrittenRedis,
        url: &Located<Reference>,
        user: RedisUser,
        tls: Option<RedisTls>,
    ) -> Option<RedisAccess> {
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
        let named = written
            .username
            .as_ref()
            .map(|n| &n.at)
            .or(written.password.as_ref().map(|p| &p.at));
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

    fn redis_user(&self, name: Option<&Located<String>>, password: Option<&Located<Reference>>) -> Option<RedisUser> {
        let password = match password {
            None => None,
            Some(reference) => {
                let bytes = self.read_secret(reference, "the store's password")?;
                let Ok(text) = std::str::from_utf8(&bytes) else {
                    self.report.error(&reference.at, "the store's password is not UTF-8", None);
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

    fn redis_tls(&self, written: &WrittenClientTls) -> Option<RedisTls> {
        self.verified_tls(Some(written), &written.at)
    }

    fn verified_tls(&self, written: Option<&WrittenClientTls>, at: &crate::config::source::Place) -> Option<RedisTls> {
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
