//! When a credential ends by itself.

use std::time::Duration;

use super::*;
use crate::base::principal::{Idle, State};
use crate::store::codec::tests::sample;

#[test]
fn the_earlier_of_expiry_and_idleness_is_the_natural_end() {
    let mut record = sample();
    record.expires_at = None;
    record.extras = None;
    assert_eq!(natural_end(&record), None, "it lasts");
    record.state = State::Revoked { at: UnixMillis(1) };
    assert_eq!(natural_end(&record), None, "and stays as a tombstone");
    record.expires_at = Some(UnixMillis(5_000));
    assert_eq!(natural_end(&record), Some(UnixMillis(5_000)));
    record.extras_mut().idle = Some(Idle {
        timeout: Duration::from_secs(1),
        last_used: UnixMillis(1_000),
    });
    assert_eq!(natural_end(&record), Some(UnixMillis(2_000)));
    record.expires_at = None;
    assert_eq!(natural_end(&record), Some(UnixMillis(2_000)));
}
