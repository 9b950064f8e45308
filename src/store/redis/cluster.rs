//! Finds the node of a cluster that is the primary of our slot. All our keys share one hash tag, so
//! they are in one slot: scripts stay atomic, and one node is all that is needed.

use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::select_ok;
use redis::Value;

use crate::store::StoreError;

use super::access::Endpoint;
use super::dial::{CONNECT_TIMEOUT, Caller, dial};
use super::fault::Fault;

/// Slots of every cluster.
const SLOTS: u16 = 16_384;

/// Nodes remembered besides the configured ones, to be asked when those are gone.
const MAX_LEARNT: usize = 32;

/// The nodes that can be asked, and what for.
pub(super) struct Nodes {
    seeds: Vec<Endpoint>,
    learnt: Mutex<Vec<Endpoint>>,
    slot: u16,
}

impl Nodes {
    pub(super) fn new(seeds: Vec<Endpoint>, hash_tag: &str) -> Self {
        Self {
            seeds,
            learnt: Mutex::default(),
            slot: slot_of(hash_tag),
        }
    }

    /// Where the primary of our slot is, as the first node that answers sees it. A node that sees it
    /// wrongly is found out by the one it names, which says where the slot is instead.
    pub(super) async fn ask(&self, caller: &Caller) -> Result<Endpoint, StoreError> {
        let mut nodes = self.learnt.lock().unwrap_or_else(PoisonError::into_inner).clone();
        nodes.extend(self.seeds.iter().cloned());
        let questions = nodes.iter().map(|node| self.ask_one(node, caller).boxed());
        let ((primary, learnt), _) = select_ok(questions).await?;
        *self.learnt.lock().unwrap_or_else(PoisonError::into_inner) = learnt;
        Ok(primary)
    }

    async fn ask_one(&self, node: &Endpoint, caller: &Caller) -> Result<(Endpoint, Vec<Endpoint>), StoreError> {
        let wire = dial(node, caller, CONNECT_TIMEOUT).await?;
        let mut connection = wire.connection.clone();
        let reply: Value = redis::cmd("CLUSTER")
            .arg("SLOTS")
            .query_async(&mut connection)
            .await
            .map_err(|e| caller.fault(&e).error)?;
        let ranges = parse_slots(&reply, node).ok_or_else(|| Fault::malformed().error)?;
        let mut learnt: Vec<Endpoint> = Vec::new();
        for range in &ranges {
            if learnt.len() < MAX_LEARNT && !learnt.contains(&range.primary) && !self.seeds.contains(&range.primary) {
                learnt.push(range.primary.clone());
            }
        }
        let ours = ranges.into_iter().find(|range| (range.first..=range.last).contains(&self.slot));
        ours.map(|range| (range.primary, learnt))
            .ok_or_else(|| StoreError::Unavailable("no node of the cluster has our slot".into()))
    }
}

/// Slots that lie together, and who has them.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    primary: Endpoint,
}

/// Reads an answer to `CLUSTER SLOTS`; a node that does not know its own name is where we asked.
fn parse_slots(reply: &Value, asked: &Endpoint) -> Option<Vec<Range>> {
    let Value::Array(ranges) = reply else { return None };
    ranges
        .iter()
        .map(|range| {
            let Value::Array(parts) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = parts.as_slice() else {
                return None;
            };
            let [host, Value::Int(port), ..] = primary.as_slice() else {
                return None;
            };
            let host = match (host, asked) {
                (Value::BulkString(host), _) if !host.is_empty() => std::str::from_utf8(host).ok()?,
                (Value::BulkString(_) | Value::Nil, Endpoint::Tcp { host, .. }) => host,
                _ => return None,
            };
            Some(Range {
                first: u16::try_from(*first).ok()?,
                last: u16::try_from(*last).ok()?,
                primary: Endpoint::tcp(host, u16::try_from(*port).ok()?)?,
            })
        })
        .collect()
}

/// The slot of the keys that share this hash tag.
pub(super) fn slot_of(hash_tag: &str) -> u16 {
    crc16(hash_tag.as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, as the cluster specification asks for.
fn crc16(bytes: &[u8]) -> u16 {
    /// x^16 + x^12 + x^5 + 1.
    const POLYNOMIAL: u16 = 0x1021;
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { POLYNOMIAL }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // As `CLUSTER KEYSLOT` answers.
        assert_eq!(Nodes::new(Vec::new(), "durward").slot, 4_190);
        assert_eq!(Nodes::new(Vec::new(), "foo").slot, 12_182);
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
}
