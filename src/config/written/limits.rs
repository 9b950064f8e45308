//! `[limits]`: bounds of connections, requests and waits, with the defaults of hardening 3.2.

use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::units::secs;
use crate::decide::headers::OddNames;
use crate::snapshot::Limits;

/// `[limits]`.
pub const LIMITS: Schema = Schema {
    parts: &[],
    name: "`[limits]`",
    about: "Each has a bound on both sides: too small refuses honest clients, too large is no limit.",
    keys: &[
        count(
            "connections",
            1,
            1_000_000,
            "10000",
            "Open client connections of the process; further ones are closed at once. The number is smaller if the process may not have that many descriptors: see [descriptors](operations.md#descriptors).",
        ),
        count(
            "connections_per_address",
            1,
            1_000_000,
            "1000",
            "Open connections of one client address (of one /64 for IPv6).",
        ),
        count(
            "handshakes",
            1,
            65_536,
            "256",
            "TLS handshakes at a time: they are the dearest thing a stranger may ask for.",
        ),
        count(
            "requests",
            1,
            1_000_000,
            "4096",
            "Requests in flight; more are refused with 503 at once.",
        ),
        duration("handshake_timeout", 1, 60, "10s", "From accept to the end of the TLS handshake."),
        duration(
            "head_timeout",
            1,
            60,
            "10s",
            "From accept to the first byte, and from the first byte to the end of the head.",
        ),
        duration(
            "keep_alive",
            1,
            3_600,
            "60s",
            "A connection without a request in flight is closed after this.",
        ),
        duration(
            "body_idle",
            1,
            600,
            "30s",
            "A request body may stand still this long, and a client take nothing of its answer.",
        ),
        Key {
            name: "body_rate",
            kind: Kind::Size { min: 0, max: 1 << 20 },
            default: Fallback::Value("1KiB"),
            about: "Slowest request body after its first 10 s, in bytes a second; 0 switches the rule off.",
        },
        Key {
            name: "answer_rate",
            kind: Kind::Size { min: 0, max: 1 << 20 },
            default: Fallback::Value("1KiB"),
            about: "Slowest client of an answer or of a WebSocket, in bytes a second, after 10 s in which it let the gateway wait. Only time counts in which it does not take what is there: a service that is silent costs its client nothing. A telephone with the poorest reception takes ten times as much. 0 switches the rule off; `body_idle` holds all the same.",
        },
        count(
            "address_share",
            1,
            100,
            "75",
            "Most of `requests`, and of an endpoint's `max_connections`, that one client address (one /64 for IPv6) may have at a time, in percent; it binds only who uses more than that. 100 is no limit: so if all clients come from one address, as behind a proxy that is not trusted.",
        ),
        count(
            "credential_share",
            1,
            100,
            "50",
            "The same for one credential, wherever it is used from. Less than `address_share`, so that one caller cannot use up the share of an address that many have.",
        ),
        count(
            "requests_per_connection",
            1,
            1_000_000_000,
            "10000",
            "A connection is closed after this many requests, so that load spreads again.",
        ),
        duration("connection_age", 10, 86_400, "1h", "Oldest connection, give or take a tenth."),
        count("h2_streams", 1, 1_000, "100", "HTTP/2 requests at a time on one connection."),
        count(
            "children",
            10,
            100_000_000,
            "100000",
            "Credentials that served routes let hang on one record, those that ended less than a day ago included; more are `too_many_credentials`. The default is what a client makes that exchanges its key seven times a second, for tokens of four hours.",
        ),
        count(
            "credentials",
            10,
            1_000_000_000,
            "1000000",
            "Credentials that one tenant may have by served routes, revoked ones included; more are `too_many_credentials`.",
        ),
        Key {
            name: "odd_names",
            kind: Kind::Choice(&["forward", "refuse", "drop"]),
            default: Fallback::Value("forward"),
            about: "What happens to request fields whose names have other characters than letters, digits and `-`, like `access_key` and `a.b`: they are forwarded, refused with 400, or left out and counted (`dropped_fields` in access lines, `durward_dropped_fields_total`). With every choice, a name that a service may take for one of the gateway's own (`X_Tenant_Id`) is 400, and a name that a service may take for one that is never forwarded (`X_Original_URL`) is left out.",
        },
        duration(
            "drain_delay",
            0,
            60,
            "5s",
            "After SIGTERM: readiness is off this long before connections close.",
        ),
        duration("drain_timeout", 0, 600, "30s", "Then at most this long for what is in flight."),
    ],
};

const fn count(name: &'static str, min: u64, max: u64, default: &'static str, about: &'static str) -> Key {
    Key {
        name,
        kind: Kind::Count { min, max },
        default: Fallback::Value(default),
        about,
    }
}

const fn duration(name: &'static str, min: u64, max: u64, default: &'static str, about: &'static str) -> Key {
    Key {
        name,
        kind: Kind::Duration {
            min: secs(min),
            max: secs(max),
        },
        default: Fallback::Value(default),
        about,
    }
}

/// Reads what `[limits]` says of odd names, which is a rule about headers.
#[must_use]
pub fn read_odd_names(section: &Section<'_>) -> OddNames {
    match section.choice("odd_names").value {
        "refuse" => OddNames::Refused,
        "drop" => OddNames::Dropped,
        _ => OddNames::Forwarded,
    }
}

/// Reads `[limits]`.
#[must_use]
pub fn read(section: &Section<'_>) -> Limits {
    let size = |name| usize::try_from(section.count_or_default(name)).unwrap_or(usize::MAX);
    let wait = |name| section.duration_or_default(name).value;
    Limits {
        connections: size("connections"),
        connections_per_address: size("connections_per_address"),
        handshakes: size("handshakes"),
        requests: size("requests"),
        handshake_timeout: wait("handshake_timeout"),
        head_timeout: wait("head_timeout"),
        keep_alive: wait("keep_alive"),
        body_idle: wait("body_idle"),
        body_rate: section.size_or_default("body_rate"),
        answer_rate: section.size_or_default("answer_rate"),
        address_share: u32::try_from(section.count_or_default("address_share")).unwrap_or(100),
        credential_share: u32::try_from(section.count_or_default("credential_share")).unwrap_or(100),
        requests_per_connection: section.count_or_default("requests_per_connection"),
        connection_age: wait("connection_age"),
        h2_streams: u32::try_from(section.count_or_default("h2_streams")).unwrap_or(u32::MAX),
        children: section.count_or_default("children"),
        credentials: section.count_or_default("credentials"),
        drain_delay: wait("drain_delay"),
        drain_timeout: wait("drain_timeout"),
    }
}
