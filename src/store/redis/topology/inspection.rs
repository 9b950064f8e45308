//! Inspects the settings of Redis that the guarantees rest on, at the start and every minute.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::store::concerns::Concern;
use crate::store::events::ReaderState;
use crate::store::redis::RedisCore;

use super::fault::StoreFault;
use super::link::{LinkState, LiveLink};
use super::replicas::{Naming, PromotableReplicas, Replication, WaitReplicas};

/// Time between two inspections: settings change by hand, and replicas come and go.
const INTERVAL: Duration = Duration::from_secs(60);

/// Shortest time between two inspections, also when rights are refused.
const PAUSE: Duration = Duration::from_secs(1);

/// Settings that `INFO` does not have. Only users with `+config|get` can read them.
const HIDDEN: [&str; 3] = ["appendfsync", "min-replicas-to-write", "cluster-allow-reads-when-down"];

/// Seconds without a message after which a replica does not count: the default of `min-replicas-max-lag`.
const MAX_LAG: u64 = 10;

#[derive(Default)]
pub(crate) struct Concerns(Mutex<Vec<Concern>>);

impl Concerns {
    pub(crate) fn now(&self) -> Vec<Concern> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs each concern once, until it is settled and comes back.
    fn replace(&self, found: &[Concern]) {
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), found.to_vec());
        let is_in = |concern: &Concern, list: &[Concern]| list.iter().any(|other| other.word() == concern.word());
        for concern in found.iter().filter(|concern| !is_in(concern, &before)) {
            tracing::warn!(concern = concern.word(), "{concern}");
        }
        for concern in before.iter().filter(|concern| !is_in(concern, found)) {
            tracing::info!(concern = concern.word(), "settled");
        }
    }
}

/// Inspects the primary whenever there is one, until its task is aborted.
pub(crate) async fn inspect_for_ever(shared: Arc<RedisCore>) {
    let mut leader = shared.writer.watch();
    loop {
        if leader.wait_for(|state| *state == LinkState::Up).await.is_err() {
            return;
        }
        let rights = shared.locator.rights();
        if let Some(live) = shared.writer.live() {
            let waits = shared.wait_replicas != WaitReplicas::Count(0);
            let hears = shared.feed.status.state() == ReaderState::Live;
            rights.look(&live.wire, &shared.scripts.key("none"), waits, hears).await;
            if let Some(found) = look(&shared, &live).await {
                shared.concerns.replace(&found);
            }
        }
        tokio::time::sleep(PAUSE).await;
        tokio::select! {
            () = rights.refused() => {}
            () = tokio::time::sleep(INTERVAL.saturating_sub(PAUSE)) => {}
        }
    }
}

/// `None` when there was no answer.
async fn look(shared: &RedisCore, live: &LiveLink) -> Option<Vec<Concern>> {
    let mut connection = live.wire.connection.clone();
    let info: String = match redis::cmd("INFO").query_async(&mut connection).await {
        Ok(info) => info,
        // The user may lack the right to ask. The connection is good.
        Err(error) if error.code().is_some() => {
            shared.locator.rights().note(&StoreFault::of(&error));
            return Some(hidden(shared.wait_replicas));
        }
        Err(_) => return None,
    };
    let mut settings = HashMap::new();
    for name in HIDDEN {
        // Most users lack this right, and do not need it.
        let asked: Result<Vec<String>, _> = redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await;
        if let Ok([_, value]) = asked.as_deref() {
            settings.insert(name, value.clone());
        }
    }
    let promotable = shared.locator.promotable(live).await;
    let knows_the_lost = shared.locator.has_witnesses();
    Some(
        ServerReport {
            info,
            settings,
            promotable,
            knows_the_lost,
        }
        .judge(shared.wait_replicas),
    )
}

/// The concerns when the primary refuses `INFO`.
fn hidden(wait_replicas: WaitReplicas) -> Vec<Concern> {
    let why = "the gateway's user at the primary needs +info".to_owned();
    let unknown = (wait_replicas == WaitReplicas::All).then_some(Concern::ReplicasUnknown { why });
    [Concern::SettingsHidden].into_iter().chain(unknown).collect()
}

/// What the primary and the witnesses say.
struct ServerReport<'a> {
    info: String,
    settings: HashMap<&'a str, String>,
    /// Replicas that could be promoted; `None` without witnesses.
    promotable: Result<Option<PromotableReplicas>, String>,
    knows_the_lost: bool,
}

impl ServerReport<'_> {
    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim_end))
    }

    fn number(&self, name: &str) -> u64 {
        self.field(name).and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    fn is_set(&self, name: &str, value: &str) -> bool {
        self.settings.get(name).is_some_and(|set| set == value)
    }

    /// The concerns for a gateway whose changes wait for these replicas.
    fn judge(&self, wait_replicas: WaitReplicas) -> Vec<Concern> {
        let mut found = Vec::new();
        let replication = Replication::parse(&self.info);
        let listed = replication.as_ref().map_or_else(Vec::new, Replication::peers);
        let is_awaited = match wait_replicas {
            WaitReplicas::All => !listed.is_empty(),
            WaitReplicas::Count(number) => number > 0,
        };
        match self.field("aof_enabled") {
            None => found.push(Concern::SettingsHidden),
            Some("0") => found.push(Concern::NotPersistent),
            Some(_) if self.field("aof_last_write_status").is_some_and(|status| status != "ok") => found.push(Concern::WritingFails),
            Some(_) if !is_awaited && self.settings.get("appendfsync").is_some_and(|value| value != "always") => {
                found.push(Concern::SyncedLate);
            }
            Some(_) => {}
        }
        // The volatile policies evict only keys with an expiry. Of our keys, only counts of rate limits have one.
        if let Some(policy) = self.field("maxmemory_policy").filter(|policy| policy.starts_with("allkeys"))
            && self.number("maxmemory") > 0
        {
            found.push(Concern::MayEvict {
                policy: policy.to_owned(),
                evicted: self.number("evicted_keys"),
            });
        }
        if let Some(replication) = replication {
            self.judge_replicas(wait_replicas, &replication, &mut found);
        }
        if self.number("cluster_enabled") == 1 && self.is_set("cluster-allow-reads-when-down", "yes") {
            found.push(Concern::ReadsWhenDown);
        }
        found
    }

    fn judge_replicas(&self, wait_replicas: WaitReplicas, replication: &Replication, found: &mut Vec<Concern>) {
        let all = match &self.promotable {
            Ok(Some(wanted)) => wanted.clone(),
            Ok(None) | Err(_) => PromotableReplicas::of(Naming::OfThePrimary, replication.peers()),
        };
        // The number of replicas without which the primary itself must refuse changes. It removes lost replicas from its
        // list, and without witnesses changes would go on without them.
        let mut needed = if self.knows_the_lost { 0 } else { all.len() };
        match wait_replicas {
            WaitReplicas::All => match &self.promotable {
                Err(why) => found.push(Concern::ReplicasUnknown { why: why.clone() }),
                Ok(_) => {
                    let away = replication.away(&all, MAX_LAG);
                    if !away.is_empty() {
                        let names: Vec<_> = away.into_iter().map(|replica| replica.peer).collect();
                        found.push(Concern::ReplicasAway {
                            replicas: names.join(", "),
                        });
                    }
                }
            },
            WaitReplicas::Count(0) if all.is_empty() => needed = 0,
            WaitReplicas::Count(0) => {
                needed = 1;
                found.push(Concern::NothingAwaited { replicas: all.len() });
            }
            WaitReplicas::Count(number) => {
                needed = 0;
                let connected = replication.heard_within(MAX_LAG);
                if connected < usize::try_from(number).unwrap_or(usize::MAX) {
                    found.push(Concern::TooFewReplicas { connected, wanted: number });
                } else if all.len() > usize::try_from(number).unwrap_or(usize::MAX) {
                    found.push(Concern::FewerThanAll {
                        awaited: number,
                        promotable: all.len(),
                    });
                }
            }
        }
        let least = self
            .settings
            .get("min-replicas-to-write")
            .and_then(|value| value.parse::<usize>().ok());
        if least.is_some_and(|least| least < needed) {
            found.push(Concern::WritesAlone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::replicas::ReplicaAddress;
    use super::*;

    const GOOD: &str = "# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n# Persistence\r\naof_enabled:1\r\n\
        aof_last_write_status:ok\r\n# Stats\r\nevicted_keys:0\r\n# Replication\r\nrole:master\r\nconnected_slaves:1\r\n\
        slave0:ip=10.0.0.2,port=6379,state=online,offset=1,lag=0\r\nmaster_replid:a1\r\nmaster_repl_offset:1\r\n";

    /// The same with a second replica, which does not have its first copy yet.
    fn with_another(state: &str) -> String {
        format!("{GOOD}slave1:ip=10.0.0.3,port=6379,state={state},offset=0,lag=0\r\n")
    }

    fn seen(info: &str, settings: &[(&'static str, &str)]) -> ServerReport<'static> {
        ServerReport {
            info: info.to_owned(),
            settings: settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            promotable: Ok(None),
            knows_the_lost: false,
        }
    }

    fn words(info: &str, settings: &[(&'static str, &str)], wait_replicas: impl Into<WaitReplicas>) -> Vec<&'static str> {
        said(&seen(info, settings), wait_replicas)
    }

    fn said(seen: &ServerReport<'_>, wait_replicas: impl Into<WaitReplicas>) -> Vec<&'static str> {
        seen.judge(wait_replicas.into()).iter().map(Concern::word).collect()
    }

    #[test]
    fn a_store_as_it_should_be_concerns_nobody() {
        let settings = [("appendfsync", "everysec"), ("min-replicas-to-write", "1")];
        assert_eq!(words(GOOD, &settings, WaitReplicas::All), [] as [&str; 0]);
        assert_eq!(
            words(GOOD, &[], WaitReplicas::All),
            [] as [&str; 0],
            "nor one whose user may not ask for settings"
        );
        assert_eq!(words(GOOD, &[("min-replicas-to-write", "0")], 1), [] as [&str; 0]);
        assert_eq!(words(&with_another("online"), &[], WaitReplicas::All), [] as [&str; 0]);
    }

    #[test]
    fn each_concern_is_found() {
        let all = WaitReplicas::All;
        let without = |from: &str, to: &str| GOOD.replace(from, to);
        assert_eq!(words(&without("aof_enabled:1", "aof_enabled:0"), &[], 1), ["not_persistent"]);
        assert_eq!(words(&without("write_status:ok", "write_status:err"), &[], 1), ["writing_fails"]);
        assert_eq!(words(GOOD, &[], 0), ["nothing_awaited"]);
        assert_eq!(
            words(GOOD, &[("min-replicas-to-write", "0")], 0),
            ["nothing_awaited", "writes_alone"]
        );
        assert_eq!(words(GOOD, &[], 2), ["too_few_replicas"]);
        assert_eq!(words(&without("lag=0", "lag=11"), &[], 1), ["too_few_replicas"]);
        for wait in [all, WaitReplicas::Count(0)] {
            let alone = without("slave0:", "other:");
            assert_eq!(words(&alone, &[("appendfsync", "everysec")], wait), ["synced_late"]);
            assert_eq!(words(&alone, &[("appendfsync", "always")], wait), [] as [&str; 0]);
        }
        let small = without("maxmemory:0", "maxmemory:100");
        assert_eq!(words(&small, &[], 1), [] as [&str; 0]);
        assert_eq!(words(&small.replace("noeviction", "volatile-lru"), &[], 1), [] as [&str; 0]);
        assert_eq!(words(&small.replace("noeviction", "allkeys-lru"), &[], 1), ["may_evict"]);
        let cluster = format!("{GOOD}cluster_enabled:1\r\n");
        assert_eq!(words(&cluster, &[("cluster-allow-reads-when-down", "yes")], 1), ["reads_when_down"]);
        assert_eq!(words("", &[], 0), ["settings_hidden"]);
        let hidden = |wait: WaitReplicas| hidden(wait).iter().map(Concern::word).collect::<Vec<_>>();
        assert_eq!(hidden(WaitReplicas::Count(1)), ["settings_hidden"]);
        assert_eq!(hidden(all), ["settings_hidden", "replicas_unknown"]);
    }

    #[test]
    fn a_replica_that_could_be_promoted_and_is_not_waited_for_is_a_concern() {
        let all = WaitReplicas::All;
        assert_eq!(words(&with_another("online"), &[], 1), ["fewer_than_all"]);
        assert_eq!(words(&with_another("online"), &[], 2), [] as [&str; 0]);
        // Without witnesses, a replica that the primary has lost is not missed.
        assert_eq!(words(GOOD, &[("min-replicas-to-write", "0")], all), ["writes_alone"]);
        let two = with_another("online");
        assert_eq!(words(&two, &[("min-replicas-to-write", "1")], all), ["writes_alone"]);
        assert_eq!(words(&two, &[("min-replicas-to-write", "2")], all), [] as [&str; 0]);
        assert_eq!(words(&with_another("wait_bgsave"), &[], all), ["replicas_away"]);
        assert_eq!(words(&GOOD.replace("lag=0", "lag=11"), &[], all), ["replicas_away"]);
        let told = |promotable, wait: WaitReplicas| {
            let mut seen = seen(GOOD, &[("min-replicas-to-write", "0")]);
            (seen.promotable, seen.knows_the_lost) = (promotable, true);
            said(&seen, wait)
        };
        let wanted = |hosts: &[&str]| {
            let peers = hosts.iter().map(|host| ReplicaAddress::new(host, 6379).unwrap());
            Ok(Some(PromotableReplicas::of(Naming::OfThePrimary, peers.collect())))
        };
        assert_eq!(told(wanted(&["10.0.0.2"]), all), [] as [&str; 0]);
        assert_eq!(told(wanted(&["10.0.0.2", "10.0.0.3"]), all), ["replicas_away"]);
        assert_eq!(told(wanted(&["10.0.0.2", "10.0.0.3"]), WaitReplicas::Count(1)), ["fewer_than_all"]);
        assert_eq!(told(Err("no right".into()), all), ["replicas_unknown"]);
        assert_eq!(told(Err("no right".into()), WaitReplicas::Count(1)), [] as [&str; 0]);
    }
}
