//! `[[routes.limits]]`: how often a route may be used, and by whom that is counted.

use crate::config::reader::{Section, shorten};
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::source::{Located, Place};
use crate::config::units::parse_duration;
use crate::decide::rate::{By, Counted, Rate, WhenUnavailable};

/// One limit.
pub const RATE_LIMIT: Schema = Schema {
    parts: &[],
    name: "`[[routes.limits]]`",
    about: "Beyond it the answer is 429 with `Retry-After` in real seconds; answers of the route carry `RateLimit` and `RateLimit-Policy`. All limits of a route must admit a request; they are asked `address` first, then in the order they are written, and a request that a later one refuses was counted by the earlier ones.",
    keys: &[
        Key {
            name: "by",
            kind: Kind::Choice(&["address", "credential", "tenant", "route"]),
            default: Fallback::Required,
            about: "What requests are counted by. `address` is the client's as the trusted proxies tell it, an IPv6 client being its /64, and is asked before the credential is looked at; the others once the caller is admitted.",
        },
        Key {
            name: "rate",
            kind: Kind::Text,
            default: Fallback::Required,
            about: "`<number>/<duration>`, for example `120/1m`: never more than that in any such time, wherever it begins. 1 to 1000000 requests in 1 s to 1 d of whole seconds. For a burst of its own, write a second limit, for example `10/1s`.",
        },
        Key {
            name: "shared",
            kind: Kind::Flag,
            default: Fallback::Value("false"),
            about: "Counts in the Redis store for all gateways together, on Redis' time. A request then waits for Redis, 50 ms at most.",
        },
        Key {
            name: "when_unavailable",
            kind: Kind::Choice(&["local", "refuse"]),
            default: Fallback::Value("local"),
            about: "With `shared`, while Redis cannot be asked: each gateway counts for itself, or requests are refused with 503.",
        },
    ],
};

/// A limit as written.
#[derive(Debug)]
pub struct WrittenRateLimit {
    /// Counted by.
    pub by: Located<By>,
    /// How many in how long.
    pub rate: Rate,
    /// Where it is counted.
    pub counted: Counted,
    /// Where it stands.
    pub at: Place,
}

/// Reads the limits under this key; `None` if the key is absent.
#[must_use]
pub fn read_list(section: &Section<'_>, name: &str) -> Option<Vec<WrittenRateLimit>> {
    section.raw(name)?;
    Some(section.sections(name).iter().filter_map(read).collect())
}

fn read(section: &Section<'_>) -> Option<WrittenRateLimit> {
    let counted = read_counted(section);
    let rate = read_rate(section);
    section.raw("by")?;
    let word = section.choice("by");
    let by = match word.value {
        "credential" => By::Credential,
        "tenant" => By::Tenant,
        "route" => By::Route,
        _ => By::Address,
    };
    Some(WrittenRateLimit {
        by: Located { value: by, at: word.at },
        rate: rate?,
        counted,
        at: section.at(),
    })
}

fn read_counted(section: &Section<'_>) -> Counted {
    let policy = section.choice("when_unavailable");
    if !section.is_set("shared") {
        if section.raw("when_unavailable").is_some() {
            section.report().error(
                &policy.at,
                "`when_unavailable` is about shared limits",
                Some("add `shared = true`, or remove it".to_owned()),
            );
        }
        return Counted::Here;
    }
    Counted::Together(match policy.value {
        "refuse" => WhenUnavailable::Refuse,
        _ => WhenUnavailable::CountHere,
    })
}

fn read_rate(section: &Section<'_>) -> Option<Rate> {
    let text = section.text("rate")?;
    let parts = text.value.split_once('/').and_then(|(count, period)| {
        let digits = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
        Some((digits.then(|| count.parse().unwrap_or(u32::MAX))?, parse_duration(period)?))
    });
    let rate = parts.map(|(count, period)| Rate::new(count, period));
    let help = match rate {
        Some(Ok(rate)) => return Some(rate),
        Some(Err(error)) => error.to_string(),
        None => "write a number, `/` and a duration, for example \"120/1m\"".to_owned(),
    };
    section
        .report()
        .error(&text.at, format!("`{}` is not a rate", shorten(&text.value)), Some(help));
    None
}
