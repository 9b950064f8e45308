//! `[store]` with `kind = "redis"`: one server, sentinels, or a cluster, and who the gateway is there.

use toml::de::DeValue;

use crate::config::reader::{Section, shorten};
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::secret::Reference;
use crate::config::source::Located;
use crate::config::written::client_tls::{self, WrittenClientTls};
use crate::store::redis::WaitReplicas;

/// What belongs to no other store.
pub(super) const KEYS: [&str; 16] = [
    "url",
    "sentinels",
    "service",
    "cluster",
    "username",
    "password",
    "database",
    "tls",
    "sentinel_username",
    "sentinel_password",
    "sentinel_tls",
    "key_prefix",
    "wait_replicas",
    "unknown_lookups",
    "warm_start",
    "warm_start_time",
];

/// Most sentinels, and most seeds of a cluster: each is asked whenever the primary is looked for.
const MAX_ADDRESSES: usize = 16;

/// Most replicas that a number may ask for: a primary with more is one whose owner should write `all`.
const MAX_AWAITED: u32 = 8;

/// TLS of a store.
pub const STORE_TLS: Schema = Schema {
    parts: &[],
    name: "`[store.tls]` and `[store.sentinel_tls]`",
    about: "Certificates of servers are always verified. Read at the start: new ones need a restart.",
    keys: &[
        Key {
            name: "ca",
            kind: Kind::Path,
            default: Fallback::Absent("the system's authorities"),
            about: "PEM file of the only authorities trusted for these servers.",
        },
        Key {
            name: "client_cert",
            kind: Kind::Path,
            default: Fallback::Absent("none"),
            about: "PEM chain the gateway presents; together with `client_key`.",
        },
        Key {
            name: "client_key",
            kind: Kind::Secret,
            default: Fallback::Absent("none"),
            about: "Its key.",
        },
        Key {
            name: "server_name",
            kind: Kind::Text,
            default: Fallback::Absent("the host that is connected to"),
            about: "The name the servers' certificates must have. Needed where sentinels or a cluster announce addresses that are not in the certificates.",
        },
    ],
};

/// Redis as written.
#[derive(Debug)]
pub struct WrittenRedis {
    /// How the primary is found; `None` when that is not said, which is reported.
    pub place: Option<WrittenRedisPlace>,
    /// The ACL user.
    pub username: Option<Located<String>>,
    /// Its password.
    pub password: Option<Located<Reference>>,
    /// TLS.
    pub tls: Option<WrittenClientTls>,
    /// Beginning of every key.
    pub key_prefix: Located<String>,
    /// Replicas to wait for, with its place if it is written.
    pub wait_replicas: Located<WaitReplicas>,
}

/// How the primary is found, as written.
#[derive(Debug)]
pub enum WrittenRedisPlace {
    /// One server.
    Url(Located<Reference>),
    /// Sentinels.
    Sentinels(Box<WrittenSentinels>),
    /// Nodes of a cluster.
    Cluster(Vec<Located<String>>),
}

/// Sentinels as written.
#[derive(Debug)]
pub struct WrittenSentinels {
    /// Their addresses.
    pub addresses: Vec<Located<String>>,
    /// The primary's name there.
    pub service: Located<String>,
    /// The database.
    pub database: u32,
    /// The ACL user there.
    pub username: Option<Located<String>>,
    /// Its password.
    pub password: Option<Located<Reference>>,
    /// TLS towards them.
    pub tls: Option<WrittenClientTls>,
}

/// Reads the keys of a redis store.
pub(super) fn read(section: &Section<'_>) -> WrittenRedis {
    let place = read_place(section);
    let written = WrittenRedis {
        place,
        username: section.text("username"),
        password: Reference::read(section, "password"),
        tls: client_tls::read(section, "tls"),
        key_prefix: read_prefix(section),
        wait_replicas: read_wait_replicas(section),
    };
    for (name, password) in [("username", "password"), ("sentinel_username", "sentinel_password")] {
        if section.raw(name).is_some() && section.raw(password).is_none() {
            section.report().error(
                &section.place_of(name),
                format!("`{name}` needs `{password}`"),
                Some("add a reference: `file:…` or `env:…`".to_owned()),
            );
        }
    }
    written
}

fn read_place(section: &Section<'_>) -> Option<WrittenRedisPlace> {
    let named: Vec<&str> = ["url", "sentinels", "cluster"]
        .into_iter()
        .filter(|name| section.raw(name).is_some())
        .collect();
    let [one] = named.as_slice() else {
        let (at, message) = match named.get(1) {
            Some(second) => (
                section.place_of(second),
                "one of `url`, `sentinels` and `cluster` says where the store is",
            ),
            None => (section.place_of("kind"), "the redis store needs `url`, `sentinels` or `cluster`"),
        };
        section.report().error(
            &at,
            message,
            Some("for example `url = \"env:REDIS_URL\"`, or `url = \"redis://127.0.0.1:6379\"` where no password is needed".to_owned()),
        );
        return None;
    };
    if *one != "sentinels" {
        refuse_keys_of_sentinels(section);
    }
    match *one {
        "url" => Reference::read_url(section, "url").map(WrittenRedisPlace::Url),
        "cluster" => Some(WrittenRedisPlace::Cluster(addresses(section, "cluster"))),
        _ => Some(WrittenRedisPlace::Sentinels(Box::new(WrittenSentinels {
            addresses: addresses(section, "sentinels"),
            database: small(section.count_or_default("database")),
            username: section.text("sentinel_username"),
            password: Reference::read(section, "sentinel_password"),
            tls: client_tls::read(section, "sentinel_tls"),
            service: read_service(section)?,
        }))),
    }
}

fn refuse_keys_of_sentinels(section: &Section<'_>) {
    let foreign = ["service", "database", "sentinel_username", "sentinel_password", "sentinel_tls"];
    for name in foreign.into_iter().filter(|name| section.raw(name).is_some()) {
        section.report().error(
            &section.place_of(name),
            format!("`{name}` belongs to `sentinels`"),
            Some(if name == "database" {
                "a URL names its database at its end (`redis://host/2`); a cluster has only one".to_owned()
            } else {
                "remove it, or name the sentinels".to_owned()
            }),
        );
    }
}

fn read_service(section: &Section<'_>) -> Option<Located<String>> {
    if section.raw("service").is_none() {
        section.report().error(
            &section.place_of("sentinels"),
            "`sentinels` need `service`",
            Some("it is the name after `sentinel monitor` in their configuration".to_owned()),
        );
    }
    let service = section.text("service")?;
    // What Sentinel itself takes.
    let valid = (1..=128).contains(&service.value.len())
        && service
            .value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if !valid {
        section.report().error(
            &service.at,
            format!("`{}` cannot be the name of a service", shorten(&service.value)),
            Some("1 to 128 of A-Z a-z 0-9 . _ -".to_owned()),
        );
        return None;
    }
    Some(service)
}

fn addresses(section: &Section<'_>, name: &str) -> Vec<Located<String>> {
    let texts = section.texts(name);
    if texts.is_empty() || texts.len() > MAX_ADDRESSES {
        section.report().error(
            &section.place_of(name),
            format!("`{name}` names 1 to {MAX_ADDRESSES} servers"),
            None,
        );
    }
    for (i, text) in texts.iter().enumerate() {
        if texts.iter().take(i).any(|before| before.value == text.value) {
            // One server would have two votes.
            section.report().error(
                &text.at,
                format!("`{}` is named twice", shorten(&text.value)),
                Some("remove one".to_owned()),
            );
        }
    }
    texts
}

fn read_prefix(section: &Section<'_>) -> Located<String> {
    let key_prefix = section.text_or_default("key_prefix");
    let valid = (1..=64).contains(&key_prefix.value.len())
        && key_prefix
            .value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'));
    if !valid {
        section.report().error(
            &key_prefix.at,
            format!("`{}` cannot be a key prefix", shorten(&key_prefix.value)),
            Some("1 to 64 of A-Z a-z 0-9 . _ : -".to_owned()),
        );
    }
    key_prefix
}

/// The word `all`, or a number; all without the key, and where what is written is wrong.
fn read_wait_replicas(section: &Section<'_>) -> Located<WaitReplicas> {
    let name = "wait_replicas";
    let all = Located {
        value: WaitReplicas::All,
        at: section.place_of(name),
    };
    let Some(value) = section.raw(name) else { return all };
    let number = match value.get_ref() {
        DeValue::String(word) if word == "all" => return all,
        DeValue::String(word) => {
            section.report().error(
                &section.place(value),
                format!("`{name}` cannot be `{}`", shorten(word)),
                Some(format!(
                    "write `{name} = \"all\"`, or a number from 0 to {MAX_AWAITED} without quotes"
                )),
            );
            return all;
        }
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).ok(),
        other => return section.wrong(name, value, other).unwrap_or(all),
    };
    match number
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| *number <= MAX_AWAITED)
    {
        Some(number) => all.map(|_| WaitReplicas::Count(number)),
        None => {
            section.report().error(
                &section.place(value),
                format!("`{name}` must be \"all\", or 0 to {MAX_AWAITED}"),
                Some("\"all\" has no bound: it waits for each replica that could be promoted".to_owned()),
            );
            all
        }
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
