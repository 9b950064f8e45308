//! A disk that fails under a store: what it goes on with, what it says, and that it comes back by itself.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::base::clock::{ManualClock, Now};
use crate::base::fingerprint::PepperCheck;
use crate::base::ids::SurfaceName;
use crate::base::principal::CredentialState;
use crate::base::scope::{Mode, Scope};
use crate::store::{MARK_GRACE, MarkRoom};
use fake_disk::{CHANGING, DiskCall, FakeDisk};

mod fake_disk;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const PEPPERS: PepperChecks = PepperChecks::one(PepperCheck::from_bytes([7; 32]));
const NO_SPACE: i32 = 28;
const BROKEN: i32 = 5;
const READ_ONLY: i32 = 30;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs") });
}

fn open(disk: &FakeDisk) -> EmbeddedStore {
    let pauses = (Duration::from_millis(2), Duration::from_millis(10));
    let path = Path::new("state/durward.redb");
    EmbeddedStore::open_on(Box::new(disk.clone()), path, &PEPPERS, Arc::new(SystemClock), pauses).unwrap()
}

fn id(name: &str) -> CredentialId {
    CredentialId::parse(name).unwrap()
}

fn fingerprint(name: &str) -> Fingerprint {
    Fingerprint::of_id(&SurfaceName::parse("test-key").unwrap(), &id(name))
}

fn record(name: &str) -> CredentialRecord {
    CredentialRecord {
        id: id(name),
        surface: SurfaceName::parse("api").unwrap(),
        tenant: TenantId::parse("acme").unwrap(),
        subject: None,
        mode: Some(Mode::Live),
        scopes: [Scope::parse("orders:read").unwrap()].into_iter().collect(),
        state: CredentialState::Active,
        fingerprint: fingerprint(name),
        secret_fingerprint: None,
        prefix: "live_".into(),
        last4: "wxyz".into(),
        name: None,
        created_at: NOW,
        not_before: None,
        expires_at: None,
        valid_after: None,
        epoch: 1,
        pepper: None,
        extras: None,
    }
}

async fn with_keys(disk: &FakeDisk, keys: usize) -> EmbeddedStore {
    let store = open(disk);
    store.create_tenant(TenantId::parse("acme").unwrap(), NOW).await.unwrap();
    for key in 0..keys {
        store.create_credential(record(&format!("key-{key}"))).await.unwrap();
    }
    store
}

async fn revoke(store: &EmbeddedStore, name: &str) -> Result<CredentialRecord, ChangeError> {
    store.change_credential(id(name), CredentialChange::Revoke, NOW).await
}

async fn state_of(store: &EmbeddedStore, name: &str) -> Option<CredentialState> {
    let found = store.find(fingerprint(name)).await.unwrap();
    found.facts.map(|facts| facts.credential.state)
}

/// Waits until the store takes changes, without asking it for one.
async fn until_well(store: &EmbeddedStore) {
    while store.writes().unwrap().refused.is_some() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn marks_whose_time_is_over_are_removed_and_a_clock_that_goes_back_frees_none() {
    run(async {
        let disk = FakeDisk::new();
        let clock = Arc::new(ManualClock::new(Now {
            wall: NOW,
            boot: BootMillis(0),
        }));
        let pauses = (Duration::from_millis(2), Duration::from_millis(10));
        let path = Path::new("state/durward.redb");
        let store = EmbeddedStore::open_on(Box::new(disk.clone()), path, &PEPPERS, clock.clone(), pauses).unwrap();
        store.create_tenant(TenantId::parse("acme").unwrap(), NOW).await.unwrap();
        let minute = NOW.plus(Duration::from_secs(60));
        let take = |name: &'static str| store.take_once(fingerprint(name), minute, MarkRoom::Unproven);
        assert!(take("mark").await.unwrap());
        clock.advance(Duration::from_secs(60) + MARK_GRACE - Duration::from_millis(1));
        assert!(take("another").await.unwrap());
        assert!(!take("mark").await.unwrap(), "it is kept for the grace");
        clock.advance(Duration::from_millis(1));
        assert!(!take("mark").await.unwrap(), "until it is removed, it is taken");
        assert!(take("third").await.unwrap());
        assert!(take("mark").await.unwrap(), "the third call has removed it");
        store.create_credential(record("key")).await.unwrap();
        clock.step_wall(UnixMillis(0));
        assert!(!take("another").await.unwrap());
        drop(store);
        let again = open(&disk.after_power_cut());
        assert!(
            !again.take_once(fingerprint("mark"), minute, MarkRoom::Unproven).await.unwrap(),
            "a mark that was acknowledged is on the disk"
        );
    });
}

#[test]
fn a_failure_that_passes_costs_one_change_and_no_restart() {
    for errno in [NO_SPACE, BROKEN] {
        for call in CHANGING {
            run(async {
                let disk = FakeDisk::new();
                let store = with_keys(&disk, 3).await;
                // The failing call is the next of its kind; the file need not grow, so `Length` may not come.
                disk.fail(&[call], errno, 0);
                let made = revoke(&store, "key-0").await;
                disk.mend();
                assert_eq!(made.is_ok(), call == DiskCall::Length, "{call:?}: {made:?}");
                until_well(&store).await;
                revoke(&store, "key-0").await.unwrap();
                store.create_credential(record("key-new")).await.unwrap();
                assert_eq!(state_of(&store, "key-0").await, Some(CredentialState::Revoked { at: NOW }));
                let writes = store.writes().unwrap();
                assert_eq!(writes.failed > 0, call != DiskCall::Length, "{writes:?}");
                drop(store);
                let again = open(&disk.after_power_cut());
                assert_eq!(state_of(&again, "key-new").await, Some(CredentialState::Active));
            });
        }
    }
}

#[test]
fn while_nothing_can_be_written_who_is_there_is_found_and_changes_say_what_helps() {
    for (errno, help) in [
        (NO_SPACE, "free space"),
        (READ_ONLY, "mount its file system for writing"),
        (BROKEN, "kernel's log"),
    ] {
        run(async {
            let disk = FakeDisk::new();
            let store = with_keys(&disk, 3).await;
            disk.fail(&CHANGING, errno, 0);
            let refused = revoke(&store, "key-0").await.unwrap_err();
            assert!(matches!(refused, ChangeError::NotMade(_)), "{refused:?}");
            let said = refused.to_string();
            assert!(said.contains("nothing was changed") && said.contains(help), "{said}");
            assert!(!said.contains("repeat") && !said.contains("re-open"), "{said}");
            assert_eq!(state_of(&store, "key-0").await, Some(CredentialState::Active));
            assert_eq!(state_of(&store, "key-nobody").await, None);
            assert!(store.writes().unwrap().refused.unwrap().contains(help));
            let second = revoke(&store, "key-1").await.unwrap_err();
            assert!(matches!(second, ChangeError::NotMade(_)), "{second:?}");
            disk.mend();
            until_well(&store).await;
            revoke(&store, "key-0").await.unwrap();
            assert!(store.writes().unwrap().reopened > 0);
        });
    }
}

#[test]
fn on_a_full_disk_nothing_new_is_made_and_what_there_is_can_be_revoked() {
    run(async {
        let disk = FakeDisk::new();
        let store = with_keys(&disk, 300).await;
        disk.fill_up(0);
        let mut made = 300;
        let refused = loop {
            match store.create_credential(record(&format!("key-{made}"))).await {
                Ok(_) => made += 1,
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, ChangeError::NotMade(_)), "{refused:?}");
        assert!(refused.to_string().contains("free space"), "{refused}");
        for key in 0..100 {
            let name = format!("key-{key}");
            revoke(&store, &name).await.unwrap_or_else(|e| panic!("{name} of {made}: {e}"));
        }
        assert!(store.create_credential(record("key-more")).await.is_err(), "there is no room yet");
        disk.make_room();
        until_well(&store).await;
        store.create_credential(record("key-more")).await.unwrap();
        assert_eq!(state_of(&store, "key-99").await, Some(CredentialState::Revoked { at: NOW }));
    });
}

#[test]
fn a_file_system_that_cannot_reserve_space_is_none_without_space() {
    run(async {
        let disk = FakeDisk::new();
        disk.cannot_reserve();
        let store = with_keys(&disk, 100).await;
        assert_eq!(
            store.writes().unwrap(),
            Writes {
                refused: None,
                failed: 0,
                reopened: 0
            }
        );
    });
}

#[test]
fn a_file_that_was_taken_away_takes_no_changes_until_it_is_back() {
    run(async {
        let disk = FakeDisk::new();
        let store = with_keys(&disk, 1).await;
        disk.set_missing(true);
        let refused = revoke(&store, "key-0").await.unwrap_err();
        assert!(matches!(refused, ChangeError::NotMade(_)), "{refused:?}");
        assert!(refused.to_string().contains("removed or replaced"), "{refused}");
        assert_eq!(state_of(&store, "key-0").await, Some(CredentialState::Active));
        disk.set_missing(false);
        until_well(&store).await;
        revoke(&store, "key-0").await.unwrap();
    });
}

#[test]
fn on_a_full_disk_a_file_that_was_taken_away_takes_no_revocation_either() {
    run(async {
        let disk = FakeDisk::new();
        let store = with_keys(&disk, 100).await;
        drop(store);
        // Without space to grow it is in trouble from the start.
        let full = disk.after_power_cut();
        full.fill_up(300);
        let store = open(&full);
        assert!(store.create_credential(record("key-more")).await.is_err());
        revoke(&store, "key-0").await.unwrap();
        full.set_missing(true);
        let refused = revoke(&store, "key-1").await.unwrap_err();
        assert!(refused.to_string().contains("removed or replaced"), "{refused}");
        full.set_missing(false);
        while !store.writes().unwrap().refused.is_some_and(|why| why.contains("keep space")) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        revoke(&store, "key-1").await.unwrap();
        full.make_room();
        until_well(&store).await;
        store.create_credential(record("key-more")).await.unwrap();
    });
}

#[test]
fn a_file_that_was_emptied_is_never_made_anew() {
    run(async {
        let disk = FakeDisk::new();
        let store = with_keys(&disk, 1).await;
        disk.empty();
        // What it needs may be in its memory; what it does not find there, it does not make up.
        assert!(revoke(&store, "key-0").await.is_err());
        assert!(store.find(fingerprint("key-nobody")).await.is_err());
        assert!(store.writes().unwrap().refused.is_some());
        assert_eq!(disk.length(), 0);
    });
}

/// Failures at places of a generator's choice: what was acknowledged stays, what was refused is not there.
#[test]
fn whatever_fails_when_acknowledged_changes_stay_and_refused_ones_were_not_made() {
    for seed in 0..SEEDS {
        run(one_history(seed));
    }
}

const SEEDS: u64 = 12;

async fn one_history(seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let disk = FakeDisk::new();
    let store = with_keys(&disk, 1).await;
    let (mut there, mut absent) = (vec!["key-0".to_owned()], Vec::new());
    for step in 0..40 {
        let calls = [
            &CHANGING[..],
            &[DiskCall::Sync],
            &[DiskCall::Write],
            &[DiskCall::Length],
            &[DiskCall::Write, DiskCall::Read],
        ];
        let failing = random(3) > 0;
        if failing {
            let calls = calls[usize::try_from(random(5)).unwrap()];
            disk.fail(
                calls,
                [NO_SPACE, BROKEN][usize::try_from(random(2)).unwrap()],
                usize::try_from(random(30)).unwrap(),
            );
        }
        let name = format!("key-{seed}-{step}");
        match store.create_credential(record(&name)).await {
            Ok(_) => there.push(name),
            Err(ChangeError::NotMade(_)) => absent.push(name),
            Err(ChangeError::Store(_)) => {}
            Err(other) => panic!("seed {seed}, step {step}: {other:?}"),
        }
        disk.mend();
        until_well(&store).await;
    }
    for (store, when) in [(&store, "while it runs"), (&open(&disk.after_power_cut()), "after a power cut")] {
        for name in &there {
            assert_eq!(
                state_of(store, name).await,
                Some(CredentialState::Active),
                "seed {seed}: {name} is lost {when}"
            );
        }
        for name in &absent {
            assert_eq!(
                state_of(store, name).await,
                None,
                "seed {seed}: {name} was refused, and is there {when}"
            );
        }
    }
    assert!(
        there.len() > 10 && !absent.is_empty(),
        "seed {seed}: {} made, {} refused",
        there.len(),
        absent.len()
    );
}
