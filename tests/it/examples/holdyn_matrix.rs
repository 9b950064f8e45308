//! holdyn: every credential of every surface, carried in every way, on every route of the example.

use crate::support::gateway::Gateway;

use super::holdyn::{Credentials, SCOPES, at, make_access, make_credentials, make_key, make_portal, sign_up, with};
use super::house::{House, text};

const ANN: &str = r#"{"email":"ann@acme.example","password":"correct horse battery"}"#;

/// A call of each route; what it answers when its surface admits it.
struct Call {
    route: &'static str,
    method: &'static str,
    path: &'static str,
    surface: &'static str,
    admitted: u16,
    missing: &'static str,
    invalid: &'static str,
}

macro_rules! calls {
    ($($route:literal $method:literal $path:literal $surface:literal $admitted:literal $missing:literal $invalid:literal)*) => {
        [$(Call { route: $route, method: $method, path: $path, surface: $surface, admitted: $admitted, missing: $missing, invalid: $invalid }),*]
    };
}

/// The documented table. Calls of served routes are made so that nothing is made or ended: an empty body is
/// 422, an unknown id 404, but only to those who are admitted.
#[rustfmt::skip]
const CALLS: [Call; 15] = calls! {
    "signup" "POST" "/auth/signup" "nobody" 422 "" ""
    "login" "POST" "/auth/login" "account" 200 "validation_error" "validation_error"
    "api-keys-create" "POST" "/api-keys" "dashboard" 422 "invalid_dashboard_session" "invalid_dashboard_session"
    "api-keys-list" "GET" "/api-keys" "dashboard" 200 "invalid_dashboard_session" "invalid_dashboard_session"
    "api-keys-delete" "DELETE" "/api-keys/none" "dashboard" 404 "invalid_dashboard_session" "invalid_dashboard_session"
    "access-tokens-create" "POST" "/transactions/tx_1/access-tokens" "api" 422 "missing_api_key" "invalid_api_key"
    "access-tokens-delete" "DELETE" "/transactions/tx_1/access-tokens/none" "api" 404 "missing_api_key" "invalid_api_key"
    "portal-session" "POST" "/portal/session" "access_token" 200 "invalid_access_token" "invalid_access_token"
    "dashboard" "GET" "/dashboard/overview" "dashboard" 200 "invalid_dashboard_session" "invalid_dashboard_session"
    "transactions-read" "GET" "/transactions/tx_1" "api" 200 "missing_api_key" "invalid_api_key"
    "transactions-write" "POST" "/transactions/tx_1" "api" 200 "missing_api_key" "invalid_api_key"
    "transactions-write" "PUT" "/transactions/tx_1" "api" 200 "missing_api_key" "invalid_api_key"
    "transactions-write" "DELETE" "/transactions/tx_1" "api" 200 "missing_api_key" "invalid_api_key"
    "portal-transaction" "GET" "/portal/transaction" "portal" 200 "invalid_portal_session" "invalid_portal_session"
    "portal-fund" "POST" "/portal/fund" "portal" 200 "invalid_portal_session" "invalid_portal_session"
};

/// Ways of carrying a credential, and the surfaces that document each.
const CARRIERS: [(&str, &[&str]); 9] = [
    ("Authorization: Bearer", &["api", "dashboard", "portal"]),
    ("X-Portal-Session", &["portal"]),
    ("X-Access-Token", &["access_token"]),
    ("Authorization: Basic", &[]),
    ("X-Api-Key", &[]),
    ("X-Dashboard-Session", &[]),
    ("Cookie", &[]),
    ("query", &[]),
    ("body", &[]),
];

/// Where a route looks for its credential.
fn looks_at(surface: &str, carrier: &str) -> bool {
    CARRIERS
        .iter()
        .any(|(name, surfaces)| *name == carrier && surfaces.contains(&surface))
}

/// Good credentials of every surface by its name, and what looks like them by `nothing`.
fn credentials(gateway: &Gateway) -> Vec<(&'static str, String)> {
    let session = sign_up(gateway, "ann@acme.example");
    let mut credentials = vec![("dashboard", session.clone())];
    for mode in ["live", "test"] {
        let (_, key) = make_key(gateway, &session, mode, &SCOPES);
        let (_, access) = make_access(gateway, &key, "tx_1", &["view_transaction", "fund_transaction"]);
        credentials.extend([("portal", make_portal(gateway, &access)), ("access_token", access), ("api", key)]);
    }
    assert_eq!(credentials.len(), 7, "there is something to try");
    let account = text(&gateway.json(&["accounts", "list"])["accounts"][0], "id");
    for (surface, credential) in credentials.clone() {
        // One character off, and the other mode's prefix: neither was ever made.
        let at = credential.len() - 9;
        let other = if credential.as_bytes()[at] == b'a' { "b" } else { "a" };
        let mut near = credential.clone();
        near.replace_range(at..=at, other);
        credentials.push(("nothing", near));
        if surface == "api" || surface == "access_token" {
            let pairs = [("hlive_", "htst_"), ("htst_", "hlive_"), ("_live_", "_test_"), ("_test_", "_live_")];
            let (own, other) = pairs.iter().find(|(own, _)| credential.contains(own)).unwrap();
            credentials.push(("nothing", credential.replacen(own, other, 1)));
        }
    }
    credentials.extend([("nothing", account), ("nothing", "correct horse battery".to_owned())]);
    credentials
}

#[test]
fn every_credential_on_every_route_and_only_the_documented_are_admitted() {
    let house = House::open("holdyn");
    let gateway = house.gateway();
    let text_of = |file: &str| house.sites[0].read(file);
    let toml: Vec<toml::Table> = ["gateway.toml", "upstreams/holdyn.toml"]
        .map(|f| text_of(f).parse().unwrap())
        .into();
    for route in toml.iter().flat_map(|t| t["routes"].as_array().unwrap()) {
        let name = route["name"].as_str().unwrap();
        assert!(CALLS.iter().any(|call| call.route == name), "{name} is not in the table");
    }

    let credentials = credentials(gateway);
    house.upstream.forget();

    let (mut tried, mut admitted) = (0, 0);
    for call in &CALLS {
        for (carrier, _) in CARRIERS {
            for (surface, credential) in &credentials {
                let (mut path, mut field, mut body) = (call.path.to_owned(), None, String::new());
                match carrier {
                    "query" => path += &format!("?access_token={}&session={0}", credential.replace(' ', "+")),
                    "body" => body = format!("{{\"access_token\":\"{credential}\"}}"),
                    "Cookie" => field = Some((carrier, format!("session={credential}; portal={credential}"))),
                    _ => match carrier.split_once(": ") {
                        Some((name, scheme)) => field = Some((name, format!("{scheme} {credential}"))),
                        None => field = Some((carrier, credential.clone())),
                    },
                }
                let field: Vec<(&str, &str)> = field.iter().map(|(n, v)| (*n, v.as_str())).collect();
                let answer = at(gateway, call.method, &path, &field, &body);
                let what = format!("{surface} in {carrier} on {} {}", call.method, call.path);
                tried += 1;
                let documented = looks_at(call.surface, carrier) && *surface == call.surface;
                if documented || call.surface == "nobody" {
                    assert_eq!(answer.status, call.admitted, "{what}: {}", answer.body.escape_ascii());
                    admitted += u32::from(documented);
                    continue;
                }
                let presented = looks_at(call.surface, carrier);
                let wanted = if presented { call.invalid } else { call.missing };
                let status = if call.surface == "account" { 422 } else { 401 };
                assert_eq!(answer.status, status, "{what}");
                assert_eq!(text(&answer.json()["error"], "code"), wanted, "{what}");
            }
        }
    }
    assert_eq!(tried, CALLS.len() * CARRIERS.len() * credentials.len());
    // 4 calls by one dashboard session; 6 by two keys; 1 by two access tokens; 2 by two portal sessions in two places.
    assert_eq!(admitted, 4 + 6 * 2 + 2 + 2 * 2 * 2);
    assert_eq!(
        house.upstream.count(),
        1 + 4 * 2 + 2 * 2 * 2 + 2,
        "only the admitted reached the service, which was asked at two exchanges"
    );
}

#[test]
fn e_mail_and_password_log_in_and_do_nothing_else() {
    let house = House::open("holdyn");
    let gateway = house.gateway();
    sign_up(gateway, "ann@acme.example");
    for call in &CALLS {
        let answer = at(gateway, call.method, call.path, &[], ANN);
        let wanted = match call.surface {
            "nobody" => 409,
            "account" => 200,
            _ => 401,
        };
        assert_eq!(answer.status, wanted, "{} {}", call.method, call.path);
    }
    assert_eq!(house.upstream.count(), 0);
}

#[test]
fn two_credentials_at_a_time_are_refused_rather_than_chosen_from() {
    let house = House::open("holdyn");
    let gateway = house.gateway();
    let Credentials { key, portal, .. } = make_credentials(gateway, "ann@acme.example");
    house.upstream.forget();
    let bearer = format!("Bearer {portal}");
    let both = [("Authorization", bearer.as_str()), ("X-Portal-Session", &portal)];
    let answer = at(gateway, "GET", "/portal/transaction", &both, "");
    assert_eq!(
        (answer.status, text(&answer.json()["error"], "code")),
        (400, "ambiguous_credentials".to_owned())
    );
    let twice = format!("Bearer {key}");
    let twice = [("Authorization", twice.as_str()), ("Authorization", &bearer)];
    assert_eq!(at(gateway, "GET", "/transactions/tx_1", &twice, "").status, 400);
    assert_eq!(house.upstream.count(), 0);
    assert_eq!(with(gateway, "GET", "/portal/transaction", &portal, "").status, 200, "the twin");
    let unknown = at(gateway, "GET", "/unknown", &[("X-Portal-Session", &portal)], "");
    assert_eq!(unknown.status, 404);
}
