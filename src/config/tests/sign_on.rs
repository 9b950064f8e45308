//! Routes of single sign-on: a configuration that loads, and each mistake in it, found alone and in its place.

use super::*;
use crate::base::ids::TenantId;
use crate::config::error::ProblemSeverity;
use crate::snapshot::served_route::Action;
use crate::snapshot::sign_on_route::{SignOnStep, StartTenant};

const SIGN_ON: &str = r#"
[sign_on]
public_url = "https://api.example.com"
return_to = ["https://app.example.com/portal", "http://localhost:3000"]
contact = "the service desk"

[surfaces.people]
kind = "account"

[surfaces.web]
kind = "session_jwt"
carry = ["cookie:__Host-web"]
token_kind = "web"
secrets = "env:S"
record = "own"
lifetime = "15m"

[surfaces.plain]
kind = "session_jwt"
token_kind = "plain"
secrets = "env:S2"
record = "own"
lifetime = "15m"

[[routes]]
name = "plain"
methods = ["GET"]
path = "/plain"
access = { surfaces = ["plain"] }
serve = "list_scopes"
answer.body = '{{ items }}'

[[rate_limits]]
by = "address"
rate = "60/1m"

[[routes]]
name = "start"
methods = ["GET"]
path = "/sso/{tenant}"
access = "public"
serve = "sso_start"
tenant = "path.tenant"

[[routes]]
name = "discover"
methods = ["GET"]
path = "/sso"
access = "public"
serve = "sso_start"
tenant = "query.email"

[[routes]]
name = "finish"
methods = ["GET"]
path = "/callback"
access = "public"
serve = "sso_finish"
[[routes.mint]]
surface = "web"
parent = "person"
subject = "parent.id"
scopes = "person"
lifetime = "12h"
idle = "1h"

[[routes]]
name = "acs"
methods = ["POST"]
path = "/saml/{tenant}/acs"
access = "public"
serve = "saml_finish"
tenant = "path.tenant"
mint = [{ surface = "web", parent = "person" }]

[[routes]]
name = "saml-log-out"
methods = ["GET"]
path = "/saml/{tenant}/log-out"
access = "public"
serve = "saml_log_out"
tenant = "path.tenant"

[[routes]]
name = "about"
methods = ["GET"]
path = "/saml/{tenant}/metadata"
access = "public"
serve = "saml_metadata"
tenant = "path.tenant"

[[routes]]
name = "leave"
methods = ["POST"]
path = "/log-out"
access = { surfaces = ["web"] }
serve = "sso_log_out"

[[routes]]
name = "back"
methods = ["POST"]
path = "/sso/{tenant}/back-channel"
access = "public"
serve = "sso_back_channel"
tenant = "path.tenant"
"#;

fn load(text: &str) -> (Result<Loaded, ConfigErrors>, InMemory) {
    let gateway = format!("{GATEWAY}{text}");
    let mut files = table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", ORDERS)]);
    files.variables.insert("S".into(), "s".repeat(32));
    files.variables.insert("S2".into(), "t".repeat(32));
    (check(&files), files)
}

/// What is found in a text: the severity, the text under the caret, the message.
fn found(text: &str) -> Vec<(ProblemSeverity, String, String)> {
    let (result, files) = load(text);
    let problems = match &result {
        Ok(loaded) => &loaded.warnings,
        Err(errors) => &errors.problems,
    };
    let judged = problems.iter().filter(|located| located.problem.weight != ProblemSeverity::Note);
    let told = judged.map(|located| {
        let text = String::from_utf8(files.files.get(&located.file).cloned().unwrap_or_default()).unwrap();
        let line = text.lines().nth(located.line.saturating_sub(1)).unwrap_or("");
        let under = line.chars().skip(located.column.saturating_sub(1)).collect();
        (located.problem.weight, under, located.problem.message.clone())
    });
    told.collect()
}

#[test]
fn the_routes_of_single_sign_on_load_and_know_each_other() {
    let loaded = load(SIGN_ON).0.unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(found(SIGN_ON), []);
    let acme = TenantId::parse("acme").unwrap();
    let steps: Vec<&SignOnStep> = loaded
        .snapshot
        .served_routes
        .iter()
        .filter_map(|served| match &served.action {
            Action::SignOn(route) => Some(&route.step),
            _ => None,
        })
        .collect();
    assert_eq!(steps.len(), 8);
    for (step, tenant) in [(steps[0], StartTenant::Path("tenant".into())), (steps[1], StartTenant::EmailDomain)] {
        let SignOnStep::Start(start) = step else { panic!("{step:?}") };
        assert_eq!(start.tenant, tenant);
        assert_eq!(start.oidc.as_ref().unwrap().of(&acme), "https://api.example.com/callback");
        let saml = start.saml.as_ref().unwrap();
        assert_eq!(saml.finish.of(&acme), "https://api.example.com/saml/acme/acs");
        assert_eq!(
            saml.metadata.as_ref().unwrap().of(&acme),
            "https://api.example.com/saml/acme/metadata"
        );
    }
    assert!(steps.iter().filter(|step| step.is_seen_by_people()).count() == 6);
    let SignOnStep::SamlLogOut(own) = steps[4] else {
        panic!("{:?}", steps[4])
    };
    assert_eq!(own.url.of(&acme), "https://api.example.com/saml/acme/log-out");
    assert_eq!(own.urls.finish.of(&acme), "https://api.example.com/saml/acme/acs");
    let SignOnStep::SamlMetadata { log_out, .. } = steps[5] else {
        panic!("{:?}", steps[5])
    };
    assert_eq!(log_out.as_ref(), Some(&own.url));
}

#[test]
fn each_mistake_of_single_sign_on_is_found_alone_and_in_its_place() {
    use ProblemSeverity::{Error, Warning};
    let cut = |from: &str| {
        let rest = SIGN_ON.split_once(from).unwrap().1;
        let end = rest.find("\n[[routes]]").unwrap_or(rest.len());
        format!("{from}{}", &rest[..end])
    };
    let finish = cut("[[routes]]\nname = \"finish\"");
    let section = SIGN_ON.split_once("[surfaces.people]").unwrap().0.to_owned();
    let mut wrong = Vec::new();
    for (from, to, severity, under, message) in [
        (
            "\"https://api.example.com\"",
            "\"api.example.com\"",
            Error,
            "\"api.example.com\"",
            "is not scheme and host",
        ),
        (
            "\"https://api.example.com\"",
            "\"https://api.example.com/v1\"",
            Error,
            "\"https://api",
            "is not scheme and host",
        ),
        (
            "\"https://api.example.com\"",
            "\"https://API.example.com\"",
            Error,
            "\"https://API",
            "is not scheme and host",
        ),
        (
            "\"https://api.example.com\"",
            "\"http://api.example.com\"",
            Error,
            "\"http://api",
            "would pass in the clear",
        ),
        (
            "\"https://app.example.com/portal\"",
            "\"https://*.example.com\"",
            Error,
            "\"https://*",
            "not an origin as browsers write it",
        ),
        (
            "\"https://app.example.com/portal\"",
            "\"http://app.example.com\"",
            Error,
            "\"http://app",
            "`http` is for addresses of this machine",
        ),
        (
            "\"https://app.example.com/portal\"",
            "\"/portal\"",
            Error,
            "\"/portal\"",
            "an address begins with `https://`",
        ),
        ("\"the service desk\"", "\"\"", Error, "\"\"", "`contact` is one line"),
        (&section, "", Error, "\"sso_start\"", "needs to know the address of the gateway"),
        (
            "\"path.tenant\"",
            "\"path.tennant\"",
            Error,
            "\"path.tennant\"",
            "the path has no parameter `tennant`",
        ),
        (
            "\"query.email\"",
            "\"query.mail\"",
            Error,
            "\"query.mail\"",
            "`tenant` cannot be `query.mail` here",
        ),
        (
            "tenant = \"query.email\"",
            "tenant = \"query.email\"\nfinish = \"fnish\"",
            Error,
            "\"fnish\"",
            "there is no route `fnish` with `serve = \"sso_finish\"`",
        ),
        (
            "path = \"/callback\"",
            "path = \"/callback/{x}\"",
            Error,
            "\"/callback/{x}\"",
            "nobody knows what stands for `{x}`",
        ),
        (
            "path = \"/callback\"",
            "path = \"/callback/**\"",
            Error,
            "\"/callback/**\"",
            "nobody knows what stands for `**`",
        ),
        (
            "path = \"/callback\"",
            "path = \"/callback\"\nhosts = [\"other.example.com\"]",
            Error,
            "\"other.example.com\"",
            "providers send browsers to `api.example.com`, which is no host of this route",
        ),
        (
            "mint = [{ surface = \"web\", parent = \"person\" }]",
            "mint = [{ surface = \"web\", parent = \"tenant\" }]",
            Error,
            "\"tenant\"",
            "the session of a sign-on hangs on the person who signs on",
        ),
        (
            "surface = \"web\"\nparent = \"person\"\nsubject",
            "surface = \"plain\"\nparent = \"person\"\nsubject",
            Error,
            "\"plain\"",
            "`plain` is no surface of sessions with a cookie",
        ),
        (
            "surface = \"web\"\nparent = \"person\"\nsubject",
            "surface = \"people\"\nparent = \"person\"\nsubject",
            Error,
            "\"people\"",
            "`people` is no surface of sessions with a cookie",
        ),
        (
            "lifetime = \"12h\"",
            "lifetime = \"31d\"",
            Error,
            "\"31d\"",
            "a session by a sign-on lasts at most 30d",
        ),
        (
            "lifetime = \"12h\"",
            "lifetime = \"12h\"\ngrants = [\"orders:read\"]",
            Error,
            "\"orders:read\"",
            "nobody may do more by a sign-on than the provider's ceiling",
        ),
        (
            "mint = [{ surface = \"web\", parent = \"person\" }]",
            "mint = [{ surface = \"web\", parent = \"person\" }, { surface = \"web\", parent = \"person\" }]",
            Error,
            "{ surface",
            "a sign-on makes one session and nothing else",
        ),
        (
            "serve = \"sso_log_out\"",
            "serve = \"sso_log_out\"\nextent = \"all\"",
            Error,
            "\"all\"",
            "`extent` cannot be `all`",
        ),
        (
            "access = { surfaces = [\"web\"] }",
            "access = \"public\"",
            Error,
            "\"sso_log_out\"",
            "nobody is known on a public route: whose session would end?",
        ),
        (
            "access = \"public\"\nserve = \"sso_finish\"",
            "access = { surfaces = [\"web\"] }\nserve = \"sso_finish\"",
            Error,
            "\"sso_finish\"",
            "whoever signs on has no session yet",
        ),
        (
            "methods = [\"GET\"]\npath = \"/sso/{tenant}\"",
            "methods = [\"POST\"]\npath = \"/sso/{tenant}\"",
            Error,
            "\"POST\"",
            "this step is taken with GET alone",
        ),
        (
            "methods = [\"POST\"]\npath = \"/saml/{tenant}/acs\"",
            "path = \"/saml/{tenant}/acs\"",
            Error,
            "\"saml_finish\"",
            "this step is taken with POST alone",
        ),
        (
            "methods = [\"GET\"]\npath = \"/saml/{tenant}/log-out\"",
            "methods = [\"GET\", \"POST\"]\npath = \"/saml/{tenant}/log-out\"",
            Error,
            "\"GET\"",
            "this step is taken with GET alone",
        ),
        (
            "serve = \"saml_metadata\"",
            "serve = \"saml_metadata\"\nsaml_log_out = \"acs\"",
            Error,
            "\"acs\"",
            "there is no route `acs` with `serve = \"saml_log_out\"`",
        ),
        (
            "path = \"/saml/{tenant}/log-out\"",
            "path = \"/saml/{tenant}/log-out\"\nlimits = []",
            Warning,
            "\"saml_log_out\"",
            "anybody may call this, and nothing limits how often an address does",
        ),
        (
            "serve = \"sso_finish\"",
            "serve = \"sso_finish\"\nanswer.body = '{}'",
            Error,
            "'{}'",
            "`answer` has no use here",
        ),
        (
            "serve = \"sso_log_out\"",
            "serve = \"sso_log_out\"\nbody.x = {}",
            Error,
            "x",
            "`body` has no use here",
        ),
        (
            "rate = \"60/1m\"",
            "rate = \"60/1m\"\n[[routes]]\npath = \"/k\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"api\"] }\nserve = \"mint\"\nmint = [{ surface = \"api\", parent = \"person\" }]\nanswer.body = '{{ credential.key }}'",
            Error,
            "\"person\"",
            "nobody signs on by this route",
        ),
        (
            "[[rate_limits]]\nby = \"address\"\nrate = \"60/1m\"",
            "",
            Warning,
            "\"sso_start\"",
            "anybody may call this, and nothing limits how often an address does",
        ),
        (
            "path = \"/callback\"",
            "path = \"/callback\"\nlimits = []",
            Warning,
            "\"sso_finish\"",
            "anybody may call this, and nothing limits how often an address does",
        ),
        (&finish, "", Warning, "", ""),
    ] {
        let edited = SIGN_ON.replacen(from, to, 1);
        assert_ne!(edited, SIGN_ON, "{from}");
        let found = found(&edited);
        let is_right = match found.first() {
            None => message.is_empty(),
            Some((weight, at, told)) => *weight == severity && at.starts_with(under) && told.contains(message) && !message.is_empty(),
        };
        let is_alone = found.len() < 2 || severity == Warning;
        if !is_right || !is_alone {
            wrong.push(format!("`{message}` at `{under}`: {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each of both needs the name by which the provider knows us.
#[test]
fn routes_of_saml_without_the_one_that_takes_responses_are_told() {
    let (before, rest) = SIGN_ON.split_once("[[routes]]\nname = \"acs\"").unwrap();
    let (_, rest) = rest.split_once("[[routes]]\nname = \"saml-log-out\"").unwrap();
    let told = found(&format!("{before}[[routes]]\nname = \"saml-log-out\"{rest}"));
    let at: Vec<&str> = told.iter().map(|(_, under, _)| under.as_str()).collect();
    assert_eq!(at, ["\"saml_log_out\"", "\"saml_metadata\""], "{told:#?}");
    assert!(
        told.iter()
            .all(|(_, _, message)| message == "no route takes what the provider sends back"),
        "{told:#?}"
    );
}

#[test]
fn a_start_without_a_way_back_and_a_section_without_routes_are_told() {
    let (before, rest) = SIGN_ON.split_once("[[routes]]\nname = \"finish\"").unwrap();
    let (_, rest) = rest.split_once("[[routes]]\nname = \"leave\"").unwrap();
    let found_first = found(&format!("{before}[[routes]]\nname = \"leave\"{rest}"));
    let no_way = "no route takes what the provider sends back";
    assert_eq!(found_first.len(), 2, "{found_first:#?}");
    assert!(
        found_first
            .iter()
            .all(|(_, under, message)| under.starts_with("\"sso_start\"") && message == no_way)
    );
    let alone = found("[sign_on]\npublic_url = \"https://api.example.com\"\nreturn_to = [\"https://app.example.com\"]\n");
    assert_eq!(alone.len(), 1, "{alone:#?}");
    assert_eq!(alone[0].0, ProblemSeverity::Warning);
    assert!(alone[0].2.contains("no route has a step of single sign-on"));
    let empty = found(&SIGN_ON.replacen("[\"https://app.example.com/portal\", \"http://localhost:3000\"]", "[]", 1));
    assert_eq!(empty.len(), 1, "{empty:#?}");
    assert!(empty[0].2.contains("`return_to` names no address"), "{empty:#?}");
}

#[test]
fn two_routes_that_could_be_meant_have_to_be_told_apart() {
    let second = "[[routes]]\nname = \"finish2\"\nmethods = [\"GET\"]\npath = \"/callback2\"\naccess = \"public\"\nserve = \"sso_finish\"\n\
                  mint = [{ surface = \"web\", parent = \"person\" }]\n";
    let both = found(&format!("{SIGN_ON}{second}"));
    assert_eq!(both.len(), 2, "both routes that begin a sign-on: {both:#?}");
    assert!(
        both.iter()
            .all(|(_, _, message)| message.contains("several routes have `serve = \"sso_finish\"`"))
    );
    let named = SIGN_ON
        .replacen("tenant = \"path.tenant\"", "tenant = \"path.tenant\"\nfinish = \"finish2\"", 1)
        .replacen("tenant = \"query.email\"", "tenant = \"query.email\"\nfinish = \"finish\"", 1);
    assert_eq!(found(&format!("{named}{second}")), []);

    let second = "[[routes]]\nname = \"log-out2\"\nmethods = [\"GET\"]\npath = \"/saml2/{tenant}/log-out\"\naccess = \"public\"\n\
                  serve = \"saml_log_out\"\ntenant = \"path.tenant\"\n";
    let both = found(&format!("{SIGN_ON}{second}"));
    assert_eq!(both.len(), 1, "our metadata name one of them: {both:#?}");
    assert!(both[0].2.contains("several routes have `serve = \"saml_log_out\"`"), "{both:#?}");
    let named = SIGN_ON.replacen(
        "serve = \"saml_metadata\"",
        "serve = \"saml_metadata\"\nsaml_log_out = \"log-out2\"",
        1,
    );
    assert_eq!(found(&format!("{named}{second}")), []);
}

const LINKS: &str = r#"
[[routes]]
name = "link"
methods = ["POST"]
path = "/link"
access = { surfaces = ["web"] }
serve = "sso_link"

[[routes]]
name = "unlink"
methods = ["POST"]
path = "/unlink"
access = { surfaces = ["web"] }
serve = "sso_unlink"
"#;

#[test]
fn an_account_is_linked_by_a_session_with_a_record_and_by_post_alone() {
    let whole = format!("{SIGN_ON}{LINKS}");
    assert_eq!(found(&whole), []);
    for serve in ["sso_link", "sso_unlink"] {
        let (name, quoted) = (serve.trim_start_matches("sso_"), format!("\"{serve}\""));
        for (from, to, under, message) in [
            (
                format!("access = {{ surfaces = [\"web\"] }}\nserve = {quoted}"),
                format!("access = \"public\"\nserve = {quoted}"),
                quoted.as_str(),
                "nobody is known on a public route: whose account would it be?",
            ),
            (
                format!("access = {{ surfaces = [\"web\"] }}\nserve = {quoted}"),
                format!("access = {{ surfaces = [\"api\"] }}\nserve = {quoted}"),
                quoted.as_str(),
                "`api` is no surface of sessions with records of their own",
            ),
            (
                format!("methods = [\"POST\"]\npath = \"/{name}\""),
                format!("methods = [\"GET\"]\npath = \"/{name}\""),
                "\"GET\"",
                "this step is taken with POST alone",
            ),
        ] {
            let edited = whole.replacen(&from, &to, 1);
            assert_ne!(edited, whole, "{from}");
            let found = found(&edited);
            let is_right = |(weight, at, told): &(ProblemSeverity, String, String)| {
                *weight == ProblemSeverity::Error && at.starts_with(under) && told.contains(message)
            };
            assert!(found.iter().any(is_right), "{serve}: {message}: {found:#?}");
        }
    }
}
