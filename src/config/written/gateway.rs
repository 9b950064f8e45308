//! `gateway.toml`: listeners, operator side, logs, identity headers, proxies; other tables have their own files.

use std::net::SocketAddr;

use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::source::Located;
use crate::config::units::secs;
use crate::decide::headers::OddNames;
use crate::snapshot::{AccessLog, HashPlaces, Limits, LogFormat, LogSettings};

use super::cors::{self, CORS, WrittenCors};
use super::dialect::{self, DIALECT, WrittenDialect};
use super::limits::{self, LIMITS};
use super::listener::{self, LISTENER, WrittenListener};
use super::log_in::{self, LOG_IN, SIGN_UP, WrittenLogIn};
use super::rate::{self, RATE_LIMIT, WrittenRateLimit};
use super::role::{self, ROLE, WrittenRole};
use super::route::{self, ROUTE, WrittenRoute};
use super::store::{self, STORE, WrittenStore};
use super::surface::{self, SURFACE, WrittenSurface};

/// All of `gateway.toml`.
pub const GATEWAY: Schema = Schema {
    parts: &[],
    name: "`gateway.toml`",
    about: "The gateway itself. Services and their routes are in the files of the `upstreams` directory.",
    keys: &[
        Key {
            name: "id",
            kind: Kind::Text,
            default: Fallback::Absent("made of the host's name, the process id and a random part"),
            about: "This gateway's name in receipts (`durward gateways`, `--wait`). No two that share a store may have the same: the later one admits nobody. One that is restarted takes its own over.",
        },
        Key {
            name: "workers",
            kind: Kind::Count { min: 1, max: 256 },
            default: Fallback::Absent("one for each core"),
            about: "Threads that carry requests. More than cores only costs memory.",
        },
        Key {
            name: "upstreams",
            kind: Kind::Path,
            default: Fallback::Value("upstreams"),
            about: "The directory with one `*.toml` file for each service, read in the order of their names.",
        },
        Key {
            name: "dialect",
            kind: Kind::Text,
            default: Fallback::Value("problem"),
            about: "The dialect of refusals before a route is found, and of upstreams that name none.",
        },
        Key {
            name: "listeners",
            kind: Kind::Tables(&LISTENER),
            default: Fallback::Required,
            about: "Where clients connect. At least one.",
        },
        Key {
            name: "store",
            kind: Kind::Table(&STORE),
            default: Fallback::Absent("the embedded store under `state/`"),
            about: "Where credentials are kept, and how old facts about them may become.",
        },
        Key {
            name: "revocation",
            kind: Kind::Table(&REVOCATION),
            default: Fallback::Absent("a bound of 60 s"),
            about: "The promise about revoked credentials.",
        },
        Key {
            name: "admin",
            kind: Kind::Table(&ADMIN),
            default: Fallback::Absent("a socket under `state/`, no probes over TCP"),
            about: "The operator's side. Nothing of it is reachable through a listener.",
        },
        Key {
            name: "limits",
            kind: Kind::Table(&LIMITS),
            default: Fallback::Absent("the defaults below"),
            about: "Bounds of connections, requests and waits.",
        },
        Key {
            name: "log_in",
            kind: Kind::Table(&LOG_IN),
            default: Fallback::Absent("the defaults below"),
            about: "How many passwords may be tried, and how many are hashed at a time.",
        },
        Key {
            name: "sign_up",
            kind: Kind::Table(&SIGN_UP),
            default: Fallback::Absent("the defaults below"),
            about: "How many passwords of sign-ups are hashed at a time.",
        },
        Key {
            name: "rate_limits",
            kind: Kind::Tables(&RATE_LIMIT),
            default: Fallback::Absent("none"),
            about: "Rate limits of every route that has no `limits` of its own, counted for each route apart. On public routes those by `credential` and `tenant` do not count.",
        },
        Key {
            name: "cors",
            kind: Kind::Table(&CORS),
            default: Fallback::Absent("pages of other origins read nothing, and preflights are requests like any other"),
            about: "What pages of other origins may do on every route that does not say so itself.",
        },
        Key {
            name: "log",
            kind: Kind::Table(&LOG),
            default: Fallback::Absent("JSON with access lines"),
            about: "What is written to standard output.",
        },
        Key {
            name: "identity",
            kind: Kind::Table(&IDENTITY),
            default: Fallback::Absent("the names below"),
            about: "Names of the identity headers. They are removed from every request before ours are set, public routes included.",
        },
        Key {
            name: "proxies",
            kind: Kind::Table(&PROXIES),
            default: Fallback::Absent("nobody is trusted"),
            about: "Proxies in front of the gateway.",
        },
        Key {
            name: "surfaces",
            kind: Kind::Named(&SURFACE),
            default: Fallback::Absent("none: only public routes are possible"),
            about: "Classes of callers. The name is part of every stored fingerprint: renaming a surface orphans its credentials.",
        },
        Key {
            name: "roles",
            kind: Kind::Named(&ROLE),
            default: Fallback::Absent("none"),
            about: "Named sets of scopes that every tenant may give its keys. Roles of one tenant are in the store.",
        },
        Key {
            name: "routes",
            kind: Kind::Tables(&ROUTE),
            default: Fallback::Absent("none"),
            about: "Routes that the gateway serves itself. Those that forward are in the file of their service; it may have served ones too.",
        },
        Key {
            name: "dialects",
            kind: Kind::Named(&DIALECT),
            default: Fallback::Absent("the built-in `problem` and `plain`"),
            about: "How refusals are written. `problem` (RFC 9457) and `plain` are always there.",
        },
    ],
};

/// The revocation bound.
pub const REVOCATION: Schema = Schema {
    parts: &[],
    name: "`[revocation]`",
    about: "A revocation that was acknowledged holds everywhere after this time, whatever fails.",
    keys: &[
        Key {
            name: "bound",
            kind: Kind::Duration {
                min: secs(10),
                max: secs(60),
            },
            default: Fallback::Value("60s"),
            about: "60 s is the promise and can only be tightened; below 10 s a short outage of the store would refuse everybody.",
        },
        Key {
            name: "stream_check",
            kind: Kind::Duration {
                min: secs(1),
                max: secs(55),
            },
            default: Fallback::Absent("15s, or what `bound` leaves"),
            about: "How often a stream that is still open (WebSocket, events, a long body) is judged again, besides whenever something changes. With `store.max_age` at most the bound less 5 s.",
        },
    ],
};

/// The operator's side.
pub const ADMIN: Schema = Schema {
    parts: &[],
    name: "`[admin]`",
    about: "The command line reaches the gateway through a Unix socket that only its owner may open.",
    keys: &[
        Key {
            name: "socket",
            kind: Kind::Path,
            default: Fallback::Value("state/admin.sock"),
            about: "Path of the Unix socket; at most 100 bytes, the kernel's limit.",
        },
        Key {
            name: "probes",
            kind: Kind::Address,
            default: Fallback::Absent("probes and metrics only on the socket"),
            about: "TCP address for `/livez`, `/readyz` and `/metrics`, and nothing else.",
        },
        Key {
            name: "insecure_probes",
            kind: Kind::Flag,
            default: Fallback::Value("false"),
            about: "Allows probes on an address that is not loopback: figures are then readable without a credential.",
        },
    ],
};

/// Logs.
pub const LOG: Schema = Schema {
    parts: &[],
    name: "`[log]`",
    about: "No secret, credential header or query string is ever logged.",
    keys: &[
        Key {
            name: "format",
            kind: Kind::Choice(&["json", "pretty"]),
            default: Fallback::Value("json"),
            about: "JSON lines, or text for people.",
        },
        Key {
            name: "access",
            kind: Kind::Choice(&["on", "off"]),
            default: Fallback::Value("on"),
            about: "One line for each request. Counters go on without it.",
        },
    ],
};

/// Identity headers.
pub const IDENTITY: Schema = Schema {
    parts: &[],
    name: "`[identity]`",
    about: "What upstreams read. Each is set exactly once or absent.",
    keys: &[
        identity_key("tenant", "X-Tenant-Id", "The tenant."),
        identity_key("scopes", "X-Scopes", "The scopes, separated by spaces."),
        identity_key("surface", "X-Auth-Surface", "The surface the caller used."),
        identity_key("mode", "X-Auth-Mode", "`test` or `live`, on surfaces with modes."),
        identity_key(
            "subject",
            "X-Auth-Subject",
            "Who acts within the tenant: any text of up to 255 characters, percent-encoded.",
        ),
        identity_key("credential_id", "X-Auth-Credential-Id", "The credential's id; not a secret."),
    ],
};

/// Trusted proxies.
pub const PROXIES: Schema = Schema {
    parts: &[],
    name: "`[proxies]`",
    about: "`X-Forwarded-*`, `Forwarded`, `X-Request-Id` and `traceparent` count only from these peers; from everybody else they are dropped.",
    keys: &[
        Key {
            name: "trusted",
            kind: Kind::Texts,
            default: Fallback::Absent("nobody"),
            about: "Addresses or networks, for example \"10.0.0.0/8\".",
        },
        Key {
            name: "insecure_trust_everyone",
            kind: Kind::Flag,
            default: Fallback::Value("false"),
            about: "Allows a network of all addresses in `trusted`: any client may then claim any address.",
        },
    ],
};

const fn identity_key(name: &'static str, default: &'static str, about: &'static str) -> Key {
    Key {
        name,
        kind: Kind::Text,
        default: Fallback::Value(default),
        about,
    }
}

/// `gateway.toml` as written.
#[derive(Debug)]
pub struct WrittenGateway {
    /// Its name in receipts.
    pub id: Option<Located<String>>,
    /// Threads; `None` = one for each core.
    pub workers: Option<usize>,
    /// Directory of upstream files.
    pub upstreams: Located<String>,
    /// Name of the default dialect.
    pub dialect: Located<String>,
    /// Listeners.
    pub listeners: Vec<WrittenListener>,
    /// The store.
    pub store: WrittenStore,
    /// The revocation bound.
    pub bound: Located<std::time::Duration>,
    /// How often open streams are judged again.
    pub stream_check: Option<Located<std::time::Duration>>,
    /// Path of the operator socket.
    pub socket: Located<String>,
    /// Address of the probes.
    pub probes: Option<Located<SocketAddr>>,
    /// Whether probes may be off loopback.
    pub insecure_probes: bool,
    /// Limits.
    pub limits: Limits,
    /// What becomes of fields with odd names.
    pub odd_names: OddNames,
    /// Tries and hashes of log-ins.
    pub log_in: WrittenLogIn,
    /// Hashes of sign-ups.
    pub sign_up: HashPlaces,
    /// Rate limits of routes that name none.
    pub rate_limits: Vec<WrittenRateLimit>,
    /// What pages of other origins may do.
    pub cors: Option<WrittenCors>,
    /// Logs.
    pub log: LogSettings,
    /// Identity header names: key of `[identity]` and name.
    pub identity: Vec<(&'static str, Located<String>)>,
    /// Trusted networks.
    pub trusted: Vec<Located<String>>,
    /// Whether a network of all addresses may be among them.
    pub insecure_trust_everyone: bool,
    /// Surfaces that could be read.
    pub surfaces: Vec<WrittenSurface>,
    /// The names of all of them.
    pub surface_names: Vec<String>,
    /// Roles.
    pub roles: Vec<WrittenRole>,
    /// Served routes.
    pub routes: Vec<WrittenRoute>,
    /// Dialects.
    pub dialects: Vec<WrittenDialect>,
}

/// Reads `gateway.toml`.
#[must_use]
pub fn read(section: &Section<'_>) -> WrittenGateway {
    let admin = section.section("admin");
    let proxies = section.section("proxies");
    let surfaces = section.named("surfaces");
    WrittenGateway {
        id: section.text("id"),
        workers: section.count("workers").and_then(|n| usize::try_from(n.value).ok()),
        upstreams: section.text_or_default("upstreams"),
        dialect: section.text_or_default("dialect"),
        listeners: section.some_sections("listeners").iter().filter_map(listener::read).collect(),
        store: store::read(section),
        bound: sub_or_default(section, "revocation", &REVOCATION, |s| s.duration_or_default("bound")),
        stream_check: section.section("revocation").and_then(|s| s.duration("stream_check")),
        socket: sub_or_default(section, "admin", &ADMIN, |s| s.text_or_default("socket")),
        probes: admin.and_then(|s| s.address("probes")),
        insecure_probes: admin.is_some_and(|s| s.is_set("insecure_probes")),
        limits: sub_or_default(section, "limits", &LIMITS, limits::read),
        odd_names: sub_or_default(section, "limits", &LIMITS, limits::read_odd_names),
        log_in: sub_or_default(section, "log_in", &LOG_IN, log_in::read),
        sign_up: sub_or_default(section, "sign_up", &SIGN_UP, log_in::read_sign_up),
        rate_limits: rate::read_list(section, "rate_limits").unwrap_or_default(),
        cors: section.section("cors").as_ref().map(cors::read),
        log: sub_or_default(section, "log", &LOG, read_log),
        identity: sub_or_default(section, "identity", &IDENTITY, read_identity),
        trusted: proxies.map(|s| s.texts("trusted")).unwrap_or_default(),
        insecure_trust_everyone: proxies.is_some_and(|s| s.is_set("insecure_trust_everyone")),
        surface_names: surfaces.iter().map(|(name, _)| name.value.clone()).collect(),
        surfaces: surfaces.into_iter().filter_map(|(name, s)| surface::read(name, &s)).collect(),
        roles: section.named("roles").into_iter().map(|(name, s)| role::read(name, &s)).collect(),
        routes: section.sections("routes").iter().map(route::read).collect(),
        dialects: section
            .named("dialects")
            .into_iter()
            .map(|(name, s)| dialect::read(name, &s))
            .collect(),
    }
}

/// Reads a table, or an empty one in its place, so that defaults come from one path only.
pub fn sub_or_default<T>(parent: &Section<'_>, name: &str, schema: &'static Schema, read: impl Fn(&Section<'_>) -> T) -> T {
    if let Some(section) = parent.section(name) {
        return read(&section);
    }
    let empty = toml::de::DeTable::new();
    read(&Section::open(schema, &empty, &parent.at(), parent.report()))
}

/// Defaults first: a name that meets one of them is the mistake, not the default.
fn read_identity(section: &Section<'_>) -> Vec<(&'static str, Located<String>)> {
    let mut names: Vec<_> = IDENTITY.keys.iter().map(|k| (k.name, section.text_or_default(k.name))).collect();
    names.sort_by_key(|(key, _)| section.raw(key).is_some());
    names
}

fn read_log(section: &Section<'_>) -> LogSettings {
    LogSettings {
        format: match section.choice("format").value {
            "pretty" => LogFormat::Pretty,
            _ => LogFormat::Json,
        },
        access: match section.choice("access").value {
            "off" => AccessLog::Off,
            _ => AccessLog::On,
        },
    }
}
