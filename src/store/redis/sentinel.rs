//! Asks sentinels where the primary is: what more than half of them say counts, and only for a while.
//!
//! One sentinel may be cut off together with the old primary and go on naming it. Reading from that
//! one would admit what was revoked on the new one for as long as the partition lasts. So a primary is
//! used only while a majority of the configured sentinels names it, and what it says is as old as
//! their word ([`vouching`](super::vouching)).

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;
use tokio::time::timeout;

use crate::store::StoreError;

use super::access::{Endpoint, SentinelAccess};
use super::dial::{Caller, Surroundings};
use super::fault::Fault;
use super::replicas::Wanted;
use super::survey::{Account, Tally};
use super::witness::Witness;

/// How long the other sentinels may take to tell of replicas when a majority has. Healthy ones answer within
/// milliseconds, and one more may name one more replica; one that hangs must not hold up every change for longer.
const GRACE: Duration = Duration::from_millis(20);

/// The sentinels of one primary.
pub(super) struct Sentinels {
    service: String,
    /// One for each configured sentinel.
    witnesses: Vec<Witness>,
}

/// What one sentinel answered: an endpoint, or that it knows no such service.
type Vote = Result<Option<Endpoint>, StoreError>;

impl Sentinels {
    pub(super) fn new(around: &Surroundings, access: SentinelAccess) -> Self {
        let caller = Arc::new(Caller::new(around, &access.user, 0, access.tls.as_ref()));
        Self {
            witnesses: access.addresses.into_iter().map(|address| Witness::new(address, &caller)).collect(),
            service: access.service,
        }
    }

    /// Where the primary is, in the eyes of a majority. All are asked at once, after the call; ends when enough
    /// have answered, within two seconds.
    pub(super) async fn ask(&self) -> Result<Endpoint, StoreError> {
        let mut open: FuturesUnordered<_> = self.witnesses.iter().map(|witness| self.ask_one(witness)).collect();
        let all = self.witnesses.len();
        let mut votes = Vec::with_capacity(all);
        while let Some(vote) = open.next().await {
            votes.push(vote);
            if let Some(named) = winner(&votes, all) {
                return Ok(named.clone());
            }
        }
        Err(why_none(&votes, &self.service))
    }

    /// The replicas of this primary that could be promoted: all that any of a majority calls so which names it. All are
    /// asked after the call; ends within four seconds. The replicas of another primary say nothing about what
    /// this one wrote.
    ///
    /// # Errors
    /// Why nobody knows.
    pub(super) async fn promotable(&self, primary: &Endpoint) -> Result<Wanted, String> {
        let mut open: FuturesUnordered<_> = self.witnesses.iter().map(|witness| self.account_of(witness)).collect();
        let mut tally = Tally::new(self.witnesses.len(), primary);
        loop {
            let next = if tally.is_decided() {
                timeout(GRACE, open.next()).await.unwrap_or(None)
            } else {
                open.next().await
            };
            match next {
                None => return tally.outcome(),
                Some(answer) => tally.count(answer),
            }
        }
    }

    async fn account_of(&self, sentinel: &Witness) -> Result<Account, (Fault, String)> {
        let named = |fault: Fault| {
            let why = format!("the sentinel {}: {}", sentinel.endpoint(), fault.error);
            (fault, why)
        };
        // Replicas first: a primary that is named after them was the primary when they were listed, or has become it since.
        let replicas = sentinel.ask(self.question("REPLICAS")).await.map_err(named)?;
        let primary = sentinel.ask(self.question("GET-MASTER-ADDR-BY-NAME")).await.map_err(named)?;
        Account::read(primary, replicas).ok_or_else(|| named(Fault::malformed()))
    }

    fn question(&self, what: &str) -> redis::Cmd {
        let mut question = redis::cmd("SENTINEL");
        question.arg(what).arg(&self.service);
        question
    }

    async fn ask_one(&self, sentinel: &Witness) -> Vote {
        let no_address = || StoreError::Unavailable("a sentinel answered something that is no address".into());
        let answer = sentinel.ask(self.question("GET-MASTER-ADDR-BY-NAME")).await;
        match answer.map_err(|fault| fault.error)? {
            Value::Nil => Ok(None),
            answer => {
                let (host, port): (String, u16) = redis::from_redis_value(answer).map_err(|_| no_address())?;
                Endpoint::tcp(&host, port).map(Some).ok_or_else(no_address)
            }
        }
    }
}

/// The endpoint that more than half of all sentinels name, whoever has not answered yet.
fn winner(votes: &[Vote], all: usize) -> Option<&Endpoint> {
    let named = || votes.iter().filter_map(|vote| vote.as_ref().ok()?.as_ref());
    named().find(|endpoint| named().filter(|other| other == endpoint).count() > all / 2)
}

/// Why no majority names any.
fn why_none(votes: &[Vote], service: &str) -> StoreError {
    let all = votes.len();
    let needed = all / 2 + 1;
    let failures = || votes.iter().filter_map(|vote| vote.as_ref().err());
    StoreError::Unavailable(if votes.iter().any(|vote| matches!(vote, Ok(None))) {
        format!("a sentinel does not know the service {service:?}")
    } else if let Some(first) = failures().next() {
        format!(
            "{} of {all} sentinels did not answer ({first}); {needed} must agree",
            failures().count()
        )
    } else {
        format!("the {all} sentinels name different primaries; {needed} must agree")
    })
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
        let winner = |votes: &[Vote]| winner(votes, votes.len()).map(ToString::to_string);
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
    fn enough_of_all_are_enough_and_not_of_those_that_answered() {
        assert!(winner(&[vote("a:1"), vote("a:1")], 3).is_some());
        assert!(winner(&[vote("a:1")], 3).is_none());
        assert!(winner(&[vote("a:1"), vote("a:1")], 4).is_none());
    }

    #[test]
    fn why_there_is_no_majority_is_said() {
        let why = |votes: &[Vote]| why_none(votes, "main").to_string();
        assert!(why(&[Ok(None)]).contains("\"main\""));
        assert!(why(&[vote("a:1"), away(), away()]).contains("2 of 3"));
        assert!(why(&[vote("a:1"), vote("b:1")]).contains("different"));
    }
}
