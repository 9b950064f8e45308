//! Looks at the settings of Redis that the promises rest on, at the start and every minute.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::store::concerns::Concern;
use crate::store::events::ReaderState;

use super::Shared;
use super::dial::Wire;
use super::fault::Fault;
use super::link::LinkState;
use super::rights::Rights;

/// Between two looks: settings change by hand, replicas come and go.
const INTERVAL: Duration = Duration::from_secs(60);

/// Between two looks at least, whatever is refused.
const PAUSE: Duration = Duration::from_secs(1);

/// Settings that `INFO` does not tell, for users that may ask.
const HIDDEN: [&str; 3] = ["appendfsync", "min-replicas-to-write", "cluster-allow-reads-when-down"];

/// Seconds without a word after which a replica does not count: Redis' own `min-replicas-max-lag`.
const MAX_LAG: u64 = 10;

/// What was found last.
#[derive(Default)]
pub(super) struct Concerns(Mutex<Vec<Concern>>);

impl Concerns {
    pub(super) fn now(&self) -> Vec<Concern> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Each is told once, until it is gone and comes back.
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

/// Looks at the primary whenever there is one, until its task is aborted.
pub(super) async fn inspect_for_ever(shared: Arc<Shared>) {
    let mut leader = shared.writer.watch();
    loop {
        if leader.wait_for(|state| *state == LinkState::Up).await.is_err() {
            return;
        }
        let rights = shared.whereabouts.rights();
        if let Some(live) = shared.writer.live() {
            let used = (shared.wait_replicas > 0, shared.feed.status.state() == ReaderState::Live);
            rights.look(&live.wire, &shared.scripts.key("none"), used).await;
            if let Some(found) = look(&live.wire, shared.wait_replicas, rights).await {
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

/// `None` when there was no answer at all.
async fn look(wire: &Wire, wait_replicas: u32, rights: &Rights) -> Option<Vec<Concern>> {
    let mut connection = wire.connection.clone();
    let info: String = match redis::cmd("INFO").query_async(&mut connection).await {
        Ok(info) => info,
        // Not a fault of the connection: users may be kept from asking.
        Err(error) if error.code().is_some() => {
            rights.note(&Fault::of(&error));
            return Some(vec![Concern::SettingsHidden]);
        }
        Err(_) => return None,
    };
    let mut settings = HashMap::new();
    for name in HIDDEN {
        // Most users may not ask, and need not.
        let asked: Result<Vec<String>, _> = redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await;
        if let Ok([_, value]) = asked.as_deref() {
            settings.insert(name, value.clone());
        }
    }
    Some(judge(&info, &settings, wait_replicas))
}

/// What is wrong with these settings.
fn judge(info: &str, settings: &HashMap<&str, String>, wait_replicas: u32) -> Vec<Concern> {
    let field = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim_end))
    };
    let number = |name: &str| field(name).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    let set = |name: &str, value: &str| settings.get(name).is_some_and(|held| held == value);
    let replicas = good_replicas(info);
    let mut found = Vec::new();
    match field("aof_enabled") {
        None => found.push(Concern::SettingsHidden),
        Some("0") => found.push(Concern::NotPersistent),
        Some(_) if field("aof_last_write_status").is_some_and(|status| status != "ok") => found.push(Concern::WritingFails),
        Some(_) if wait_replicas == 0 && settings.get("appendfsync").is_some_and(|held| held != "always") => {
            found.push(Concern::SyncedLate);
        }
        Some(_) => {}
    }
    // The volatile policies throw out keys with an expiry only; of ours, counts of rate limits.
    if let Some(policy) = field("maxmemory_policy").filter(|policy| policy.starts_with("allkeys"))
        && number("maxmemory") > 0
    {
        found.push(Concern::MayEvict {
            policy: policy.to_owned(),
            evicted: number("evicted_keys"),
        });
    }
    if replicas < wait_replicas {
        found.push(Concern::TooFewReplicas {
            connected: replicas,
            wanted: wait_replicas,
        });
    } else if replicas > 0 && wait_replicas == 0 {
        found.push(Concern::NothingAwaited { replicas });
        if set("min-replicas-to-write", "0") {
            found.push(Concern::WritesAlone);
        }
    }
    if number("cluster_enabled") == 1 && set("cluster-allow-reads-when-down", "yes") {
        found.push(Concern::ReadsWhenDown);
    }
    found
}

/// Replicas that are connected and have been heard of lately.
fn good_replicas(info: &str) -> u32 {
    let replicas = info.lines().filter(|line| {
        let Some((name, fields)) = line.split_once(':') else {
            return false;
        };
        let is_replica = name
            .strip_prefix("slave")
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        let lag = fields
            .trim_end()
            .split(',')
            .find_map(|field| field.strip_prefix("lag=")?.parse::<u64>().ok());
        is_replica && fields.contains("state=online") && lag.is_some_and(|lag| lag <= MAX_LAG)
    });
    u32::try_from(replicas.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n# Persistence\r\naof_enabled:1\r\n\
        aof_last_write_status:ok\r\n# Stats\r\nevicted_keys:0\r\n# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
        slave0:ip=10.0.0.2,port=6379,state=online,offset=1,lag=0\r\nslave1:ip=10.0.0.3,port=6379,state=wait_bgsave,offset=0,lag=0\r\n";

    fn words(info: &str, settings: &[(&'static str, &str)], wait_replicas: u32) -> Vec<&'static str> {
        let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        judge(info, &settings, wait_replicas).iter().map(Concern::word).collect()
    }

    #[test]
    fn a_store_as_it_should_be_concerns_nobody() {
        let settings = [("appendfsync", "everysec"), ("min-replicas-to-write", "0")];
        assert_eq!(words(GOOD, &settings, 1), [] as [&str; 0]);
        assert_eq!(words(GOOD, &[], 1), [] as [&str; 0], "nor one whose user may not ask for settings");
    }

    #[test]
    fn each_concern_is_found() {
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
        let alone = without("slave0:", "other:");
        assert_eq!(words(&alone, &[("appendfsync", "everysec")], 0), ["synced_late"]);
        assert_eq!(words(&alone, &[("appendfsync", "always")], 0), [] as [&str; 0]);
        let small = without("maxmemory:0", "maxmemory:100");
        assert_eq!(words(&small, &[], 1), [] as [&str; 0]);
        assert_eq!(words(&small.replace("noeviction", "volatile-lru"), &[], 1), [] as [&str; 0]);
        assert_eq!(words(&small.replace("noeviction", "allkeys-lru"), &[], 1), ["may_evict"]);
        let cluster = format!("{GOOD}cluster_enabled:1\r\n");
        assert_eq!(words(&cluster, &[("cluster-allow-reads-when-down", "yes")], 1), ["reads_when_down"]);
        assert_eq!(words("", &[], 0), ["settings_hidden"]);
    }
}
