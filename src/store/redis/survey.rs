//! Asks which replicas could be promoted: those who would promote one know.
//!
//! The primary lists whom it has a connection to. One that it has lost is missing there, and is promoted all the
//! same when the primary dies: so sentinels are asked, or the cluster.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;

use crate::base::clock;

use super::access::{Endpoint, RedisAccess, SentinelAccess, Servers};
use super::cluster::slot_of;
use super::dial::{CONNECT_TIMEOUT, Caller, Surroundings, Wire, dial};
use super::fault::Fault;
use super::link::Live;
use super::replicas::{Naming, Peer, Wanted};

/// How long the others may take when a majority has answered. Healthy ones answer within milliseconds, and one more
/// account may name one more replica; a dead one must not hold up every change.
const GRACE: Duration = Duration::from_millis(20);

/// How long a sentinel that owed an answer is left alone.
const SPARED: Duration = Duration::from_secs(1);

/// The least rights that the question needs, for whoever lacks them.
const RIGHTS: &str = "+sentinel|get-master-addr-by-name +sentinel|replicas";

/// Who is asked.
pub(super) enum Survey {
    /// Nobody but the primary knows: those that it lists could be promoted, by hand.
    Primary,
    /// Sentinels.
    Sentinels(Box<Electorate>),
    /// The node that has our slot, which the whole cluster keeps informed.
    Cluster {
        /// Our slot.
        slot: u16,
    },
}

/// Sentinels, each with a connection that is kept: a change must not wait for one to be made.
pub(super) struct Electorate {
    access: SentinelAccess,
    caller: Caller,
    kept: Vec<Mutex<Kept>>,
}

/// What is kept of one sentinel.
#[derive(Default)]
struct Kept {
    wire: Option<Wire>,
    /// Since when it owes an answer, or has refused a connection.
    away_since: Option<Instant>,
}

/// What one sentinel knows.
struct Account {
    primary: Endpoint,
    promotable: Vec<Peer>,
}

impl Survey {
    pub(super) fn new(around: &Surroundings, access: &RedisAccess, hash_tag: &str) -> Self {
        match &access.servers {
            Servers::One(_) => Self::Primary,
            Servers::Cluster(_) => Self::Cluster { slot: slot_of(hash_tag) },
            Servers::Sentinels(sentinels) => Self::Sentinels(Box::new(Electorate {
                caller: Caller::new(around, &sentinels.user, 0, sentinels.tls.as_ref()),
                kept: sentinels.addresses.iter().map(|_| Mutex::default()).collect(),
                access: SentinelAccess::clone(sentinels),
            })),
        }
    }

    /// The replicas of this connection's server that could be promoted, by accounts that were given after the call.
    /// `None` where the primary's own list is all there is. Ends within two seconds.
    ///
    /// # Errors
    /// Why nobody knows.
    pub(super) async fn promotable(&self, live: &Live) -> Result<Option<Wanted>, String> {
        match self {
            Self::Primary => Ok(None),
            Self::Sentinels(electorate) => electorate.ask(&live.endpoint).await.map(Some),
            Self::Cluster { slot } => ask_node(&live.wire, *slot).await.map(Some),
        }
    }

    /// Whether somebody knows of replicas that the primary has lost.
    pub(super) const fn knows_the_lost(&self) -> bool {
        !matches!(self, Self::Primary)
    }
}

impl Electorate {
    /// All that any of a majority calls promotable. Only those count who name `primary`: the replicas of another one
    /// say nothing about what it wrote.
    async fn ask(&self, primary: &Endpoint) -> Result<Wanted, String> {
        let all = self.access.addresses.len();
        let needed = all / 2 + 1;
        let (mut spared, asked): (Vec<usize>, Vec<usize>) = (0..all).partition(|sentinel| self.is_away(*sentinel));
        let mut accounts: FuturesUnordered<_> = asked.iter().map(|sentinel| self.ask_one(*sentinel)).collect();
        let mut owing = asked;
        let mut wanted = Wanted::new(Naming::OfThePrimary);
        let (mut agreed, mut elsewhere, mut refused) = (0, None, None);
        loop {
            let next = if agreed < needed {
                accounts.next().await
            } else {
                tokio::time::timeout(GRACE, accounts.next()).await.unwrap_or(None)
            };
            let Some((sentinel, answer)) = next else {
                if agreed >= needed || spared.is_empty() {
                    break;
                }
                // None can be spared where too few others answered.
                owing.extend(&spared);
                accounts.extend(spared.drain(..).map(|sentinel| self.ask_one(sentinel)));
                continue;
            };
            owing.retain(|other| *other != sentinel);
            match answer {
                Ok(account) if account.primary == *primary => {
                    agreed += 1;
                    wanted.add(account.promotable);
                }
                Ok(account) => elsewhere = Some(account.primary),
                // What a sentinel refuses is for somebody to mend; that one is away is not.
                Err((Refusal::Answered, why)) => refused = Some(why),
                Err((Refusal::Away, why)) => {
                    self.spare(sentinel);
                    refused = refused.or(Some(why));
                }
            }
        }
        owing.into_iter().for_each(|sentinel| self.spare(sentinel));
        match (elsewhere, refused) {
            _ if agreed >= needed => Ok(wanted),
            (Some(named), _) => Err(format!(
                "only {agreed} of {all} sentinels name {primary} as the primary, one names {named}"
            )),
            (None, Some(why)) => Err(format!(
                "{agreed} of {all} sentinels said which replicas could be promoted, {needed} must ({why})"
            )),
            (None, None) => Err("no sentinel was asked".into()),
        }
    }

    async fn ask_one(&self, sentinel: usize) -> (usize, Result<Account, (Refusal, String)>) {
        (sentinel, self.account_of(sentinel).await)
    }

    async fn account_of(&self, sentinel: usize) -> Result<Account, (Refusal, String)> {
        let (wire, is_new) = self.wire(sentinel).await.map_err(|why| (Refusal::Away, why))?;
        match self.question(&wire).await {
            // A kept connection may have ended while nobody used it.
            Err(error) if !is_new && error.code().is_none() && !error.is_timeout() => {
                self.forget(sentinel);
                let (wire, _) = self.wire(sentinel).await.map_err(|why| (Refusal::Away, why))?;
                self.judge(sentinel, self.question(&wire).await)
            }
            answer => self.judge(sentinel, answer),
        }
    }

    fn judge(&self, sentinel: usize, answer: Result<Answer, redis::RedisError>) -> Result<Account, (Refusal, String)> {
        let at = || self.access.addresses.get(sentinel).map_or_else(String::new, ToString::to_string);
        match answer {
            Ok(answer) => answer
                .read()
                .ok_or_else(|| (Refusal::Answered, format!("the sentinel {} answered something else", at()))),
            Err(error) if matches!(error.code(), Some("NOPERM" | "NOAUTH" | "WRONGPASS")) => Err((
                Refusal::Answered,
                format!("the sentinel {} refuses this gateway's user: it needs {RIGHTS}", at()),
            )),
            Err(error) => {
                let away = error.code().is_none();
                if away {
                    self.forget(sentinel);
                }
                let kind = if away { Refusal::Away } else { Refusal::Answered };
                Err((kind, format!("the sentinel {}: {}", at(), Fault::of(&error).error)))
            }
        }
    }

    async fn question(&self, wire: &Wire) -> Result<Answer, redis::RedisError> {
        let ask = |what: &'static str| {
            let mut connection = wire.connection.clone();
            let mut command = redis::cmd("SENTINEL");
            command.arg(what).arg(&self.access.service);
            async move { command.query_async::<Value>(&mut connection).await }
        };
        // Replicas first: a primary that is named after them was the primary when they were listed, or has become it since.
        let (replicas, primary) = tokio::try_join!(ask("REPLICAS"), ask("GET-MASTER-ADDR-BY-NAME"))?;
        Ok(Answer { primary, replicas })
    }

    /// The connection to a sentinel, and whether it was made just now.
    async fn wire(&self, sentinel: usize) -> Result<(Wire, bool), String> {
        let (Some(kept), Some(address)) = (self.kept.get(sentinel), self.access.addresses.get(sentinel)) else {
            return Err("there is no such sentinel".into());
        };
        let held = kept.lock().unwrap_or_else(PoisonError::into_inner).wire.clone();
        if let Some(wire) = held.filter(Wire::is_open) {
            return Ok((wire, false));
        }
        let wire = dial(address, &self.caller, CONNECT_TIMEOUT)
            .await
            .map_err(|error| format!("the sentinel {address}: {error}"))?;
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = Kept {
            wire: Some(wire.clone()),
            away_since: None,
        };
        Ok((wire, true))
    }

    fn forget(&self, sentinel: usize) {
        if let Some(kept) = self.kept.get(sentinel) {
            kept.lock().unwrap_or_else(PoisonError::into_inner).wire = None;
        }
    }

    /// Does not ask this one again for a while unless it is needed: questions would pile up before one that hangs.
    fn spare(&self, sentinel: usize) {
        if let Some(kept) = self.kept.get(sentinel) {
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Kept {
                wire: None,
                away_since: Some(clock::instant()),
            };
        }
    }

    fn is_away(&self, sentinel: usize) -> bool {
        let kept = self
            .kept
            .get(sentinel)
            .map(|kept| kept.lock().unwrap_or_else(PoisonError::into_inner));
        kept.and_then(|kept| kept.away_since).is_some_and(|since| since.elapsed() < SPARED)
    }
}

/// Why a sentinel says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// It did answer, and not what was asked for.
    Answered,
    Away,
}

/// What a sentinel answered, unread.
struct Answer {
    primary: Value,
    replicas: Value,
}

impl Answer {
    fn read(self) -> Option<Account> {
        let (host, port): (String, u16) = redis::from_redis_value(self.primary).ok()?;
        if !matches!(self.replicas, Value::Array(_)) {
            // Read as a list, nothing would be an empty one.
            return None;
        }
        let listed: Vec<HashMap<String, String>> = redis::from_redis_value(self.replicas).ok()?;
        let promotable: Option<Vec<Option<Peer>>> = listed.iter().map(promotable).collect();
        Some(Account {
            primary: Endpoint::tcp(&host, port)?,
            promotable: promotable?.into_iter().flatten().collect(),
        })
    }
}

/// Whether this sentinel could promote a replica: one that it finds down, or whose priority is 0, it never does. One
/// whose link to the primary is down it may. One to which it has no connection itself it would not promote at this
/// moment, but a promotion begins by closing these connections: a replica that is becoming the primary looks so.
/// The outer `None` is an answer of another form.
#[expect(clippy::option_option, reason = "an answer that says no, and one that cannot be read")]
fn promotable(fields: &HashMap<String, String>) -> Option<Option<Peer>> {
    let peer = Peer::new(fields.get("ip")?, fields.get("port")?.parse().ok()?)?;
    let is_down = |flag: &str| matches!(flag, "s_down" | "o_down");
    let never = fields.get("flags")?.split(',').any(is_down) || fields.get("slave-priority")? == "0";
    Some((!never).then_some(peer))
}

/// Asks the node itself, which lists the replicas of its slots that the cluster does not find down.
async fn ask_node(wire: &Wire, slot: u16) -> Result<Wanted, String> {
    let mut connection = wire.connection.clone();
    let mut command = redis::cmd("CLUSTER");
    let reply = command.arg("SLOTS").query_async::<Value>(&mut connection).await;
    let reply = reply.map_err(|error| format!("the cluster's nodes are not known: {}", Fault::of(&error).error))?;
    replicas_of(&reply, slot).ok_or_else(|| "the cluster's nodes are not known: an answer has the wrong form".into())
}

/// Those after the primary in the range that holds our slot.
fn replicas_of(reply: &Value, slot: u16) -> Option<Wanted> {
    let Value::Array(ranges) = reply else { return None };
    for range in ranges {
        let Value::Array(parts) = range else { return None };
        let [Value::Int(first), Value::Int(last), _, replicas @ ..] = parts.as_slice() else {
            return None;
        };
        if !(*first..=*last).contains(&i64::from(slot)) {
            continue;
        }
        let peers = replicas.iter().map(|replica| {
            let Value::Array(node) = replica else { return None };
            let (host, port) = match node.as_slice() {
                [Value::BulkString(host), Value::Int(port), ..] if !host.is_empty() => (std::str::from_utf8(host).ok()?, port),
                // A cluster may keep its nodes' names to itself; how many there are it tells.
                [Value::BulkString(_) | Value::Nil, Value::Int(port), ..] => ("?", port),
                _ => return None,
            };
            Peer::new(host, u16::try_from(*port).ok()?)
        });
        return Some(Wanted::of(Naming::OfTheCluster, peers.collect::<Option<_>>()?));
    }
    None
}

#[cfg(test)]
mod tests;
