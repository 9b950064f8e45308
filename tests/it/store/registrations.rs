//! The list of gateways in Redis: what it makes of entries that others wrote, and how it notices its losses.

use std::sync::Arc;
use std::time::Duration;

use durward::base::clock::{SystemClock, UnixMillis};
use durward::base::fingerprint::Fingerprint;
use durward::base::ids::GatewayId;
use durward::base::principal::Position;
use durward::store::concerns::Concern;
use durward::store::events::ReaderState;
use durward::store::receipts::{HARD_BOUND, KEPT_FOR};
use durward::store::redis::{RedisSettings, RedisStore, RedisUrl, Registered};
use durward::store::{Announcement, FactStore, HistoryPoint, ReceiptStore, Receipts, RecordStore, StoreError};

use super::fixture::{NOW, PEPPER, control, run, tenant, until};
use crate::support::redis::RedisServer;

const LIST: &str = "{durward}:g";

/// A store that admits as process `number` of `gw-1`, and its server.
struct Listed {
    server: RedisServer,
    store: RedisStore,
    number: u64,
}

async fn open(server: &RedisServer, number: u64) -> RedisStore {
    let settings = RedisSettings {
        access: RedisUrl::parse(&server.url().into()).unwrap().into_access(None),
        key_prefix: "durward".into(),
        wait_replicas: durward::store::redis::WaitReplicas::Count(0),
        max_age: std::time::Duration::from_secs(30),
        lookup_timeout: Duration::from_millis(200),
        peppers: PEPPER.clone(),
        registered: Some(Registered {
            id: GatewayId::parse("gw-1").unwrap(),
            run: number,
        }),
    };
    RedisStore::open(settings, Arc::new(SystemClock), control()).await.unwrap()
}

fn announcement(number: u64) -> Announcement {
    Announcement {
        id: GatewayId::parse("gw-1").unwrap(),
        run: number,
        version: "test".into(),
        applied: Position::default(),
        reader: ReaderState::Live,
        max_age: Duration::from_secs(30),
        stream_interval: Duration::from_secs(15),
    }
}

impl Listed {
    /// Not announced yet.
    async fn new() -> Self {
        let server = RedisServer::start();
        let store = open(&server, 1).await;
        store.create_tenant(tenant("acme"), NOW).await.unwrap();
        Self { server, store, number: 1 }
    }

    async fn announced() -> Self {
        let listed = Self::new().await;
        listed.announce().await.unwrap();
        listed
    }

    async fn beside(other: &Self, number: u64) -> RedisStore {
        open(&other.server, number).await
    }

    async fn announce(&self) -> Result<UnixMillis, StoreError> {
        self.store.announce(announcement(self.number)).await
    }

    fn entry(&self) -> String {
        format!("gw-1/{:016x}", self.number)
    }

    fn set(&self, name: &str, text: &str) {
        let _: u64 = self.server.command(&["HSET", LIST, name, text]);
    }

    fn text(&self, name: &str) -> Option<String> {
        self.server.command(&["HGET", LIST, name])
    }

    async fn read(&self) -> Receipts {
        self.store.receipts().await.unwrap()
    }
}

async fn find(store: &RedisStore) -> Result<(), StoreError> {
    store.find(Fingerprint::from_bytes([9; 32])).await.map(drop)
}

fn assert_unlisted(found: &Result<(), StoreError>) {
    assert!(
        matches!(found, Err(StoreError::Unavailable(why)) if why.contains("not registered")),
        "{found:?}"
    );
}

#[test]
fn a_look_up_succeeds_only_while_its_gateway_is_registered() {
    run(async {
        let listed = Listed::new().await;
        assert_unlisted(&find(&listed.store).await);
        assert!(listed.store.unregistered().is_some());
        listed.announce().await.unwrap();
        find(&listed.store).await.unwrap();
        assert_eq!(listed.store.unregistered(), None);

        let now = listed.read().await.now;
        listed.set(&listed.entry(), &format!("- {} 0", now.plus(Duration::from_secs(30)).0));
        assert_unlisted(&find(&listed.store).await);
        assert!(listed.store.unregistered().is_some());
        listed.announce().await.unwrap();
        find(&listed.store).await.unwrap();

        let _: u64 = listed.server.command(&["HDEL", LIST, &listed.entry()]);
        assert_unlisted(&find(&listed.store).await);
    });
}

#[test]
fn a_look_up_that_finds_its_gateway_missing_waits_for_the_next_announcement() {
    run(async {
        let listed = Listed::announced().await;
        let _: u64 = listed.server.command(&["DEL", LIST]);
        let announced = async {
            listed.store.wants_announcement().await;
            listed.announce().await.unwrap();
        };
        let (found, ()) = tokio::join!(find(&listed.store), announced);
        found.unwrap();
    });
}

/// A way for a list to lose entries: what is done to it.
type Loss = (&'static str, fn(&Listed));

const LOSSES: [Loss; 9] = [
    ("the list is deleted", |it| {
        let _: u64 = it.server.command(&["DEL", LIST]);
    }),
    ("its first entry is deleted", |it| {
        let _: u64 = it.server.command(&["HDEL", LIST, "="]);
    }),
    ("its copy is deleted", |it| {
        let _: u64 = it.server.command(&["HDEL", "{durward}:meta", "list"]);
    }),
    ("everything is deleted", |it| {
        let _: String = it.server.command(&["FLUSHALL"]);
    }),
    ("an entry is deleted", |it| {
        let _: u64 = it.server.command(&["HDEL", LIST, "gw-2/0000000000000007"]);
    }),
    ("one's own entry is exchanged for another", |it| {
        let _: u64 = it.server.command(&["HDEL", LIST, &it.entry()]);
        it.set("gw-9/0000000000000001", "1 1 1 - 0 live 1 1 x");
    }),
    ("another process holds it", |it| {
        let head = it.text("=").unwrap();
        let words: Vec<&str> = head.split(' ').collect();
        both(it, &[words[0], "0123456789abcdef", words[2], words[3], words[4]].join(" "));
    }),
    ("it is older than what was seen", |it| {
        let head = it.text("=").unwrap();
        let words: Vec<&str> = head.split(' ').collect();
        both(it, &[words[0], words[1], words[2], "5", words[4]].join(" "));
    }),
    ("its first entry is garbage", |it| both(it, "x")),
];

fn both(listed: &Listed, head: &str) {
    listed.set("=", head);
    let _: u64 = listed.server.command(&["HSET", "{durward}:meta", "list", head]);
}

#[test]
fn every_loss_is_noticed_once_and_a_list_that_lost_nothing_is_whole() {
    run(async {
        for (what, lose) in LOSSES {
            let server = RedisServer::start();
            let store = open(&server, 1).await;
            let listed = Listed { server, store, number: 1 };
            listed.announce().await.unwrap();
            let other = Announcement {
                id: GatewayId::parse("gw-2").unwrap(),
                ..announcement(7)
            };
            listed.store.announce(other).await.unwrap();
            listed.store.create_tenant(tenant("acme"), NOW).await.unwrap();
            listed.announce().await.unwrap();
            let whole = listed.read().await;
            assert_eq!(whole.whole_since, None, "nobody can have been admitted before: {what}");
            assert_eq!(whole.not_ruled_out(), None);

            lose(&listed);
            let lost = listed.read().await;
            let since = lost.whole_since.unwrap_or_else(|| panic!("{what}"));
            assert!(since >= whole.now && since <= lost.now, "{what}");
            assert_eq!(lost.not_ruled_out(), Some((since, since.plus(HARD_BOUND))), "{what}");
            listed.announce().await.unwrap();
            let later = listed.read().await;
            assert_eq!(later.whole_since, Some(since), "mended once: {what}");
        }
    });
}

#[test]
fn a_list_that_begins_in_a_store_that_has_data_is_whole_since_then() {
    run(async {
        let listed = Listed::new().await;
        let began = listed.announce().await.unwrap();
        assert_eq!(listed.read().await.whole_since, Some(began));
        assert!(listed.read().await.not_ruled_out().is_some());
    });
}

#[test]
fn entries_that_are_no_gateway_are_named_until_they_must_have_stopped() {
    run(async {
        let listed = Listed::announced().await;
        let now = listed.read().await.now;
        let future = now.plus(Duration::from_secs(3_600)).0;
        let wide = "y".repeat(100_000);
        let bad: [(&str, String); 8] = [
            ("gw-garbled/00000000000000aa", "1 2 9999999999999 nonsense".into()),
            ("gw-old", format!("00000000000000aa {0} {0} - 0 lost 30000 15000 0.4.0", now.0)),
            ("gw-future/00000000000000aa", format!("1 1 {future} - 0 live 30000 15000 x")),
            ("gw-endless/00000000000000aa", format!("1 1 {} - 0 live 99999999 15000 x", now.0)),
            ("gw-late/00000000000000aa", format!("- {future} 0")),
            ("two\nlines/00000000000000aa", format!("1 1 {} - 0 live 30000 15000 x", now.0)),
            ("", String::new()),
            (&wide, wide.clone()),
        ];
        for (name, text) in &bad {
            listed.set(name, text);
        }
        let read = listed.read().await;
        assert_eq!(read.gateways.len(), 1, "{read:?}");
        assert_eq!(read.departed.len(), bad.len(), "{read:?}");
        for gone in &read.departed {
            assert!(gone.shown.len() <= 170 && !gone.shown.contains('\n'), "{gone:?}");
            assert!(
                gone.stopped_by > read.now && gone.stopped_by <= read.now.plus(HARD_BOUND),
                "{gone:?}"
            );
        }
        assert!(read.whole_since.is_some(), "somebody else wrote to it");
        assert_eq!(listed.read().await.departed, read.departed, "their time does not move");

        for (name, _) in &bad {
            listed.set(name, &format!("- {} 0", now.0 - 1));
        }
        let later = listed.read().await;
        assert!(later.departed.is_empty(), "{later:?}");
        assert_eq!(listed.server.command::<u64>(&["HLEN", LIST]), 2, "they are gone for good");
        assert_eq!(later.whole_since, read.whole_since, "which is no loss");
        find(&listed.store).await.unwrap();
    });
}

#[test]
fn a_gateway_silent_for_an_hour_is_named_for_its_bound_and_then_forgotten() {
    run(async {
        let listed = Listed::announced().await;
        let now = listed.read().await.now;
        let kept = i64::try_from(KEPT_FOR.as_millis()).unwrap();
        let write = |id: &str, heard: i64| listed.set(&format!("{id}/00000000000000aa"), &format!("1 1 {heard} - 0 lost 30000 15000 x"));
        write("gw-old", now.0 - kept - 1_000);
        write("gw-silent", now.0 - kept + 60_000);
        let read = listed.read().await;
        let ids: Vec<&str> = read.gateways.iter().map(|g| g.id.as_str()).collect();
        assert_eq!(ids, ["gw-1", "gw-silent"]);
        assert!(!read.gateways[1].is_heard(read.now));
        let [gone] = read.departed.as_slice() else { panic!("{read:?}") };
        assert_eq!(gone.shown, "gw-old");
        assert_eq!(listed.read().await.departed, read.departed, "and it stays");
        assert!(gone.stopped_by > now.plus(Duration::from_secs(44)) && gone.stopped_by <= read.now.plus(Duration::from_secs(45)));
    });
}

#[test]
fn a_process_that_takes_an_id_over_leaves_the_one_before_named_and_unable_to_read() {
    run(async {
        let listed = Listed::announced().await;
        let second = Listed::beside(&listed, 2).await;
        let now = listed.read().await.now;
        let silent = now.0 - 7_000;
        let text = format!("{silent} {silent} {silent} - 0 live 30000 15000 x");
        listed.set(&listed.entry(), &text);
        find(&listed.store).await.unwrap();
        let taken = second.announce(announcement(2)).await.unwrap();
        assert_unlisted(&find(&listed.store).await);
        find(&second).await.unwrap();
        let read = listed.read().await;
        assert_eq!(read.gateways.iter().map(|g| g.run).collect::<Vec<_>>(), [2]);
        let [gone] = read.departed.as_slice() else { panic!("{read:?}") };
        assert_eq!((gone.shown.as_str(), gone.heard_at), ("gw-1", Some(UnixMillis(silent))));
        assert_eq!(gone.stopped_by, taken.plus(Duration::from_secs(45)));

        let refused = listed.announce().await;
        assert!(
            matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("same id")),
            "{refused:?}"
        );
        second.withdraw(GatewayId::parse("gw-1").unwrap(), 2).await.unwrap();
        listed.announce().await.unwrap();
        find(&listed.store).await.unwrap();
    });
}

#[test]
fn a_server_that_hides_which_process_it_is_has_a_list_that_is_never_whole_and_says_so() {
    run(async {
        let listed = Listed::new().await;
        let _: String = listed.server.command(&["ACL", "SETUSER", "default", "-info"]);
        listed.announce().await.unwrap();
        find(&listed.store).await.unwrap();
        let read = listed.read().await;
        assert_eq!(read.whole_since, Some(read.now));
        assert!(listed.store.concerns().contains(&Concern::ServerHidden));
        let _: String = listed.server.command(&["ACL", "SETUSER", "default", "+info"]);
        let told = listed.announce().await.unwrap();
        assert_eq!(listed.read().await.whole_since, Some(told), "from then on it is known");
        assert!(!listed.store.concerns().contains(&Concern::ServerHidden));
    });
}

#[test]
fn a_list_is_bounded_and_whoever_finds_no_place_in_it_admits_nobody() {
    run(async {
        let listed = Listed::announced().await;
        let now = listed.read().await.now.0;
        let fill = |many: u32| {
            let script = "for i = 1, tonumber(ARGV[1]) do redis.call('HSET', KEYS[1], string.format('gw-%d/%016x', i + 1, i), ARGV[2]) end";
            let text = format!("{now} {now} {now} - 0 live 30000 15000 x");
            let _: () = listed.server.command(&["EVAL", script, "1", LIST, &many.to_string(), &text]);
        };
        fill(999);
        let late = Listed::beside(&listed, 2).await;
        let refused = late.announce(announcement(2)).await;
        assert!(
            matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("1,000 gateways")),
            "{refused:?}"
        );
        assert_unlisted(&find(&late).await);
        listed.announce().await.unwrap();
        find(&listed.store).await.unwrap();
        assert_eq!(listed.read().await.gateways.len(), 1_000);

        fill(1_500);
        let flooded = listed.store.receipts().await;
        assert!(
            matches!(&flooded, Err(StoreError::Corrupt(why)) if why.contains("somebody else")),
            "{flooded:?}"
        );
        listed.announce().await.unwrap();
        find(&listed.store).await.unwrap();
    });
}

#[test]
fn while_the_store_takes_no_writes_who_is_registered_reads_on_and_who_starts_does_not() {
    run(async {
        let listed = Listed::announced().await;
        let _: String = listed.server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
        assert!(listed.announce().await.is_err());
        find(&listed.store).await.unwrap();
        assert_eq!(listed.store.unregistered(), None);

        let late = Listed::beside(&listed, 2).await;
        assert!(late.announce(announcement(2)).await.is_err());
        assert_unlisted(&find(&late).await);
        assert!(late.unregistered().unwrap().contains("NOREPLICAS"), "{:?}", late.unregistered());
        let _: String = listed.server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
        late.announce(announcement(2)).await.unwrap();
        find(&late).await.unwrap();
    });
}

#[test]
fn what_was_applied_is_told_only_while_the_store_has_the_event_that_proves_it() {
    run(async {
        let listed = Listed::new().await;
        let told = async || {
            let applied = listed.store.status().applied;
            listed
                .store
                .announce(Announcement {
                    applied,
                    ..announcement(1)
                })
                .await
                .unwrap();
            let receipts = listed.read().await;
            (receipts.gateways[0].applied.clone(), receipts.head)
        };
        let is_told = async || {
            let (applied, head) = told().await;
            applied == head
        };
        until("the first change to be told", is_told).await;
        // As after a return to older data: changes since have the same counts, and other entries.
        let _: u64 = listed.server.command(&["XTRIM", "{durward}:events", "MAXLEN", "0"]);
        assert_eq!(told().await.0, HistoryPoint::default());
        listed.store.create_tenant(tenant("other"), NOW).await.unwrap();
        until("the next change to be told", is_told).await;
    });
}
