//! How much is allowed: limits of the process, rate limits of routes, and tries of passwords.

use std::time::Duration;

use crate::config::declare::{Value, absent, choice, count, default, duration, required, size, table};
use crate::config::reader::{Entry, shorten};
use crate::config::schema::Kind;
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
    /// Each has a bound on both sides: too small refuses honest clients, too large is no limit.
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
        /// TLS handshakes at a time: they are the dearest thing a stranger may ask for.
        handshakes: usize = default("256"), count(1, 65_536);
        /// Requests in flight; more are refused with 503 at once.
        requests: usize = default("4096"), count(1, 1_000_000);
        /// From accept to the end of the TLS handshake.
        handshake_timeout: Duration = default("10s"), duration(secs(1), secs(60));
        /// From accept to the first byte, and from the first byte to the end of the head.
        head_timeout: Duration = default("10s"), duration(secs(1), secs(60));
        /// A connection without a request in flight is closed after this.
        keep_alive: Duration = default("60s"), duration(secs(1), secs(3_600));
        /// A request body may stand still this long, and a client take nothing of its answer.
        body_idle: Duration = default("30s"), duration(secs(1), secs(600));
        /// Slowest request body after its first 10 s, in bytes a second; 0 switches the rule off.
        body_rate: u64 = default("1KiB"), size(0, 1 << 20);
        /// Slowest client of an answer or of a WebSocket, in bytes a second, after 10 s in which it let the gateway wait.
        /// Only time counts in which it does not take what is there: a service that is silent costs its client nothing. A
        /// telephone with the poorest reception takes ten times as much. 0 switches the rule off; `body_idle` holds all
        /// the same.
        answer_rate: u64 = default("1KiB"), size(0, 1 << 20);
        /// Most of `requests`, and of an endpoint's `max_connections`, that one client address (one /64 for IPv6) may
        /// have at a time, in percent; it binds only who uses more than that. 100 is no limit: so if all clients come
        /// from one address, as behind a proxy that is not trusted.
        address_share: u32 = default("75"), count(1, 100);
        /// The same for one credential, wherever it is used from. Less than `address_share`, so that one caller cannot
        /// use up the share of an address that many have.
        credential_share: u32 = default("50"), count(1, 100);
        /// A connection is closed after this many requests, so that load spreads again.
        requests_per_connection: u64 = default("10000"), count(1, 1_000_000_000);
        /// Oldest connection, give or take a tenth.
        connection_age: Duration = default("1h"), duration(secs(10), secs(86_400));
        /// HTTP/2 requests at a time on one connection.
        h2_streams: u32 = default("100"), count(1, 1_000);
        /// Credentials that served routes let hang on one record, those that ended less than a day ago included; more are
        /// `too_many_credentials`. The default is what a client makes that exchanges its key seven times a second, for
        /// tokens of four hours.
        children: u64 = default("100000"), count(10, 100_000_000);
        /// Credentials that one tenant may have by served routes, revoked ones included; more are `too_many_credentials`.
        credentials: u64 = default("1000000"), count(10, 1_000_000_000);
        /// After SIGTERM: readiness is off this long before connections close.
        drain_delay: Duration = default("5s"), duration(secs(0), secs(60));
        /// Then at most this long for what is in flight.
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
    /// Beyond it the answer is 429 with `Retry-After` in real seconds; answers of the route carry `RateLimit` and
    /// `RateLimit-Policy`. All limits of a route must admit a request; they are asked `address` first, then in the order
    /// they are written, and a request that a later one refuses was counted by the earlier ones.
    pub struct RateLimitTable = "`[[routes.limits]]`" {
        /// What requests are counted by. `address` is the client's as the trusted proxies tell it, an IPv6 client being
        /// its /64, and is asked before the credential is looked at; the others once the caller is admitted.
        by: Located<LimitBy> = required();
        /// `<number>/<duration>`, for example `120/1m`: never more than that in any such time, wherever it begins. 1 to
        /// 1000000 requests in 1 s to 1 d of whole seconds. For a burst of its own, write a second limit, for example
        /// `10/1s`.
        rate: Rate = required();
        /// Counts in the Redis store for all gateways together, on Redis' time. A request then waits for Redis, 50 ms at
        /// most.
        shared: bool = default("false");
        /// With `shared`, while Redis cannot be asked: each gateway counts for itself, or requests are refused with 503.
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
impl Value for Rate {
    const KIND: Kind = Kind::Text;

    fn parse(entry: &Entry<'_>) -> Option<Self> {
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
    /// Tries are wrong passwords, counted by this process before they are judged; beyond a limit the answer is 429 with
    /// `Retry-After`. An address is the client's as the trusted proxies tell it, an IPv6 client being its /64. See
    /// docs/security.md.
    pub struct LogInTable = "`[log_in]`" {
        /// Tries are forgotten this long after the first of them. Below a minute the limits would be none; after a day a
        /// person has found another way.
        window: Duration = default("15m"), duration(secs(60), secs(86_400));
        /// With one account from one address: who mistypes ten times fetches the password manager. Below 3 a typing error
        /// keeps people out. At most as many as each of the two below, or it would never be reached.
        tries_per_account_and_address: Located<u32> = default("10"), count(3, 1_000);
        /// From one address with accounts that are not known there: an office of fifty in which everybody mistypes twice.
        tries_per_address: Located<u32> = default("100"), count(3, 1_000_000);
        /// With one account from all addresses where its password was not proven within `known_for`: what somebody with
        /// thousands of addresses may guess. The holder gets in from known addresses whatever it says; from an unknown
        /// one he has to wait while it is reached, so less is not safer for everybody.
        tries_per_account: Located<u32> = default("50"), count(3, 1_000_000);
        /// How long an address counts as known for an account after a right password came from it. Each account has its
        /// latest eight addresses; from them only `tries_per_account_and_address` applies. 35 days is the longest pause
        /// of somebody who logs in once a month; with less, `tries_per_account` stops more holders.
        known_for: Duration = default("35d"), duration(secs(3_600), secs(366 * 86_400));
        /// Passwords hashed at a time, some 20 ms of a core and 19 MiB each. Half of the cores leaves the others to
        /// requests.
        hashes_at_once: Option<usize> = absent("half of the cores, 1 to 4"), count(1, 64);
        /// Passwords that wait for their turn, at most half of them from one address (known people and strangers apart);
        /// more are told 503 at once, those of the address with most waiting first, and nobody who is known there for
        /// somebody who is not. 48 are half a second of work for two cores; 256 may be five seconds for one, and nobody
        /// waits longer at a form.
        hashes_waiting: usize = default("48"), count(1, 256);
    }
}

table! {
    /// Passwords of people whom nobody knows, on public routes. They have places of their own, so that no number of
    /// sign-ups keeps anybody from logging in.
    for HashingLimits = "`[sign_up]`" {
        /// Hashed at a time, beside those of `[log_in]`: fifty sign-ups a second.
        at_once as "hashes_at_once": usize = default("1"), count(1, 64);
        /// Waiting, at most half of them from one address: half a second of work. 128 leave half of the calls that the
        /// gateway serves at a time to others.
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
    /// The settings of `[log_in]`.
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
