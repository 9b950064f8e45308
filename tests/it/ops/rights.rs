//! Gateways whose Redis user lacks something, or whose store has lost or broken something: what operators are told.

use crate::support::gateway::Gateway;
use crate::support::redis::{RedisServer, documented_user};
use crate::support::site::Site;
use crate::support::wait::{PATIENCE, until};

use super::probe;
use super::receipts::{Group, ids};

/// The documented user with these words besides.
fn set_user(redis: &RedisServer, more: &[&str]) {
    let words = documented_user().into_iter().chain(more.iter().copied());
    let mut command = vec!["ACL", "SETUSER"];
    command.extend(words);
    redis.command::<()>(&command);
}

fn site(group: &Group, id: &str) -> Site {
    group.site(id, &group.redis.url(), "")
}

fn said(gateway: &Gateway, text: &str) -> bool {
    String::from_utf8_lossy(&gateway.output()).contains(text)
}

/// The id of a new key.
fn make_key(gateway: &Gateway) -> String {
    super::make_key(gateway).0
}

#[test]
fn a_right_that_receipts_lack_is_shown_until_it_is_given() {
    let group = Group::new();
    let site = site(&group, "gw-a");
    set_user(&group.redis, &["-hkeys"]);
    let mut gateway = Gateway::spawn(&site);
    gateway.wait_listening();
    let row = "durward_store_denied_rights{right=\"hkeys\"} 1";
    until("the metric", PATIENCE, || probe(&gateway, "/metrics").1.contains(row).then_some(()));
    let ready = probe(&gateway, "/readyz").1;
    assert!(
        // Without a receipt it admits nobody.
        ready.contains("\"ready\":false") && ready.contains("refuses its user the rights hkeys"),
        "{ready}"
    );
    assert!(said(&gateway, "\"alarm\":\"store_credentials\"") && said(&gateway, "\"right\":\"+hkeys\""));

    set_user(&group.redis, &[]);
    until("a receipt", PATIENCE, || {
        (ids(&gateway.json(&["gateways"])) == ["gw-a"]).then_some(())
    });
    gateway.json(&["tenants", "create", "acme"]);
    // What scripts need is looked at again as soon as another right is refused.
    set_user(&group.redis, &["-zcard"]);
    gateway.run(&["keys", "list"]);
    let other = "durward_store_denied_rights{right=\"zcard\"} 1";
    until("the other metric alone", PATIENCE, || {
        let metrics = probe(&gateway, "/metrics").1;
        (metrics.contains(other) && !metrics.contains(row)).then_some(())
    });
}

#[test]
fn a_refused_event_changes_nothing_and_no_gateway_says_that_the_store_went_back() {
    let group = Group::new();
    set_user(&group.redis, &[]);
    let sites = ["gw-a", "gw-b"].map(|id| site(&group, id));
    let [a, b] = [Gateway::start(&sites[0]), Gateway::start(&sites[1])];
    a.json(&["tenants", "create", "acme"]);
    let key = make_key(&a);
    let position = || group.redis.command::<u64>(&["HGET", "{durward}:meta", "position"]);
    let before = position();
    set_user(&group.redis, &["-xadd"]);
    let answer = a.run(&["keys", "revoke", &key]);
    assert_eq!(answer.code, 4, "{answer:?}");
    assert!(
        answer.stderr.contains("nothing was changed") && answer.stderr.contains("+xadd"),
        "{answer:?}"
    );
    assert_eq!(position(), before);
    assert_eq!(a.json(&["keys", "show", &key])["state"], "active");
    set_user(&group.redis, &[]);
    assert_eq!(a.run(&["keys", "revoke", &key, "--wait"]).code, 0);
    assert_eq!(position(), before + 1);
    for gateway in [&a, &b] {
        assert!(!said(gateway, "store_went_back"));
    }
}

#[test]
fn a_password_that_was_changed_raises_the_alarm_of_credentials() {
    let group = Group::new();
    set_user(&group.redis, &[]);
    let site = site(&group, "gw-a");
    let gateway = Gateway::start(&site);
    assert!(!said(&gateway, "store_credentials"));
    set_user(&group.redis, &["resetpass", ">another"]);
    group.redis.command::<u64>(&["CLIENT", "KILL", "USER", "durward"]);
    until("the alarm", PATIENCE, || {
        said(&gateway, "\"alarm\":\"store_credentials\"").then_some(())
    });
    let answer = gateway.run(&["keys", "list"]);
    assert!(answer.code == 4 && answer.stderr.contains("name or password"), "{answer:?}");
}

#[test]
fn a_record_that_may_have_been_lost_is_not_known_and_one_that_is_not_there_is_not_there() {
    let group = Group::new();
    let site = site(&group, "gw-a");
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let (lost, kept) = (make_key(&gateway), make_key(&gateway));
    let nobody = "nobody";
    let all = |id: &str| {
        ["show", "revoke", "disable", "rotate"].map(|verb| {
            let answer = gateway.run(&["keys", verb, id]);
            (answer.code, answer.stderr)
        })
    };
    for (code, told) in all(nobody) {
        assert!(code == 3 && told.contains("there is no credential"), "{code}: {told}");
    }
    group.redis.command::<()>(&["HDEL", "{durward}:c", &lost]);
    for id in [&*lost, nobody] {
        for (code, told) in all(id) {
            assert!(code == 4 && told.contains("it has lost keys"), "{id}: {code}: {told}");
        }
    }
    assert_eq!(gateway.json(&["keys", "show", &kept])["id"], *kept);
    assert!(said(&gateway, "store_data_lost"));
    // So of tenants and of roles.
    assert_eq!(gateway.run(&["tenants", "disable", nobody]).code, 3);
    group.redis.command::<()>(&["HDEL", "{durward}:t", "acme"]);
    assert_eq!(gateway.run(&["tenants", "disable", "acme"]).code, 4);
}

#[test]
fn a_list_names_the_record_that_is_broken_and_goes_on_behind_it() {
    let group = Group::new();
    let site = site(&group, "gw-a");
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let mut keys = [make_key(&gateway), make_key(&gateway), make_key(&gateway)];
    keys.sort();
    let [_, broken, last] = &keys;
    let huge = "x".repeat(2 * 1024 * 1024);
    for bytes in ["garbage", &huge] {
        group.redis.command::<()>(&["HSET", "{durward}:c", broken, bytes]);
        for list in [&["keys", "list"][..], &["keys", "list", "--tenant", "acme"]] {
            let answer = gateway.run(list);
            assert!(
                answer.code == 1 && answer.stderr.contains(&format!("the record {broken} cannot be listed")),
                "{answer:?}"
            );
            let behind = gateway.json(&[list, &["--after", broken]].concat());
            assert_eq!(behind["keys"].as_array().unwrap().len(), 1, "{behind}");
            assert_eq!(behind["keys"][0]["id"], **last);
        }
        let shown = gateway.run(&["keys", "show", broken]);
        assert!(shown.code == 1 && !shown.stderr.contains("xxx"), "{}", shown.code);
    }
    assert!(!said(&gateway, "a connection to Redis was lost"));
}

#[test]
fn a_forged_event_is_no_store_that_went_back_and_none_that_stops_the_reader() {
    let group = Group::new();
    let site = site(&group, "gw-a");
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let begun = || {
        String::from_utf8_lossy(&gateway.output())
            .matches("earlier facts are forgotten")
            .count()
    };
    let huge = "7".repeat(2 * 1024 * 1024);
    for (field, count) in [("p", "7"), ("p", "none"), ("q", "1"), ("p", &huge)] {
        let before = begun();
        group
            .redis
            .command::<()>(&["XADD", "{durward}:events", "*", field, count, "e", "x"]);
        until("the reader to begin anew", PATIENCE, || (begun() > before).then_some(()));
    }
    let key = make_key(&gateway);
    let revoked = gateway.run(&["keys", "revoke", &key, "--wait"]);
    assert_eq!(revoked.code, 0, "{revoked:?}");
    assert!(!said(&gateway, "store_went_back"), "nothing went back");
}
