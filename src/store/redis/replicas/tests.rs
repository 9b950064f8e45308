//! Which replicas are missing, by what a primary says.

use super::*;

const INFO: &str = "# Replication\r\nrole:master\r\nconnected_slaves:4\r\n\
    slave0:ip=10.0.0.2,port=6379,state=online,offset=100,lag=0\r\n\
    slave1:ip=10.0.0.3,port=6379,state=online,offset=90,lag=1\r\n\
    slave2:ip=fd00::4,port=6379,state=wait_bgsave,offset=0,lag=0\r\n\
    slave3:ip=10.0.0.9,port=0,state=online,offset=100,lag=0\r\n\
    master_failover_state:no-failover\r\nmaster_replid:a1\r\nmaster_repl_offset:100\r\n";

fn peer(host: &str) -> Peer {
    Peer::new(host, 6379).unwrap()
}

fn missing(wanted: &[&str], naming: Naming, offset: u64) -> Vec<(String, bool)> {
    let wanted = Wanted::of(naming, wanted.iter().map(|host| peer(host)).collect());
    let missing = Replication::parse(INFO).unwrap().without(&wanted, offset);
    missing.into_iter().map(|replica| (replica.peer, replica.is_online)).collect()
}

#[test]
fn a_replica_has_a_change_when_it_follows_and_has_said_so() {
    let by_name = |wanted: &[&str], offset| missing(wanted, Naming::OfThePrimary, offset);
    assert_eq!(by_name(&["10.0.0.2"], 100), []);
    assert_eq!(by_name(&["10.0.0.2", "10.0.0.3"], 90), []);
    assert_eq!(by_name(&["10.0.0.2", "10.0.0.3"], 91), [("10.0.0.3:6379".to_owned(), true)]);
    assert_eq!(by_name(&["fd00:0::4"], 0), [("[fd00::4]:6379".to_owned(), false)]);
    // One that has it does not stand for one that the primary has lost.
    assert_eq!(by_name(&["10.0.0.2", "10.0.0.7"], 100), [("10.0.0.7:6379".to_owned(), false)]);
    assert_eq!(by_name(&["10.0.0.7"], 100), [("10.0.0.7:6379".to_owned(), false)]);
    assert_eq!(by_name(&[], 100), []);
}

#[test]
fn names_that_cannot_be_compared_are_counted() {
    // Sentinels that write a host's name as its address, or the other way round.
    assert_eq!(missing(&["replica-a"], Naming::OfThePrimary, 100), []);
    assert_eq!(missing(&["replica-a", "replica-b"], Naming::OfThePrimary, 100).len(), 1);
    // The nodes of a cluster, under names of their own.
    assert_eq!(missing(&["10.1.0.2", "10.1.0.3"], Naming::OfTheCluster, 90), []);
    assert_eq!(missing(&["10.1.0.2", "10.1.0.3"], Naming::OfTheCluster, 100).len(), 1);
    // As soon as one is known by its name, all are.
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
    let wanted = Wanted::of(Naming::OfThePrimary, vec![peer("fd00::4")]);
    assert_eq!(Replication::parse(&twice).unwrap().without(&wanted, 100), []);
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
