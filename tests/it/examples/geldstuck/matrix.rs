//! Every credential of geldstuck, carried in every way, on every route: only what is documented is admitted.

use std::collections::BTreeSet;

use crate::support::gateway::Gateway;

use super::super::{call, paths_of, text};
use super::{EMAIL, KEYS, PASSWORD, Pair, ann, expect_invalid, log_in, open};

const SECRETS: &str = "/v1/webhooks/signing-secrets";
const PROVIDER: &str = "/v1/sso/providers/{providerId}";
const ALL: &str = "GET HEAD POST PUT PATCH DELETE OPTIONS";

/// What is documented: pattern, methods, a path of it, body, surfaces, status. `ID` stands for a pair
/// made for the purpose.
const DOCUMENTED: [(&str, &str, &str, &str, &str, u16); 29] = [
    ("/v1/tenants/{tenantId}/api-keys", "POST", KEYS, "{}", "keys session", 201),
    ("/v1/tenants/{tenantId}/api-keys", "GET", KEYS, "", "keys session", 200),
    (
        "/v1/tenants/{tenantId}/api-keys/{keyId}/revoke",
        "POST",
        "/v1/tenants/acme/api-keys/ID/revoke",
        "",
        "keys session",
        200,
    ),
    ("/v1/webhooks/signing-secrets", "POST", SECRETS, "{}", "keys", 201),
    ("/v1/webhooks/signing-secrets", "GET", SECRETS, "", "keys", 200),
    (
        "/v1/webhooks/signing-secrets/{secretId}/rotate",
        "POST",
        "/v1/webhooks/signing-secrets/SIG/rotate",
        "",
        "keys",
        201,
    ),
    (
        "/v1/webhooks/signing-secrets/{secretId}/revoke",
        "POST",
        "/v1/webhooks/signing-secrets/SIG/revoke",
        "",
        "keys",
        200,
    ),
    // Our own: the tenant's entries of the audit trail.
    ("/v1/audit", "GET HEAD", "/v1/audit", "", "session", 200),
    ("/v1/auth/logout", "POST", "/v1/auth/logout", "", "session", 204),
    ("/v1/auth/sso/logout", "POST", "/v1/auth/sso/logout", "", "session", 200),
    // The tenant has no provider here.
    ("/v1/auth/sso/link", "POST", "/v1/auth/sso/link", "", "session", 404),
    (
        "/v1/auth/sso/unlink",
        "POST",
        "/v1/auth/sso/unlink",
        r#"{"provider":"prv_1"}"#,
        "session",
        404,
    ),
    // For sessions with a scope that Ann's has not.
    ("/v1/sso/providers", "GET HEAD", "/v1/sso/providers", "", "session", 403),
    ("/v1/sso/providers", "POST", "/v1/sso/providers", "{}", "session", 403),
    (PROVIDER, "GET HEAD", "/v1/sso/providers/prv_1", "", "session", 403),
    (PROVIDER, "PATCH", "/v1/sso/providers/prv_1", "{}", "session", 403),
    (PROVIDER, "DELETE", "/v1/sso/providers/prv_1", "", "session", 403),
    (
        "/v1/sso/providers/{providerId}/test",
        "POST",
        "/v1/sso/providers/prv_1/test",
        "",
        "session",
        403,
    ),
    (
        "/v1/sso/providers/{providerId}/disable",
        "POST",
        "/v1/sso/providers/prv_1/disable",
        "",
        "session",
        403,
    ),
    (
        "/v1/sso/providers/{providerId}/enable",
        "POST",
        "/v1/sso/providers/prv_1/enable",
        "",
        "session",
        403,
    ),
    ("/v1/kyc/onfido", "POST", "/v1/kyc/onfido", r#"{"subject":"user_1"}"#, "keys", 201),
    ("/v1/tenants", ALL, "/v1/tenants", "", "keys", 200),
    ("/v1/tenants/{tenantId}/**", ALL, "/v1/tenants/acme", "", "keys", 200),
    ("/v1/kyc/**", ALL, "/v1/kyc/k1", "", "keys", 200),
    ("/v1/transactions/**", ALL, "/v1/transactions/t1", "", "keys", 200),
    ("/v1/source-of-funds/**", ALL, "/v1/source-of-funds/s1", "", "keys", 200),
    ("/v1/webhooks/**", ALL, "/v1/webhooks/w1", "", "keys", 200),
    ("/v1/dashboard/**", "GET HEAD", "/v1/dashboard/overview", "", "session", 200),
    (
        "/v1/verification/**",
        "GET HEAD POST",
        "/v1/verification/steps",
        "",
        "verification",
        200,
    ),
];

/// Routes on which nobody is known yet.
const PUBLIC: [&str; 8] = [
    "/v1/auth/login",
    "/v1/auth/sso",
    "/v1/auth/sso/callback",
    "/v1/auth/sso/{tenantId}",
    "/v1/auth/sso/{tenantId}/back-channel",
    "/v1/auth/saml/{tenantId}/acs",
    "/v1/auth/saml/{tenantId}/log-out",
    "/v1/auth/saml/{tenantId}/metadata",
];

/// A credential: its surface, and its two halves, which are the same where there is one.
struct Credential {
    surface: &'static str,
    mode: &'static str,
    key: String,
    secret: String,
}

impl Credential {
    fn single(surface: &'static str, mode: &'static str, text: String) -> Self {
        let (key, secret) = (text.clone(), text);
        Self {
            surface,
            mode,
            key,
            secret,
        }
    }

    /// Every way of carrying it, and whether it is the documented one.
    fn carried(&self) -> Vec<(Vec<(&'static str, String)>, bool)> {
        let Self { surface, key, secret, .. } = self;
        let bearer = |text: &str| vec![("Authorization", format!("Bearer {text}"))];
        let cookie = |text: &str| {
            vec![
                ("Cookie", format!("geldstuck_session={text}")),
                ("Sec-Fetch-Site", "same-origin".to_owned()),
            ]
        };
        let pair = |key: &str, secret: &str| vec![("x-api-key", key.to_owned()), ("x-api-secret", secret.to_owned())];
        let is = |surfaces: &[&str]| surfaces.contains(surface);
        let mut all = vec![
            (pair(key, secret), is(&["keys"])),
            (bearer(key), is(&["session", "verification"])),
            (cookie(key), is(&["session"])),
        ];
        if key != secret {
            all.extend([(pair(secret, key), false), (bearer(secret), false), (cookie(secret), false)]);
        }
        all
    }
}

fn pair_of(gateway: &Gateway, mode: &'static str) -> Credential {
    let Pair { key, secret, .. } = Pair::of(gateway, "acme", mode);
    Credential {
        surface: "keys",
        mode,
        key,
        secret,
    }
}

fn session_of(gateway: &Gateway) -> Credential {
    Credential::single("session", "live", log_in(gateway))
}

#[test]
fn only_the_documented_pairs_are_admitted() {
    let house = open(&[]);
    let gateway = &house.gateway;
    let account = ann(&house.site);
    let documented: BTreeSet<&str> = DOCUMENTED.iter().map(|row| row.0).chain(PUBLIC).collect();
    let configured = paths_of(&house.site);
    assert_eq!(
        documented,
        configured.iter().map(String::as_str).collect(),
        "every route of the example"
    );

    let maker = Pair::of(gateway, "acme", "live");
    let made = maker.call(gateway, "POST", "/v1/kyc/onfido", r#"{"subject":"user_1"}"#);
    let signing = text(&maker.call(gateway, "POST", SECRETS, "{}"), "signing_secret");
    let unknown = |prefix: &str| durward::base::key::GeneratedKey::mint(prefix).unwrap().expose().to_owned();
    let mut credentials = [
        pair_of(gateway, "live"),
        pair_of(gateway, "test"),
        session_of(gateway),
        Credential::single("verification", "live", text(&made, "session_token")),
        Credential::single("nobody", "live", account),
        // A signing secret authenticates nobody, alone or beside a good publishable key.
        Credential::single("nobody", "live", signing.clone()),
        Credential {
            surface: "nobody",
            mode: "live",
            key: maker.key.clone(),
            secret: signing,
        },
        Credential {
            surface: "nobody",
            mode: "test",
            key: unknown("pk_test_"),
            secret: unknown("sk_test_"),
        },
    ];
    let all = 0..credentials.len();
    let (mut admitted, mut refused) = (0, 0);
    for (pattern, methods, path, body, surfaces, status) in DOCUMENTED {
        for method in methods.split(' ') {
            for at in all.clone() {
                for (fields, own) in credentials[at].carried() {
                    let credential = &credentials[at];
                    let path = path.replace("ID", &Pair::of_if(path.contains("ID"), gateway, credential.mode));
                    let path = path.replace("SIG", &signing_of_if(path.contains("SIG"), gateway));
                    let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
                    house.upstream.forget();
                    let answer = call(gateway, method, &path, &fields, body);
                    let is_documented = own && surfaces.split(' ').any(|surface| surface == credential.surface);
                    let what = format!("{} {} as {} on {method} {path}", credential.surface, credential.mode, fields[0].0);
                    if is_documented {
                        assert_eq!(answer.status, status, "{what}: {answer:?}");
                        admitted += 1;
                        if pattern.ends_with("/logout") {
                            // The next way of carrying needs another session.
                            let next = session_of(gateway);
                            let fields = next.carried().remove(2).0;
                            let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
                            assert_eq!(call(gateway, method, &path, &fields, body).status, status, "{what}");
                            credentials[at] = session_of(gateway);
                            break;
                        }
                    } else {
                        assert_eq!(answer.status, 401, "{what}: {answer:?}");
                        assert_eq!(house.upstream.count(), 0, "{what} went on");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(admitted > 80 && refused > 800, "{admitted} admitted, {refused} refused");
}

/// The id of a new signing secret, where one is wanted.
fn signing_of_if(wanted: bool, gateway: &Gateway) -> String {
    if !wanted {
        return String::new();
    }
    let made = gateway.create_key("webhook_secrets", "acme", &[]);
    made["id"].as_str().unwrap().to_owned()
}

impl Pair {
    /// The id of a new pair, where one is wanted.
    fn of_if(wanted: bool, gateway: &Gateway, mode: &str) -> String {
        if wanted {
            Self::of(gateway, "acme", mode).id
        } else {
            String::new()
        }
    }
}

#[test]
fn nobodys_credential_logs_in_but_that_of_the_account() {
    let house = open(&[]);
    let gateway = &house.gateway;
    ann(&house.site);
    let pair = Pair::of(gateway, "acme", "live");
    for body in [
        serde_json::json!({ "email": pair.key, "password": pair.secret }),
        serde_json::json!({ "email": EMAIL, "password": pair.secret }),
        serde_json::json!({ "email": EMAIL, "password": "wrong-password" }),
    ] {
        let answer = call(gateway, "POST", "/v1/auth/login", &pair.fields(), &body.to_string());
        assert!([401, 422].contains(&answer.status), "{answer:?}");
        assert!(answer.field("set-cookie").is_none());
    }
    // The password opens nothing but the log-in.
    let fields = [("Authorization", format!("Bearer {PASSWORD}"))];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    expect_invalid(&call(gateway, "GET", "/v1/dashboard/overview", &fields, ""));
}
