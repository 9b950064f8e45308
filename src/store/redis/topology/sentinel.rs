//! Asks sentinels where the primary is, and which replicas could be promoted.
//!
//! One sentinel may be cut off together with the old primary and go on naming it. A gateway that believed it would admit what
//! was revoked on the new primary, for as long as the partition lasts. So a primary is used only while a majority of the
//! configured sentinels names it, and what is read from it is as old as their answer ([`majority`](super::majority)).
//!
//! The primary lists only the replicas that it has a connection to. A replica that it has lost is missing there, and is
//! promoted all the same when the primary dies. So the sentinels are asked for replicas, too.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;
use tokio::time::timeout;

use crate::store::StoreError;

use super::dial::{Dialer, RedisEnvironment, Witness};
use super::fault::StoreFault;
use super::replicas::{Naming, PromotableReplicas, ReplicaAddress};
use super::{Endpoint, SentinelAccess};

/// How long the other sentinels may take to list replicas after a majority has answered. Healthy sentinels answer within
/// milliseconds, and each may name one more replica. A sentinel that hangs must not delay every change.
const GRACE: Duration = Duration::from_millis(20);

/// The sentinels of one primary.
pub(crate) struct Sentinels {
    service: String,
    /// One for each configured sentinel.
    witnesses: Vec<Witness>,
}

/// What one sentinel answered: an endpoint, or that it knows no such service.
type Vote = Result<Option<Endpoint>, StoreError>;

impl Sentinels {
    pub(crate) fn new(environment: &RedisEnvironment, access: SentinelAccess) -> Self {
        let dialer = Arc::new(Dialer::new(environment, &access.user, 0, access.tls.as_ref()));
        Self {
            witnesses: access.addresses.into_iter().map(|address| Witness::new(address, &dialer)).collect(),
            service: access.service,
        }
    }

    /// Where the primary is, as a majority says. All sentinels are asked at once, after the call. Ends when enough have
    /// answered, within two seconds.
    pub(crate) async fn ask(&self) -> Result<Endpoint, StoreError> {
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

    /// The replicas of this primary that could be promoted: those that any sentinel lists which names this primary, if these
    /// sentinels are a majority. All are asked after the call. Ends within four seconds.
    ///
    /// # Errors
    /// Why that is not known.
    pub(crate) async fn promotable(&self, primary: &Endpoint) -> Result<PromotableReplicas, String> {
        let mut open: FuturesUnordered<_> = self.witnesses.iter().map(|witness| self.account_of(witness)).collect();
        let mut tally = ReportTally::new(self.witnesses.len(), primary);
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

    async fn account_of(&self, sentinel: &Witness) -> Result<SentinelReport, (StoreFault, String)> {
        let named = |fault: StoreFault| {
            let why = format!("the sentinel {}: {}", sentinel.endpoint(), fault.error);
            (fault, why)
        };
        // Replicas first: the primary that is named afterwards was the primary when they were listed, or has become it since.
        let replicas = sentinel.ask(self.question("REPLICAS")).await.map_err(named)?;
        let primary = sentinel.ask(self.question("GET-MASTER-ADDR-BY-NAME")).await.map_err(named)?;
        SentinelReport::read(primary, replicas).ok_or_else(|| named(StoreFault::malformed()))
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

/// The endpoint that more than half of all sentinels name, those that have not answered included.
fn winner(votes: &[Vote], all: usize) -> Option<&Endpoint> {
    let named = || votes.iter().filter_map(|vote| vote.as_ref().ok()?.as_ref());
    named().find(|endpoint| named().filter(|other| other == endpoint).count() > all / 2)
}

/// Why no majority names a primary.
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

pub(crate) struct SentinelReport {
    pub(crate) primary: Endpoint,
    pub(crate) promotable: Vec<ReplicaAddress>,
}

impl SentinelReport {
    /// Reads the address of the primary and the list of replicas; `None` when either has another form.
    pub(crate) fn read(primary: Value, replicas: Value) -> Option<Self> {
        let (host, port): (String, u16) = redis::from_redis_value(primary).ok()?;
        if !matches!(replicas, Value::Array(_)) {
            // The client would read nil as an empty list.
            return None;
        }
        let listed: Vec<HashMap<String, String>> = redis::from_redis_value(replicas).ok()?;
        let promotable: Option<Vec<Option<ReplicaAddress>>> = listed.iter().map(promotable).collect();
        Some(Self {
            primary: Endpoint::tcp(&host, port)?,
            promotable: promotable?.into_iter().flatten().collect(),
        })
    }
}

/// What sentinels have said of one primary's replicas so far.
pub(crate) struct ReportTally<'a> {
    all: usize,
    primary: &'a Endpoint,
    /// How many name this primary.
    agreed: usize,
    wanted: PromotableReplicas,
    elsewhere: Option<Endpoint>,
    failed: Option<String>,
}

impl<'a> ReportTally<'a> {
    /// For this number of sentinels, asked about this primary.
    pub(crate) const fn new(all: usize, primary: &'a Endpoint) -> Self {
        Self {
            all,
            primary,
            agreed: 0,
            wanted: PromotableReplicas::new(Naming::OfThePrimary),
            elsewhere: None,
            failed: None,
        }
    }

    const fn needed(&self) -> usize {
        self.all / 2 + 1
    }

    pub(crate) const fn is_decided(&self) -> bool {
        self.agreed >= self.needed()
    }

    pub(crate) fn count(&mut self, answer: Result<SentinelReport, (StoreFault, String)>) {
        match answer {
            Ok(account) if account.primary == *self.primary => {
                self.agreed += 1;
                self.wanted.add(account.promotable);
            }
            Ok(account) => self.elsewhere = Some(account.primary),
            // An operator can grant a missing right, so that reason goes before an unreachable sentinel.
            Err((fault, why)) if self.failed.is_none() || !fault.refused.is_empty() => self.failed = Some(why),
            Err(_) => {}
        }
    }

    /// All replicas that a sentinel of the majority lists, or why they are not known.
    pub(crate) fn outcome(self) -> Result<PromotableReplicas, String> {
        let (agreed, all, needed, primary) = (self.agreed, self.all, self.needed(), self.primary);
        match (self.elsewhere, self.failed) {
            _ if agreed >= needed => Ok(self.wanted),
            (Some(named), _) => Err(format!(
                "{agreed} of {all} sentinels name {primary} as the primary, {needed} must, and one names {named}"
            )),
            (None, Some(why)) => Err(format!(
                "{agreed} of {all} sentinels said which replicas could be promoted, {needed} must ({why})"
            )),
            (None, None) => Err("no sentinel was asked".into()),
        }
    }
}

/// The replica's address if this sentinel could promote it. A sentinel never promotes a replica that it finds down, or whose
/// priority is 0. It may promote one whose link to the primary is down. It would not promote one to which it has no connection
/// at this moment; but a promotion begins by closing these connections, so a replica that is becoming the primary looks so.
///
/// The address of a replica that is never promoted is not read. A backup by `redis-cli --rdb` looks like a replica with port 0, and
/// sentinels list it as down long after it has ended. The outer `None` is an answer of another form.
#[expect(clippy::option_option, reason = "an answer that says no, and one that cannot be read")]
fn promotable(fields: &HashMap<String, String>) -> Option<Option<ReplicaAddress>> {
    let (host, port) = (fields.get("ip")?, fields.get("port")?.parse().ok()?);
    let is_down = |flag: &str| matches!(flag, "s_down" | "o_down");
    let never = fields.get("flags")?.split(',').any(is_down) || fields.get("slave-priority")? == "0";
    if never {
        return Some(None);
    }
    ReplicaAddress::new(host, port).map(Some)
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

    fn told(more: &[(&str, &str)]) -> HashMap<String, String> {
        let mut fields: HashMap<String, String> = [("ip", "10.0.0.2"), ("port", "6379"), ("flags", "slave"), ("slave-priority", "100")]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        fields.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        fields
    }

    #[test]
    fn what_sentinel_would_never_promote_is_not_waited_for() {
        for never in [
            ("flags", "s_down,slave"),
            ("flags", "s_down,slave,disconnected"),
            ("flags", "slave,o_down"),
            ("slave-priority", "0"),
        ] {
            assert_eq!(promotable(&told(&[never])), Some(None), "{never:?}");
        }
        for might in [
            ("flags", "slave"),
            ("slave-priority", "1"),
            ("flags", "slave,disconnected"),
            ("master-link-status", "err"),
            ("flags", "slave,promoted"),
        ] {
            assert_eq!(
                promotable(&told(&[might])),
                Some(ReplicaAddress::new("10.0.0.2", 6379)),
                "{might:?}"
            );
        }
    }

    #[test]
    fn a_backup_that_a_sentinel_took_for_a_replica_is_not_waited_for() {
        for never in [("flags", "s_down,slave,disconnected"), ("slave-priority", "0")] {
            assert_eq!(promotable(&told(&[("port", "0"), never])), Some(None), "{never:?}");
            assert_eq!(promotable(&told(&[("port", "x"), never])), None, "{never:?}");
        }
    }

    #[test]
    fn f10_an_answer_of_a_sentinel_that_is_none_is_refused() {
        for wrong in [("port", "0"), ("port", "x"), ("ip", "")] {
            assert_eq!(promotable(&told(&[wrong])), None, "{wrong:?}");
        }
        for missing in ["ip", "port", "flags", "slave-priority"] {
            let mut fields = told(&[]);
            fields.remove(missing);
            assert_eq!(promotable(&fields), None, "{missing}");
        }
        let text = |text: &str| Value::BulkString(text.into());
        let primary = || Value::Array(vec![text("10.0.0.1"), text("6379")]);
        let read = |primary: Value, replicas: Value| SentinelReport::read(primary, replicas).map(|account| account.promotable.len());
        assert_eq!(read(primary(), Value::Array(vec![])), Some(0));
        assert_eq!(read(Value::Nil, Value::Array(vec![])), None);
        assert_eq!(read(primary(), Value::Nil), None);
        assert_eq!(read(primary(), Value::Array(vec![Value::Int(1)])), None);
        assert_eq!(
            read(primary(), Value::Array(vec![Value::Array(vec![text("ip"), text("10.0.0.2")])])),
            None
        );
    }

    type Answer = Result<SentinelReport, (StoreFault, String)>;

    fn account(primary: &str, promotable: &[&str]) -> Answer {
        Ok(SentinelReport {
            primary: Endpoint::parse(primary).unwrap(),
            promotable: promotable.iter().map(|host| ReplicaAddress::new(host, 6379).unwrap()).collect(),
        })
    }

    fn failed(line: &str) -> Answer {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let fault = StoreFault::of(&value.extract_error().unwrap_err());
        let why = fault.error.to_string();
        Err((fault, why))
    }

    fn no_account() -> Answer {
        failed("LOADING")
    }

    fn outcome(answers: Vec<Answer>) -> Result<String, String> {
        let primary = Endpoint::parse("a:1").unwrap();
        let mut tally = ReportTally::new(answers.len(), &primary);
        answers.into_iter().for_each(|answer| tally.count(answer));
        tally.outcome().map(|wanted| wanted.to_string())
    }

    #[test]
    fn what_any_of_a_majority_could_promote_counts() {
        let union = outcome(vec![account("a:1", &["b"]), account("a:1", &["b", "c"]), no_account()]);
        assert_eq!(union.as_deref(), Ok("b:6379, c:6379"));
        assert_eq!(
            outcome(vec![account("a:1", &[]), no_account(), account("a:1", &[])]).as_deref(),
            Ok("")
        );
        assert_eq!(outcome(vec![account("a:1", &["b"])]).as_deref(), Ok("b:6379"));
        // The replicas of another primary say nothing about ours.
        let one_elsewhere = outcome(vec![account("a:1", &["b"]), account("a:1", &[]), account("z:1", &["d"])]);
        assert_eq!(one_elsewhere.as_deref(), Ok("b:6379"));
    }

    #[test]
    fn without_a_majority_that_names_our_primary_nobody_knows_and_why_is_said() {
        let why = |answers| outcome(answers).unwrap_err();
        let two_elsewhere = why(vec![account("a:1", &["b"]), account("z:1", &[]), account("z:1", &[])]);
        assert!(
            two_elsewhere.contains("1 of 3 sentinels name a:1") && two_elsewhere.contains("z:1"),
            "{two_elsewhere}"
        );
        let two_away = why(vec![account("a:1", &["b"]), no_account(), no_account()]);
        assert!(
            two_away.contains("1 of 3 sentinels said") && two_away.contains("2 must"),
            "{two_away}"
        );
        // Of two reasons, the one that an operator can mend.
        let denied = "NOPERM User durward has no permissions to run the 'sentinel|replicas' command";
        let told = why(vec![no_account(), failed(denied), no_account()]);
        assert!(told.contains("sentinel|replicas"), "{told}");
        assert!(outcome(vec![account("a:1", &["b"]), no_account()]).is_err(), "half is no majority");
        assert!(outcome(Vec::new()).is_err());
    }
}
