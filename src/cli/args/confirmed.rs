//! Options of commands that ask the other gateways: `--wait`, `durward events`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::admin::receipts::MAX_WAIT;
use crate::cli::failure::{Exit, Failure};

/// How long `--wait` waits unless it is told: hundreds of times what healthy gateways take, and short
/// enough that somebody with a leaked key hears in time who did not confirm.
const DEFAULT: &str = "5s";

/// Whether to wait for receipts.
#[derive(Debug, Clone, Args)]
pub(crate) struct WaitArgs {
    /// Wait until every gateway has confirmed, and show each; exit code 4 if one has not.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait for confirmations: 500ms, 5s, at most 25s.
    #[arg(long, value_name = "TIME", requires = "wait", default_value = DEFAULT, value_parser = parse_wait)]
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

/// `durward drill`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DrillArgs {
    /// The surface of the canary; needed when there is more than one for API keys.
    #[arg(long, value_name = "NAME")]
    pub(crate) surface: Option<String>,
    /// `test` or `live`; needed when the surface has both.
    #[arg(long, value_name = "MODE", value_parser = ["test", "live"])]
    pub(crate) mode: Option<String>,
    /// What the canary may do: what the addresses need; may be given several times.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// An address to GET with the canary before and after; may be given several times.
    #[arg(long = "url", value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// Certificates (PEM) to trust besides the system's, for https addresses.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// How long to wait for the gateways' confirmations: 500ms, 5s, at most 25s.
    #[arg(long, value_name = "TIME", default_value = DEFAULT, value_parser = parse_wait)]
    pub(crate) wait_timeout: Duration,
}

/// `durward events`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EventArgs {
    /// Begin after this position; without it, the newest are shown.
    #[arg(long, value_name = "POSITION")]
    pub(crate) after: Option<u64>,
    /// Without a position, show this many, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000), conflicts_with = "after")]
    pub(crate) limit: u16,
    /// Go on showing what changes until interrupted.
    #[arg(long)]
    pub(crate) follow: bool,
}

/// Reads `500ms`, `5s` or `0`.
pub(crate) fn parse_wait(text: &str) -> Result<Duration, String> {
    let wrong = || format!("write milliseconds or seconds, at most {}s: 500ms, 5s", MAX_WAIT.as_secs());
    let (digits, unit) = if let Some(digits) = text.strip_suffix("ms") {
        (digits, 1)
    } else if let Some(digits) = text.strip_suffix('s') {
        (digits, 1_000)
    } else if text == "0" {
        (text, 1)
    } else {
        return Err(wrong());
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    let wait = count.checked_mul(unit).map(Duration::from_millis).filter(|wait| *wait <= MAX_WAIT);
    wait.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_has_a_unit_and_a_bound() {
        for (text, millis) in [("0", 0), ("0s", 0), ("500ms", 500), ("5s", 5_000), ("25s", 25_000)] {
            assert_eq!(parse_wait(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "ms", "-1s", "1.5s", "26s", "25001ms", "1m", "99999999999999999999s"] {
            assert!(parse_wait(text).is_err(), "{text}");
        }
    }
}
