//! Asks sentinels where the primary is: what more than half of them say counts, and only for a while.
//!
//! One sentinel may be cut off together with the old primary and go on naming it. Reading from that
//! one would admit what was revoked on the new one for as long as the partition lasts, whatever the
//! age of facts. So a primary is used only while a majority of the configured sentinels names it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::base::clock;
use crate::store::StoreError;

use super::access::{Endpoint, SentinelAccess};
use super::dial::{CONNECT_TIMEOUT, Caller, Surroundings, dial};

/// How long the last word of a majority counts. Added to the default `max_age` of 30 s and what it
/// takes to notice, a cut-off gateway stops within 50 s; three questions fit in.
pub(super) const TRUST: Duration = Duration::from_secs(10);

/// The sentinels of one primary.
pub(super) struct Sentinels {
    access: SentinelAccess,
    caller: Caller,
    /// When a majority last agreed on anything.
    agreed_at: Mutex<Instant>,
}

/// What one sentinel answered: an endpoint, or that it knows no such service.
type Vote = Result<Option<Endpoint>, StoreError>;

impl Sentinels {
    pub(super) fn new(around: &Surroundings, access: SentinelAccess) -> Self {
        Self {
            caller: Caller::new(around, &access.user, 0, access.tls.as_ref()),
            access,
            agreed_at: Mutex::new(clock::instant()),
        }
    }

    /// Where the primary is, in the eyes of a majority. All are asked at once; ends within two
    /// seconds.
    pub(super) async fn ask(&self) -> Result<Endpoint, StoreError> {
        let sent = clock::instant();
        let votes = join_all(self.access.addresses.iter().map(|sentinel| self.ask_one(sentinel))).await;
        let counted = count(&votes, &self.access.service);
        if counted.is_ok() {
            *self.agreed_at.lock().unwrap_or_else(PoisonError::into_inner) = sent;
        }
        counted
    }

    /// Whether the last word of a majority still counts.
    pub(super) fn is_trusted(&self) -> bool {
        let agreed_at = *self.agreed_at.lock().unwrap_or_else(PoisonError::into_inner);
        agreed_at.elapsed() < TRUST
    }

    async fn ask_one(&self, sentinel: &Endpoint) -> Vote {
        let wire = dial(sentinel, &self.caller, CONNECT_TIMEOUT).await?;
        let mut connection = wire.connection.clone();
        let named: Option<(String, u16)> = redis::cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(&self.access.service)
            .query_async(&mut connection)
            .await
            .map_err(|e| self.caller.fault(&e).error)?;
        match named {
            None => Ok(None),
            Some((host, port)) => match Endpoint::tcp(&host, port) {
                Some(endpoint) => Ok(Some(endpoint)),
                None => Err(StoreError::Unavailable("a sentinel answered something that is no address".into())),
            },
        }
    }
}

/// The endpoint that more than half of all votes are for.
fn count(votes: &[Vote], service: &str) -> Result<Endpoint, StoreError> {
    let needed = votes.len() / 2 + 1;
    let named = || votes.iter().filter_map(|vote| vote.as_ref().ok()?.as_ref());
    for endpoint in named() {
        if named().filter(|other| *other == endpoint).count() >= needed {
            return Ok(endpoint.clone());
        }
    }
    let all = votes.len();
    let failures = || votes.iter().filter_map(|vote| vote.as_ref().err());
    Err(StoreError::Unavailable(if votes.iter().any(|vote| matches!(vote, Ok(None))) {
        format!("a sentinel does not know the service {service:?}")
    } else if let Some(first) = failures().next() {
        format!(
            "{} of {all} sentinels did not answer ({first}); {needed} must agree",
            failures().count()
        )
    } else {
        format!("the {all} sentinels name different primaries; {needed} must agree")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(endpoint: &str) -> Vote {
        Ok(Endpoint::parse(endpoint))
    }

    fn away() -> Vote {
        Err(StoreError::Unavailable("away".into()))
    }

    #[test]
    fn more_than_half_of_all_must_name_it_whoever_is_away() {
        let winner = |votes: &[Vote]| count(votes, "s").ok().map(|e| e.to_string());
        assert_eq!(winner(&[vote("a:1")]).as_deref(), Some("a:1"));
        assert_eq!(winner(&[vote("a:1"), away(), vote("a:1")]).as_deref(), Some("a:1"));
        assert_eq!(winner(&[vote("b:1"), vote("a:1"), vote("a:1")]).as_deref(), Some("a:1"));
        assert_eq!(winner(&[vote("a:1"), away(), away()]), None);
        assert_eq!(winner(&[vote("a:1"), vote("b:1")]), None);
        assert_eq!(winner(&[vote("a:1"), vote("b:1"), vote("c:1")]), None);
        assert_eq!(winner(&[vote("a:1"), vote("a:1"), vote("b:1"), vote("b:1")]), None);
        assert_eq!(winner(&[Ok(None)]), None);
    }

    #[test]
    fn why_there_is_no_majority_is_said() {
        let why = |votes: &[Vote]| count(votes, "main").unwrap_err().to_string();
        assert!(why(&[Ok(None)]).contains("\"main\""));
        assert!(why(&[vote("a:1"), away(), away()]).contains("2 of 3"));
        assert!(why(&[vote("a:1"), vote("b:1")]).contains("different"));
    }
}
