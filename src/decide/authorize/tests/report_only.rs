//! What a route that only reports lets pass, and as whom.

use crate::base::denial::{DENIALS, Denial};
use crate::decide::authorize::report_only;
use crate::decide::samples::route_for;

#[test]
fn a_reported_request_is_nobodys() {
    let mut route = route_for(&[0], &["orders:read"]);
    route.options.report_only = true;
    let permit = report_only(&route, Denial::RevokedCredential).unwrap();
    assert!(permit.principal().is_none());
    assert_eq!(permit.reported(), Some(Denial::RevokedCredential));
}

#[test]
fn a_route_that_refuses_lets_no_refused_request_pass() {
    let route = route_for(&[0], &["orders:read"]);
    for row in DENIALS {
        assert_eq!(report_only(&route, row.denial).err(), Some(row.denial), "{}", row.label);
    }
}

#[test]
fn what_protects_the_service_whoever_calls_is_refused_all_the_same() {
    let mut route = route_for(&[0], &[]);
    route.options.report_only = true;
    let passes = |denial| report_only(&route, denial).is_ok();
    // Whoever is refused for who they are, or because nobody can tell, passes.
    for row in DENIALS.iter().filter(|row| row.status == 401) {
        assert!(passes(row.denial), "{}", row.label);
    }
    for denial in [
        Denial::InactiveTenant,
        Denial::InsufficientScope,
        Denial::ForeignTenant,
        Denial::CrossSite,
        Denial::AmbiguousCredentials,
        Denial::StoreUnavailable,
        Denial::CorruptRecord,
    ] {
        assert!(passes(denial), "{}", denial.label());
    }
    for denial in [
        Denial::MalformedRequest,
        Denial::MalformedTarget,
        Denial::MalformedFraming,
        Denial::ForgedHeader,
        Denial::BodyTooLarge,
        Denial::NoRoute,
        Denial::MethodNotAllowed,
        Denial::CorsOrigin,
        Denial::RateLimited,
        Denial::Overloaded,
        Denial::NotRecordable,
        Denial::Internal,
    ] {
        assert!(!passes(denial), "{}", denial.label());
    }
}
