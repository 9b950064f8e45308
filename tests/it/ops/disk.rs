//! A disk that takes no writes under the real binary: what is served, what is said, and that it comes back by itself.

use crate::support::gateway::{Gateway, run};
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::{make_key, probe, status};

fn log(gateway: &Gateway, what: &str) -> usize {
    String::from_utf8_lossy(&gateway.output()).matches(what).count()
}

/// The usual gateway with the tenant acme.
fn start() -> (Upstream, Site, Gateway) {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    (upstream, site, gateway)
}

#[test]
fn a_store_that_cannot_be_written_says_so_serves_whom_it_knows_and_comes_back_by_itself() {
    let (_upstream, _site, gateway) = start();
    let (id, key) = make_key(&gateway);
    let (_, fresh) = make_key(&gateway);
    assert_eq!(status(&gateway, &key), 200);
    assert_eq!(probe(&gateway, "/readyz").0, 200);

    gateway.limit_files(Some(4096));
    let refused = gateway.run(&["keys", "revoke", &id]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(
        refused.stderr.contains("nothing was changed") && refused.stderr.contains("LimitFSIZE"),
        "{refused:?}"
    );
    assert!(
        !refused.stderr.contains("repeat") && !refused.stderr.contains("re-open"),
        "{refused:?}"
    );
    let (ready, said) = probe(&gateway, "/readyz");
    assert_eq!(ready, 503, "{said}");
    assert!(said.contains("takes no changes") && said.contains("File too large"), "{said}");
    let metrics = probe(&gateway, "/metrics").1;
    for line in ["durward_store_up 0", "durward_store_writable 0"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(!metrics.contains("durward_store_write_failures_total 0"), "{metrics}");
    // A key in memory, a key that is looked up, and an id that does not exist.
    assert_eq!(status(&gateway, &key), 200);
    assert_eq!(status(&gateway, &fresh), 200);
    assert_eq!(gateway.run(&["keys", "show", "key_nobody"]).code, 3);
    assert_eq!(
        gateway
            .run(&["keys", "create", "--surface", "api", "--tenant", "acme", "--mode", "live"])
            .code,
        4
    );
    until("the alarm in the log", PATIENCE, || {
        (log(&gateway, "store_takes_no_changes") == 1).then_some(())
    });

    gateway.limit_files(None);
    until("the store to come back by itself", PATIENCE, || {
        (probe(&gateway, "/readyz").0 == 200).then_some(())
    });
    until("its end in the log", PATIENCE, || {
        (log(&gateway, "takes changes again") == 1).then_some(())
    });
    assert_eq!(log(&gateway, "store_takes_no_changes"), 1, "once, however many were refused");
    assert_eq!(gateway.run(&["keys", "revoke", &id]).code, 0);
    assert_eq!(status(&gateway, &key), 401);
    let metrics = probe(&gateway, "/metrics").1;
    for line in ["durward_store_up 1", "durward_store_writable 1"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    gateway.create_key("api", "acme", &["--mode", "live"]);
}

/// A site whose gateway ends at once when it is told to.
fn brief_site(upstream: &Upstream) -> Site {
    let plan = Plan {
        tables: "[limits]\ndrain_delay = \"0s\"\n".into(),
        ..Plan::usual()
    };
    Site::of(&plan, upstream.address)
}

/// Serves until it answers, then ends the process in order.
fn serve_once(site: &Site) {
    end(Gateway::start(site));
}

fn end(mut gateway: Gateway) {
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.wait_exit(PATIENCE).success());
}

#[test]
fn a_store_that_vanished_is_not_replaced_by_an_empty_one_unless_it_is_asked_for() {
    let upstream = Upstream::echoing();
    let site = brief_site(&upstream);
    serve_once(&site);
    let (store, copy) = (site.folder().join("state/durward.redb"), site.folder().join("copy"));
    assert!(
        !site.folder().join("state/durward.redb.new").exists(),
        "the permission of the first start is used up"
    );
    serve_once(&site);
    let refused = run(&site.config(), &["new-store"], b"");
    assert_eq!(refused.code, 1, "{refused:?}");
    std::fs::rename(&store, &copy).unwrap();
    for empty in [false, true] {
        if empty {
            std::fs::write(&store, "").unwrap();
        }
        let refused = run(&site.config(), &["serve"], b"");
        assert_eq!(refused.code, 1, "{refused:?}");
        let said = if empty {
            "durward.redb is empty"
        } else {
            "durward.redb is not there"
        };
        assert!(
            refused.stderr.contains(said) && refused.stderr.contains("durward new-store"),
            "{refused:?}"
        );
        assert_eq!(
            std::fs::read(&store).map(|bytes| bytes.len()).ok(),
            empty.then_some(0),
            "it is left as it was"
        );
        assert!(!run(&site.config(), &["check"], b"").stderr.contains("mistake"));
    }
    // A copy that is brought back serves ...
    std::fs::rename(&copy, &store).unwrap();
    serve_once(&site);
    // ... one that is cut off does not, and is left alone ...
    let whole = std::fs::read(&store).unwrap();
    for length in [1, 100, 5_000, whole.len() / 2] {
        std::fs::write(&store, &whole[..length]).unwrap();
        let refused = run(&site.config(), &["serve"], b"");
        assert_eq!(refused.code, 1, "{length}: {refused:?}");
        assert!(refused.stderr.contains("bring back a copy"), "{length}: {refused:?}");
        assert_eq!(std::fs::metadata(&store).unwrap().len(), u64::try_from(length).unwrap());
    }
    // ... and an empty one is begun on purpose.
    std::fs::remove_file(&store).unwrap();
    assert_eq!(run(&site.config(), &["new-store"], b"").code, 0);
    serve_once(&site);
    std::fs::remove_file(&store).unwrap();
    assert_eq!(run(&site.config(), &["serve"], b"").code, 1, "once");
}

#[test]
fn beside_a_pepper_from_elsewhere_an_empty_store_calls_nobody_unknown_until_a_tenant_is_made() {
    let upstream = Upstream::echoing();
    let elsewhere = tempfile::tempdir().unwrap();
    let pepper = elsewhere.path().join("pepper");
    std::fs::write(&pepper, "0123456789abcdef0123456789abcdef0123456789abcdef").unwrap();
    let mut plan = Plan::usual();
    plan.tables = "[limits]\ndrain_delay = \"0s\"\n".into();
    plan.store_lines = format!("pepper = \"file:{}\"\nmax_age = \"1s\"\nabsent_age = \"1s\"\n", pepper.display());
    let site = Site::of(&plan, upstream.address);
    let (store, mark) = (
        site.folder().join("state/durward.redb"),
        site.folder().join("state/durward.redb.unconfirmed"),
    );
    let unknown = "hlive_nobody-has-this";
    let made = |gateway: &Gateway| {
        gateway.json(&["tenants", "create", "acme"]);
        make_key(gateway).1
    };
    let gateway = Gateway::start(&site);
    let key = made(&gateway);
    assert_eq!((status(&gateway, &key), status(&gateway, unknown)), (200, 401), "the first start");
    end(gateway);
    assert!(!mark.exists());
    let gateway = Gateway::start(&site);
    assert_eq!(status(&gateway, &key), 200, "a usual start");
    end(gateway);

    std::fs::remove_file(&store).unwrap();
    for start in ["the first without it", "the next"] {
        let gateway = Gateway::start(&site);
        assert_eq!(status(&gateway, &key), 503, "{start}");
        assert!(log(&gateway, "store_unconfirmed") == 1 && mark.exists(), "{start}");
        end(gateway);
    }
    let gateway = Gateway::start(&site);
    let other = made(&gateway);
    assert_eq!((status(&gateway, &other), status(&gateway, &key)), (200, 401), "begun on purpose");
    assert!(!mark.exists());
}

#[test]
fn a_first_start_that_was_cut_short_at_any_point_goes_on() {
    let upstream = Upstream::echoing();
    for left in ["", "half a store", "a half store"] {
        let site = brief_site(&upstream);
        let state = site.folder().join("state");
        std::fs::create_dir(&state).unwrap();
        std::fs::write(state.join("durward.redb.new"), "").unwrap();
        std::fs::write(state.join("pepper"), "0123456789abcdef0123456789abcdef0123456789abcdef").unwrap();
        match left {
            "half a store" => std::fs::write(state.join("durward.redb"), [0; 8192]).unwrap(),
            "a half store" => std::fs::write(state.join("durward.redb"), "").unwrap(),
            _ => {}
        }
        serve_once(&site);
        assert!(!state.join("durward.redb.new").exists(), "{left}");
    }
}

#[test]
fn a_store_that_is_taken_away_under_a_running_gateway_acknowledges_nothing_until_it_is_back() {
    let (_upstream, site, gateway) = start();
    let (id, key) = make_key(&gateway);
    let (store, elsewhere) = (site.folder().join("state/durward.redb"), site.folder().join("elsewhere"));
    std::fs::rename(&store, &elsewhere).unwrap();
    for replaced in [false, true] {
        if replaced {
            std::fs::copy(&elsewhere, &store).unwrap();
        }
        let refused = gateway.run(&["keys", "revoke", &id]);
        assert_eq!(refused.code, 4, "{refused:?}");
        assert!(
            refused.stderr.contains("nothing was changed") && refused.stderr.contains("removed or replaced"),
            "{refused:?}"
        );
        assert_eq!(status(&gateway, &key), 200);
        assert_eq!(probe(&gateway, "/readyz").0, 503);
    }
    std::fs::rename(&elsewhere, &store).unwrap();
    until("the store to be well again", PATIENCE, || {
        (probe(&gateway, "/readyz").0 == 200).then_some(())
    });
    assert_eq!(gateway.run(&["keys", "revoke", &id]).code, 0);
    assert_eq!(status(&gateway, &key), 401);
}

#[test]
fn a_log_that_cannot_be_written_holds_nobody_up_and_is_counted() {
    let upstream = Upstream::echoing();
    let site = Site::usual(upstream.address);
    // Each write to this device fails for want of space.
    let gateway = Gateway::start_writing_to(&site, std::path::Path::new("/dev/full"));
    gateway.json(&["tenants", "create", "acme"]);
    let (_, key) = make_key(&gateway);
    for _ in 0..100 {
        assert_eq!(status(&gateway, &key), 200);
    }
    until("lost lines to be counted", PATIENCE, || {
        let metrics = probe(&gateway, "/metrics").1;
        (!metrics.contains("durward_access_lines_dropped_total 0")).then_some(())
    });
}
