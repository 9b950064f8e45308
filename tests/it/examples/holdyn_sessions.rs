//! holdyn's two kinds of session: what they claim, when they end, and that nothing makes one the other.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use durward::base::clock::{Clock as _, SystemClock};
use durward::decide::token::mint;
use serde_json::{Value, json};

use crate::support::gateway::{Gateway, run};
use crate::support::site::Site;
use crate::support::wait::{PATIENCE, until};

use super::holdyn::{SCOPES, code, make_access, make_key, make_portal, sign_up, view, with};
use super::house::{House, copy, text};

pub(super) fn claims(token: &str) -> Value {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

fn now() -> i64 {
    SystemClock.now().wall.0
}

/// Signs with the secret of a file of the site.
fn sign(site: &Site, secret: &str, claims: &Value) -> String {
    let secret = std::fs::read(site.folder().join(secret)).unwrap();
    let secret = secret.strip_suffix(b"\n").unwrap_or(&secret);
    mint(secret, claims.as_object().unwrap()).unwrap()
}

/// Members of an object, sorted.
fn members(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// A dashboard session, an access token's id, and its portal session.
fn people(gateway: &Gateway) -> (String, String, String) {
    let session = sign_up(gateway, "ann@acme.example");
    let (_, key) = make_key(gateway, &session, "live", &SCOPES);
    let (id, access) = make_access(gateway, &key, "tx_1", &["view_transaction"]);
    (session, id, make_portal(gateway, &access))
}

#[test]
fn sessions_claim_exactly_what_is_documented() {
    let house = House::open("holdyn");
    let gateway = house.gateway();
    let (session, access, portal) = people(gateway);
    let dashboard = claims(&session);
    assert_eq!(members(&dashboard), ["email", "exp", "iat", "kind", "sub"]);
    assert_eq!(dashboard["kind"], json!("dashboard_session"));
    assert_eq!(dashboard["email"], json!("ann@acme.example"));
    let account = text(&gateway.json(&["accounts", "list"])["accounts"][0], "id");
    assert_eq!(dashboard["sub"], json!(account));
    let life = |claims: &Value| claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(life(&dashboard), 7 * 86_400);

    let of_portal = claims(&portal);
    assert_eq!(members(&of_portal), ["exp", "iat", "kind", "perms", "role", "sub", "tid"]);
    assert_eq!(of_portal["kind"], json!("portal_session"));
    assert_eq!(of_portal["sub"], json!(access));
    assert_eq!((&of_portal["tid"], &of_portal["role"]), (&json!("tx_1"), &json!("payer")));
    assert_eq!(of_portal["perms"], json!(["view_transaction"]));
    assert_eq!(life(&of_portal), 30 * 60);
    let header = URL_SAFE_NO_PAD.decode(portal.split('.').next().unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&header).unwrap()["alg"], json!("HS256"));
}

/// Watches a session until it ends: admitted only before `ends`, refused only from then on.
fn watch(gateway: &Gateway, portal: &str, ends: i64) {
    let mut admitted = 0;
    let told = until("the session to end", PATIENCE, || {
        let before = now();
        let answer = view(gateway, portal);
        let after = now();
        if answer.status == 200 {
            assert!(before < ends, "admitted {} ms after its end", before - ends);
            admitted += 1;
            return None;
        }
        assert!(after >= ends, "refused {} ms before its end", ends - after);
        Some(code(&answer))
    });
    assert_eq!(told, (401, "expired_portal_session".into()));
    assert!(admitted > 0, "it was never admitted");
}

#[test]
fn a_portal_session_ends_at_its_exp_and_not_before() {
    let house = House::edited("holdyn", &[("lifetime = \"30m\"", "lifetime = \"4s\"")]);
    let (_, _, portal) = people(house.gateway());
    let ends = claims(&portal)["exp"].as_i64().unwrap();
    assert_eq!(ends - claims(&portal)["iat"].as_i64().unwrap(), 4);
    watch(house.gateway(), &portal, ends * 1000);
}

#[test]
fn a_configured_skew_is_added_to_exp_and_nothing_more() {
    let edit = ("lifetime = \"30m\"", "lifetime = \"30m\"\nskew = \"5s\"");
    let house = House::edited("holdyn", &[edit]);
    let (_, _, portal) = people(house.gateway());
    let mut claims = claims(&portal);
    let ends = now() / 1000;
    claims["exp"] = json!(ends);
    let short = sign(&house.sites[0], "state/portal.secret", &claims);
    watch(house.gateway(), &short, (ends + 5) * 1000);
    claims["exp"] = json!(ends - 60);
    let old = sign(&house.sites[0], "state/portal.secret", &claims);
    assert_eq!(code(&view(house.gateway(), &old)), (401, "expired_portal_session".into()));
    let mut forged = old;
    let last = if forged.ends_with('A') { "E" } else { "A" };
    forged.replace_range(forged.len() - 1.., last);
    assert_eq!(
        code(&view(house.gateway(), &forged)),
        (401, "invalid_portal_session".into()),
        "ended, but not ours"
    );
}

#[test]
fn a_token_of_the_other_kind_or_the_other_secret_is_never_one_of_this_surface() {
    let house = House::open("holdyn");
    let (gateway, site) = (house.gateway(), &house.sites[0]);
    let (session, _, portal) = people(gateway);
    let (of_dashboard, of_portal) = (claims(&session), claims(&portal));
    house.upstream.forget();
    let kind = |claims: &Value, kind: Value| {
        let mut claims = claims.clone();
        claims["kind"] = kind;
        claims
    };
    let (dashboard_secret, portal_secret) = ("state/dashboard.secret", "state/portal.secret");
    let on_dashboard = |token: &str| with(gateway, "GET", "/dashboard/x", token, "");
    assert_eq!(view(gateway, &sign(site, portal_secret, &of_portal)).status, 200, "the twin");
    assert_eq!(on_dashboard(&sign(site, dashboard_secret, &of_dashboard)).status, 200, "the twin");

    let mut portals = vec![session.clone(), sign(site, dashboard_secret, &of_portal)];
    let mut dashboards = vec![portal.clone(), sign(site, portal_secret, &of_dashboard)];
    for wrong in [
        json!("dashboard_session"),
        json!("Portal_session"),
        json!("portal_session "),
        json!(""),
        json!(null),
        json!(["portal_session"]),
        json!(["dashboard_session"]),
    ] {
        portals.push(sign(site, portal_secret, &kind(&of_portal, wrong)));
    }
    for wrong in [json!("portal_session"), json!("dashboard"), json!(["dashboard_session"])] {
        dashboards.push(sign(site, dashboard_secret, &kind(&of_dashboard, wrong)));
    }
    // What each would be if only the secret or only the kind were looked at.
    portals.push(sign(site, portal_secret, &of_dashboard));
    dashboards.push(sign(site, dashboard_secret, &of_portal));
    let mut without = of_portal.clone();
    without.as_object_mut().unwrap().remove("kind");
    portals.push(sign(site, portal_secret, &without));
    let payload = portal.split('.').nth(1).unwrap();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    portals.extend([format!("{none}.{payload}."), format!("{none}.{payload}.AAAA"), format!("{portal}x")]);
    for token in &portals {
        assert_eq!(
            code(&view(gateway, token)),
            (401, "invalid_portal_session".into()),
            "{}",
            claims(token)
        );
        let bearer = with(gateway, "GET", "/portal/transaction", token, "");
        assert_eq!(code(&bearer), (401, "invalid_portal_session".into()));
    }
    for token in &dashboards {
        assert_eq!(
            code(&on_dashboard(token)),
            (401, "invalid_dashboard_session".into()),
            "{}",
            claims(token)
        );
    }
    assert_eq!(house.upstream.count(), 2, "only the twins got through");
}

#[test]
fn a_secret_shared_by_both_kinds_is_refused_when_the_configuration_is_read() {
    let house = House::open("holdyn");
    let shared = ("generate:state/portal.secret", "file:shared");
    let both = copy(
        "holdyn",
        &house.upstream,
        &[shared, ("generate:state/dashboard.secret", "file:shared")],
    );
    let one = copy("holdyn", &house.upstream, &[shared]);
    for site in [&both, &one] {
        site.write("shared", "a-secret-of-at-least-thirty-two-bytes-0123");
    }
    let refused = run(&both.config(), &["check"], b"");
    assert_ne!(refused.code, 0, "{refused:?}");
    let said = refused.stdout + &refused.stderr;
    assert!(said.contains("this secret is also one of the surface `dashboard`"), "{said}");
    assert!(!said.contains("a-secret-of"), "{said}");
    let twin = run(&one.config(), &["check"], b"");
    assert_eq!(twin.code, 0, "{twin:?}");
    let serve = run(&both.config(), &["serve"], b"");
    assert_ne!(serve.code, 0, "it does not start either: {serve:?}");
}
