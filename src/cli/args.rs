//! Options that several commands share.

use std::time::Duration;

use clap::Args;

use crate::admin::receipts::MAX_WAIT;

use super::client::path_id;
use super::failure::{Exit, Failure};
use crate::base::percent;
use crate::base::text::parse_duration;

/// How long `--wait` waits by default. Healthy gateways need a hundredth of it. It is short enough for somebody with a leaked
/// key, who must know soon which gateways did not confirm.
pub(crate) const DEFAULT_WAIT: &str = "5s";

/// Which part of a list.
#[derive(Debug, Clone, Args)]
pub(crate) struct Page {
    /// Begin the list after this id.
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<String>,
    /// At most this many, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) limit: u16,
}

impl Page {
    /// The query of a list with these filters.
    pub(crate) fn query(&self, filters: &[(&str, Option<&str>)]) -> Result<String, Failure> {
        let mut query = format!("limit={}", self.limit);
        for (name, value) in filters.iter().copied().chain([("after", self.after.as_deref())]) {
            match value {
                // A subject may be any text; all other filters are ids.
                Some(value) if name == "subject" => {
                    let mut encoded = Vec::new();
                    percent::push_query(&mut encoded, value);
                    query.push_str(&format!("&{name}={}", String::from_utf8_lossy(&encoded)));
                }
                Some(value) => query.push_str(&format!("&{name}={}", path_id(value)?)),
                None => {}
            }
        }
        Ok(query)
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct KeyArgs {
    /// `test` or `live`; needed when the surface has both.
    #[arg(long, value_name = "MODE", value_parser = ["test", "live"])]
    pub(crate) mode: Option<String>,
    /// A scope that it has; may be given several times.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// Who acts within the tenant.
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) subject: Option<String>,
    /// When it ends: 30d, or 2027-01-31T00:00:00Z. Without it, it lives until revoked.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// A name that helps people to recognise it.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RoleArgs {
    /// A role that it has, by id or name; may be given several times.
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
}

/// Whether to wait for receipts.
#[derive(Debug, Clone, Args)]
pub(crate) struct WaitArgs {
    /// Wait until every gateway has confirmed, and show each; exit code 4 if one has not.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait for confirmations: 500ms, 5s, at most 25s.
    #[arg(long, value_name = "TIME", requires = "wait", default_value = DEFAULT_WAIT, value_parser = parse_wait)]
    pub(crate) wait_timeout: Duration,
}

impl WaitArgs {
    /// Milliseconds to wait, if at all.
    pub(crate) fn millis(&self) -> Result<Option<u64>, Failure> {
        if !self.wait {
            return Ok(None);
        }
        let millis = u64::try_from(self.wait_timeout.as_millis());
        millis.map(Some).map_err(|_| Failure::new(Exit::Usage, "the wait is too long"))
    }
}

/// Reads `500ms`, `5s` or `0`.
pub(crate) fn parse_wait(text: &str) -> Result<Duration, String> {
    let wrong = || format!("write milliseconds or seconds, at most {}s: 500ms, 5s", MAX_WAIT.as_secs());
    let wait = match text {
        "0" => Some(Duration::ZERO),
        _ if text.contains(' ') => None,
        _ => parse_duration(text, &["ms", "s"]),
    };
    wait.filter(|wait| *wait <= MAX_WAIT).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_has_a_unit_and_a_bound() {
        for (text, millis) in [("0", 0), ("0s", 0), ("500ms", 500), ("5s", 5_000), ("25s", 25_000)] {
            assert_eq!(parse_wait(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "5",
            "5 s",
            "s",
            "ms",
            "-1s",
            "1.5s",
            "26s",
            "25001ms",
            "1m",
            "99999999999999999999s",
        ] {
            assert!(parse_wait(text).is_err(), "{text}");
        }
    }
}
