//! `[log_in]`: limits that make sense together, and what a route that anybody may sign up on needs.

use crate::config::source::Located;
use crate::config::written::{WrittenLogIn, WrittenRateLimit, WrittenTries};
use crate::decide::rate::By;
use crate::snapshot::{HashPlaces, LogInSettings};

use super::Builder;

impl Builder<'_> {
    /// The settings of `[log_in]`.
    pub(super) fn log_in(&self, written: &WrittenLogIn) -> LogInSettings {
        let pair = &written.per_account_and_address;
        for wider in [&written.per_address, &written.per_account] {
            self.check_reachable(pair, wider);
        }
        let tries = |tries: &WrittenTries| u32::try_from(tries.count).unwrap_or(u32::MAX);
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        LogInSettings {
            window: written.window,
            tries_per_account_and_address: tries(pair),
            tries_per_address: tries(&written.per_address),
            tries_per_account: tries(&written.per_account),
            known_for: written.known_for,
            hashes: HashPlaces {
                at_once: written.at_once.map_or_else(half_of_the_cores, size),
                waiting: size(written.waiting),
            },
        }
    }

    /// A limit that another one always comes before is a mistake.
    fn check_reachable(&self, pair: &WrittenTries, wider: &WrittenTries) {
        if pair.count <= wider.count {
            return;
        }
        // Defaults agree with each other, so that one of the two was written.
        let Some(at) = pair.at.as_ref().or(wider.at.as_ref()) else { return };
        self.report.error(
            at,
            format!(
                "nobody would get as far as `{} = {}`: `{}` is {}",
                pair.name, pair.count, wider.name, wider.count
            ),
            Some(format!(
                "raise `{}` to at least {}, or lower `{}`",
                wider.name, pair.count, pair.name
            )),
        );
    }

    /// Whoever signs up is nobody yet: without a limit by address one stranger fills the store with
    /// tenants.
    pub(super) fn check_sign_up(&self, tenant: &Located<String>, own: Option<&Vec<WrittenRateLimit>>, defaults: &[WrittenRateLimit]) {
        let limits = own.map_or(defaults, Vec::as_slice);
        if !limits.iter().any(|limit| limit.by.value == By::Address) {
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
