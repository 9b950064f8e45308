//! The shipped example geldstuck: a tenant's people sign on at its provider and have the same session as by a log-in.

use durward::sign_on::saml::sample::SampleProvider;
use serde_json::{Value, json};

use crate::support::gateway::run;
use crate::support::wait::{PATIENCE, until};

use super::fake::{CLIENT, SECRET};
use super::saml_routes::{SSO, now, post_to, response_at, sent};
use super::site::{House, PUBLIC};

#[test]
fn geldstuck_s_people_sign_on_by_oidc_and_have_the_session_of_a_log_in() {
    let house = House::geldstuck();
    let mut browser = house.browser();
    let asked = browser.start("/v1/auth/sso/acme?return_to=https%3A%2F%2Fapp.example.com%2Forders");
    assert_eq!(asked.get("redirect_uri"), "https://api.example.com/v1/auth/sso/callback");
    let back = browser.agree(&asked, &json!({ "sid": "sid-1" }));
    let answer = browser.get(&back);
    assert_eq!(
        (answer.status, answer.field("location")),
        (303, Some("https://app.example.com/orders"))
    );
    assert_eq!(browser.cookies.keys().collect::<Vec<_>>(), ["geldstuck_session"]);
    house.upstream.forget();
    assert_eq!(browser.get_json("/v1/dashboard/overview").status, 200);
    let seen = &house.upstream.requests()[0];
    assert_eq!(
        (seen.all("x-tenant-id"), seen.all("x-auth-surface")),
        (vec!["acme"], vec!["session"])
    );
    let token = browser.cookies["geldstuck_session"].clone();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let mut app = house.browser();
    assert_eq!(
        app.send("GET", "/v1/dashboard/overview", "*/*", &bearer, "").status,
        200,
        "a JWT too"
    );

    // The people of a domain need to know their address only.
    let asked = house.browser().start("/v1/auth/sso?email=ann%40acme.example");
    assert_eq!(asked.get("login_hint"), "ann@acme.example");

    let token = house.fake.logout_token("a", &json!({ "sid": "sid-1" }));
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let body = format!("logout_token={token}");
    let ended = house.browser().send("POST", "/v1/auth/sso/acme/back-channel", "*/*", form, &body);
    assert_eq!(ended.status, 200);
    assert_eq!(browser.get_json("/v1/dashboard/overview").status, 401);
}

#[test]
fn geldstuck_s_people_with_a_password_link_their_account_and_sign_on_to_it() {
    let house = House::geldstuck();
    let create = ["accounts", "create", "--tenant", "acme", "--email", "ann@acme.example", "--json"];
    let made = run(&house.sites[0].config(), &create, b"correct horse battery staple").json();
    let account = made["id"].as_str().unwrap();
    let mut browser = house.browser();
    let json = "Content-Type: application/json\r\n";
    let body = r#"{"email":"ann@acme.example","password":"correct horse battery staple"}"#;
    let answer = browser.send("POST", "/v1/auth/login", "application/json", json, body);
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    // The page has the token of its log-in, and goes where a script was told.
    let told = answer.json();
    let bearer = format!("Authorization: Bearer {}\r\n{json}", told["token"].as_str().unwrap());
    browser.cookies.clear();
    let begun = browser.send("POST", "/v1/auth/sso/link", "application/json", &bearer, "{}");
    assert_eq!(begun.status, 200, "{}", String::from_utf8_lossy(&begun.body));
    let asked = house.asked(begun.json()["location"].as_str().unwrap());
    let back = browser.agree(&asked, &json!({}));
    assert_eq!(browser.get(&back).status, 303);
    assert!(browser.cookies.is_empty(), "a link makes no session");

    let mut signed = house.browser();
    let asked = signed.start("/v1/auth/sso/acme");
    let back = signed.agree(&asked, &json!({}));
    let answer = signed.get(&back);
    let entry = house.entry(&answer);
    let done = entry["done"].as_str().unwrap();
    assert!(done.starts_with(&format!("sso_finish account:{account} account:lnk_")), "{entry}");
    assert_eq!(signed.get_json("/v1/dashboard/overview").status, 200);
    let undo = format!(r#"{{"provider":"{}"}}"#, house.provider);
    let undone = browser.send("POST", "/v1/auth/sso/unlink", "application/json", &bearer, &undo);
    assert_eq!(undone.status, 200, "{}", String::from_utf8_lossy(&undone.body));
    assert_eq!(signed.get_json("/v1/dashboard/overview").status, 401);
}

#[test]
fn geldstuck_s_people_sign_on_by_saml_and_choose_among_two_providers() {
    let house = House::geldstuck();
    let idp = SampleProvider::new(now());
    let saml = house.create_saml("acme", &idp.certificate(), &["--sso-url", SSO, "--name", "Acme ADFS"]);
    let mut browser = house.browser();
    let page = crate::support::wait::until("both providers", crate::support::wait::PATIENCE, || {
        let page = browser.get("/v1/auth/sso/acme");
        (page.status == 200).then_some(page)
    });
    let body = String::from_utf8(page.body).unwrap();
    assert!(body.contains("Acme ADFS") && body.contains(&format!("?provider={saml}")), "{body}");
    browser.cookies.clear();
    let begun = browser.get(&format!("/v1/auth/sso/acme?provider={saml}"));
    let below = format!("{PUBLIC}/v1/auth/saml/acme");
    let request = sent(begun.field("location").unwrap(), &format!("{below}/acs"));
    let xml = response_at(&below, Some(&request), "_assertion-1", "_session-1").with_signed_assertion(&idp);
    let answer = post_to(&mut browser, "/v1/auth/saml/acme/acs", &xml, &request.relay_state);
    assert_eq!(answer.status, 303, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.field("location"), Some("https://app.example.com/"));
    assert_eq!(browser.get_json("/v1/dashboard/overview").status, 200);
    let metadata = String::from_utf8(house.browser().get("/v1/auth/saml/acme/metadata").body).unwrap();
    assert!(metadata.contains(&format!("Location=\"{below}/log-out\"")), "{metadata}");
    assert_eq!(house.browser().get("/v1/auth/saml/acme/log-out").status, 400);
}

#[test]
fn geldstuck_keeps_no_password_of_people_who_sign_on() {
    let house = House::geldstuck();
    let mut browser = house.browser();
    let asked = browser.start("/v1/auth/sso/acme");
    let back = browser.agree(&asked, &json!({}));
    assert_eq!(browser.get(&back).status, 303);
    let accounts = house.gateways[0].json(&["accounts", "list", "--tenant", "acme"]);
    assert!(accounts.to_string().contains("ann@acme.example"), "{accounts}");
    for password in ["", "ann", "password-of-ann-0123456789"] {
        let body = json!({ "email": "ann@acme.example", "password": password }).to_string();
        let json = "Content-Type: application/json\r\n";
        let refused = house.browser().send("POST", "/v1/auth/login", "application/json", json, &body);
        assert!(matches!(refused.status, 401 | 422), "{}", String::from_utf8_lossy(&refused.body));
    }
}

#[test]
fn geldstuck_s_tenants_manage_their_providers_themselves() {
    const PASSWORD: &str = "password-of-chief-0123456789";
    let house = House::geldstuck();
    let create = ["--json", "accounts", "create", "--tenant", "acme", "--email", "chief@acme.example"];
    let chief = [create.as_slice(), &["--role", "sso_admin"]].concat();
    assert_eq!(run(&house.sites[0].config(), &chief, PASSWORD.as_bytes()).code, 0);
    let plain = [&create[..6], &["ann@acme.example"]].concat();
    assert_eq!(run(&house.sites[0].config(), &plain, PASSWORD.as_bytes()).code, 0);
    let log_in = |email: &str| {
        let body = json!({ "email": email, "password": PASSWORD }).to_string();
        let fields = "Content-Type: application/json\r\n";
        let answer = house.browser().send("POST", "/v1/auth/login", "application/json", fields, &body);
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\n",
            told["token"].as_str().unwrap_or_else(|| panic!("{told}"))
        )
    };
    let (chief, ann) = (log_in("chief@acme.example"), log_in("ann@acme.example"));
    let send = |who: &str, method: &str, target: &str, body: &str| house.browser().send(method, target, "application/json", who, body);
    let told = |answer: crate::support::raw::Response| -> Value {
        serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&answer.body)))
    };
    let new = json!({
        "name": "Acme Okta",
        "settings": { "provision": true, "protocol": { "oidc": { "issuer": house.fake.issuer(), "client_id": CLIENT } } },
        "secrets": { "client_secret": SECRET },
    });
    let refused = send(&ann, "POST", "/v1/sso/providers", &new.to_string());
    assert_eq!(refused.status, 403, "the scope is its own");
    assert!(told(refused)["error"]["type"].is_string(), "in the words of geldstuck");
    let made = send(&chief, "POST", "/v1/sso/providers", &new.to_string());
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
    let id = told(made)["id"].as_str().unwrap().to_owned();
    assert_eq!(
        told(send(&chief, "POST", &format!("/v1/sso/providers/{id}/test"), ""))["passed"],
        true
    );
    let listed = told(send(&chief, "GET", "/v1/sso/providers", ""));
    assert_eq!(listed["providers"].as_array().unwrap().len(), 2, "{listed}");

    let start = format!("/v1/auth/sso/acme?provider={id}");
    let mut person = house.browser();
    until("the provider is known", PATIENCE, || {
        (person.get(&start).status == 303).then_some(())
    });
    person.cookies.clear();
    let asked = person.start(&start);
    let back = person.agree(&asked, &json!({}));
    assert_eq!(person.get(&back).status, 303);
    assert_eq!(person.get_json("/v1/dashboard/overview").status, 200);
    let patch = send(
        &chief,
        "PATCH",
        &format!("/v1/sso/providers/{id}"),
        r#"{"settings":{"provision":false}}"#,
    );
    assert_eq!(patch.status, 200);
    assert_eq!(send(&chief, "POST", &format!("/v1/sso/providers/{id}/disable"), "").status, 200);
    assert_eq!(person.get_json("/v1/dashboard/overview").status, 401);
    assert_eq!(send(&chief, "POST", &format!("/v1/sso/providers/{id}/enable"), "").status, 200);
    assert_eq!(send(&chief, "DELETE", &format!("/v1/sso/providers/{id}"), "").status, 200);
    assert_eq!(
        told(send(&chief, "GET", &format!("/v1/sso/providers/{id}"), ""))["state"],
        "revoked"
    );
}
