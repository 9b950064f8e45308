//! What is counted, for whom, and what is given back.

use super::counts::{MAX_OWN, SHARED};
use super::*;

const NOW: BootMillis = BootMillis(1_000_000);
const HOME: &str = "192.0.2.1";

fn settings() -> LogInSettings {
    LogInSettings {
        window: Duration::from_secs(900),
        tries_per_account_and_address: 10,
        tries_per_address: 100,
        tries_per_account: 50,
        ..LogInSettings::default()
    }
}

fn throttle() -> Throttle {
    Throttle::new(&settings())
}

fn account(n: u32) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    Fingerprint::from_bytes(bytes)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The `n`th of a stranger's addresses.
fn stranger(n: u32) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::from_bits((100 << 24) + n))
}

impl Throttle {
    fn try_at(&self, n: u32, from: IpAddr, now: BootMillis) -> Result<PasswordAttempt, TooManyAttempts> {
        self.attempt(AttemptKind::LogIn, account(n), from, now)
    }

    fn fail(&self, n: u32, from: IpAddr) {
        drop(self.try_at(n, from, NOW).unwrap());
    }

    fn fail_times(&self, n: u32, from: &str, times: u32) {
        for _ in 0..times {
            self.fail(n, address(from));
        }
    }

    fn log_in(&self, n: u32, from: &str) {
        let attempt = self.try_at(n, address(from), NOW).unwrap();
        self.succeed(attempt, NOW);
    }

    /// How many more wrong passwords are looked at.
    fn left(&self, n: u32, from: IpAddr) -> u32 {
        let mut left = 0;
        while let Ok(attempt) = self.try_at(n, from, NOW) {
            drop(attempt);
            left += 1;
            assert!(left < 1_000, "nothing is counted");
        }
        left
    }

    /// As many wrong passwords from as many addresses as are looked at.
    fn guess_from_everywhere(&self, n: u32) -> u32 {
        let looked_at = |at: &u32| self.try_at(n, stranger(*at), NOW).is_ok();
        u32::try_from((0..5_000).filter(looked_at).count()).unwrap()
    }
}

#[test]
fn ten_wrong_passwords_are_enough_for_a_while() {
    let throttle = throttle();
    let window = settings().window;
    throttle.fail_times(1, HOME, 10);
    let refused = throttle.try_at(1, address(HOME), NOW).unwrap_err();
    assert_eq!(refused.retry_after, window);
    let later = NOW.plus(window - Duration::from_secs(1));
    let refused = throttle.try_at(1, address(HOME), later).unwrap_err();
    assert_eq!(refused.retry_after, Duration::from_secs(1));
    assert!(throttle.try_at(1, address(HOME), NOW.plus(window)).is_ok());
}

#[test]
fn a_stranger_cannot_lock_the_holder_out() {
    let throttle = throttle();
    throttle.fail_times(1, HOME, 10);
    assert!(throttle.try_at(1, address(HOME), NOW).is_err());
    assert!(throttle.try_at(1, address("192.0.2.2"), NOW).is_ok(), "the holder, elsewhere");
    assert!(throttle.try_at(2, address(HOME), NOW).is_ok(), "somebody else behind that address");
}

#[test]
fn an_address_that_tries_every_account_is_stopped() {
    let throttle = throttle();
    for n in 0..10 {
        throttle.fail_times(n, HOME, 10);
    }
    assert!(throttle.try_at(200, address(HOME), NOW).is_err());
    assert!(throttle.try_at(200, address("192.0.2.9"), NOW).is_ok());
}

#[test]
fn who_knows_the_password_is_let_in_where_others_tried_everything() {
    let throttle = throttle();
    throttle.log_in(1, HOME);
    for n in 10..20 {
        throttle.fail_times(n, HOME, 10);
    }
    assert!(throttle.try_at(200, address(HOME), NOW).is_err(), "the address has had its tries");
    assert_eq!(throttle.left(1, address(HOME)), 10);
}

#[test]
fn a_right_password_clears_the_failures_of_its_network_with_its_account_only() {
    let throttle = throttle();
    throttle.fail_times(1, HOME, 9);
    throttle.fail_times(2, HOME, 10);
    throttle.fail_times(1, "192.0.2.2", 9);
    throttle.log_in(1, HOME);
    assert_eq!(throttle.left(1, address(HOME)), 10);
    assert!(throttle.try_at(2, address(HOME), NOW).is_err());
    assert_eq!(throttle.left(1, address("192.0.2.2")), 1);
}

#[test]
fn an_error_gives_back_the_one_try_that_was_not_judged() {
    let throttle = throttle();
    throttle.fail_times(1, HOME, 9);
    for _ in 0..30 {
        let attempt = throttle.try_at(1, address(HOME), NOW).unwrap();
        throttle.withdraw(attempt, NOW);
    }
    assert_eq!(
        throttle.left(1, address(HOME)),
        1,
        "nine were wrong before, and nobody forgave them"
    );

    throttle.log_in(2, HOME);
    throttle.fail_times(2, HOME, 9);
    let attempt = throttle.try_at(2, address(HOME), NOW).unwrap();
    throttle.withdraw(attempt, NOW);
    assert_eq!(throttle.left(2, address(HOME)), 1, "the same where it is known");
}

#[test]
fn whatever_is_given_back_the_counts_are_those_of_the_failures() {
    for judged in 0..32_u32 {
        let throttle = throttle();
        let mut attempts = Vec::new();
        for _ in 0..5 {
            attempts.push(throttle.try_at(1, address(HOME), NOW).unwrap());
        }
        // In any order, and beside each other.
        for (at, attempt) in attempts.into_iter().enumerate() {
            if judged & (1 << at) == 0 {
                throttle.withdraw(attempt, NOW);
            }
        }
        assert_eq!(throttle.left(1, address(HOME)), 10 - judged.count_ones(), "{judged:05b}");
    }
}

#[test]
fn a_try_of_a_window_that_is_over_is_not_given_back_to_the_next() {
    let throttle = throttle();
    let early = throttle.try_at(1, address(HOME), NOW).unwrap();
    let later = NOW.plus(settings().window);
    for _ in 0..10 {
        drop(throttle.try_at(1, address(HOME), later).unwrap());
    }
    throttle.withdraw(early, later);
    assert!(throttle.try_at(1, address(HOME), later).is_err());
}

#[test]
fn thousands_of_addresses_have_one_ceiling_and_the_holder_passes_beneath_it() {
    let throttle = throttle();
    throttle.log_in(1, HOME);
    assert_eq!(throttle.guess_from_everywhere(1), 50);
    let refused = throttle.try_at(1, address("198.51.100.1"), NOW).unwrap_err();
    assert_eq!(refused.retry_after, settings().window, "an unknown network has to wait");
    throttle.log_in(1, HOME);
    assert_eq!(throttle.left(1, address(HOME)), 10, "a known one has its own limit still");
    assert!(throttle.try_at(2, stranger(1), NOW).is_ok(), "another account");
    assert!(throttle.try_at(1, stranger(9_000), NOW.plus(settings().window)).is_ok());
}

#[test]
fn tries_from_a_known_network_bring_the_ceiling_no_nearer() {
    let throttle = throttle();
    throttle.log_in(1, HOME);
    throttle.fail_times(1, HOME, 10);
    assert_eq!(throttle.guess_from_everywhere(1), 50);
}

#[test]
fn a_known_network_is_a_whole_ipv6_customer() {
    let throttle = throttle();
    throttle.log_in(1, "2001:db8:0:1::1");
    throttle.guess_from_everywhere(1);
    assert!(throttle.try_at(1, address("2001:db8:0:1:ffff::2"), NOW).is_ok());
    assert!(throttle.try_at(1, address("2001:db8:0:2::1"), NOW).is_err());
}

#[test]
fn an_ipv6_customer_is_one_address() {
    let throttle = throttle();
    for i in 0..10 {
        throttle.fail_times(1, &format!("2001:db8:0:1::{i}"), 1);
    }
    assert!(throttle.try_at(1, address("2001:db8:0:1:ffff::1"), NOW).is_err());
    assert!(throttle.try_at(1, address("2001:db8:0:2::1"), NOW).is_ok());
    throttle.fail_times(3, HOME, 10);
    assert!(
        throttle.try_at(3, address("::ffff:192.0.2.1"), NOW).is_err(),
        "one host, two spellings"
    );
}

#[test]
fn a_session_that_guesses_is_stopped_and_no_log_in_stops_it_before() {
    let throttle = throttle();
    throttle.guess_from_everywhere(1);
    throttle.fail_times(2, HOME, 10);
    let guess = |n: u32, from: IpAddr| throttle.attempt(AttemptKind::Session, account(n), from, NOW);
    assert!(guess(1, stranger(9_000)).is_ok(), "the ceiling of log-ins is reached");
    for _ in 0..10 {
        drop(guess(2, address(HOME)).unwrap());
    }
    assert!(guess(2, address(HOME)).is_err(), "ten guesses from one address");
    let looked_at = (0..5_000).filter(|at| guess(3, stranger(*at)).is_ok()).count();
    assert_eq!(looked_at, 50, "and fifty from all of them");
    throttle.succeed(guess(4, address(HOME)).unwrap(), NOW);
    throttle.guess_from_everywhere(4);
    assert!(throttle.try_at(4, address(HOME), NOW).is_ok(), "it was the right password");
}

#[test]
fn what_was_given_back_leaves_nothing_behind() {
    let throttle = throttle();
    for at in 0..1_000 {
        let attempt = throttle.try_at(1, stranger(at), NOW).unwrap();
        throttle.withdraw(attempt, NOW);
    }
    throttle.log_in(1, HOME);
    assert_eq!(throttle.lock().counts.len(), 0);
}

#[test]
fn a_full_table_refuses_more_and_never_less() {
    let settings = settings();
    let throttle = Throttle::over(&settings, AttemptCounts::with_room_for(settings.window, 30));
    throttle.log_in(7, HOME);
    for at in 0..10 {
        throttle.fail(100 + at, stranger(at));
    }
    assert_eq!(throttle.lock().counts.len(), 30, "full");
    // Nobody who comes now has more tries than with a place of his own.
    for n in 1..5 {
        assert!(throttle.left(n, stranger(1_000 + n)) <= 10, "{n}");
        assert!(throttle.guess_from_everywhere(n) <= 50, "{n}");
    }
    let mut looked_at = 0;
    for n in 0..100_000 {
        looked_at += usize::from(throttle.try_at(1_000 + n, stranger(10_000 + n), NOW).is_ok());
    }
    assert!(looked_at <= SHARED * 10, "{looked_at} of 100000");
    assert_eq!(throttle.lock().counts.len(), 30);
    let refused = throttle.try_at(300_000, stranger(300_000), NOW).unwrap_err();
    assert!(refused.retry_after <= settings.window && !refused.retry_after.is_zero());
    assert_eq!(throttle.left(7, address(HOME)), 10, "whom it knows, no full table concerns");
    let later = NOW.plus(settings.window);
    assert!(throttle.try_at(300_000, stranger(300_000), later).is_ok());
    assert_eq!(throttle.lock().counts.len(), 3, "what has run out is forgotten");
}

#[test]
fn in_a_shared_place_too_only_the_one_try_is_given_back() {
    let settings = settings();
    let throttle = Throttle::over(&settings, AttemptCounts::with_room_for(settings.window, 0));
    throttle.fail_times(1, HOME, 9);
    for _ in 0..20 {
        let attempt = throttle.try_at(1, address(HOME), NOW).unwrap();
        throttle.withdraw(attempt, NOW);
    }
    assert_eq!(throttle.left(1, address(HOME)), 1);
}

#[test]
fn the_table_is_bounded_at_its_real_size() {
    let throttle = throttle();
    let total = u32::try_from(MAX_OWN).unwrap();
    for at in 0..total {
        let _ = throttle.try_at(at, stranger(at), NOW);
    }
    assert_eq!(throttle.lock().counts.len(), MAX_OWN);
}
