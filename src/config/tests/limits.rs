//! Rate limits as they are written: what each route gets, and which mistakes are found.

use std::time::Duration;

use super::*;
use crate::decide::rate::{CountedIn, LimitBy, Rate, WhenUnavailable};

const PUBLIC: &str = "[[routes]]\npath = \"/open\"\naccess = \"public\"\n";

fn rate(count: u32, seconds: u64) -> Rate {
    Rate::new(count, Duration::from_secs(seconds)).unwrap()
}

#[test]
fn a_route_has_its_own_limits_or_those_of_all_routes() {
    let gateway = "rate_limits = [{ by = \"tenant\", rate = \"1000/1h\" }, { by = \"address\", rate = \"5/1s\" }]\n";
    let own = format!(
        "{PUBLIC}[[routes]]\npath = \"/free\"\naccess = \"public\"\nlimits = []\n\
         [[routes]]\npath = \"/own\"\naccess = \"public\"\nlimits = [{{ by = \"route\", rate = \"120/1m\" }}]\n"
    );
    let loaded = check_with(gateway, &own).unwrap();
    let limits = |n: usize| {
        let limits = loaded.snapshot.routes[n].limits.iter();
        limits.map(|l| (l.by, l.rate)).collect::<Vec<_>>()
    };
    assert_eq!(limits(0), [(LimitBy::Address, rate(5, 1)), (LimitBy::Tenant, rate(1_000, 3_600))]);
    assert_eq!(
        limits(1),
        [(LimitBy::Address, rate(5, 1))],
        "nobody's tenant is known on a public route"
    );
    assert_eq!(limits(2), []);
    assert_eq!(limits(3), [(LimitBy::Route, rate(120, 60))]);
    assert!(check_with("", "").unwrap().snapshot.routes[0].limits.is_empty());
}

#[test]
fn a_shared_limit_says_what_holds_without_the_store() {
    let upstream = "limits = [{ by = \"address\", rate = \"1/1s\", shared = true }, \
                    { by = \"address\", rate = \"2/1s\", shared = true, when_unavailable = \"refuse\" }, { by = \"address\", rate = \"3/1s\" }]\n";
    let loaded = check_with("", upstream).unwrap();
    let counted = |n: usize| loaded.snapshot.routes[0].limits.iter().nth(n).unwrap().counted;
    assert_eq!(counted(0), CountedIn::Together(WhenUnavailable::CountHere));
    assert_eq!(counted(1), CountedIn::Together(WhenUnavailable::Refuse));
    assert_eq!(counted(2), CountedIn::Here);
    let warnings = loaded
        .warnings
        .iter()
        .filter(|d| d.problem.message.contains("embedded store belongs to one gateway"));
    assert_eq!(warnings.count(), 2);
}

#[test]
fn each_mistake_in_a_limit_is_found() {
    for (limit, message) in [
        ("{ by = \"address\" }", "`rate` is missing"),
        ("{ rate = \"1/1s\" }", "`by` is missing"),
        ("{ by = \"ip\", rate = \"1/1s\" }", "`by` cannot be `ip`"),
        ("{ by = \"address\", rate = \"120\" }", "is not a rate"),
        ("{ by = \"address\", rate = \"0/1m\" }", "is not a rate"),
        ("{ by = \"address\", rate = \"+1/1m\" }", "is not a rate"),
        ("{ by = \"address\", rate = \"99999999999/1m\" }", "is not a rate"),
        ("{ by = \"address\", rate = \"1/500ms\" }", "is not a rate"),
        ("{ by = \"address\", rate = \"1/2d\" }", "is not a rate"),
        (
            "{ by = \"address\", rate = \"1/1s\", when_unavailable = \"refuse\" }",
            "is about shared limits",
        ),
    ] {
        let errors = check_with("", &format!("limits = [{limit}]\n")).unwrap_err().to_string();
        assert!(errors.contains(message), "{limit}: {errors}");
    }
    let public = format!("{PUBLIC}limits = [{{ by = \"tenant\", rate = \"1/1s\" }}]\n");
    assert!(
        check_with("", &public)
            .unwrap_err()
            .to_string()
            .contains("nobody is known on a public route")
    );
    let many = ["{ by = \"route\", rate = \"1/1s\" }"; 9].join(",");
    assert!(
        check_with("", &format!("limits = [{many}]\n"))
            .unwrap_err()
            .to_string()
            .contains("at most 8")
    );
}
