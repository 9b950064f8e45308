//! `examples/portal`: each use of a session puts its end off, up to a limit; uses survive a killed gateway and count on
//! every gateway.

use std::time::Duration;

use durward::base::clock::{self, Clock as _, SystemClock};
use redb::{ReadableDatabase as _, ReadableTable as _};

use crate::support::gateway::Gateway;
use crate::support::redis::RedisServer;
use crate::support::site::Site;
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::super::{site_over_redis, text};
use super::{ME, bearer, client, expect_ended, key, open, session_path};

#[test]
fn a_session_in_use_ends_at_its_absolute_limit_and_says_so_as_an_unknown_one_does() {
    let life = Duration::from_secs(3);
    let edit = ("idle = \"24h\"\nlifetime = \"7d\"", "lifetime = \"3s\"");
    let house = open(&[edit]);
    let gateway = &house.gateway;
    let custodian = key(gateway, "acme", "live");
    let asked = clock::instant();
    let (id, session) = client(gateway, &custodian);
    let made = clock::instant();
    let mut used = 0_u32;
    let ended = until("the absolute limit", PATIENCE, || {
        let answer = bearer(gateway, "GET", ME, &session, "");
        if answer.status == 200 {
            assert!(made.elapsed() < life + Duration::from_secs(2), "used beyond its limit");
            used += 1;
        }
        (answer.status != 200).then_some(answer)
    });
    assert!(asked.elapsed() >= life && used > 3, "it ended early, after {used} uses");
    expect_ended(&ended);
    let unknown = durward::base::key::GeneratedKey::mint("portal_client_live_").unwrap();
    expect_ended(&bearer(gateway, "GET", ME, unknown.expose(), ""));
    // An SDK fetches a new one.
    let answer = bearer(gateway, "POST", &session_path(&id), &custodian, "");
    assert_eq!(bearer(gateway, "GET", ME, &text(&answer, "clientSessionToken"), "").status, 200);
}

/// When each session was last used, as the file of a gateway that is gone says.
fn last_used(site: &Site) -> Vec<i64> {
    let copy = tempfile::tempdir().unwrap();
    let path = copy.path().join("copy.redb");
    std::fs::copy(site.folder().join("state/durward.redb"), &path).unwrap();
    let database = redb::Database::open(&path).unwrap();
    let reading = database.begin_read().unwrap();
    let table = reading.open_table(redb::TableDefinition::<&str, i64>::new("last_used")).unwrap();
    let times: Vec<i64> = table.iter().unwrap().map(|entry| entry.unwrap().1.value()).collect();
    times
}

#[test]
fn a_use_survives_the_kill_of_its_gateway_but_for_what_is_documented() {
    // With an idle limit of a minute, uses are written every three seconds; a look is made every second.
    let slack = 3_000 + 1_000;
    let mut house = open(&[("idle = \"24h\"", "idle = \"1m\"")]);
    let custodian = key(&house.gateway, "acme", "live");
    let (_, session) = client(&house.gateway, &custodian);
    let wall = || SystemClock.now().wall.0;
    let made = wall();
    // A pause that is longer than the interval; then the first use is written at once.
    until("the interval to pass", PATIENCE, || (wall() - made > slack).then_some(()));
    let used = wall();
    assert_eq!(bearer(&house.gateway, "GET", ME, &session, "").status, 200);
    // It goes on being used until the gateway is killed.
    until("a use later than that", PATIENCE, || {
        assert_eq!(bearer(&house.gateway, "GET", ME, &session, "").status, 200);
        (wall() - used > slack / 2).then_some(())
    });
    let killed = wall();
    house.gateway.signal(rustix::process::Signal::KILL);
    house.gateway.wait_exit(PATIENCE);
    let known = last_used(&house.site);
    assert_eq!(known.len(), 1, "one session was used");
    // Under load the disk is waited for as well.
    assert!(killed - known[0] <= slack + 1_000, "{} ms of use are lost", killed - known[0]);
    assert!(known[0] >= used, "the use after the pause is there: {} and {used}", known[0]);
    let again = Gateway::start(&house.site);
    assert_eq!(bearer(&again, "GET", ME, &session, "").status, 200, "and the session lives on");
}

#[test]
fn a_session_made_and_used_on_one_gateway_lives_on_the_other() {
    let idle = Duration::from_secs(60);
    let upstream = Upstream::echoing();
    let redis = RedisServer::start();
    let shared = tempfile::tempdir().unwrap();
    let edit = ("idle = \"24h\"", "idle = \"1m\"");
    let make = || site_over_redis("portal", upstream.address, &redis, shared.path(), &[edit]);
    let sites = [make(), make()];
    let [here, there] = [Gateway::start(&sites[0]), Gateway::start(&sites[1])];
    here.json(&["tenants", "create", "acme"]);
    let custodian = key(&here, "acme", "live");
    let (id, used) = client(&here, &custodian);
    assert_eq!(bearer(&there, "GET", ME, &used, "").status, 200, "at once");
    let unused = text(&bearer(&there, "POST", &session_path(&id), &custodian, ""), "clientSessionToken");
    assert_eq!(bearer(&here, "GET", ME, &unused, "").status, 200, "and the other way round");
    let start = clock::instant();
    // Used here only, until both would have ended by disuse.
    let mut last = clock::instant();
    until("the idle limit to pass", idle * 2, || {
        if last.elapsed() > Duration::from_secs(2) {
            last = clock::instant();
            assert_eq!(bearer(&here, "GET", ME, &used, "").status, 200);
        }
        (start.elapsed() > idle + Duration::from_secs(1)).then_some(())
    });
    assert_eq!(bearer(&there, "GET", ME, &used, "").status, 200, "its use here counts there");
    for gateway in [&there, &here] {
        expect_ended(&bearer(gateway, "GET", ME, &unused, ""));
    }
}
