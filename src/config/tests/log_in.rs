//! Bounds of log-ins as they are written, and sign-ups that nothing would bound.

use std::time::Duration;

use super::cases::served::SERVED;
use super::*;
use crate::snapshot::{HashingLimits, LogInSettings};

const SIGN_UP: &str = "[[routes]]\npath = \"/sign-up\"\nmethods = [\"POST\"]\naccess = \"public\"\nserve = \"mint\"\ntenant = \"new\"\n\
     body = { email = { type = \"email\" }, password = { type = \"secret\" } }\n\
     mint = [{ surface = \"people\", login = \"body.email\", password = \"body.password\" }, { surface = \"web\", parent = \"minted.0\" }]\n\
     answer.body = '{{ credential.token }}'\n";

fn load(before: &str, route: &str) -> Result<Loaded, ConfigErrors> {
    let gateway = format!("{before}{GATEWAY}{SERVED}{route}");
    let mut files = table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", ORDERS)]);
    files.variables.insert("S".into(), "s".repeat(32));
    check(&files)
}

#[test]
fn settings_are_read_and_their_defaults_are_the_documented_ones() {
    let settings = check_with("", "").unwrap().settings;
    let at_once = settings.log_in.hashes.at_once;
    assert!((1..=4).contains(&at_once), "{at_once}");
    let usual = LogInSettings::default();
    let hashes = HashingLimits { at_once, ..usual.hashes };
    assert_eq!(settings.log_in, LogInSettings { hashes, ..usual });
    assert_eq!(settings.sign_up, HashingLimits { at_once: 1, waiting: 24 });

    let written = "[log_in]\nwindow = \"1h\"\ntries_per_account_and_address = 5\ntries_per_address = 6\ntries_per_account = 7\nknown_for = \"2h\"\n\
                   hashes_at_once = 8\nhashes_waiting = 9\n[sign_up]\nhashes_at_once = 2\nhashes_waiting = 3\n";
    let settings = check_with(written, "").unwrap().settings;
    let wanted = LogInSettings {
        window: Duration::from_secs(3_600),
        tries_per_account_and_address: 5,
        tries_per_address: 6,
        tries_per_account: 7,
        known_for: Duration::from_secs(7_200),
        hashes: HashingLimits { at_once: 8, waiting: 9 },
    };
    assert_eq!(settings.log_in, wanted);
    assert_eq!(settings.sign_up, HashingLimits { at_once: 2, waiting: 3 });
    let running = check_with("", "").unwrap().settings;
    let waiting = settings.needing_restart(&running);
    assert!(["log_in", "sign_up"].iter().all(|part| waiting.contains(part)), "{waiting:?}");
}

#[test]
fn limits_that_no_other_comes_before_load() {
    for written in [
        "[log_in]\ntries_per_account_and_address = 50\n",
        "[log_in]\ntries_per_address = 10\n",
        "[log_in]\ntries_per_account = 10\n",
        "[log_in]\ntries_per_account_and_address = 60\ntries_per_account = 60\n",
    ] {
        check_with(written, "").unwrap_or_else(|errors| panic!("{written}: {errors}"));
    }
}

#[test]
fn a_sign_up_without_a_limit_by_address_does_not_load_and_is_told_the_way_out() {
    let limits = |list: &str| format!("limits = [{list}]\n");
    let by_route = limits("{ by = \"route\", rate = \"9/1h\" }");
    let all_routes = "rate_limits = [{ by = \"address\", rate = \"9/1s\" }]\n";
    for (before, limits) in [("", String::new()), ("", by_route), (all_routes, limits(""))] {
        let errors = load(before, &format!("{SIGN_UP}{limits}")).unwrap_err().to_string();
        for part in [
            "anybody may make tenants here, and nothing limits how many",
            "/c/gateway.toml:",
            "tenant = \"new\"",
            "^^^^^",
            "help: add a limit by address to this route, for example `limits = [{ by = \"address\", rate = \"30/1h\" }]`",
        ] {
            assert!(errors.contains(part), "{part}: {errors}");
        }
        assert_eq!(errors.matches("help: ").count(), 1, "{errors}");
    }
}

#[test]
fn a_sign_up_with_a_limit_by_address_loads_whether_it_is_its_own_or_that_of_all_routes() {
    let own = format!("{SIGN_UP}limits = [{{ by = \"address\", rate = \"9/1h\" }}]\n");
    let all_routes = "rate_limits = [{ by = \"address\", rate = \"9/1s\" }]\n";
    for (before, route) in [("", own.as_str()), (all_routes, SIGN_UP)] {
        load(before, route).unwrap_or_else(|errors| panic!("{errors}"));
    }
    let log_in = "[[routes]]\npath = \"/log-in\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"people\"] }\nserve = \"mint\"\n\
                  mint = [{ surface = \"web\", parent = \"caller\" }]\nanswer.body = '{{ credential.token }}'\n";
    load("", log_in).unwrap_or_else(|errors| panic!("what makes no tenant needs none: {errors}"));
}
