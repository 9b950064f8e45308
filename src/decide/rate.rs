//! Rate limits: how many requests are admitted in a period. The rule only, without a clock or a table.
//!
//! The promise holds for *every* period, wherever it begins: a rate of 120 in a minute admits 120 requests at once,
//! and the next one when the first of them is a minute old. A rule that refills continuously (GCRA, a token bucket)
//! would admit the 121st request after half a second, and up to 240 in a minute. A rule that counts in fixed windows
//! admits 240 around each border. A log of times would be exact and unbounded. Here the requests of one part of the
//! period share one entry, with the time of the last of them.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest;

use crate::base::clock::BootMillis;
use crate::base::ids::{CredentialId, SurfaceName, TenantId};

#[cfg(test)]
mod tests;

/// Parts of a period. Requests of one part are forgotten together, so a caller may wait longer than with an exact
/// log, by at most one part. Eight parts keep an entry in three cache lines.
const PARTS: u64 = 8;

/// Entries of a window: a period touches one part more than it has.
const GROUPS: usize = 9;

/// Most requests of a rate: far beyond what one route of one process serves in a second.
pub const MAX_COUNT: u32 = 1_000_000;

/// Shortest and longest period. `RateLimit` fields hold whole seconds. What lasts longer than a day is a quota for a
/// database, not a guard in memory.
pub const PERIODS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(86_400));

/// A number of requests in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u32,
    seconds: u32,
}

/// Why something is not a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// The number is 0, or more than [`MAX_COUNT`].
    #[error("a rate admits 1 to 1000000 requests")]
    Count,
    /// Not whole seconds, or outside [`PERIODS`].
    #[error("the period of a rate is 1 s to 1 d, in whole seconds")]
    Period,
}

impl Rate {
    /// A rate of `count` requests in `period`.
    ///
    /// # Errors
    /// [`RateError`].
    pub fn new(count: u32, period: Duration) -> Result<Self, RateError> {
        if !(1..=MAX_COUNT).contains(&count) {
            return Err(RateError::Count);
        }
        if period.subsec_nanos() != 0 || period < PERIODS.0 || period > PERIODS.1 {
            return Err(RateError::Period);
        }
        let seconds = u32::try_from(period.as_secs()).map_err(|_| RateError::Period)?;
        Ok(Self { count, seconds })
    }

    #[must_use]
    pub const fn count(self) -> u32 {
        self.count
    }

    /// The period in milliseconds.
    #[must_use]
    pub const fn period_millis(self) -> u64 {
        self.seconds as u64 * 1000
    }

    /// Milliseconds of one part, rounded up, so that a period never touches more than [`GROUPS`].
    #[must_use]
    pub const fn part_millis(self) -> u64 {
        self.period_millis().div_ceil(PARTS)
    }
}

/// The verdict about one request.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateVerdict {
    /// The request may pass, and is counted.
    Admitted {
        /// How many more requests may pass now.
        remaining: u32,
        /// The time until some counted requests are forgotten.
        reset: Duration,
    },
    /// The request may not pass, and is not counted.
    Refused {
        /// The time until a request may pass; never longer than the period.
        retry_after: Duration,
    },
}

/// The counted requests of one caller under one rate. Empty for an unknown caller.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window([Group; GROUPS]);

/// The requests of one part of a period.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    /// The number of the part, from the beginning of the clock.
    part: u64,
    /// When the last request of the part came, in milliseconds.
    last: u64,
    count: u32,
}

impl Group {
    /// Whether the group still counts. A group from the far future was counted before the clock stepped back.
    const fn counts(&self, rate: Rate, now: u64) -> bool {
        let period = rate.period_millis();
        self.count > 0 && self.last.saturating_add(period) > now && self.last <= now.saturating_add(period)
    }
}

impl Window {
    /// The number of requests that still count.
    #[must_use]
    pub fn used(&self, rate: Rate, now: BootMillis) -> u32 {
        let living = self.0.iter().filter(|group| group.counts(rate, now.0));
        living.fold(0, |sum, group| sum.saturating_add(group.count))
    }

    /// The time until some counted requests are forgotten; `None` if none are counted.
    #[must_use]
    pub fn forgets_after(&self, rate: Rate, now: BootMillis) -> Option<Duration> {
        let living = self.0.iter().filter(|group| group.counts(rate, now.0));
        let end = living.map(|group| group.last.saturating_add(rate.period_millis())).min()?;
        Some(Duration::from_millis(end.saturating_sub(now.0).min(rate.period_millis())))
    }

    /// The verdict about a request at `now`. Nothing is counted.
    pub fn judge(&self, rate: Rate, now: BootMillis) -> RateVerdict {
        let used = self.used(rate, now);
        let forgets_after = self.forgets_after(rate, now).unwrap_or(Duration::from_millis(rate.period_millis()));
        if used >= rate.count {
            return RateVerdict::Refused {
                retry_after: forgets_after,
            };
        }
        RateVerdict::Admitted {
            remaining: rate.count - used - 1,
            reset: forgets_after,
        }
    }

    /// Counts an admitted request, whether this gateway or another one admitted it.
    pub fn count(&mut self, rate: Rate, now: BootMillis) {
        let part = now.0 / rate.part_millis();
        let place = usize::try_from(part % GROUPS as u64).unwrap_or(0);
        let Some(group) = self.0.get_mut(place) else { return };
        if group.part < part || !group.counts(rate, now.0) {
            *group = Group {
                part,
                last: now.0,
                count: 0,
            };
        }
        group.last = group.last.max(now.0);
        group.count = group.count.saturating_add(1);
    }

    /// Judges a request, and counts it if it is admitted.
    pub fn admit(&mut self, rate: Rate, now: BootMillis) -> RateVerdict {
        let verdict = self.judge(rate, now);
        if matches!(verdict, RateVerdict::Admitted { .. }) {
            self.count(rate, now);
        }
        verdict
    }
}

/// What requests are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitBy {
    /// The address of the client behind trusted proxies; for an IPv6 client its /64.
    Address,
    /// The record of the credential, or the subject of a token that hangs on a tenant.
    Credential,
    Tenant,
    /// All requests of the route together.
    Route,
}

impl LimitBy {
    /// The word in the configuration and in `RateLimit` fields.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Credential => "credential",
            Self::Tenant => "tenant",
            Self::Route => "route",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountedIn {
    Here,
    /// In the store, by all gateways together; with the rule for when the store cannot be asked.
    Together(WhenUnavailable),
}

/// What is done while the shared count is not available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenUnavailable {
    /// Each gateway counts for itself.
    CountHere,
    /// Requests are refused as unavailable.
    Refuse,
}

/// One limit of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    pub by: LimitBy,
    /// The number of requests and the period.
    pub rate: Rate,
    pub counted: CountedIn,
    /// The name in `RateLimit` fields. No other limit of the route has it.
    pub name: String,
    seed: [u8; 32],
}

/// The key of requests that are counted together under one limit. It is a digest, so that neither the table nor the
/// store holds addresses, and two limits never share a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LimitKey([u8; 16]);

impl LimitKey {
    /// Lower-case hexadecimal, as the store has it.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Its bits, for table places.
    #[must_use]
    pub const fn bits(self) -> u128 {
        u128::from_le_bytes(self.0)
    }
}

impl RateLimit {
    /// A limit of the route of this name. Counts continue over a reload that keeps the name of the route, the kind of
    /// the limit and its rate. Gateways with the same limit share its counts.
    #[must_use]
    pub fn new(route: &str, name: String, by: LimitBy, rate: Rate, counted: CountedIn) -> Self {
        let what = format!("{}\0{}\0{}\0{}", by.as_str(), rate.count, rate.seconds, route);
        let mut seed = [0; 32];
        seed.copy_from_slice(digest::digest(&digest::SHA256, what.as_bytes()).as_ref());
        Self {
            by,
            rate,
            counted,
            name,
            seed,
        }
    }

    /// The key of all requests of the route.
    #[must_use]
    pub fn key_of_route(&self) -> LimitKey {
        self.key(&[])
    }

    /// The key of a client address.
    #[must_use]
    pub fn key_of_address(&self, address: IpAddr) -> LimitKey {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.key(&[&v4.octets()]),
            // The smallest network that a host gets. Addresses within it cost nothing.
            IpAddr::V6(v6) => self.key(&[&v6.octets()[..8]]),
        }
    }

    /// The key of a tenant.
    #[must_use]
    pub fn key_of_tenant(&self, tenant: &TenantId) -> LimitKey {
        self.key(&[tenant.as_str().as_bytes()])
    }

    /// The key of a credential. `subject` separates callers that share one record.
    #[must_use]
    pub fn key_of_credential(&self, surface: &SurfaceName, id: &CredentialId, subject: &str) -> LimitKey {
        self.key(&[
            surface.as_str().as_bytes(),
            b"\0",
            id.as_str().as_bytes(),
            b"\0",
            subject.as_bytes(),
        ])
    }

    fn key(&self, parts: &[&[u8]]) -> LimitKey {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.seed);
        for part in parts {
            context.update(part);
        }
        let mut key = [0; 16];
        for (to, from) in key.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        LimitKey(key)
    }
}

/// The limits of one route, in the order in which they are checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// The limits by address, checked before anything is known about the caller.
    pub before: Vec<RateLimit>,
    /// The limits by credential, tenant and route, checked once the caller is admitted.
    pub after: Vec<RateLimit>,
    /// The value of `RateLimit-Policy`; empty without limits.
    pub policy: String,
}

impl RouteLimits {
    /// Sorts limits by when they can be checked. Names are made unique with a number.
    #[must_use]
    pub fn new(limits: Vec<RateLimit>) -> Self {
        let mut all: Vec<RateLimit> = Vec::with_capacity(limits.len());
        for mut limit in limits {
            let own = limit.name.clone();
            let mut number = 1;
            while all.iter().any(|other| other.name == limit.name) {
                number += 1;
                limit.name = format!("{own}-{number}");
            }
            all.push(limit);
        }
        let (before, after): (Vec<_>, Vec<_>) = all.into_iter().partition(|limit| limit.by == LimitBy::Address);
        let policy = before
            .iter()
            .chain(&after)
            .map(|limit| format!("\"{}\";q={};w={}", limit.name, limit.rate.count, limit.rate.seconds))
            .collect::<Vec<_>>()
            .join(", ");
        Self { before, after, policy }
    }

    /// Whether the route has no limit.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    /// All limits, in the order in which they are checked.
    pub fn iter(&self) -> impl Iterator<Item = &RateLimit> {
        self.before.iter().chain(&self.after)
    }
}
