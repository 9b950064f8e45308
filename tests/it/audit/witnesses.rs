//! Two gateways over one Redis witness for each other: what one of them writes anew, the other one shows.

use std::path::{Path, PathBuf};

use durward::audit::checkpoint::{Checkpoint, CheckpointSigner, notes};
use durward::audit::others::published;
use durward::audit::tree::{Frontier, SUBTREE, leaf_hash};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::gateway::{Answer, Gateway, run};
use crate::support::redis::RedisServer;
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::kept::{self, ask};

struct House {
    _upstream: Upstream,
    redis: RedisServer,
    _folder: tempfile::TempDir,
    sites: [Site; 2],
    gateways: [Gateway; 2],
}

impl House {
    fn open() -> Self {
        let upstream = Upstream::echoing();
        let redis = RedisServer::start();
        let folder = tempfile::tempdir().unwrap();
        let pepper = folder.path().join("pepper");
        std::fs::write(&pepper, "pepper-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
        let plan = Plan {
            tables: "[audit]\ndirectory = \"state/audit\"\ndurable = \"100ms\"\ncheckpoint = \"1s\"\n".to_owned(),
            ..Plan::redis(&redis.url(), &pepper)
        };
        let sites = ["gw-1", "gw-2"].map(|id| {
            let site = Site::of(&plan, upstream.address);
            site.write("gateway.toml", &format!("id = \"{id}\"\n{}", site.read("gateway.toml")));
            site
        });
        let gateways = [Gateway::start(&sites[0]), Gateway::start(&sites[1])];
        Self {
            _upstream: upstream,
            redis,
            _folder: folder,
            sites,
            gateways,
        }
    }

    fn directory(&self, number: usize) -> PathBuf {
        kept::directory(&self.sites[number])
    }

    /// Sends requests through the first gateway until the second one keeps a checkpoint of all of them.
    fn witness(&self, count: usize) -> u64 {
        for number in 0..count {
            assert_eq!(ask(&self.gateways[0], "GET", &format!("/public/{number}"), "", b"").status, 200);
        }
        let recorded = || kept::entries(&self.sites[0], "request");
        let before = recorded().len();
        let last = until("the entries", PATIENCE, || {
            let recorded = recorded();
            (recorded.len() >= count.max(before)).then(|| recorded.last().unwrap()["seq"].as_u64().unwrap())
        });
        until("the other gateway to keep a checkpoint of them", PATIENCE, || {
            kept_of(&self.directory(1), "gw-1")
                .map(|kept| kept.size)
                .filter(|size| *size > last)
        })
    }

    /// Ends the first gateway as a crash does.
    fn kill_first(&mut self) {
        self.gateways[0].signal(Signal::KILL);
        self.gateways[0].wait_exit(PATIENCE);
    }

    /// Verifies these directories.
    fn verify(&self, numbers: &[usize]) -> Answer {
        let directories: Vec<String> = numbers
            .iter()
            .map(|number| self.directory(*number).to_str().unwrap().to_owned())
            .collect();
        let mut arguments = vec!["audit", "verify"];
        for directory in &directories {
            arguments.extend(["--directory", directory]);
        }
        run(&self.sites[1].config(), &arguments, b"")
    }
}

/// The newest checkpoint of a gateway that another one keeps.
fn kept_of(directory: &Path, gateway: &str) -> Option<Checkpoint> {
    let text = std::fs::read_to_string(directory.join("others").join(gateway)).ok()?;
    Checkpoint::parse_unverified(notes(&text).0.first()?).ok()
}

fn signer_of(directory: &Path) -> CheckpointSigner {
    CheckpointSigner::open_or_create(&directory.with_extension("key"), "durward.audit/gw-1").unwrap()
}

/// Writes the trail of the first gateway anew with its own key, as if one request had had another path.
fn write_anew(directory: &Path) {
    let of = |ending: &str| directory.join(format!("trail-{:020}.{ending}", 0));
    let signer = signer_of(directory);
    let text = std::fs::read_to_string(of("jsonl")).unwrap();
    assert!(text.matches("\"path\":\"/public/3\"").count() > 0);
    let text = text.replace("\"path\":\"/public/3\"", "\"path\":\"/public/x\"");
    let signed = std::fs::read_to_string(of("checkpoints")).unwrap();
    let mut signed: Vec<Checkpoint> = notes(&signed)
        .0
        .into_iter()
        .map(|note| Checkpoint::parse_unverified(note).unwrap())
        .collect();
    let (mut tree, mut leaves, mut checkpoints, mut newest) = (Frontier::new(), Vec::new(), String::new(), String::new());
    signed.reverse();
    for line in text.lines() {
        let leaf = leaf_hash(line.as_bytes());
        leaves.extend_from_slice(&leaf);
        assert!(tree.push(leaf).is_none(), "fewer than {SUBTREE} entries");
        while signed.last().is_some_and(|next| next.size == tree.size()) {
            let was = signed.pop().unwrap();
            newest = signer.sign(was.size, &tree.root(), was.time.unwrap());
            checkpoints.push_str(&newest);
            checkpoints.push('\n');
        }
    }
    std::fs::write(of("jsonl"), text).unwrap();
    std::fs::write(of("leaves"), leaves).unwrap();
    std::fs::write(of("checkpoints"), checkpoints).unwrap();
    std::fs::write(directory.join("checkpoint"), newest).unwrap();
}

fn log_of(gateway: &Gateway) -> Vec<Value> {
    let output = String::from_utf8_lossy(&gateway.output()).into_owned();
    output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn alarms(gateway: &Gateway) -> Vec<Value> {
    let mut lines = log_of(gateway);
    lines.retain(|line| line.to_string().contains("other_checkpoint_refused"));
    lines
}

#[test]
fn a_trail_that_was_written_anew_is_found_by_what_the_other_gateway_keeps() {
    let mut house = House::open();
    house.witness(10);
    // They witness for each other, and nothing is wrong.
    until("the first gateway to keep one of the second", PATIENCE, || {
        kept_of(&house.directory(0), "gw-2")
    });
    let both = house.verify(&[0, 1]);
    assert_eq!(both.code, 0, "{both:?}");
    house.kill_first();
    let both = house.verify(&[0, 1]);
    assert_eq!(both.code, 0, "{both:?}");

    write_anew(&house.directory(0));
    let alone = house.verify(&[0]);
    assert_eq!(alone.code, 0, "whoever has the key can do this: {alone:?}");
    let found = house.verify(&[0, 1]);
    assert_eq!(found.code, 1, "{found:?}");
    assert!(
        found.stderr.contains("others/gw-1") && found.stderr.contains("`gw-1` is broken"),
        "{found:?}"
    );

    // The gateway goes on with the trail that was written anew, and its checkpoints outgrow those that were kept.
    let before = kept_of(&house.directory(1), "gw-1").unwrap();
    house.gateways[0] = Gateway::start(&house.sites[0]);
    let size = house.witness(10);
    assert!(size > before.size);
    let alone = house.verify(&[0]);
    assert_eq!(alone.code, 0, "{alone:?}");
    let found = house.verify(&[0, 1]);
    assert_eq!(found.code, 1, "what was kept before is kept still: {found:?}");
    assert!(found.stderr.contains("others/gw-1"), "{found:?}");
}

#[test]
fn a_checkpoint_that_contradicts_the_one_that_is_kept_is_an_alarm_and_replaces_nothing() {
    let mut house = House::open();
    house.witness(3);
    assert_eq!(alarms(&house.gateways[1]), [] as [Value; 0]);
    house.kill_first();
    // What it published last may still be on its way.
    let of_store = || house.redis.command::<String>(&["HGET", "{durward}:k", "gw-1"]);
    let file = house.directory(1).join("others/gw-1");
    until("the last one to be kept", PATIENCE, || {
        (std::fs::read_to_string(&file).unwrap() == of_store()).then_some(())
    });
    let (kept, text) = (kept_of(&house.directory(1), "gw-1").unwrap(), of_store());
    let signer = signer_of(&house.directory(0));
    let publish = |text: &str| house.redis.command_with_bytes(&["HSET", "{durward}:k", "gw-1"], text.as_bytes());
    // As many entries with another root.
    let fork = published(&signer.sign(kept.size, &[7; 32], kept.time.unwrap()), signer.verifier());
    publish(&fork);
    let told = until("the alarm", PATIENCE, || alarms(&house.gateways[1]).pop());
    let said = told.to_string();
    assert!(
        said.contains("gw-1") && said.contains("written anew") && said.contains("\"error\""),
        "{said}"
    );
    // Another key for more entries.
    let folder = tempfile::tempdir().unwrap();
    let other = CheckpointSigner::open_or_create(&folder.path().join("other.key"), "durward.audit/gw-1").unwrap();
    publish(&published(
        &other.sign(kept.size + 100, &[7; 32], kept.time.unwrap()),
        other.verifier(),
    ));
    let told = until("the alarm of the other key", PATIENCE, || {
        alarms(&house.gateways[1])
            .into_iter()
            .find(|line| line.to_string().contains("another key"))
    });
    assert!(told.to_string().contains("gw-1"), "{told}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "what is kept stays");
    // Said once each, however often it is looked at.
    assert_eq!(alarms(&house.gateways[1]).len(), 2);
    // What goes on with the kept one is taken again.
    let next = published(&signer.sign(kept.size + 1, &[8; 32], kept.time.unwrap()), signer.verifier());
    publish(&next);
    until("the next one", PATIENCE, || {
        (std::fs::read_to_string(&file).unwrap() == next).then_some(())
    });
}
