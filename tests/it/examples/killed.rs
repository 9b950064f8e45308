//! A gateway killed while it makes credentials leaves whole ones with their events, or nothing of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use durward::base::principal::CredentialRecord;
use durward::store::EventSubject;
use durward::store::codec::{decode_credential, decode_event};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use rustix::process::Signal;

use crate::support::gateway::Gateway;
use crate::support::raw::Client;
use crate::support::site::Site;
use crate::support::upstream::Upstream;
use crate::support::wait::PATIENCE;

use super::{call, site, text};

const CLIENTS: &str = "/api/v1/custodians/clients";

/// Kills; each after another number of answers, so at another point of the store's work. With 20 of
/// them (`scripts/faults`) more than a thousand clients are made.
fn kills() -> usize {
    std::env::var("DURWARD_TEST_KILLS").map_or(5, |n| n.parse().unwrap())
}

/// Answers until the first kill; the later ones wait for a few more.
const ANSWERS: usize = 37;

/// Callers at a time.
const CALLERS: usize = 4;

/// Makes clients (an account with a session each, all or none) until the gateway is gone; answers
/// the sessions it was given.
fn make(gateway: &Gateway, key: &str, wanted: usize) -> Vec<String> {
    let (answers, gone) = (AtomicUsize::new(0), AtomicBool::new(false));
    let sessions = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let mut client = Client::connect(gateway.address("public"));
                let request = format!(
                    "POST {CLIENTS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\
                     Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
                );
                while !gone.load(Ordering::SeqCst) {
                    if client.try_send(request.as_bytes()).is_err() {
                        break;
                    }
                    let Some(response) = client.response_to("POST") else { break };
                    assert_eq!(response.status, 201, "{response:?}");
                    sessions
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(text(&response, "clientSessionToken"));
                    if answers.fetch_add(1, Ordering::SeqCst) + 1 == wanted {
                        gateway.signal(Signal::KILL);
                        gone.store(true, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    sessions.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_killed_gateway_leaves_no_credential_without_its_event_and_no_event_without_its_credential() {
    let upstream = Upstream::echoing();
    let site = site("portal", upstream.address, &[]);
    let mut gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let made = gateway.create_key("custodian", "acme", &["--mode", "test"]);
    let key = made["key"].as_str().unwrap();
    let mut sessions = Vec::new();
    for kill in 0..kills() {
        sessions.extend(make(&gateway, key, ANSWERS + kill % 7 * 7));
        gateway.wait_exit(PATIENCE);
        assert_whole(&site, sessions.len());
        gateway = Gateway::start(&site);
        // Everything that was answered is there, the last answer before the kill included.
        for session in sessions.iter().rev().take(20) {
            let bearer = format!("Bearer {session}");
            let status = call(&gateway, "GET", "/api/v1/clients/me/balance", &[("Authorization", &bearer)], "").status;
            assert_eq!(status, 200, "kill {kill}");
        }
    }
    eprintln!("{} kills, {} clients and as many sessions made", kills(), sessions.len());
    assert!(sessions.len() >= ANSWERS * kills(), "{}", sessions.len());
}

/// Looks at a copy of the file, as another program would.
fn assert_whole(site: &Site, acknowledged: usize) {
    let copy = tempfile::tempdir().unwrap();
    let path = copy.path().join("copy.redb");
    std::fs::copy(site.folder().join("state/durward.redb"), &path).unwrap();
    let database = Database::open(&path).unwrap();
    let reading = database.begin_read().unwrap();
    let records = reading.open_table(TableDefinition::<&str, &[u8]>::new("credentials")).unwrap();
    let records: BTreeMap<String, CredentialRecord> = records
        .iter()
        .unwrap()
        .map(|entry| {
            let (id, record) = entry.unwrap();
            (id.value().to_owned(), decode_credential(record.value()).unwrap())
        })
        .collect();
    let events = reading.open_table(TableDefinition::<u64, &[u8]>::new("events")).unwrap();
    let mut told = BTreeSet::new();
    let mut positions = Vec::new();
    for entry in events.iter().unwrap() {
        let (position, event) = entry.unwrap();
        positions.push(position.value());
        if let EventSubject::Credential { id, .. } = decode_event(event.value()).unwrap() {
            assert!(told.insert(id.as_str().to_owned()), "a credential was told twice");
        }
    }
    assert_eq!(told, records.keys().cloned().collect(), "credentials and events");
    // The tenant's event is one more; nothing is missing between.
    assert_eq!(positions, (1..=records.len() as u64 + 1).collect::<Vec<_>>());
    let sessions: Vec<&CredentialRecord> = records.values().filter(|record| record.surface.as_str() == "client").collect();
    assert_eq!(
        sessions.len() * 2 + 1,
        records.len(),
        "a client is an account and a session, or nothing"
    );
    for session in &sessions {
        assert!(records.contains_key(session.parent().expect("a parent").id.as_str()));
    }
    assert!(sessions.len() >= acknowledged, "what was answered is there");
    assert!(sessions.len() <= acknowledged + CALLERS * kills(), "and no more than was asked for");
    let found = reading.open_table(TableDefinition::<&[u8; 32], &str>::new("fingerprints")).unwrap();
    let ids: BTreeSet<String> = found.iter().unwrap().map(|entry| entry.unwrap().1.value().to_owned()).collect();
    assert!(records.keys().all(|id| ids.contains(id)), "each is found");
    assert_eq!(ids.len(), records.len() + 1, "and nothing else, but for the tenant");
}
