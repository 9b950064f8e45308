//! `[log_in]` and `[sign_up]`: how many passwords may be tried, and hashed, with the reasons of the defaults.

use std::time::Duration;

use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::source::Place;
use crate::config::units::secs;
use crate::snapshot::HashPlaces;

/// `[log_in]`.
pub const LOG_IN: Schema = Schema {
    parts: &[],
    name: "`[log_in]`",
    about: "Tries are wrong passwords, counted by this process before they are judged; beyond a limit the answer is 429 with `Retry-After`. An address is the client's as the trusted proxies tell it, an IPv6 client being its /64. See docs/security.md.",
    keys: &[
        Key {
            name: "window",
            kind: Kind::Duration {
                min: secs(60),
                max: secs(86_400),
            },
            default: Fallback::Value("15m"),
            about: "Tries are forgotten this long after the first of them. Below a minute the limits would be none; after a day a person has found another way.",
        },
        count(
            "tries_per_account_and_address",
            3,
            1_000,
            "10",
            "With one account from one address: who mistypes ten times fetches the password manager. Below 3 a typing error keeps people out. At most as many as each of the two below, or it would never be reached.",
        ),
        count(
            "tries_per_address",
            3,
            1_000_000,
            "100",
            "From one address with accounts that are not known there: an office of fifty in which everybody mistypes twice.",
        ),
        count(
            "tries_per_account",
            3,
            1_000_000,
            "50",
            "With one account from all addresses where its password was not proven within `known_for`: what somebody with thousands of addresses may guess. The holder gets in from known addresses whatever it says; from an unknown one he has to wait while it is reached, so less is not safer for everybody.",
        ),
        Key {
            name: "known_for",
            kind: Kind::Duration {
                min: secs(3_600),
                max: secs(366 * 86_400),
            },
            default: Fallback::Value("35d"),
            about: "How long an address counts as known for an account after a right password came from it. Each account has its latest eight addresses; from them only `tries_per_account_and_address` applies. 35 days is the longest pause of somebody who logs in once a month; with less, `tries_per_account` stops more holders.",
        },
        Key {
            name: "hashes_at_once",
            kind: Kind::Count { min: 1, max: 64 },
            default: Fallback::Absent("half of the cores, 1 to 4"),
            about: "Passwords hashed at a time, some 20 ms of a core and 19 MiB each. Half of the cores leaves the others to requests.",
        },
        count(
            "hashes_waiting",
            1,
            256,
            "48",
            "Passwords that wait for their turn, at most half of them from one address (known people and strangers apart); more are told 503 at once, those of the address with most waiting first, and nobody who is known there for somebody who is not. 48 are half a second of work for two cores; 256 may be five seconds for one, and nobody waits longer at a form.",
        ),
    ],
};

/// `[sign_up]`.
pub const SIGN_UP: Schema = Schema {
    parts: &[],
    name: "`[sign_up]`",
    about: "Passwords of people whom nobody knows, on public routes. They have places of their own, so that no number of sign-ups keeps anybody from logging in.",
    keys: &[
        count(
            "hashes_at_once",
            1,
            64,
            "1",
            "Hashed at a time, beside those of `[log_in]`: fifty sign-ups a second.",
        ),
        count(
            "hashes_waiting",
            1,
            128,
            "24",
            "Waiting, at most half of them from one address: half a second of work. 128 leave half of the calls that the gateway serves at a time to others.",
        ),
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

/// `[log_in]` as written.
#[derive(Debug)]
pub struct WrittenLogIn {
    /// When tries are forgotten.
    pub window: Duration,
    /// With one account from one address.
    pub per_account_and_address: WrittenTries,
    /// From one address.
    pub per_address: WrittenTries,
    /// With one account.
    pub per_account: WrittenTries,
    /// How long an address is known.
    pub known_for: Duration,
    /// Hashes at a time, if it was said.
    pub at_once: Option<u64>,
    /// Hashes that wait.
    pub waiting: u64,
}

/// A number of tries.
#[derive(Debug)]
pub struct WrittenTries {
    /// Its key.
    pub name: &'static str,
    /// How many.
    pub count: u64,
    /// Where it was written; `None` for the default.
    pub at: Option<Place>,
}

/// Reads `[log_in]`.
#[must_use]
pub fn read(section: &Section<'_>) -> WrittenLogIn {
    let tries = |name| WrittenTries {
        name,
        count: section.count_or_default(name),
        at: section.raw(name).map(|value| section.place(value)),
    };
    WrittenLogIn {
        window: section.duration_or_default("window").value,
        per_account_and_address: tries("tries_per_account_and_address"),
        per_address: tries("tries_per_address"),
        per_account: tries("tries_per_account"),
        known_for: section.duration_or_default("known_for").value,
        at_once: section.count("hashes_at_once").map(|n| n.value),
        waiting: section.count_or_default("hashes_waiting"),
    }
}

/// Reads `[sign_up]`.
#[must_use]
pub fn read_sign_up(section: &Section<'_>) -> HashPlaces {
    let size = |name| usize::try_from(section.count_or_default(name)).unwrap_or(usize::MAX);
    HashPlaces {
        at_once: size("hashes_at_once"),
        waiting: size("hashes_waiting"),
    }
}
