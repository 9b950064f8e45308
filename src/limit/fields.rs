//! What callers are told: `RateLimit`, `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers) and `Retry-After`.

use std::fmt::Write as _;
use std::time::Duration;

use crate::decide::rate::{RateVerdict, RouteLimits};
use crate::wire::fields::Fields;

/// The verdict of one limit of a route about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitVerdict {
    /// Which limit, in the order of [`RouteLimits::iter`].
    pub limit: usize,
    pub verdict: RateVerdict,
}

/// Adds both fields. Adds nothing for a route without limits, and no `RateLimit` if no limit was checked.
pub fn push_fields(limits: &RouteLimits, limit_verdicts: &[LimitVerdict], fields: &mut Fields) {
    if limits.is_empty() {
        return;
    }
    fields.push(b"RateLimit-Policy", limits.policy.as_bytes());
    let mut text = String::with_capacity(32 * limit_verdicts.len());
    for limit_verdict in limit_verdicts {
        let Some(limit) = limits.iter().nth(limit_verdict.limit) else {
            continue;
        };
        let (remaining, time) = match limit_verdict.verdict {
            RateVerdict::Admitted { remaining, reset } => (remaining, reset),
            RateVerdict::Refused { retry_after } => (0, retry_after),
        };
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a text cannot fail.
        let _ = write!(text, "{separator}\"{}\";r={remaining};t={}", limit.name, whole_seconds(time));
    }
    if !text.is_empty() {
        fields.push(b"RateLimit", text.as_bytes());
    }
}

/// Seconds until a refused caller may come back, if one of these refused.
#[must_use]
pub fn retry_after(limit_verdicts: &[LimitVerdict]) -> Option<u64> {
    let waits = limit_verdicts.iter().filter_map(|limit_verdict| match limit_verdict.verdict {
        RateVerdict::Refused { retry_after } => Some(whole_seconds(retry_after)),
        RateVerdict::Admitted { .. } => None,
    });
    waits.max()
}

/// Rounded up, so that a caller that comes back then is admitted. Never 0, which would mean "at once".
fn whole_seconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::rate::{CountedIn, LimitBy, Rate, RateLimit};

    fn limits() -> RouteLimits {
        let limit = |by: LimitBy, count| {
            let rate = Rate::new(count, Duration::from_secs(60)).unwrap();
            RateLimit::new("r", by.as_str().into(), by, rate, CountedIn::Here)
        };
        RouteLimits::new(vec![limit(LimitBy::Tenant, 1_000), limit(LimitBy::Address, 120)])
    }

    fn told(limits: &RouteLimits, limit_verdicts: &[LimitVerdict]) -> Vec<(String, String)> {
        let mut fields = Fields::default();
        push_fields(limits, limit_verdicts, &mut fields);
        let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
        fields.iter().map(|f| (text(f.name), text(f.value))).collect()
    }

    #[test]
    fn an_admitted_caller_is_told_what_is_left() {
        let admitted = |limit, remaining, millis| LimitVerdict {
            limit,
            verdict: RateVerdict::Admitted {
                remaining,
                reset: Duration::from_millis(millis),
            },
        };
        let limit_verdicts = [admitted(0, 119, 60_000), admitted(1, 7, 1)];
        assert_eq!(
            told(&limits(), &limit_verdicts),
            [
                ("RateLimit-Policy".into(), "\"address\";q=120;w=60, \"tenant\";q=1000;w=60".into()),
                ("RateLimit".into(), "\"address\";r=119;t=60, \"tenant\";r=7;t=1".into()),
            ]
        );
        assert_eq!(retry_after(&limit_verdicts), None);
    }

    #[test]
    fn a_refused_caller_is_told_real_seconds_rounded_up() {
        let refused = |millis| LimitVerdict {
            limit: 0,
            verdict: RateVerdict::Refused {
                retry_after: Duration::from_millis(millis),
            },
        };
        for (millis, seconds) in [(1, 1), (1_000, 1), (1_001, 2), (60_000, 60)] {
            assert_eq!(retry_after(&[refused(millis)]), Some(seconds));
        }
        assert_eq!(told(&limits(), &[refused(59_001)])[1].1, "\"address\";r=0;t=60");
    }

    #[test]
    fn a_route_without_limits_says_nothing() {
        assert_eq!(told(&RouteLimits::default(), &[]), []);
        assert_eq!(told(&limits(), &[]).len(), 1, "the policy alone, where nothing was asked");
    }
}
