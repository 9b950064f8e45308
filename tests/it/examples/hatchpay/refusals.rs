//! Every row of hatchpay's errors, and every credential on every route.

use serde_json::{Value, json};

use crate::support::wait::{PATIENCE, until};

use super::super::matrix::{Holder, try_all};
use super::{ALL, CI, DOCUMENTED, House, KEYS, TX, call, claims, expect, expect_unauthorized, refusal};

#[test]
fn every_refusal_is_as_documented() {
    let house = House::open();
    let none = call(&house.gateway, "GET", TX, &[], "");
    let missing = refusal("unauthorized", "An API key or a token is required.");
    expect(&none, 401, &[("www-authenticate", "Bearer realm=\"api\"")], &missing);
    let (id, key) = house.new_key();
    let mut broken = key.clone();
    broken.pop();
    broken.push(if key.ends_with('x') { 'y' } else { 'x' });
    for wrong in ["hp_", "nonsense", broken.as_str(), &key[..20]] {
        expect_unauthorized(&house.by_key("GET", TX, wrong, ""));
    }
    let switched = |word: &str| {
        house.gateway.json(&["keys", word, &id]);
        until(word, PATIENCE, || (house.by_key("GET", TX, &key, "").status == 401).then_some(()));
        expect_unauthorized(&house.by_key("GET", TX, &key, ""));
    };
    switched("disable");
    switched("revoke");
    let token = house.signers[0].token(&claims("acme", &ALL));
    let both = [("X-API-Key", house.admin.as_str()), ("Authorization", &format!("Bearer {token}"))];
    let two = call(&house.gateway, "GET", TX, &both, "");
    let challenge = ("www-authenticate", "Bearer realm=\"api\", error=\"invalid_request\"");
    let body = refusal("ambiguous_credentials", "More than one credential was presented.");
    expect(&two, 400, &[challenge], &body);
    let nothing = house.by_key("GET", "/v1/elsewhere", &house.admin, "");
    expect(&nothing, 404, &[], &refusal("not_found", "There is nothing here."));
    let method = house.by_key("DELETE", KEYS, &house.admin, "");
    let body = refusal("method_not_allowed", "The method is not allowed here.");
    expect(&method, 405, &[("allow", "POST")], &body);
}

#[test]
fn bad_bodies_are_told_field_by_field_and_make_nothing() {
    let house = House::open();
    let count = || {
        house
            .gateway
            .json(&["keys", "list", "--tenant", "acme"])
            .to_string()
            .matches("\"id\"")
            .count()
    };
    let before = count();
    let wrong = |body: &str, details: Value| {
        let shape =
            json!({ "error": { "code": "validation_error", "message": "Some fields are missing or not valid.", "details": details } });
        expect(&house.by_key("POST", KEYS, &house.admin, body), 422, &[], &shape);
    };
    let required = json!({ "name": ["The name field is required."] });
    for body in ["", "{}", r#"{"name":null}"#, r#"{"name":""}"#] {
        wrong(body, required.clone());
    }
    wrong(r#"{"name":7}"#, json!({ "name": ["The name field must be a string."] }));
    let long = format!(r#"{{"name":"{}","description":"{}"}}"#, "n".repeat(101), "d".repeat(256));
    let details = json!({
        "name": ["The name field must not be greater than 100 characters."],
        "description": ["The description field must not be greater than 255 characters."],
    });
    wrong(&long, details);
    wrong(
        r#"{"name":"ci","roles":["admin"],"scopes":["x"]}"#,
        json!({ "roles": ["The roles field is not known."], "scopes": ["The scopes field is not known."] }),
    );
    let plain = [("X-API-Key", house.admin.as_str()), ("Content-Type", "text/plain")];
    let kind = call(&house.gateway, "POST", KEYS, &plain, CI);
    let body = refusal("unsupported_media_type", "The request body must be application/json.");
    expect(&kind, 415, &[], &body);
    for broken in ["{", "[]", r#"{"name":"a","name":"b"}"#] {
        let broken = house.by_key("POST", KEYS, &house.admin, broken);
        expect(&broken, 400, &[], &refusal("invalid_body", "The request body is not valid JSON."));
    }
    let large = house.by_key("POST", KEYS, &house.admin, &" ".repeat(16 * 1024 + 1));
    assert_eq!(
        (large.status, large.json()),
        (413, refusal("body_too_large", "The request body is too large."))
    );
    assert_eq!(count(), before, "nothing was made");
    assert_eq!(
        house.by_key("POST", KEYS, &house.admin, r#"{"name":"ci"}"#).status,
        201,
        "its description may be missing"
    );
    assert_eq!(count(), before + 1);
}

#[test]
fn only_the_documented_pairs_of_credential_and_route_are_admitted() {
    let house = House::open();
    let key = |name: &'static str, role: Option<&str>, scopes: &'static [&'static str]| {
        let args: Vec<&str> = role.map_or_else(Vec::new, |role| vec!["--role", role]);
        let key = house.gateway.create_key("key", "acme", &args)["key"].as_str().unwrap().to_owned();
        Holder {
            name,
            surface: "key",
            scopes,
            shown: (0, key),
        }
    };
    let mut holders = vec![
        key("a key without a role", None, &[]),
        key("a viewer's key", Some("viewer"), &["roles:read", "transactions:read"]),
        key("an admin's key", Some("admin"), &ALL),
    ];
    for signer in &house.signers[..3] {
        for scopes in [
            &[][..],
            &["api_keys:write"],
            &["audit:read"],
            &["roles:read"],
            &["transactions:read"],
            &["transactions:write"],
        ] {
            let token = signer.token(&claims("acme", scopes));
            holders.push(Holder {
                name: signer.algorithm,
                surface: "jwt",
                scopes,
                shown: (1, token),
            });
        }
    }
    let tally = try_all(
        &house.gateway,
        &house.site,
        &DOCUMENTED,
        &[("X-API-Key", ""), ("Authorization", "Bearer ")],
        &holders,
    );
    // Eighteen calls with HEAD; a viewer has ten of them, an admin all, and of each issuer's tokens
    // that hold one permission each call has exactly one.
    assert_eq!(tally.admitted, 10 + 18 + 3 * 18, "{tally:?}");
    assert_eq!(tally.admitted + tally.refused, 18 * (1 + 21 * 2));
}
