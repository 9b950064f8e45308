//! How much is allowed: limits of the process, rate limits of routes, and tries of passwords.

use std::time::Duration;

use crate::config::declare::{SettingValue, absent, choice, count, default, duration, required, size, table};
use crate::config::reader::{RawEntry, shorten};
use crate::config::schema::ValueKind;
use crate::config::source::Located;
use crate::config::units::{parse_duration, secs};
use crate::decide::headers::OddNames;
use crate::decide::rate::{CountedIn, LimitBy, Rate, RateLimit, RouteLimits, WhenUnavailable};
use crate::decide::route::Access;
use crate::snapshot::{HashingLimits, Limits, LogInSettings};

use super::Builder;
use super::gateway::GatewayTable;
use super::store::StoreKindTable;

table! {
    /// Bounds of connections, requests and waits. Each setting has a least and a greatest value: a bound that is too
    /// small refuses honest clients, and one that is too large limits nothing.
    pub struct LimitsTable = "`[limits]`" {
        /// What happens to request fields whose names have other characters than letters, digits and `-`, like
        /// `access_key` and `a.b`: they are forwarded, refused with 400, or left out and counted (`dropped_fields` in
        /// access lines, `durward_dropped_fields_total`). With every choice, a name that a service may take for one of
        /// the gateway's own (`X_Tenant_Id`) is 400, and a name that a service may take for one that is never forwarded
        /// (`X_Original_URL`) is left out.
        odd_names: OddNames = default("forward");
        ..limits: Limits;
    }
}

table! {
    for Limits = "`[limits]`" {
        /// Open client connections of the process; further ones are closed at once. The number is smaller if the process
        /// may not have that many descriptors: see [descriptors](operations.md#descriptors).
        connections: usize = default("10000"), count(1, 1_000_000);
        /// Open connections of one client address (of one /64 for IPv6).
        connections_per_address: usize = default("1000"), count(1, 1_000_000);
        /// TLS handshakes at a time. Of all that a stranger can ask for, a handshake costs the gateway most.
        handshakes: usize = default("256"), count(1, 65_536);
        /// Requests in flight; more are refused with 503 at once.
        requests: usize = default("4096"), count(1, 1_000_000);
        /// From accept to the end of the TLS handshake.
        handshake_timeout: Duration = default("10s"), duration(secs(1), secs(60));
        /// From accept to the first byte, and from the first byte to the end of the head.
        head_timeout: Duration = default("10s"), duration(secs(1), secs(60));
        /// A connection without a request in flight is closed after this.
        keep_alive: Duration = default("60s"), duration(secs(1), secs(3_600));
        /// How long a request body may stand still, and how long a client may take nothing of its answer.
        body_idle: Duration = default("30s"), duration(secs(1), secs(600));
        /// Slowest request body after its first 10 s, in bytes a second; 0 switches the rule off.
        body_rate: u64 = default("1KiB"), size(0, 1 << 20);
        /// Slowest client of an answer or of a WebSocket, in bytes a second. The rule applies when the gateway has waited
        /// 10 s for the client. Only time counts in which the client does not take what is there, so a slow service costs
        /// its client nothing. A telephone with the poorest reception takes ten times as much. 0 switches the rule off;
        /// `body_idle` still applies.
        answer_rate: u64 = default("1KiB"), size(0, 1 << 20);
        /// The part of `requests`, and of an endpoint's `max_connections`, that one client address (one /64 for IPv6) may
        /// use at a time, in percent. 100 is no limit. Write 100 if all clients come from one address, for example from a
        /// proxy that is not trusted.
        address_share: u32 = default("75"), count(1, 100);
        /// The same for one credential, from whatever addresses it is used. It is less than `address_share`, so that one
        /// caller cannot use up the share of an address that many callers have.
        credential_share: u32 = default("50"), count(1, 100);
        /// A connection is closed after this many requests, so that load spreads again.
        requests_per_connection: u64 = default("10000"), count(1, 1_000_000_000);
        /// Oldest connection, give or take a tenth.
        connection_age: Duration = default("1h"), duration(secs(10), secs(86_400));
        /// HTTP/2 requests at a time on one connection.
        h2_streams: u32 = default("100"), count(1, 1_000);
        /// How many credentials served routes may make that hang on one record. Those that ended less than a day ago
        /// count too; more are refused as `too_many_credentials`. The default is the number that a client makes that
        /// exchanges its key seven times a second for tokens of four hours.
        children: u64 = default("100000"), count(10, 100_000_000);
        /// How many credentials of one tenant served routes may make. Revoked ones count too; more are refused as
        /// `too_many_credentials`.
        credentials: u64 = default("1000000"), count(10, 1_000_000_000);
        /// After SIGTERM: readiness is off this long before connections close.
        drain_delay: Duration = default("5s"), duration(secs(0), secs(60));
        /// After `drain_delay`: how long the gateway waits for requests in flight.
        drain_timeout: Duration = default("30s"), duration(secs(0), secs(600));
    }
}

choice! {
    for OddNames {
        Forwarded = "forward",
        Refused = "refuse",
        Dropped = "drop",
    }
}

table! {
    /// A request beyond the limit is answered with 429 and `Retry-After` in real seconds. Answers of the route carry
    /// `RateLimit` and `RateLimit-Policy`. All limits of a route must admit a request. Limits by `address` are asked
    /// first, the others in the order in which they are written. A request that a later limit refuses was counted by the
    /// earlier ones.
    pub struct RateLimitTable = "`[[routes.limits]]`" {
        /// What requests are counted by. `address` is the client's address as the trusted proxies report it; an IPv6
        /// client is its /64. Limits by `address` are asked before the credential is looked at, the others when the
        /// caller is admitted.
        by: Located<LimitBy> = required();
        /// `<number>/<duration>`, for example `120/1m`: never more requests than that in any minute, wherever the minute
        /// begins. 1 to 1000000 requests in 1 s to 1 d of whole seconds. To limit bursts as well, write a second limit,
        /// for example `10/1s`.
        rate: Rate = required();
        /// Counts in the Redis store for all gateways together, by the clock of Redis. A request then waits for Redis, 50
        /// ms at most.
        shared: bool = default("false");
        /// With `shared`: what holds while Redis does not answer. `local`: each gateway counts for itself. `refuse`:
        /// requests are refused with 503.
        when_unavailable: Option<Located<WhenUnavailable>> = default("local");
    }
}

choice! {
    for LimitBy {
        Address = "address",
        Credential = "credential",
        Tenant = "tenant",
        Route = "route",
    }
}

choice! {
    for WhenUnavailable {
        CountHere = "local",
        Refuse = "refuse",
    }
}

/// `<number>/<duration>`.
impl SettingValue for Rate {
    const KIND: ValueKind = ValueKind::Text;

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        let text = entry.text()?;
        let parts = text.split_once('/').and_then(|(count, period)| {
            let digits = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
            Some((digits.then(|| count.parse().unwrap_or(u32::MAX))?, parse_duration(period)?))
        });
        let help = match parts.map(|(count, period)| Self::new(count, period)) {
            Some(Ok(rate)) => return Some(rate),
            Some(Err(error)) => error.to_string(),
            None => "write a number, `/` and a duration, for example \"120/1m\"".to_owned(),
        };
        entry.error(format!("`{}` is not a rate", shorten(text)), help)
    }
}

impl RateLimitTable {
    fn counted(&self) -> CountedIn {
        if self.shared {
            let policy = self.when_unavailable.as_ref().map(|policy| policy.value);
            CountedIn::Together(policy.unwrap_or(WhenUnavailable::CountHere))
        } else {
            CountedIn::Here
        }
    }
}

table! {
    /// How many wrong passwords are allowed. A try is counted by this process before the password is judged; beyond a
    /// limit the answer is 429 with `Retry-After`. An address is the client's address as the trusted proxies report it;
    /// an IPv6 client is its /64. See [security](security.md).
    pub struct LogInTable = "`[log_in]`" {
        /// Tries are forgotten this long after the first of them. With less than a minute there would be no limit; within
        /// a day a person finds another way in.
        window: Duration = default("15m"), duration(secs(60), secs(86_400));
        /// Wrong passwords for one account from one address: after ten mistakes a person looks the password up. With less
        /// than 3, a typing error keeps people out. It must not be greater than either of the next two settings, or the
        /// limit would never be reached.
        tries_per_account_and_address: Located<u32> = default("10"), count(3, 1_000);
        /// Wrong passwords from one address for accounts that are not known at that address: an office of fifty people in
        /// which everybody mistypes twice.
        tries_per_address: Located<u32> = default("100"), count(3, 1_000_000);
        /// Wrong passwords for one account from all addresses that are not known for it: what an attacker with thousands
        /// of addresses may guess. The holder can always log in from a known address. From an unknown address the holder
        /// waits while this limit is reached, so a smaller number is not safer for everybody.
        tries_per_account: Located<u32> = default("50"), count(3, 1_000_000);
        /// How long an address counts as known for an account after a right password came from it. Each account has its
        /// latest eight addresses. For a known address only `tries_per_account_and_address` applies. The default, 35
        /// days, is the longest pause of a person who logs in once a month.
        known_for: Duration = default("35d"), duration(secs(3_600), secs(366 * 86_400));
        /// Passwords hashed at a time. Each takes some 20 ms of a core and 19 MiB. Half of the cores leaves the other
        /// half to requests.
        hashes_at_once: Option<usize> = absent("half of the cores, 1 to 4"), count(1, 64);
        /// Passwords that wait to be hashed, at most half of them from one address (known and unknown people are counted
        /// apart). If more come, one of the address with most waiting is answered with 503 at once; a person who is known
        /// at the address is never refused for one who is not. 48 are half a second of work for two cores. 256 may be
        /// five seconds of work for one core, and nobody waits longer at a form.
        hashes_waiting: usize = default("48"), count(1, 256);
    }
}

table! {
    /// Passwords of people who sign up on public routes. They have a queue of their own, so that no number of sign-ups
    /// keeps anybody from logging in.
    for HashingLimits = "`[sign_up]`" {
        /// Passwords hashed at a time, besides those of `[log_in]`. One at a time makes fifty sign-ups a second.
        at_once as "hashes_at_once": usize = default("1"), count(1, 64);
        /// Passwords that wait to be hashed, at most half of them from one address. The default is half a second of work.
        /// 128 leave half of the calls that the gateway serves at a time to others.
        waiting as "hashes_waiting": usize = default("24"), count(1, 128);
    }
}

/// Most limits of one route: one of each kind for a burst and for a day.
const MAX_LIMITS: usize = 8;

impl Builder<'_> {
    /// The limits of a route: its own, else the defaults as far as they make sense there.
    pub(super) fn route_limits(
        &self,
        route: &str,
        access: &Access,
        own: Option<&Vec<RateLimitTable>>,
        defaults: &[RateLimitTable],
    ) -> RouteLimits {
        let public = matches!(access, Access::Public);
        let needs_caller = |limit: &RateLimitTable| matches!(limit.by.value, LimitBy::Credential | LimitBy::Tenant);
        let make = |limit: &RateLimitTable| {
            RateLimit::new(
                route,
                limit.by.value.as_str().to_owned(),
                limit.by.value,
                limit.rate,
                limit.counted(),
            )
        };
        let Some(own) = own else {
            let fitting = defaults.iter().filter(|limit| !(public && needs_caller(limit)));
            return RouteLimits::new(fitting.map(make).collect());
        };
        for limit in own.iter().filter(|limit| public && needs_caller(limit)) {
            self.report.error(
                &limit.by.at,
                format!(
                    "nobody is known on a public route: it cannot be limited by {}",
                    limit.by.value.as_str()
                ),
                Some("limit it by `address` or by `route`".to_owned()),
            );
        }
        if let Some(limit) = own.get(MAX_LIMITS) {
            self.report
                .error(&limit.at, format!("a route has at most {MAX_LIMITS} limits"), None);
        }
        RouteLimits::new(own.iter().take(MAX_LIMITS).map(make).collect())
    }

    /// Shared limits need a store that is shared.
    pub(super) fn lint_limits<'w>(&self, gateway: &'w GatewayTable, own: impl Iterator<Item = &'w RateLimitTable>) {
        let is_embedded = matches!(gateway.store.kind.value, StoreKindTable::Embedded(_));
        for limit in gateway.rate_limits.iter().chain(own) {
            if let (false, Some(policy)) = (limit.shared, &limit.when_unavailable) {
                self.report.error(
                    &policy.at,
                    "`when_unavailable` is about shared limits",
                    Some("add `shared = true`, or remove it".to_owned()),
                );
            }
            if !is_embedded || !limit.shared {
                continue;
            }
            self.report.warning(
                &limit.at,
                "the embedded store belongs to one gateway: this limit is counted in its process",
                Some("remove `shared`, or use a Redis store".to_owned()),
            );
        }
    }
}

impl Builder<'_> {
    pub(super) fn log_in(&self, table: &LogInTable) -> LogInSettings {
        let pair = &table.tries_per_account_and_address;
        for (name, wider) in [
            ("tries_per_address", &table.tries_per_address),
            ("tries_per_account", &table.tries_per_account),
        ] {
            self.check_reachable(table, name, wider);
        }
        LogInSettings {
            window: table.window,
            tries_per_account_and_address: pair.value,
            tries_per_address: table.tries_per_address.value,
            tries_per_account: table.tries_per_account.value,
            known_for: table.known_for,
            hashes: HashingLimits {
                at_once: table.hashes_at_once.unwrap_or_else(half_of_the_cores),
                waiting: table.hashes_waiting,
            },
        }
    }

    /// A limit that another one always comes before is a mistake.
    fn check_reachable(&self, table: &LogInTable, name: &str, wider: &Located<u32>) {
        let pair = &table.tries_per_account_and_address;
        if pair.value <= wider.value {
            return;
        }
        // Defaults agree with each other, so that one of the two was written.
        let at = if pair.at == table.at { &wider.at } else { &pair.at };
        self.report.error(
            at,
            format!(
                "nobody would get as far as `tries_per_account_and_address = {}`: `{name}` is {}",
                pair.value, wider.value
            ),
            Some(format!(
                "raise `{name}` to at least {}, or lower `tries_per_account_and_address`",
                pair.value
            )),
        );
    }

    /// Whoever signs up is nobody yet: without a limit by address one stranger fills the store with
    /// tenants.
    pub(super) fn check_sign_up(&self, tenant: &Located<String>, own: Option<&Vec<RateLimitTable>>, defaults: &[RateLimitTable]) {
        let limits = own.map_or(defaults, Vec::as_slice);
        if !limits.iter().any(|limit| limit.by.value == LimitBy::Address) {
            self.report.error(
                &tenant.at,
                "anybody may make tenants here, and nothing limits how many",
                Some("add a limit by address to this route, for example `limits = [{ by = \"address\", rate = \"30/1h\" }]`".to_owned()),
            );
        }
    }
}

/// Log-ins must never take the machine from the workers; four are 80 MB of memory.
fn half_of_the_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 4))
}
