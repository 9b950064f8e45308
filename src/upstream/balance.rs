//! Chooses the endpoint of an attempt: the less loaded of two, equal ones in turn, and no ejected one while another is
//! healthy.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Instant;

use super::health::{AttemptPurpose, EndpointState};

/// The endpoints at which a request has already failed. Those after the 64th are not remembered and may be tried again,
/// which only costs an attempt.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TriedEndpoints(u64);

impl TriedEndpoints {
    pub(super) fn add(&mut self, endpoint: usize) {
        self.0 |= bit(endpoint);
    }

    fn has(self, endpoint: usize) -> bool {
        self.0 & bit(endpoint) != 0
    }
}

fn bit(endpoint: usize) -> u64 {
    u32::try_from(endpoint).ok().and_then(|n| 1_u64.checked_shl(n)).unwrap_or(0)
}

/// What is known of an endpoint when one is chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndpointLoad {
    pub(super) state: EndpointState,
    /// Requests in flight. `None` if there is no room for another.
    pub(super) load: Option<usize>,
}

impl EndpointLoad {
    /// An endpoint that does not exist.
    pub(super) const ABSENT: Self = Self {
        state: EndpointState::Healthy,
        load: None,
    };
}

/// Chooses endpoints for one worker.
pub(super) struct LoadBalancer {
    /// The endpoint with which the next choice begins, so that equal ones take turns.
    next_start: Cell<usize>,
    /// State of the generator that draws the second candidate. It is never 0.
    random: Cell<u64>,
}

impl LoadBalancer {
    /// Begins at a random endpoint, so that not all workers begin at the same one.
    pub(super) fn new() -> Self {
        let seed = RandomState::new().hash_one(0_u8) | 1;
        Self {
            next_start: Cell::new(usize::try_from(seed >> 40).unwrap_or(0)),
            random: Cell::new(seed),
        }
    }

    /// Chooses by the power of two choices, by requests in flight, among the healthy endpoints that have room. Returns
    /// `None` when all healthy endpoints are full. If no endpoint is healthy, chooses the one whose ejection ends
    /// first: a wrong verdict about every endpoint must not become an outage that the gateway causes. Endpoints that
    /// were tried before are chosen only when no other has room.
    pub(super) fn choose(
        &self,
        count: usize,
        tried: TriedEndpoints,
        now: Instant,
        load_of: impl Fn(usize) -> EndpointLoad,
    ) -> Option<(usize, AttemptPurpose)> {
        let (mut fresh, mut retried) = (Candidates::default(), Candidates::default());
        let mut ejected: Option<(Instant, usize)> = None;
        let mut full = false;
        let next_start = self.next_start.get();
        self.next_start.set(next_start.wrapping_add(1));
        let drawn = if count > 2 { self.draw(count) } else { 1 };
        for index in (0..count).map(|offset| next_start.wrapping_add(offset) % count) {
            let EndpointLoad { state, load } = load_of(index);
            let Some(load) = load else {
                full |= !matches!(state, EndpointState::Ejected(_));
                continue;
            };
            let until = match state {
                EndpointState::ProbeDue if !tried.has(index) => return Some((index, AttemptPurpose::Probe)),
                EndpointState::Healthy if tried.has(index) => {
                    retried.offer(index, load, drawn);
                    continue;
                }
                EndpointState::Healthy => {
                    fresh.offer(index, load, drawn);
                    continue;
                }
                EndpointState::ProbeDue => now,
                EndpointState::Ejected(until) => until,
            };
            if ejected.is_none_or(|(earliest, _)| until < earliest) {
                ejected = Some((until, index));
            }
        }
        let last_resort = || ejected.filter(|_| !full).map(|(_, index)| index);
        fresh
            .best()
            .or_else(|| retried.best())
            .or_else(last_resort)
            .map(|index| (index, AttemptPurpose::Request))
    }

    /// A number below `count`, by xorshift. Only the balance depends on it, so it need not be secret.
    fn draw(&self, count: usize) -> usize {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        usize::try_from(x >> 33).unwrap_or(0) % count.max(1)
    }
}

/// The two candidates between which the load decides: the first usable one in turn, and a drawn one.
#[derive(Default)]
struct Candidates {
    first: Option<(usize, usize)>,
    second: Option<(usize, usize)>,
    seen: usize,
}

impl Candidates {
    fn offer(&mut self, index: usize, load: usize, drawn: usize) {
        if self.first.is_none() {
            self.first = Some((index, load));
        } else if self.seen <= drawn.max(1) {
            self.second = Some((index, load));
        }
        self.seen += 1;
    }

    fn best(&self) -> Option<usize> {
        match (self.first, self.second) {
            (Some((_, load)), Some((index, other))) if other < load => Some(index),
            (first, _) => first.map(|(index, _)| index),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::clock;

    const NONE: TriedEndpoints = TriedEndpoints(0);

    fn well(load: usize) -> EndpointLoad {
        EndpointLoad {
            state: EndpointState::Healthy,
            load: Some(load),
        }
    }

    fn choose(views: &[EndpointLoad], tried: TriedEndpoints) -> Option<(usize, AttemptPurpose)> {
        LoadBalancer::new().choose(views.len(), tried, clock::instant(), |i| views[i])
    }

    #[test]
    fn the_less_loaded_of_two_is_chosen_and_equals_take_turns() {
        assert_eq!(choose(&[well(3), well(2)], NONE), Some((1, AttemptPurpose::Request)));
        let balance = LoadBalancer::new();
        let mut seen = [0; 4];
        for _ in 0..400 {
            let (index, _) = balance.choose(4, NONE, clock::instant(), |_| well(1)).unwrap();
            seen[index] += 1;
        }
        assert_eq!(seen, [100; 4]);
    }

    #[test]
    fn the_most_loaded_of_many_is_never_chosen_and_every_other_is() {
        let balance = LoadBalancer::new();
        let mut seen = [0; 4];
        for _ in 0..4_000 {
            let (index, _) = balance
                .choose(4, NONE, clock::instant(), |i| well(if i == 2 { 9 } else { 0 }))
                .unwrap();
            seen[index] += 1;
        }
        assert_eq!(seen[2], 0);
        assert!(seen.iter().filter(|n| **n > 400).count() == 3, "{seen:?}");
    }

    #[test]
    fn tried_endpoints_come_after_untried_but_before_none() {
        let mut tried = TriedEndpoints::default();
        tried.add(0);
        assert_eq!(choose(&[well(0), well(9)], tried), Some((1, AttemptPurpose::Request)));
        assert_eq!(
            choose(&[well(0), EndpointLoad { load: None, ..well(0) }], tried),
            Some((0, AttemptPurpose::Request))
        );
        tried.add(1);
        assert!(choose(&[well(0), well(9)], tried).is_some());
        tried.add(64);
        tried.add(usize::MAX);
        assert!(!tried.has(64), "beyond 64 nothing is remembered, and nothing wraps");
    }

    #[test]
    fn a_due_endpoint_is_probed_and_an_ejected_one_used_only_when_nobody_is_well() {
        let soon = clock::instant() + Duration::from_secs(1);
        let out = |until| EndpointLoad {
            state: EndpointState::Ejected(until),
            load: Some(0),
        };
        let due = EndpointLoad {
            state: EndpointState::ProbeDue,
            load: Some(0),
        };
        assert_eq!(choose(&[well(9), due], NONE), Some((1, AttemptPurpose::Probe)));
        assert_eq!(choose(&[well(9), out(soon)], NONE), Some((0, AttemptPurpose::Request)));
        assert_eq!(
            choose(&[out(soon + Duration::from_secs(1)), out(soon)], NONE),
            Some((1, AttemptPurpose::Request))
        );
        let full = EndpointLoad { load: None, ..well(0) };
        assert_eq!(choose(&[full, out(soon)], NONE), None, "well but full: wait for it");
        assert_eq!(choose(&[full, full], NONE), None);
        let mut tried = TriedEndpoints::default();
        tried.add(0);
        assert_eq!(choose(&[due], tried), Some((0, AttemptPurpose::Request)));
    }
}
