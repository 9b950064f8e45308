//! Whether an endpoint is used, decided by its last attempts. The decision is pure: the time is an argument.

use std::time::Instant;

use super::spec::Ejection;

/// An ejection is doubled at most this often. 2^4 is the factor 16 that [`Ejection`] promises.
const MAX_DOUBLINGS: u32 = 4;

/// Which requests an endpoint may get now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndpointState {
    Healthy,
    /// One request, which finds out whether the endpoint is healthy again.
    ProbeDue,
    /// None, unless no other endpoint is left. The ejection ends at this time.
    Ejected(Instant),
}

/// Why an endpoint gets a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptPurpose {
    /// It is healthy, or no other endpoint is left.
    Request,
    /// Its ejection is over, and this request finds out whether it is healthy again.
    Probe,
}

/// The health of one endpoint.
#[derive(Debug, Default)]
pub(super) struct EndpointHealth {
    failures: u32,
    ejected: Option<Ejected>,
}

#[derive(Debug)]
struct Ejected {
    until: Instant,
    doublings: u32,
    probed: bool,
}

impl EndpointHealth {
    pub(super) fn state(&self, now: Instant) -> EndpointState {
        match &self.ejected {
            None => EndpointState::Healthy,
            Some(ejected) if ejected.until <= now && !ejected.probed => EndpointState::ProbeDue,
            Some(ejected) => EndpointState::Ejected(ejected.until),
        }
    }

    /// The request that is sent now is the probe. No other request is sent until it has ended.
    pub(super) fn begin_probe(&mut self) {
        if let Some(ejected) = &mut self.ejected {
            ejected.probed = true;
        }
    }

    /// The probe ended without a result, since its client went away. Another may be sent.
    pub(super) fn abandon_probe(&mut self) {
        if let Some(ejected) = &mut self.ejected {
            ejected.probed = false;
        }
    }

    /// A valid answer came, whatever its status: the endpoint is healthy.
    pub(super) fn succeeded(&mut self) {
        if self.failures != 0 || self.ejected.is_some() {
            *self = Self::default();
        }
    }

    /// There was no connection, no answer in time, or no valid one. Returns whether the endpoint is ejected because of
    /// it.
    ///
    /// During an ejection a failure counts only for the probe: requests that are sent because no other endpoint is left
    /// must not prolong the ejection.
    #[must_use]
    pub(super) fn failed(&mut self, purpose: AttemptPurpose, rule: Ejection, now: Instant) -> HealthChange {
        self.failures = self.failures.saturating_add(1);
        let doublings = match &self.ejected {
            Some(ejected) if purpose == AttemptPurpose::Probe => (ejected.doublings + 1).min(MAX_DOUBLINGS),
            Some(_) => return HealthChange::Unchanged,
            None if rule.failures == 0 || self.failures < rule.failures => return HealthChange::Unchanged,
            None => 0,
        };
        let Some(until) = now.checked_add(rule.duration.saturating_mul(1 << doublings)) else {
            return HealthChange::Unchanged;
        };
        self.ejected = Some(Ejected {
            until,
            doublings,
            probed: false,
        });
        HealthChange::Ejected
    }
}

/// What a failure led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HealthChange {
    Unchanged,
    /// The endpoint is left out from now on.
    Ejected,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::clock;

    const RULE: Ejection = Ejection {
        failures: 2,
        duration: Duration::from_secs(1),
    };

    fn fail(health: &mut EndpointHealth, now: Instant) -> HealthChange {
        health.failed(AttemptPurpose::Request, RULE, now)
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_between_does_not() {
        let (mut health, now) = (EndpointHealth::default(), clock::instant());
        assert_eq!(fail(&mut health, now), HealthChange::Unchanged);
        health.succeeded();
        assert_eq!(fail(&mut health, now), HealthChange::Unchanged);
        assert_eq!(health.state(now), EndpointState::Healthy);
        assert_eq!(fail(&mut health, now), HealthChange::Ejected);
        assert_eq!(health.state(now), EndpointState::Ejected(now + RULE.duration));
    }

    #[test]
    fn one_probe_at_a_time_decides_about_the_return() {
        let (mut health, now) = (EndpointHealth::default(), clock::instant());
        for _ in 0..2 {
            let _ = fail(&mut health, now);
        }
        let later = now + RULE.duration;
        assert_eq!(health.state(later), EndpointState::ProbeDue);
        health.begin_probe();
        assert!(
            matches!(health.state(later), EndpointState::Ejected(_)),
            "a second request is no probe"
        );
        health.abandon_probe();
        assert_eq!(
            health.state(later),
            EndpointState::ProbeDue,
            "a probe without an outcome is repeated"
        );
        health.begin_probe();
        health.succeeded();
        assert_eq!(health.state(later), EndpointState::Healthy);
    }

    #[test]
    fn each_failed_probe_doubles_the_ejection_up_to_16_times() {
        let (mut health, mut now) = (EndpointHealth::default(), clock::instant());
        for _ in 0..2 {
            let _ = fail(&mut health, now);
        }
        for factor in [2, 4, 8, 16, 16] {
            now += RULE.duration * 16;
            health.begin_probe();
            assert_eq!(fail(&mut health, now), HealthChange::Unchanged, "an older request says nothing new");
            assert_eq!(health.failed(AttemptPurpose::Probe, RULE, now), HealthChange::Ejected);
            assert_eq!(health.state(now), EndpointState::Ejected(now + RULE.duration * factor));
        }
    }

    #[test]
    fn failures_of_requests_that_had_nobody_else_do_not_prolong_an_ejection() {
        let (mut health, now) = (EndpointHealth::default(), clock::instant());
        for _ in 0..5 {
            let _ = fail(&mut health, now);
        }
        assert_eq!(health.state(now + RULE.duration), EndpointState::ProbeDue);
    }

    #[test]
    fn a_rule_of_zero_failures_never_ejects() {
        let (mut health, now) = (EndpointHealth::default(), clock::instant());
        let rule = Ejection { failures: 0, ..RULE };
        for _ in 0..100 {
            assert_eq!(health.failed(AttemptPurpose::Request, rule, now), HealthChange::Unchanged);
        }
    }
}
