//! Which replicas a change waits for, and what the primary says of its replicas.

use std::fmt;
use std::net::IpAddr;

/// Replicas that must have a change before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReplicas {
    /// Each replica that could be promoted, as the witnesses say.
    All,
    /// This number of replicas, whichever they are; 0 waits for none.
    Count(u32),
}

impl From<u32> for WaitReplicas {
    fn from(number: u32) -> Self {
        Self::Count(number)
    }
}

/// Where a replica listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplicaAddress {
    host: String,
    port: u16,
}

impl ReplicaAddress {
    /// `None` for port 0, on which nothing can listen: such a replica cannot be promoted.
    pub(crate) fn new(host: &str, port: u16) -> Option<Self> {
        // One IP address has several spellings.
        let host = match host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().to_string(),
            Err(_) => host.to_ascii_lowercase(),
        };
        (port != 0 && !host.is_empty()).then_some(Self { host, port })
    }

    fn is_address(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }
}

impl fmt::Display for ReplicaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A replica that the primary has a connection to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConnectedReplica {
    /// `None` for a client that only reads the stream, such as a backup: it has no port.
    peer: Option<ReplicaAddress>,
    /// Whether it has its first copy and follows.
    is_online: bool,
    /// The offset that it confirmed last.
    offset: u64,
    /// Seconds since its last message.
    lag: u64,
}

/// What the primary says of its replication: `INFO replication`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replication {
    /// The replication id, which every promotion changes.
    line: String,
    /// The offset of the last write.
    pub(crate) offset: u64,
    connected: Vec<ConnectedReplica>,
}

impl Replication {
    /// Reads an answer to `INFO`; `None` unless it comes from a primary.
    pub(crate) fn parse(info: &str) -> Option<Self> {
        let fields = || info.lines().filter_map(|line| line.trim_end().split_once(':'));
        let field = |name: &str| fields().find(|(key, _)| *key == name).map(|(_, value)| value);
        if field("role")? != "master" {
            return None;
        }
        let is_replica = |key: &str| {
            let number = key.strip_prefix("slave");
            number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        };
        let replicas = fields().filter(|(key, _)| is_replica(key));
        Some(Self {
            line: field("master_replid")?.to_owned(),
            offset: field("master_repl_offset")?.parse().ok()?,
            connected: replicas.map(|(_, value)| ConnectedReplica::parse(value)).collect::<Option<_>>()?,
        })
    }

    /// Whether this is a later answer of the same primary, which was not demoted meanwhile.
    pub(crate) fn continues(&self, before: &Self) -> bool {
        self.line == before.line && self.offset >= before.offset
    }

    /// All replicas that the primary lists, synchronised or not.
    pub(crate) fn peers(&self) -> Vec<ReplicaAddress> {
        self.connected.iter().filter_map(|replica| replica.peer.clone()).collect()
    }

    pub(crate) fn online(&self) -> usize {
        self.connected.iter().filter(|replica| replica.is_online).count()
    }

    /// How many replicas follow and were heard of in the last `max_lag` seconds.
    pub(crate) fn heard_within(&self, max_lag: u64) -> usize {
        let is_current = |replica: &&ConnectedReplica| replica.is_online && replica.lag <= max_lag;
        self.connected.iter().filter(is_current).count()
    }

    /// Those of `promotable` that have not confirmed everything up to `offset`.
    pub(crate) fn without(&self, promotable: &PromotableReplicas, offset: u64) -> Vec<LaggingReplica> {
        self.lacking(promotable, |replica| replica.is_online && replica.offset >= offset)
    }

    /// Those of `promotable` that do not follow, or were not heard of for `max_lag` seconds.
    pub(crate) fn away(&self, promotable: &PromotableReplicas, max_lag: u64) -> Vec<LaggingReplica> {
        self.lacking(promotable, |replica| replica.is_online && replica.lag <= max_lag)
    }

    fn lacking(&self, promotable: &PromotableReplicas, has_it: impl Fn(&ConnectedReplica) -> bool) -> Vec<LaggingReplica> {
        if self.names_like(promotable) {
            // A replica that is being synchronised may be listed once for each of its connections.
            let named = |peer: &ReplicaAddress, holds: &dyn Fn(&ConnectedReplica) -> bool| {
                let mut listed = self.connected.iter().filter(|replica| replica.peer.as_ref() == Some(peer));
                listed.any(holds)
            };
            let lacking = promotable.peers.iter().filter(|peer| !named(peer, &has_it));
            return lacking
                .map(|peer| LaggingReplica {
                    peer: peer.to_string(),
                    is_online: named(peer, &|replica| replica.is_online),
                })
                .collect();
        }
        // Names of two kinds cannot be compared. So the right number of replicas must have it, whichever they are.
        let with_port = || self.connected.iter().filter(|replica| replica.peer.is_some());
        let lacking = promotable
            .peers
            .len()
            .saturating_sub(with_port().filter(|replica| has_it(replica)).count());
        let online = with_port().filter(|replica| replica.is_online && !has_it(replica)).count();
        (0..lacking)
            .map(|i| LaggingReplica {
                peer: format!("one of {promotable}"),
                is_online: i < online,
            })
            .collect()
    }

    /// Whether both name replicas in the same way. Sentinels repeat what the primary lists, unless one of them writes host
    /// names as addresses. The nodes of a cluster may be announced under names that the primary does not list.
    fn names_like(&self, promotable: &PromotableReplicas) -> bool {
        let listed = || self.connected.iter().filter_map(|replica| replica.peer.as_ref());
        if listed().next().is_none() || listed().any(|peer| promotable.peers.contains(peer)) {
            return true;
        }
        match promotable.naming {
            Naming::OfThePrimary => listed().any(|one| promotable.peers.iter().any(|other| one.is_address() == other.is_address())),
            Naming::OfTheCluster => false,
        }
    }
}

impl ConnectedReplica {
    fn parse(fields: &str) -> Option<Self> {
        let field = |name: &str| {
            let mut fields = fields.split(',').filter_map(|field| field.split_once('='));
            fields.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        Some(Self {
            peer: ReplicaAddress::new(field("ip")?, field("port")?.parse().ok()?),
            is_online: field("state")? == "online",
            offset: field("offset")?.parse().ok()?,
            // Some versions write -1 before the first message.
            lag: field("lag")?.parse().unwrap_or(u64::MAX),
        })
    }
}

/// Replicas that could be promoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PromotableReplicas {
    peers: Vec<ReplicaAddress>,
    naming: Naming,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// As the primary lists them.
    OfThePrimary,
    /// As nodes of a cluster are announced.
    OfTheCluster,
}

impl PromotableReplicas {
    pub(crate) const fn new(naming: Naming) -> Self {
        Self { peers: Vec::new(), naming }
    }

    /// All of these, even if two have the same name.
    pub(crate) const fn of(naming: Naming, peers: Vec<ReplicaAddress>) -> Self {
        Self { peers, naming }
    }

    /// Adds those that are not there yet.
    pub(crate) fn add(&mut self, peers: impl IntoIterator<Item = ReplicaAddress>) {
        for peer in peers {
            if !self.peers.contains(&peer) {
                self.peers.push(peer);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }
}

impl fmt::Display for PromotableReplicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, peer) in self.peers.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{peer}")?;
        }
        Ok(())
    }
}

/// A replica that could be promoted and has not confirmed a write, or does not follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaggingReplica {
    pub(crate) peer: String,
    /// Whether the primary sends it new writes.
    pub(crate) is_online: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Replication\r\nrole:master\r\nconnected_slaves:4\r\n\
    slave0:ip=10.0.0.2,port=6379,state=online,offset=100,lag=0\r\n\
    slave1:ip=10.0.0.3,port=6379,state=online,offset=90,lag=1\r\n\
    slave2:ip=fd00::4,port=6379,state=wait_bgsave,offset=0,lag=0\r\n\
    slave3:ip=10.0.0.9,port=0,state=online,offset=100,lag=0\r\n\
    master_failover_state:no-failover\r\nmaster_replid:a1\r\nmaster_repl_offset:100\r\n";

    fn peer(host: &str) -> ReplicaAddress {
        ReplicaAddress::new(host, 6379).unwrap()
    }

    fn missing(promotable: &[&str], naming: Naming, offset: u64) -> Vec<(String, bool)> {
        let promotable = PromotableReplicas::of(naming, promotable.iter().map(|host| peer(host)).collect());
        let missing = Replication::parse(INFO).unwrap().without(&promotable, offset);
        missing.into_iter().map(|replica| (replica.peer, replica.is_online)).collect()
    }

    #[test]
    fn a_replica_has_a_change_when_it_follows_and_has_said_so() {
        let by_name = |promotable: &[&str], offset| missing(promotable, Naming::OfThePrimary, offset);
        assert_eq!(by_name(&["10.0.0.2"], 100), []);
        assert_eq!(by_name(&["10.0.0.2", "10.0.0.3"], 90), []);
        assert_eq!(by_name(&["10.0.0.2", "10.0.0.3"], 91), [("10.0.0.3:6379".to_owned(), true)]);
        assert_eq!(by_name(&["fd00:0::4"], 0), [("[fd00::4]:6379".to_owned(), false)]);
        // A replica that has it does not stand for one that the primary has lost.
        assert_eq!(by_name(&["10.0.0.2", "10.0.0.7"], 100), [("10.0.0.7:6379".to_owned(), false)]);
        assert_eq!(by_name(&["10.0.0.7"], 100), [("10.0.0.7:6379".to_owned(), false)]);
        assert_eq!(by_name(&[], 100), []);
    }

    #[test]
    fn names_that_cannot_be_compared_are_counted() {
        // Sentinels may write a host's name as its address, or the other way round.
        assert_eq!(missing(&["replica-a"], Naming::OfThePrimary, 100), []);
        assert_eq!(missing(&["replica-a", "replica-b"], Naming::OfThePrimary, 100).len(), 1);
        // The nodes of a cluster may have names of their own.
        assert_eq!(missing(&["10.1.0.2", "10.1.0.3"], Naming::OfTheCluster, 90), []);
        assert_eq!(missing(&["10.1.0.2", "10.1.0.3"], Naming::OfTheCluster, 100).len(), 1);
        // As soon as one name matches, all names are compared.
        let lost = missing(&["10.0.0.2", "10.1.0.3"], Naming::OfTheCluster, 90);
        assert_eq!(lost, [("10.1.0.3:6379".to_owned(), false)]);
    }

    #[test]
    fn who_only_reads_along_is_no_replica() {
        let replication = Replication::parse(INFO).unwrap();
        let peers: Vec<_> = replication.peers().iter().map(ToString::to_string).collect();
        assert_eq!(peers, ["10.0.0.2:6379", "10.0.0.3:6379", "[fd00::4]:6379"]);
        assert_eq!((replication.online(), replication.heard_within(0)), (3, 2));
    }

    #[test]
    fn one_that_is_listed_twice_while_it_is_copied_is_one() {
        let twice = INFO.replace(
            "master_failover",
            "slave4:ip=fd00::4,port=6379,state=online,offset=100,lag=0\r\nmaster_failover",
        );
        let promotable = PromotableReplicas::of(Naming::OfThePrimary, vec![peer("fd00::4")]);
        assert_eq!(Replication::parse(&twice).unwrap().without(&promotable, 100), []);
    }

    #[test]
    fn another_line_of_data_is_not_the_same_primary() {
        let before = Replication::parse(INFO).unwrap();
        let at = |from: &str, to: &str| Replication::parse(&INFO.replace(from, to));
        assert!(at("repl_offset:100", "repl_offset:101").unwrap().continues(&before));
        assert!(!at("replid:a1", "replid:b2").unwrap().continues(&before));
        assert!(!at("repl_offset:100", "repl_offset:99").unwrap().continues(&before));
        assert_eq!(at("role:master", "role:slave"), None);
        assert_eq!(at("offset=90", "offset=none"), None);
        assert_eq!(at("master_repl_offset", "other"), None);
    }
}
