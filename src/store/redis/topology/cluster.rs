//! Finds the node of a cluster that is the primary of our slot, and its replicas. All our keys share one hash tag, so they
//! are in one slot: scripts stay atomic, and one node is enough.
//!
//! A primary that is cut off calls itself primary for `cluster-node-timeout`, and a gateway cut off with it would believe it.
//! So the other primaries are asked, too ([`majority`](super::majority)).

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::select_ok;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use redis::Value;

use crate::store::StoreError;

use super::Endpoint;
use super::dial::{CONNECT_TIMEOUT, Dialer, RedisConnection, Witness, dial};
use super::fault::StoreFault;
use super::majority::{MajorityAnswer, MayAcknowledge};
use super::replicas::{Naming, PromotableReplicas, ReplicaAddress};

const SLOTS: u16 = 16_384;

/// Most nodes remembered besides the configured ones, for the time when those are gone.
const MAX_LEARNT: usize = 32;

/// Most primaries that are asked who owns our slot. Each costs an open connection.
const MAX_ASKED: usize = 128;

/// The known nodes of the cluster, and our slot.
pub(crate) struct ClusterNodes {
    seeds: Vec<Endpoint>,
    learnt: Mutex<Vec<Endpoint>>,
    slot: u16,
    dialer: Arc<Dialer>,
    witnesses: Mutex<Vec<Arc<Witness>>>,
}

impl ClusterNodes {
    pub(crate) fn new(seeds: Vec<Endpoint>, hash_tag: &str, dialer: &Arc<Dialer>) -> Self {
        Self {
            seeds,
            learnt: Mutex::default(),
            slot: slot_of(hash_tag),
            dialer: Arc::clone(dialer),
            witnesses: Mutex::default(),
        }
    }

    /// Whether this node owns our slot: it must say so, and enough other primaries that have slots must say so
    /// ([`Quorum`]). All are asked after the call. Ends within four seconds.
    ///
    /// # Errors
    /// Too few say so.
    pub(crate) async fn ask_about(&self, endpoint: &Endpoint) -> Result<MajorityAnswer, StoreError> {
        let own = self.view_of(endpoint).await?;
        let Some(owner) = self.owner(&own).filter(|owner| owner.primary == *endpoint) else {
            return Err(StoreError::Unavailable(format!("{endpoint} does not have our slot")));
        };
        let mut others: Vec<&SlotRange> = own.iter().filter(|range| range.id != owner.id).collect();
        others.sort_by_key(|range| &range.id);
        others.dedup_by_key(|range| &range.id);
        let quorum = Quorum::of(others.len());
        self.keep_witnesses(endpoint, others.iter().map(|range| &range.primary))?;
        let mut open: FuturesUnordered<_> = others.iter().map(|other| self.view_of(&other.primary)).collect();
        let (mut agree, mut last_error) = (0, String::new());
        while let Some(view) = open.next().await {
            match view {
                Ok(view) if self.owner(&view).is_some_and(|named| named.id == owner.id) => agree += 1,
                Ok(_) => last_error = " (others have another view)".to_owned(),
                Err(error) => last_error = format!(" ({error})"),
            }
            if agree >= quorum.to_acknowledge {
                break;
            }
        }
        if agree < quorum.to_read {
            return Err(StoreError::Unavailable(format!(
                "{agree} of {} other primaries of the cluster say that {endpoint} has our slot, {} must{last_error}",
                others.len(),
                quorum.to_read
            )));
        }
        let may_acknowledge = if agree >= quorum.to_acknowledge {
            MayAcknowledge::Yes
        } else {
            MayAcknowledge::No
        };
        Ok(MajorityAnswer {
            named: endpoint.clone(),
            may_acknowledge,
        })
    }

    /// The slots and their owners, as this node says.
    async fn view_of(&self, node: &Endpoint) -> Result<Vec<SlotRange>, StoreError> {
        let witness = self.witness(node);
        let mut question = redis::cmd("CLUSTER");
        question.arg("SLOTS");
        let reply = witness.ask(question).await.map_err(|fault| fault.error)?;
        parse_slots(&reply, node).ok_or_else(|| StoreFault::malformed().error)
    }

    /// The replicas of our slot, as its owner says.
    pub(crate) async fn promotable(&self, wire: &RedisConnection) -> Result<PromotableReplicas, String> {
        ask_node(wire, self.slot).await
    }

    fn owner<'v>(&self, view: &'v [SlotRange]) -> Option<&'v SlotRange> {
        view.iter().find(|range| (range.first..=range.last).contains(&self.slot))
    }

    fn witness(&self, node: &Endpoint) -> Arc<Witness> {
        let mut witnesses = self.witnesses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(witness) = witnesses.iter().find(|witness| witness.endpoint() == node) {
            return Arc::clone(witness);
        }
        let witness = Arc::new(Witness::new(node.clone(), &self.dialer));
        witnesses.push(Arc::clone(&witness));
        witness
    }

    /// Closes the connections to all other nodes.
    fn keep_witnesses<'a>(&self, own: &'a Endpoint, others: impl Iterator<Item = &'a Endpoint>) -> Result<(), StoreError> {
        let wanted: Vec<_> = others.chain([own]).collect();
        if wanted.len() > MAX_ASKED {
            return Err(StoreError::Unavailable(format!(
                "the cluster has more than {MAX_ASKED} primaries with slots"
            )));
        }
        let mut witnesses = self.witnesses.lock().unwrap_or_else(PoisonError::into_inner);
        witnesses.retain(|witness| wanted.contains(&witness.endpoint()));
        Ok(())
    }

    /// The owner of our slot, as the first node that answers says. If that is wrong, the node that is named answers with
    /// a redirection.
    pub(crate) async fn ask(&self) -> Result<Endpoint, StoreError> {
        let mut nodes = self.learnt.lock().unwrap_or_else(PoisonError::into_inner).clone();
        nodes.extend(self.seeds.iter().cloned());
        let questions = nodes.iter().map(|node| self.ask_one(node).boxed());
        let ((primary, learnt), _) = select_ok(questions).await?;
        *self.learnt.lock().unwrap_or_else(PoisonError::into_inner) = learnt;
        Ok(primary)
    }

    async fn ask_one(&self, node: &Endpoint) -> Result<(Endpoint, Vec<Endpoint>), StoreError> {
        let wire = dial(node, &self.dialer, CONNECT_TIMEOUT).await?;
        let mut connection = wire.connection.clone();
        let reply: Value = redis::cmd("CLUSTER")
            .arg("SLOTS")
            .query_async(&mut connection)
            .await
            .map_err(|e| self.dialer.fault(&e).error)?;
        let ranges = parse_slots(&reply, node).ok_or_else(|| StoreFault::malformed().error)?;
        let mut learnt: Vec<Endpoint> = Vec::new();
        for range in &ranges {
            if learnt.len() < MAX_LEARNT && !learnt.contains(&range.primary) && !self.seeds.contains(&range.primary) {
                learnt.push(range.primary.clone());
            }
        }
        self.owner(&ranges)
            .map(|range| (range.primary.clone(), learnt))
            .ok_or_else(|| StoreError::Unavailable("no node of the cluster has our slot".into()))
    }
}

/// How many of the other primaries must name a node as the owner of our slot.
///
/// To read from the node, a majority of all primaries must name it, the node itself included. But the old owner and a new
/// one both count themselves, so two such majorities need not share a member. Therefore a change is acknowledged only when so
/// many others name its server that no majority is left for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Quorum {
    to_read: usize,
    to_acknowledge: usize,
}

impl Quorum {
    /// For a cluster with this number of primaries besides the owner.
    const fn of(others: usize) -> Self {
        let to_read = others.div_ceil(2);
        Self {
            to_read,
            // Both together are more than the others; a cluster of one primary has no others.
            to_acknowledge: if others == 0 { 0 } else { others + 1 - to_read },
        }
    }
}

/// A range of slots, and its owner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SlotRange {
    first: u16,
    last: u16,
    primary: Endpoint,
    /// The node id of the owner. It stays when the address changes, and is the same in every answer.
    id: String,
}

/// Reads an answer to `CLUSTER SLOTS`. A node without a host name is the one that was asked.
pub(crate) fn parse_slots(reply: &Value, asked: &Endpoint) -> Option<Vec<SlotRange>> {
    let Value::Array(ranges) = reply else { return None };
    ranges
        .iter()
        .map(|range| {
            let Value::Array(parts) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = parts.as_slice() else {
                return None;
            };
            let [host, Value::Int(port), Value::BulkString(id), ..] = primary.as_slice() else {
                return None;
            };
            let host = match (host, asked) {
                (Value::BulkString(host), _) if !host.is_empty() => std::str::from_utf8(host).ok()?,
                (Value::BulkString(_) | Value::Nil, Endpoint::Tcp { host, .. }) => host,
                _ => return None,
            };
            Some(SlotRange {
                first: u16::try_from(*first).ok()?,
                last: u16::try_from(*last).ok()?,
                primary: Endpoint::tcp(host, u16::try_from(*port).ok()?)?,
                id: String::from_utf8(id.clone()).ok()?,
            })
        })
        .collect()
}

/// The slot of the keys that share this hash tag.
fn slot_of(hash_tag: &str) -> u16 {
    crc16(hash_tag.as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, as the cluster specification demands.
fn crc16(bytes: &[u8]) -> u16 {
    /// x^16 + x^12 + x^5 + 1.
    const POLYNOMIAL: u16 = 0x1021;
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { POLYNOMIAL }
        })
    })
}

/// Asks the node itself, which lists those replicas of its slots that the cluster does not find down.
pub(crate) async fn ask_node(wire: &RedisConnection, slot: u16) -> Result<PromotableReplicas, String> {
    let mut connection = wire.connection.clone();
    let mut command = redis::cmd("CLUSTER");
    let reply = command.arg("SLOTS").query_async::<Value>(&mut connection).await;
    let reply = reply.map_err(|error| format!("the cluster's nodes are not known: {}", StoreFault::of(&error).error))?;
    replicas_of(&reply, slot).ok_or_else(|| "the cluster's nodes are not known: an answer has the wrong form".into())
}

/// The nodes after the primary in the range that holds our slot.
pub(crate) fn replicas_of(reply: &Value, slot: u16) -> Option<PromotableReplicas> {
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
                // A cluster may hide the names of its nodes. Their number is known all the same.
                [Value::BulkString(_) | Value::Nil, Value::Int(port), ..] => ("?", port),
                _ => return None,
            };
            ReplicaAddress::new(host, u16::try_from(*port).ok()?)
        });
        return Some(PromotableReplicas::of(Naming::OfTheCluster, peers.collect::<Option<_>>()?));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // As `CLUSTER KEYSLOT` answers.
        assert_eq!(slot_of("durward"), 4_190);
        assert_eq!(slot_of("foo"), 12_182);
    }

    #[test]
    fn no_two_owners_can_be_read_from_and_acknowledge_at_once() {
        for others in 0..20 {
            let quorum = Quorum::of(others);
            // A majority of all, the owner included.
            assert_eq!(quorum.to_read + 1, others.div_euclid(2) + 1 + others % 2);
            assert!((quorum.to_read + 1) * 2 > others + 1);
            assert!(quorum.to_read <= others && quorum.to_acknowledge <= others);
            assert!(others == 0 || quorum.to_read + quorum.to_acknowledge > others);
        }
    }

    fn node(host: &str, port: i64) -> Value {
        Value::Array(vec![
            Value::BulkString(host.into()),
            Value::Int(port),
            Value::BulkString(b"id".to_vec()),
            Value::Array(Vec::new()),
        ])
    }

    #[test]
    fn the_primary_of_a_range_is_its_first_node() {
        let asked = Endpoint::parse("seed:7000").unwrap();
        let reply = Value::Array(vec![
            Value::Array(vec![Value::Int(0), Value::Int(8_191), node("a", 7_001), node("b", 7_002)]),
            Value::Array(vec![Value::Int(8_192), Value::Int(16_383), node("", 7_003)]),
        ]);
        let ranges = parse_slots(&reply, &asked).unwrap();
        let shown: Vec<_> = ranges.iter().map(|r| (r.first, r.last, r.primary.to_string())).collect();
        assert_eq!(shown, [(0, 8_191, "a:7001".to_owned()), (8_192, 16_383, "seed:7003".to_owned())]);
    }

    #[test]
    fn f10_an_answer_of_another_form_is_refused() {
        let asked = Endpoint::parse("seed:7000").unwrap();
        for reply in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(1)])]),
            Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(-1), node("a", 1)])]),
            Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(1), node("a", 70_000)])]),
            Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(1), node("a b", 1)])]),
        ] {
            assert_eq!(parse_slots(&reply, &asked), None, "{reply:?}");
        }
    }

    #[test]
    fn the_replicas_of_our_slot_are_those_after_its_primary() {
        let range = |first, last, nodes: Vec<Value>| Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat());
        let nameless = Value::Array(vec![
            Value::Nil,
            Value::Int(2),
            Value::BulkString(b"id".to_vec()),
            Value::Array(Vec::new()),
        ]);
        let reply = Value::Array(vec![
            range(0, 99, vec![node("10.0.0.1", 1), node("10.0.0.4", 1)]),
            range(100, 199, vec![node("10.0.0.2", 1), node("10.0.0.5", 1), nameless]),
            range(200, 299, vec![node("10.0.0.3", 1)]),
        ]);
        let shown = |slot| replicas_of(&reply, slot).map(|wanted| wanted.to_string());
        assert_eq!(shown(100).as_deref(), Some("10.0.0.5:1, ?:2"));
        assert_eq!(shown(200).as_deref(), Some(""));
        assert_eq!(shown(300), None, "nobody has it");
        for wrong in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 9, vec![node("a", 1), Value::Nil])]),
            Value::Array(vec![range(0, 9, vec![node("a", 1), node("b", 70_000)])]),
            Value::Array(vec![range(0, 9, vec![node("a", 1), node("b", 0)])]),
        ] {
            assert_eq!(replicas_of(&wrong, 5), None, "{wrong:?}");
        }
    }
}
