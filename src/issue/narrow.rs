//! The bounds of a new credential: it never gets more than its maker has. One rule for every served route.

use std::time::Duration;

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::scope::{Mode, ScopeSet};

/// Allows the scopes in `requested` if the maker holds each of them or the route may grant it.
///
/// # Errors
/// [`Denial::InsufficientScope`] when a scope is neither held nor granted.
pub fn check_scopes(requested: &ScopeSet, held: &ScopeSet, grants: &ScopeSet) -> Result<(), Denial> {
    if requested.iter().all(|scope| held.contains(scope) || grants.contains(scope)) {
        Ok(())
    } else {
        Err(Denial::InsufficientScope)
    }
}

/// The mode of a new credential on a surface with these modes: the requested one, or the only one there is. `None` if
/// the surface has no such mode.
#[must_use]
pub fn resolve_mode(requested: Option<Mode>, modes: &[Option<Mode>]) -> Option<Option<Mode>> {
    let mut known: Vec<Option<Mode>> = modes.to_vec();
    known.sort_unstable();
    known.dedup();
    match (requested, known.as_slice()) {
        // Accounts and sessions have no prefixes, so they take any mode or none.
        (requested, []) => Some(requested),
        (Some(_), known) if known.contains(&requested) => Some(requested),
        // The keys of this surface do not show a mode, so its records may have any mode.
        (requested, [None]) => Some(requested),
        (None, [only]) => Some(*only),
        _ => None,
    }
}

/// When a new credential ends: after its lifetime, and never later than its parent.
#[must_use]
pub fn end_of(now: UnixMillis, lifetime: Option<Duration>, parent_end: Option<UnixMillis>) -> Option<UnixMillis> {
    match (lifetime.map(|lifetime| now.plus(lifetime)), parent_end) {
        (Some(own), Some(parent)) => Some(own.min(parent)),
        (own, parent) => own.or(parent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::scope::Scope;

    fn set(words: &str) -> ScopeSet {
        words
            .split(' ')
            .filter(|w| !w.is_empty())
            .map(|w| Scope::parse(w).unwrap())
            .collect()
    }

    #[test]
    fn a_key_can_never_grant_what_neither_it_nor_the_operator_gives() {
        let judge = |requested: &str| check_scopes(&set(requested), &set("read write"), &set("view"));
        for good in ["", "read", "read write view", "view"] {
            assert_eq!(judge(good), Ok(()), "{good}");
        }
        for bad in ["admin", "read admin", "view admin"] {
            assert_eq!(judge(bad), Err(Denial::InsufficientScope), "{bad}");
        }
        assert_eq!(check_scopes(&set("read"), &set(""), &set("")), Err(Denial::InsufficientScope));
    }

    #[test]
    fn a_mode_is_one_the_surface_has() {
        let (test, live) = (Some(Mode::Test), Some(Mode::Live));
        assert_eq!(resolve_mode(test, &[test, live]), Some(test));
        assert_eq!(resolve_mode(None, &[test, live]), None, "which of the two is not a guess");
        assert_eq!(resolve_mode(None, &[live, live]), Some(live));
        assert_eq!(resolve_mode(test, &[live]), None);
        assert_eq!(resolve_mode(test, &[None]), Some(test));
        assert_eq!(resolve_mode(None, &[None]), Some(None));
        assert_eq!(resolve_mode(live, &[]), Some(live));
    }

    #[test]
    fn nothing_outlives_what_it_hangs_on() {
        let (now, minute) = (UnixMillis(1_000), Duration::from_secs(60));
        assert_eq!(end_of(now, Some(minute), None), Some(UnixMillis(61_000)));
        assert_eq!(end_of(now, Some(minute), Some(UnixMillis(30_000))), Some(UnixMillis(30_000)));
        assert_eq!(end_of(now, Some(minute), Some(UnixMillis(90_000))), Some(UnixMillis(61_000)));
        assert_eq!(end_of(now, None, Some(UnixMillis(90_000))), Some(UnixMillis(90_000)));
        assert_eq!(end_of(now, None, None), None);
    }
}
