//! Spellings of paths, and what routes take of them.

use super::*;

const ROUTES: &str = r#"
name = "main"
endpoints = ["http://{address}"]

[[routes]]
path = "/strict/**"
access = "public"

[[routes]]
path = "/open/**"
access = "public"
encoded_backslashes = true
raw_characters = true
path_parameters = true

[[routes]]
path = "/cars"
access = "public"
path_parameters = true

[[routes]]
path = "/cars/{id}"
access = "public"
path_parameters = true

[[routes]]
path = "/cars/plans"
access = { surfaces = ["api"], scopes = ["orders:read"] }
path_parameters = true

[[routes]]
path = "/api/cars/**"
access = "public"
path_parameters = true
strip_prefix = "/api"
"#;

#[test]
fn a_path_arrives_as_it_was_matched_and_unusual_spellings_only_where_a_route_takes_them() {
    let house = House::open(Upstream::echoing(), ROUTES, "");
    for (target, arrives) in [
        ("/strict/Bericht%E2%80%A6.pdf", "/strict/Bericht%E2%80%A6.pdf"),
        ("/strict/50%2520off", "/strict/50%2520off"),
        ("/strict/100%EF%BC%85", "/strict/100%EF%BC%85"),
        ("/open/CORP%5Cjdoe", "/open/CORP%5Cjdoe"),
        ("/open/[a]|b", "/open/%5Ba%5D%7Cb"),
        ("/open/stra\u{df}e?q=\u{e4}", "/open/stra%C3%9Fe?q=\u{e4}"),
        ("/open/a;v=1/b;w", "/open/a;v=1/b;w"),
        ("/cars;v=1", "/cars;v=1"),
        ("/cars/7;v=1", "/cars/7;v=1"),
        ("/api/cars;v=1/7", "/cars;v=1/7"),
    ] {
        let (answer, targets) = house.reaches(target, &[]);
        assert_eq!((answer.status, targets), (200, vec![arrives.to_owned()]), "{target}");
    }
    for target in [
        "/strict/CORP%5Cjdoe",
        "/strict/[a]",
        "/strict/stra\u{df}e",
        "/strict/a?q=\u{e4}",
        "/strict/a;v=1",
        "/strict/a%252fb",
        "/strict/a%252eb",
        "/strict/a%255cb",
        "/strict/a%2500",
        "/strict/%c0%ae",
        "/strict/%ff",
        "/open/..;/x",
        "/open/.;v=1/x",
        "/open/..%5Cx",
        "/open/a\\b",
        "/open/a;x=%2f",
        "/open/\u{ff0e}\u{ff0e}/x",
        "/open/a%2Fb",
        // Without its parameter this path is on a route that needs a key; with it, it is on a public one.
        "/cars/plans;v=1",
        // The prefix `/api` that the route takes off is not a segment of this path.
        "/api;v=1/cars/7",
    ] {
        let (answer, targets) = house.reaches(target, &[]);
        assert_eq!(
            (refusal(&answer), targets),
            ((400, "malformed_target".to_owned()), vec![]),
            "{target}"
        );
    }
}

#[test]
fn a_served_route_has_no_use_for_path_parameters() {
    let routes = format!(
        "{ROUTES}\n[[routes]]\npath = \"/scopes\"\nmethods = [\"GET\"]\naccess = {{ surfaces = [\"api\"] }}\nserve = \"list_scopes\"\npath_parameters = true\n"
    );
    assert!(check(&routes, "").contains("`path_parameters` does not belong to a route with `serve`"));
}
