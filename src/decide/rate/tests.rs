//! The rule against an exact log of times, and what keys keep apart.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn rate(count: u32, seconds: u64) -> Rate {
    Rate::new(count, Duration::from_secs(seconds)).unwrap()
}

fn is_admitted(verdict: RateVerdict) -> bool {
    matches!(verdict, RateVerdict::Admitted { .. })
}

#[test]
fn a_hundred_and_twenty_in_a_minute_are_exactly_that_many() {
    let rate = rate(120, 60);
    let mut window = Window::default();
    let start = 1_000_003;
    for n in 0..120_u32 {
        let verdict = window.admit(rate, BootMillis(start + u64::from(n)));
        let RateVerdict::Admitted { remaining, .. } = verdict else {
            panic!("{n}: {verdict:?}");
        };
        assert_eq!(remaining, 119 - n);
    }
    for later in [120, 500, 1_000, 30_000, 59_999] {
        let RateVerdict::Refused { retry_after } = window.admit(rate, BootMillis(start + later)) else {
            panic!("admitted after {later} ms");
        };
        assert_eq!(retry_after, Duration::from_millis(60_119 - later));
    }
    assert!(is_admitted(window.admit(rate, BootMillis(start + 60_119))));
}

#[test]
fn who_waits_as_long_as_told_is_admitted() {
    let rate = rate(3, 1);
    let mut window = Window::default();
    let mut now = 77;
    for _ in 0..1_000 {
        now += match window.admit(rate, BootMillis(now)) {
            RateVerdict::Admitted { .. } => 40,
            RateVerdict::Refused { retry_after } => {
                assert!(retry_after <= Duration::from_secs(1) && !retry_after.is_zero());
                let next = now + u64::try_from(retry_after.as_millis()).unwrap();
                assert!(!is_admitted(window.judge(rate, BootMillis(next - 1))));
                assert!(is_admitted(window.judge(rate, BootMillis(next))));
                u64::try_from(retry_after.as_millis()).unwrap()
            }
        };
    }
}

#[test]
fn judging_counts_nothing_and_a_refusal_is_not_counted() {
    let rate = rate(1, 10);
    let mut window = Window::default();
    for _ in 0..5 {
        assert!(is_admitted(window.judge(rate, BootMillis(0))));
    }
    assert!(is_admitted(window.admit(rate, BootMillis(0))));
    for now in 1..100 {
        assert!(!is_admitted(window.admit(rate, BootMillis(now * 100))), "{now}");
    }
    assert!(is_admitted(window.admit(rate, BootMillis(10_000))));
}

#[test]
fn a_clock_that_steps_back_neither_frees_nor_blocks_for_long() {
    let rate = rate(2, 10);
    let mut window = Window::default();
    assert!(is_admitted(window.admit(rate, BootMillis(100_000))));
    assert!(is_admitted(window.admit(rate, BootMillis(99_000))));
    assert!(!is_admitted(window.admit(rate, BootMillis(98_000))));
    assert!(
        is_admitted(window.admit(rate, BootMillis(50_000))),
        "an hour-long step must not block for an hour"
    );
}

proptest! {
    /// Never more than the rate in any period; and whoever an exact log with an eighth more of the
    /// period would admit is admitted.
    #[test]
    fn the_window_stays_between_two_exact_logs(
        count in 1..20_u32,
        seconds in 1..90_u64,
        begin in 0..10_000_000_u64,
        steps in prop::collection::vec((0..200_u64, 0..40_u64), 1..300),
    ) {
        let rate = rate(count, seconds);
        let mut window = Window::default();
        let mut admitted: Vec<u64> = Vec::new();
        let mut now = begin;
        for (pause, scale) in steps {
            now += pause * scale * seconds / 8;
            let within = |span: u64| admitted.iter().filter(|at| now - **at < span).count() < count as usize;
            let (strict, lenient) = (within(rate.period_millis() + rate.part_millis()), within(rate.period_millis()));
            let verdict = window.judge(rate, BootMillis(now));
            prop_assert_eq!(verdict, window.admit(rate, BootMillis(now)));
            prop_assert!(!is_admitted(verdict) || lenient, "admitted beyond the rate");
            prop_assert!(is_admitted(verdict) || !strict, "refused without need");
            match verdict {
                RateVerdict::Admitted { remaining, reset } => {
                    prop_assert!(remaining < count);
                    prop_assert!(reset <= Duration::from_millis(rate.period_millis()));
                    admitted.push(now);
                }
                RateVerdict::Refused { retry_after } => {
                    prop_assert!(!retry_after.is_zero() && retry_after <= Duration::from_millis(rate.period_millis()));
                    let then = BootMillis(now + u64::try_from(retry_after.as_millis()).unwrap());
                    prop_assert!(is_admitted(window.judge(rate, then)));
                }
            }
        }
    }
}

#[test]
fn a_rate_has_bounds_on_both_sides() {
    assert_eq!(Rate::new(0, Duration::from_secs(1)), Err(RateError::Count));
    assert_eq!(Rate::new(MAX_COUNT + 1, Duration::from_secs(1)), Err(RateError::Count));
    for bad in [
        Duration::ZERO,
        Duration::from_millis(999),
        Duration::from_millis(1_500),
        Duration::from_secs(86_401),
    ] {
        assert_eq!(Rate::new(1, bad), Err(RateError::Period), "{bad:?}");
    }
    assert!(Rate::new(MAX_COUNT, PERIODS.1).is_ok() && Rate::new(1, PERIODS.0).is_ok());
}

fn limit(route: &str, by: LimitBy) -> RateLimit {
    RateLimit::new(route, by.as_str().into(), by, rate(10, 60), CountedIn::Here)
}

#[test]
fn keys_are_apart_by_route_kind_and_caller() {
    let tenant = |t| TenantId::parse(t).unwrap();
    let (a, b) = (limit("a", LimitBy::Tenant), limit("b", LimitBy::Tenant));
    let keys = [
        a.key_of_tenant(&tenant("acme")),
        a.key_of_tenant(&tenant("other")),
        b.key_of_tenant(&tenant("acme")),
        limit("a", LimitBy::Credential).key_of_tenant(&tenant("acme")),
        a.key_of_route(),
    ];
    for (i, key) in keys.iter().enumerate() {
        assert!(!keys[i + 1..].contains(key), "{i}");
    }
    assert_eq!(keys[0], limit("a", LimitBy::Tenant).key_of_tenant(&tenant("acme")));
    assert_eq!(keys[0].to_hex().len(), 32);
}

#[test]
fn an_ipv6_network_is_one_client_and_an_ipv4_in_disguise_is_itself() {
    let limit = limit("a", LimitBy::Address);
    let key = |text: &str| limit.key_of_address(text.parse().unwrap());
    assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::2"));
    assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
    assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
    assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
}

#[test]
fn limits_are_sorted_named_and_told_as_a_policy() {
    let limits = RouteLimits::new(vec![
        limit("a", LimitBy::Tenant),
        limit("a", LimitBy::Address),
        limit("a", LimitBy::Tenant),
    ]);
    let names = |limits: &[RateLimit]| limits.iter().map(|l| l.name.clone()).collect::<Vec<_>>();
    assert_eq!(
        (names(&limits.before), names(&limits.after)),
        (vec!["address".into()], vec!["tenant".into(), "tenant-2".into()])
    );
    assert_eq!(limits.policy, "\"address\";q=10;w=60, \"tenant\";q=10;w=60, \"tenant-2\";q=10;w=60");
    assert!(!limits.is_empty() && RouteLimits::default().is_empty());
}
