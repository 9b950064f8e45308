//! Identity providers through the command line of a running gateway: made, shown, changed, disabled, deleted, and their secrets
//! nowhere.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::canary::Canaries;
use crate::support::gateway::{Answer, Gateway, run};
use crate::support::redis::RedisServer;
use crate::support::site::{Plan, Site};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

const TABLES: &str = r#"
[audit]
directory = "state/audit"
durable = "100ms"

[surfaces.people]
kind = "account"

[surfaces.visit]
kind = "session_jwt"
token_kind = "visit"
secrets = "generate:state/visit"
record = "own"
lifetime = "2h"
carry = ["header:X-Visit"]
"#;

const SECRET: &str = "canary-client-secret-4711";

/// The least that an OpenID Connect provider needs.
const OIDC: [&str; 8] = [
    "--tenant",
    "acme",
    "--kind",
    "oidc",
    "--issuer",
    "https://login.acme.example",
    "--client-id",
    "client",
];

struct Bench {
    _upstream: Upstream,
    _redis: Option<RedisServer>,
    site: Site,
    gateway: Gateway,
}

impl Bench {
    fn start() -> Self {
        Self::over(
            &Plan {
                tables: TABLES.into(),
                ..Plan::usual()
            },
            None,
        )
    }

    fn over(plan: &Plan, redis: Option<RedisServer>) -> Self {
        let upstream = Upstream::echoing();
        let site = Site::of(plan, upstream.address);
        let gateway = Gateway::start(&site);
        for tenant in ["acme", "globex"] {
            gateway.json(&["tenants", "create", tenant]);
        }
        Self {
            _upstream: upstream,
            _redis: redis,
            site,
            gateway,
        }
    }

    /// Runs a command with this on its standard input.
    fn with_input(&self, args: &[&str], input: &str) -> Answer {
        run(&self.site.config(), args, input.as_bytes())
    }

    fn create(&self, more: &[&str]) -> Value {
        let answer = self.try_create(more);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.json()
    }

    fn try_create(&self, more: &[&str]) -> Answer {
        let args = [&["--json", "providers", "create"], OIDC.as_slice(), more].concat();
        self.with_input(&args, &format!("{SECRET}\n"))
    }

    fn json(&self, args: &[&str]) -> Value {
        self.gateway.json(args)
    }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// Whether a key is admitted where `orders:read` is needed.
fn becomes(bench: &Bench, key: &Value, wanted: u16) {
    until(&format!("{wanted}"), PATIENCE, || {
        (super::status(&bench.gateway, text(key, "key")) == wanted).then_some(())
    });
}

fn keep_the_contract(bench: &Bench) {
    let made = bench.create(&[
        "--name",
        "Acme Entra",
        "--domain",
        "acme.example",
        "--scope",
        "orders:read",
        "--provision",
        "--role-claim",
        "groups",
        "--map-scope",
        "cn=staff,dc=acme=orders:read",
        "--max-session",
        "8h",
    ]);
    let id = text(&made, "id");
    assert!(id.starts_with("prv_"), "{made}");
    assert_eq!(
        (&made["kind"], &made["state"], &made["name"], &made["scopes"], &made["tenant"]),
        (
            &json!("oidc"),
            &json!("active"),
            &json!("Acme Entra"),
            &json!(["orders:read"]),
            &json!("acme")
        )
    );
    let settings = &made["settings"];
    assert_eq!(
        (
            &settings["session"],
            &settings["account"],
            &settings["provision"],
            &settings["max_session"]
        ),
        (&json!("visit"), &json!("people"), &json!(true), &json!(28_800)),
        "the only surfaces that fit need no name"
    );
    assert_eq!(settings["domains"], json!(["acme.example"]));
    assert_eq!(
        settings["roles"],
        json!({ "claim": "groups", "table": [{ "value": "cn=staff,dc=acme", "scopes": ["orders:read"] }] })
    );
    let sealed = |view: &Value| {
        view["settings"]["protocol"]["oidc"]["client_secret_sealed"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(sealed(&made).starts_with("sealed under pepper "), "{made}");
    assert_eq!(bench.json(&["providers", "show", id]), made);
    let listed = bench.json(&["providers", "list", "--tenant", "acme"]);
    assert_eq!(
        (&listed["providers"][0]["id"], &listed["providers"][0]["domains"]),
        (&made["id"], &json!(["acme.example"]))
    );
    assert_eq!(bench.json(&["providers", "list", "--tenant", "globex"])["providers"], json!([]));

    // Only what is said changes.
    let changed = bench.json(&["providers", "update", id, "--prompt", "login", "--provision=false"]);
    let oidc = &changed["settings"]["protocol"]["oidc"];
    assert_eq!(
        (&oidc["prompt"], &oidc["issuer"]),
        (&json!("login"), &json!("https://login.acme.example"))
    );
    assert_eq!(
        (&changed["settings"]["provision"], &changed["scopes"]),
        (&json!(false), &json!(["orders:read"]))
    );
    assert_eq!(sealed(&changed), sealed(&made));
    let renamed = bench.json(&["providers", "update", id, "--name", "Acme Group"]);
    assert_eq!(
        (&renamed["name"], &renamed["settings"]),
        (&json!("Acme Group"), &changed["settings"])
    );
    let listed = bench.json(&["providers", "list", "--tenant", "acme"]);
    assert_eq!(listed["providers"][0]["name"], "Acme Group");
    assert_eq!(bench.gateway.run(&["providers", "update", id, "--name", ""]).code, 2, "no name");
    ends_with_it(bench, id);
}

/// What hangs on a provider has its ceiling, and ends with it on every gateway, with receipts.
fn ends_with_it(bench: &Bench, id: &str) {
    let key = bench
        .gateway
        .create_key("api", "acme", &["--mode", "live", "--scope", "orders:read", "--parent", id]);
    becomes(bench, &key, 200);
    bench.json(&["providers", "update", id, "--no-scopes"]);
    becomes(bench, &key, 403);
    bench.json(&["providers", "update", id, "--scope", "orders:read"]);
    becomes(bench, &key, 200);
    let disabled = bench.json(&["providers", "disable", id, "--wait"]);
    assert_eq!(
        (&disabled["state"], &disabled["gateways"][0]["confirmed"]),
        (&json!("disabled"), &json!(true))
    );
    assert_eq!(super::status(&bench.gateway, text(&key, "key")), 401);
    assert_eq!(bench.json(&["providers", "enable", id])["state"], "active");
    becomes(bench, &key, 200);
    let deleted = bench.json(&["providers", "delete", id, "--wait"]);
    assert_eq!(deleted["state"], "revoked");
    assert_eq!(
        deleted["settings"]["protocol"]["oidc"].get("client_secret_sealed"),
        None,
        "its secrets are gone"
    );
    assert_eq!(super::status(&bench.gateway, text(&key, "key")), 401);
    assert_eq!(bench.json(&["providers", "list"])["providers"], json!([]));
    for command in [&["providers", "enable", id][..], &["providers", "update", id, "--prompt", "login"]] {
        assert_eq!(bench.gateway.run(command).code, 1, "for ever: {command:?}");
    }
    assert_eq!(
        bench.json(&["providers", "delete", id])["state"],
        "revoked",
        "what is so already is no mistake"
    );
}

#[test]
fn providers_keep_their_contract_in_a_file() {
    keep_the_contract(&Bench::start());
}

#[test]
fn providers_keep_their_contract_in_redis() {
    let folder = tempfile::tempdir().unwrap();
    let pepper = folder.path().join("pepper");
    std::fs::write(&pepper, "pepper-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
    let secret = folder.path().join("visit");
    std::fs::write(&secret, "secret-of-a-test-0123456789abcdef0123456789abcdef").unwrap();
    let server = RedisServer::start();
    let plan = Plan {
        tables: TABLES.replace("generate:state/visit", &format!("file:{}", secret.display())),
        ..Plan::redis(&server.url(), &pepper)
    };
    keep_the_contract(&Bench::over(&plan, Some(server)));
}

#[test]
fn every_mistake_is_told_at_once_and_nothing_is_made() {
    let bench = Bench::start();
    let wrong = bench.try_create(&[
        "--domain",
        "Acme.example",
        "--domain",
        "localhost",
        "--surface",
        "api",
        "--account-surface",
        "visit",
        "--oidc-scope",
        "email",
        "--id-token-alg",
        "none",
    ]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    for field in [
        "domains[0]",
        "domains[1]",
        "session",
        "account",
        "protocol.oidc.scopes",
        "protocol.oidc.id_token_algs",
    ] {
        assert!(wrong.stderr.contains(&format!("`{field}`")), "{field}: {}", wrong.stderr);
    }
    for (more, code, says) in [
        (&["--tenant", "nobody"][..], 2, "cannot be used multiple times"),
        (&["--surface", "none"], 2, "there is no surface `none`"),
        (&["--entity-id", "x"], 2, "other kind"),
        (
            &["--map-role", "admins=nobody", "--role-claim", "groups"],
            3,
            "cannot use a role `nobody`",
        ),
        (&["--map-scope", "admins=orders:read"], 2, "missing field `claim`"),
        (&["--role", "nobody"], 3, "cannot use a role `nobody`"),
        (&["--auth", "private_key_jwt"], 2, "no PKCS #8 in PEM"),
        (&["--scope", "two words"], 2, "is not a scope"),
        (&["--max-session", "1s"], 2, "at least 60 seconds"),
    ] {
        let refused = bench.try_create(more);
        assert_eq!(refused.code, code, "{more:?}: {refused:?}");
        let told = refused.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains(says), "{more:?}: {told}");
        assert!(!told.contains("canary"), "{told}");
    }
    let args = [&["--json", "providers", "create"], OIDC.as_slice()].concat();
    assert_eq!(bench.with_input(&args, "").code, 2, "no secret");
    assert_eq!(bench.with_input(&args, "two\nlines\n").code, 2);
    let unknown = [
        "--json",
        "providers",
        "create",
        "--tenant",
        "nobody",
        "--kind",
        "oidc",
        "--issuer",
        "https://a.example",
        "--client-id",
        "c",
    ];
    assert_eq!(bench.with_input(&unknown, SECRET).code, 3);
    assert_eq!(bench.json(&["providers", "list"])["providers"], json!([]));
    for id in ["prv_none", "acme"] {
        assert_eq!(bench.gateway.run(&["providers", "show", id]).code, 3);
    }
    let key = bench.gateway.create_key("api", "acme", &["--mode", "live"]);
    for command in ["show", "disable", "delete", "update"] {
        assert_eq!(
            bench.gateway.run(&["providers", command, text(&key, "id")]).code,
            3,
            "a key is no provider"
        );
    }
}

#[test]
fn a_domain_belongs_to_one_tenant() {
    let bench = Bench::start();
    let own = bench.create(&["--domain", "acme.example"]);
    bench.create(&["--domain", "acme.example"]);
    let foreign = |more: &[&str]| {
        let args = [
            &["--json", "providers", "create", "--tenant", "globex", "--kind", "oidc"],
            &OIDC[4..],
            more,
        ]
        .concat();
        bench.with_input(&args, SECRET)
    };
    let refused = foreign(&["--domain", "globex.example", "--domain", "acme.example"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("`acme.example` belongs to"),
        "{refused:?}"
    );
    let other = foreign(&["--domain", "globex.example"]).json();
    let update = ["--json", "providers", "update", text(&other, "id"), "--domain", "acme.example"];
    assert_eq!(bench.gateway.run(&update).code, 1);
    assert_eq!(
        bench.json(&["providers", "show", text(&other, "id")])["settings"]["domains"],
        json!(["globex.example"])
    );
    // A domain that is given up, and one of a deleted provider, may be taken.
    for provider in bench.json(&["providers", "list", "--tenant", "acme"])["providers"]
        .as_array()
        .unwrap()
    {
        let id = text(provider, "id");
        if id == text(&own, "id") {
            bench.json(&["providers", "update", id, "--no-domains"]);
        } else {
            bench.json(&["providers", "delete", id]);
        }
    }
    bench.json(&["providers", "update", text(&other, "id"), "--domain", "acme.example"]);
}

#[test]
fn a_saml_provider_is_made_with_a_key_of_ours() {
    let bench = Bench::start();
    let certificate = rcgen::generate_simple_self_signed(vec!["idp.example".into()]).unwrap();
    let file = bench.site.folder().join("idp.pem");
    std::fs::write(&file, certificate.cert.pem()).unwrap();
    let file = file.to_str().unwrap();
    let least = [
        "--json",
        "providers",
        "create",
        "--tenant",
        "acme",
        "--kind",
        "saml",
        "--entity-id",
        "https://idp.example/metadata",
        "--sso-url",
        "https://idp.example/sso",
    ];
    let made = bench.with_input(&[&least[..], &["--certificate", file, "--sign-requests"]].concat(), "");
    assert_eq!(made.code, 0, "{made:?}");
    let made = made.json();
    let saml = &made["settings"]["protocol"]["saml"];
    assert_eq!(
        (&made["kind"], &saml["sign_requests"], &saml["want"]),
        (&json!("saml"), &json!(true), &json!("either"))
    );
    assert!(
        saml["own_key_sealed"].as_str().unwrap().starts_with("sealed under pepper "),
        "{saml}"
    );
    assert!(saml["own_certificate"].is_string(), "{saml}");
    assert_eq!(saml["certificates"].as_array().unwrap().len(), 1);
    // Two certificates for a rollover, of which the first is the old one.
    let id = text(&made, "id");
    let both = bench.json(&["providers", "update", id, "--certificate", file, "--certificate", file]);
    assert_eq!(both["settings"]["protocol"]["saml"]["certificates"].as_array().unwrap().len(), 2);
    assert_eq!(both["settings"]["protocol"]["saml"]["own_certificate"], saml["own_certificate"]);

    let without = bench.with_input(&least, "");
    assert!(without.code == 2 && without.stderr.contains("certificates"), "{without:?}");
    std::fs::write(Path::new(file), "no certificate").unwrap();
    let broken = bench.with_input(&[&least[..], &["--certificate", file]].concat(), "");
    assert!(broken.code == 2 && broken.stderr.contains("no certificates in PEM"), "{broken:?}");
    let secret = bench.with_input(&["providers", "update", id, "--issuer", "https://a.example"], "");
    assert!(secret.code == 2 && secret.stderr.contains("other kind"), "{secret:?}");
}

/// The entries of operators' actions so far.
fn actions(site: &Site) -> Vec<Value> {
    let folder = std::fs::read_dir(site.folder().join("state/audit")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path());
    let trails = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("trail-"));
    let lines: String = trails
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let whole = lines.rfind('\n').map_or("", |end| &lines[..end]);
    let all = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|entry| entry["action"].as_str().is_some_and(|action| action.starts_with("providers.")))
        .collect()
}

#[test]
fn each_change_of_a_provider_is_on_the_trail_before_and_after_and_no_secret_is_anywhere() {
    let bench = Bench::start();
    let mut canaries = Canaries::default();
    canaries.plant(SECRET);
    let made = bench.create(&["--domain", "acme.example"]);
    let id = text(&made, "id");
    let replaced = bench.with_input(
        &["--json", "providers", "update", id, "--new-secret", "--client-id", "other"],
        "canary-second-secret\n",
    );
    assert_eq!(replaced.code, 0, "{replaced:?}");
    canaries.plant("canary-second-secret");
    bench.json(&["providers", "disable", id]);
    bench.json(&["providers", "enable", id]);
    bench.json(&["providers", "delete", id]);
    let refused = bench.with_input(&["--json", "providers", "update", id, "--client-id", "third"], "");
    assert_eq!(refused.code, 1);
    bench.json(&["providers", "list"]);
    let found = until("the entries", PATIENCE, || {
        let found = actions(&bench.site);
        (found.len() >= 6).then_some(found)
    });
    let told: Vec<(&str, &str)> = found.iter().map(|entry| (text(entry, "action"), text(entry, "outcome"))).collect();
    assert_eq!(
        told,
        [
            ("providers.create", "done"),
            ("providers.update", "done"),
            ("providers.disable", "done"),
            ("providers.enable", "done"),
            ("providers.delete", "done"),
            ("providers.update", "refused"),
        ]
    );
    for entry in &found {
        assert_eq!((&entry["target"], &entry["tenant"]), (&json!(id), &json!("acme")), "{entry}");
    }
    let lines = |entry: &Value, when: &str| -> Vec<String> {
        let lines = entry[when]["settings"].as_array().unwrap_or_else(|| panic!("{entry}"));
        lines.iter().map(|line| line.as_str().unwrap().to_owned()).collect()
    };
    let (before, after) = (lines(&found[1], "before"), lines(&found[1], "after"));
    assert_eq!(lines(&found[0], "after"), before);
    let differ: Vec<&String> = after.iter().filter(|line| !before.contains(line)).collect();
    assert_eq!(differ.len(), 2, "the client and its secret: {differ:?}");
    assert!(differ.iter().any(|line| *line == "protocol.oidc.client_id=other"), "{differ:?}");
    // The mask of the trail takes the name for that of a secret; the hash shows that another one was sealed.
    let is_secret = |line: &&&String| line.starts_with("protocol.oidc.client_secret_sealed=") && line.contains("SHA-256 ");
    assert!(differ.iter().any(|line| is_secret(&line)), "{differ:?}");
    assert_eq!(
        (&found[2]["before"]["state"], &found[2]["after"]["state"]),
        (&json!("active"), &json!("disabled"))
    );

    let events = bench.gateway.run(&["events", "--json"]).stdout;
    let by = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let by: Vec<Value> = by
        .filter(|event| event["id"] == id && event["action"] == "providers.disable")
        .collect();
    assert!(!by.is_empty(), "{events}");
    let printed = String::from_utf8_lossy(&bench.gateway.output()).into_owned();
    assert_eq!(canaries.found_in("the log", printed.as_bytes()), Vec::<String>::new());
    assert_eq!(canaries.found_below(bench.site.folder(), &[]), Vec::<String>::new());
}
