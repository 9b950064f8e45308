//! Which replicas could be promoted: read from the answers of those who would promote one.
//!
//! The primary lists whom it has a connection to. One that it has lost is missing there, and is promoted all the
//! same when the primary dies: so sentinels are asked, or the cluster.

use std::collections::HashMap;

use redis::Value;

use super::access::Endpoint;
use super::dial::Wire;
use super::fault::Fault;
use super::replicas::{Naming, Peer, Wanted};

/// What one sentinel knows.
pub(super) struct Account {
    pub(super) primary: Endpoint,
    pub(super) promotable: Vec<Peer>,
}

impl Account {
    /// Reads where a sentinel says that the primary is, and its list of replicas; `None` when either is none.
    pub(super) fn read(primary: Value, replicas: Value) -> Option<Self> {
        let (host, port): (String, u16) = redis::from_redis_value(primary).ok()?;
        if !matches!(replicas, Value::Array(_)) {
            // Read as a list, nothing would be an empty one.
            return None;
        }
        let listed: Vec<HashMap<String, String>> = redis::from_redis_value(replicas).ok()?;
        let promotable: Option<Vec<Option<Peer>>> = listed.iter().map(promotable).collect();
        Some(Self {
            primary: Endpoint::tcp(&host, port)?,
            promotable: promotable?.into_iter().flatten().collect(),
        })
    }
}

/// What sentinels have said of one primary's replicas so far.
pub(super) struct Tally<'a> {
    all: usize,
    primary: &'a Endpoint,
    /// How many name this primary.
    agreed: usize,
    wanted: Wanted,
    elsewhere: Option<Endpoint>,
    failed: Option<String>,
}

impl<'a> Tally<'a> {
    /// Of so many sentinels, asked about this primary.
    pub(super) const fn new(all: usize, primary: &'a Endpoint) -> Self {
        Self {
            all,
            primary,
            agreed: 0,
            wanted: Wanted::new(Naming::OfThePrimary),
            elsewhere: None,
            failed: None,
        }
    }

    const fn needed(&self) -> usize {
        self.all / 2 + 1
    }

    /// Whether enough have answered.
    pub(super) const fn is_decided(&self) -> bool {
        self.agreed >= self.needed()
    }

    pub(super) fn count(&mut self, answer: Result<Account, (Fault, String)>) {
        match answer {
            Ok(account) if account.primary == *self.primary => {
                self.agreed += 1;
                self.wanted.add(account.promotable);
            }
            Ok(account) => self.elsewhere = Some(account.primary),
            // A right that is missing is for somebody to give; that one is away is not.
            Err((fault, why)) if self.failed.is_none() || !fault.refused.is_empty() => self.failed = Some(why),
            Err(_) => {}
        }
    }

    /// All that any of a majority calls promotable, or why nobody knows.
    pub(super) fn outcome(self) -> Result<Wanted, String> {
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
pub(super) async fn ask_node(wire: &Wire, slot: u16) -> Result<Wanted, String> {
    let mut connection = wire.connection.clone();
    let mut command = redis::cmd("CLUSTER");
    let reply = command.arg("SLOTS").query_async::<Value>(&mut connection).await;
    let reply = reply.map_err(|error| format!("the cluster's nodes are not known: {}", Fault::of(&error).error))?;
    replicas_of(&reply, slot).ok_or_else(|| "the cluster's nodes are not known: an answer has the wrong form".into())
}

/// Those after the primary in the range that holds our slot.
pub(super) fn replicas_of(reply: &Value, slot: u16) -> Option<Wanted> {
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
