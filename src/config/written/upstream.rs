//! `upstreams/*.toml`: one service with its endpoints and routes.

use std::time::Duration;

use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::source::{Located, Place};
use crate::config::units::{millis, secs};
use crate::wire::head::{MOST_RESPONSE_FIELDS, ResponseLimits};

use super::client_tls::{self, WrittenClientTls};
use super::gateway::sub_or_default;
use super::route::{self, ROUTE, WrittenRoute};

/// One file of the `upstreams` directory.
pub const UPSTREAM: Schema = Schema {
    parts: &[],
    name: "`upstreams/*.toml`",
    about: "A service behind the gateway. Requests reach it over HTTP/1.1.",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text,
            default: Fallback::Absent("the file's name without `.toml`"),
            about: "How logs and metrics call it.",
        },
        Key {
            name: "endpoints",
            kind: Kind::Texts,
            default: Fallback::Required,
            about: "Addresses of the service, `http://host:port` or `https://host:port`, all of the same kind. Requests are spread over those that answer.",
        },
        Key {
            name: "connect_timeout",
            kind: Kind::Duration {
                min: millis(50),
                max: secs(30),
            },
            default: Fallback::Value("2s"),
            about: "Deadline for connecting, TLS included: an endpoint that needs longer is ill.",
        },
        Key {
            name: "keep_alive",
            kind: Kind::Duration {
                min: millis(0),
                max: secs(300),
            },
            default: Fallback::Value("4s"),
            about: "Idle connections are closed after this. It must be shorter than the service's own limit (Node has 5 s), or requests meet closing connections.",
        },
        Key {
            name: "max_connections",
            kind: Kind::Count { min: 1, max: 65_536 },
            default: Fallback::Value("256"),
            about: "Connections of one worker to one endpoint; further requests wait, at most as long as `connect_timeout`.",
        },
        Key {
            name: "host",
            kind: Kind::Text,
            default: Fallback::Value("client"),
            about: "`Host` upstream: `client` (what the client asked for), `endpoint` (its own address), or a fixed name.",
        },
        Key {
            name: "response_head",
            kind: Kind::Size {
                min: 8 * 1024,
                max: 1024 * 1024,
            },
            default: Fallback::Value("64KiB"),
            about: "Largest head of an answer, all its fields together; one field may fill it. A larger head is answered with 502, is `oversized` in the metrics, and does not count as a failure of the endpoint.",
        },
        Key {
            name: "response_fields",
            kind: Kind::Count {
                min: 10,
                max: MOST_RESPONSE_FIELDS as u64,
            },
            default: Fallback::Value("200"),
            about: "Most fields of an answer. More are treated like a head that is too large.",
        },
        Key {
            name: "ejection",
            kind: Kind::Table(&EJECTION),
            default: Fallback::Absent("the defaults below"),
            about: "When an endpoint is left out.",
        },
        Key {
            name: "tls",
            kind: Kind::Table(&UPSTREAM_TLS),
            default: Fallback::Absent("with `https://`, the system's authorities"),
            about: "TLS towards the endpoints.",
        },
        Key {
            name: "dialect",
            kind: Kind::Text,
            default: Fallback::Absent("the gateway's"),
            about: "The dialect of refusals on these routes.",
        },
        Key {
            name: "routes",
            kind: Kind::Tables(&ROUTE),
            default: Fallback::Required,
            about: "What is let through to this service. At least one.",
        },
    ],
};

/// `[ejection]`.
pub const EJECTION: Schema = Schema {
    parts: &[],
    name: "`[ejection]`",
    about: "Failures are refused connections, broken answers and missed deadlines. One endpoint is always kept.",
    keys: &[
        Key {
            name: "failures",
            kind: Kind::Count { min: 1, max: 1_000 },
            default: Fallback::Value("5"),
            about: "Failures in a row until it is left out.",
        },
        Key {
            name: "duration",
            kind: Kind::Duration {
                min: millis(100),
                max: secs(600),
            },
            default: Fallback::Value("10s"),
            about: "How long, the first time; doubled with each repetition, up to 16 times as long.",
        },
    ],
};

/// `[tls]` of an upstream.
pub const UPSTREAM_TLS: Schema = Schema {
    parts: &[],
    name: "`[tls]`",
    about: "Certificates of endpoints are always verified.",
    keys: &[
        Key {
            name: "ca",
            kind: Kind::Path,
            default: Fallback::Absent("the system's authorities"),
            about: "PEM file of the only authorities trusted for this service.",
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
            default: Fallback::Absent("the endpoint's host"),
            about: "The name endpoints' certificates must have.",
        },
    ],
};

/// One upstream file as written.
#[derive(Debug)]
pub struct WrittenUpstream {
    /// Its name, if it has one.
    pub name: Option<Located<String>>,
    /// Where the file begins.
    pub at: Place,
    /// Addresses.
    pub endpoints: Vec<Located<String>>,
    /// Where they stand.
    pub endpoints_at: Place,
    /// Deadline for connecting.
    pub connect_timeout: Duration,
    /// Idle connections live this long.
    pub keep_alive: Duration,
    /// Connections of one worker to one endpoint.
    pub max_connections: usize,
    /// How large heads of answers may be.
    pub answers: ResponseLimits,
    /// `Host` upstream.
    pub host: Located<String>,
    /// Failures in a row.
    pub failures: u32,
    /// How long an endpoint is left out.
    pub ejected_for: Duration,
    /// TLS.
    pub tls: Option<WrittenClientTls>,
    /// Dialect of its routes.
    pub dialect: Option<Located<String>>,
    /// Its routes.
    pub routes: Vec<WrittenRoute>,
}

/// Reads one upstream file.
#[must_use]
pub fn read(section: &Section<'_>) -> WrittenUpstream {
    let (failures, ejected_for) = sub_or_default(section, "ejection", &EJECTION, |s| {
        (
            u32::try_from(s.count_or_default("failures")).unwrap_or(u32::MAX),
            s.duration_or_default("duration").value,
        )
    });
    WrittenUpstream {
        name: section.text("name"),
        at: section.at(),
        endpoints: section.texts("endpoints"),
        endpoints_at: section.place_of("endpoints"),
        connect_timeout: section.duration_or_default("connect_timeout").value,
        keep_alive: section.duration_or_default("keep_alive").value,
        max_connections: usize::try_from(section.count_or_default("max_connections")).unwrap_or(usize::MAX),
        answers: ResponseLimits {
            head: usize::try_from(section.size_or_default("response_head")).unwrap_or(usize::MAX),
            fields: usize::try_from(section.count_or_default("response_fields")).unwrap_or(usize::MAX),
        },
        host: section.text_or_default("host"),
        failures,
        ejected_for,
        tls: client_tls::read(section, "tls"),
        dialect: section.text("dialect"),
        routes: section.sections("routes").iter().map(route::read).collect(),
    }
}
