//! hatchpay: paths without a version, the sample role and descriptions as its document writes them; and long lists.

use serde_json::{Value, json};

use super::super::{call, text};
use super::{House, KEYS, TX, expect_forbidden, made};

#[test]
fn the_document_s_spellings_and_its_sample_role_work_as_they_stand() {
    let house = House::open();
    for path in ["/roles", "/permissions"] {
        let versioned = house.by_key("GET", &format!("/v1{path}"), &house.admin, "");
        let bare = house.by_key("GET", path, &house.admin, "");
        assert_eq!((bare.status, bare.json()), (200, versioned.json()), "{path}");
        assert_eq!(call(&house.gateway, "GET", path, &[], "").status, 401, "{path}");
        expect_forbidden(&house.by_key("GET", path, &house.new_key().1, ""), "roles:read");
    }
    let (id, key) = house.new_key();
    let sample = r#"{
        "role_ids": [
            "ea13f326-8166-4687-9dec-16f76f183ced"
        ]
    }"#;
    assert_eq!(house.by_key("PUT", &format!("{KEYS}/{id}/roles"), &house.admin, sample).status, 200);
    assert_eq!(house.by_key("GET", TX, &key, "").status, 200);
    expect_forbidden(&house.by_key("POST", TX, &key, ""), "transactions:write");
}

#[test]
fn a_description_is_kept_and_told_to_operators() {
    let house = House::open();
    let (id, _) = house.new_key();
    let shown = house.gateway.json(&["keys", "show", &id]);
    assert_eq!((&shown["name"], &shown["description"]), (&json!("ci"), &json!("builds")));
    let rotated = house.gateway.json(&["keys", "rotate", &id]);
    assert_eq!(rotated["description"], json!("builds"));
    let made = house.gateway.create_key("key", "acme", &["--description", "für „alle“"]);
    let all = house.gateway.json(&["keys", "list", "--tenant", "acme"]);
    let told = |id: &Value| all["keys"].as_array().unwrap().iter().find(|key| key["id"] == *id).unwrap()["description"].clone();
    assert_eq!((told(&made["id"]), told(&json!(id))), (json!("für „alle“"), json!("builds")));
    let long = format!(r#"{{"name":"ci","description":"{}"}}"#, "x".repeat(256));
    assert_eq!(house.by_key("POST", KEYS, &house.admin, &long).status, 422);
}

#[test]
fn long_lists_of_roles_and_permissions_say_what_follows() {
    let house = House::open();
    for path in ["/roles", "/permissions"] {
        let all = house.by_key("GET", path, &house.admin, "").json();
        assert!(all.get("next").is_none(), "{all}");
        let first = house.by_key("GET", &format!("{path}?limit=1"), &house.admin, "");
        let next = text(&first, "next");
        assert_eq!(
            (&first.json()["data"][0], json!(next)),
            (&all["data"][0], all["data"][0]["id"].clone())
        );
        let link = first.field("link").unwrap().to_owned();
        let target = link.strip_prefix('<').unwrap().split('>').next().unwrap();
        let second = house.by_key("GET", &format!("{path}{target}"), &house.admin, "").json();
        assert_eq!(second["data"][0], all["data"][1]);
        let bad = house.by_key("GET", &format!("{path}?limit=0&page=2"), &house.admin, "");
        assert_eq!((bad.status, &bad.json()["error"]["code"]), (422, &json!("validation_error")));
        let details = &bad.json()["error"]["details"];
        assert!(details["page"].is_array() && details["limit"].is_array(), "{details}");
    }
}

#[test]
fn permissions_that_only_a_tenants_own_role_holds_are_listed_to_that_tenant() {
    let house = House::open();
    house.create_role("acme", "clerk", &["invoices:approve"]);
    let known = |key: &str| {
        house
            .by_key("GET", "/permissions", key, "")
            .json()
            .to_string()
            .contains("invoices:approve")
    };
    assert!(known(&house.admin));
    assert!(!known(&made(&house.gateway, "globex", "admin")), "another tenant's role");
}
