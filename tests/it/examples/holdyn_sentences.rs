//! holdyn: single sentences of its document, each with its right answer and its twin.

use serde_json::json;

use crate::support::wait::{PATIENCE, until};

use super::holdyn::{Credentials, INVALID, NONE, SCOPES, at, code, make_credentials, make_key, make_portal, refusal, sign_up, view, with};
use super::holdyn_sessions::claims;
use super::house::{House, text, whole};

#[test]
fn permissions_keep_their_order_in_answers_tokens_and_headers() {
    let house = House::open("holdyn");
    let gateway = house.gateway();
    let session = sign_up(gateway, "ann@acme.example");
    let (_, key) = make_key(gateway, &session, "live", &SCOPES);
    for order in [["view_transaction", "fund_transaction"], ["fund_transaction", "view_transaction"]] {
        let body = json!({"role": "payer", "permissions": order}).to_string();
        let made = with(gateway, "POST", "/transactions/tx_1/access-tokens", &key, &body).json();
        assert_eq!(made["permissions"], json!(order));
        let access = text(&made, "access_token");
        let exchanged = at(gateway, "POST", "/portal/session", &[("X-Access-Token", &access)], "").json();
        assert_eq!(exchanged["permissions"], json!(order));
        let portal = text(&exchanged, "session_token");
        assert_eq!(claims(&portal)["perms"], json!(order));
        house.upstream.forget();
        assert_eq!(view(gateway, &portal).status, 200);
        assert_eq!(house.upstream.requests()[0].all("X-Auth-Permissions"), [order.join(" ")]);
    }
}

#[test]
fn an_access_token_that_has_ended_is_not_told_as_a_session_to_renew() {
    let house = House::open("holdyn");
    let gateway = house.gateway();
    let session = sign_up(gateway, "ann@acme.example");
    let (_, key) = make_key(gateway, &session, "live", &SCOPES);
    let body = r#"{"role":"payer","permissions":["view_transaction"],"expires_in":1}"#;
    let made = with(gateway, "POST", "/transactions/tx_1/access-tokens", &key, body);
    let access = text(&made.json(), "access_token");
    let exchange = |access: &str| at(gateway, "POST", "/portal/session", &[("X-Access-Token", access)], "");
    let portal = make_portal(gateway, &access);
    let invalid = refusal(401, INVALID, "invalid_access_token", "The access token is not valid.");
    let ended = until("the access token to expire", PATIENCE, || {
        let answer = exchange(&access);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(whole(&ended), invalid);
    assert_eq!(whole(&exchange("htpk_live_nothing")), invalid);
    let missing = at(gateway, "POST", "/portal/session", &[], "");
    assert_eq!(
        whole(&missing),
        refusal(401, NONE, "invalid_access_token", "An access token is required.")
    );
    assert_eq!(
        code(&view(gateway, &portal)),
        (401, "expired_portal_session".into()),
        "a session is told to be renewed"
    );
}

#[test]
fn an_inactive_business_has_no_valid_credential_of_any_surface() {
    let house = House::open("holdyn");
    let gateway = house.gateway();
    let Credentials {
        session,
        key,
        access,
        portal,
    } = make_credentials(gateway, "ann@acme.example");
    let log_in = r#"{"email":"ann@acme.example","password":"correct horse battery"}"#;
    let answers = || {
        [
            with(gateway, "GET", "/transactions/tx_1", &key, ""),
            with(gateway, "GET", "/dashboard/x", &session, ""),
            view(gateway, &portal),
            at(gateway, "POST", "/portal/session", &[("X-Access-Token", &access)], ""),
            at(gateway, "POST", "/auth/login", &[], log_in),
        ]
    };
    assert!(answers().iter().all(|answer| answer.status == 200));
    let tenant = text(&gateway.json(&["tenants", "list"])["tenants"][0], "id");
    gateway.json(&["tenants", "disable", &tenant]);
    let codes = [
        ("invalid_api_key", "The API key is not valid."),
        ("invalid_dashboard_session", "The dashboard session is not valid."),
        ("invalid_portal_session", "The portal session is not valid."),
        ("invalid_access_token", "The access token is not valid."),
        ("invalid_credentials", "E-mail address or password is wrong."),
    ];
    for (answer, (code, message)) in answers().iter().zip(codes) {
        assert_eq!(whole(answer), refusal(401, INVALID, code, message));
    }
    gateway.json(&["tenants", "enable", &tenant]);
    assert!(answers().iter().all(|answer| answer.status == 200), "and all come back");
}
