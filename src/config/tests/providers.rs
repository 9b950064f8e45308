//! Routes with `serve = "providers"`: a configuration that loads, and each mistake in it.

use super::*;
use crate::snapshot::provider_route::{ProviderOperation, ProviderSurfaces};
use crate::snapshot::served_route::{Action, ValueSource};

const PROVIDERS: &str = r#"
[sign_on]
public_url = "https://api.example.com"
return_to = ["https://app.example.com"]

[surfaces.people]
kind = "account"

[surfaces.web]
kind = "session_jwt"
carry = ["cookie:__Host-web"]
token_kind = "web"
secrets = "env:S"
record = "own"
lifetime = "15m"

[[rate_limits]]
by = "address"
rate = "60/1m"

[[routes]]
name = "finish"
methods = ["GET"]
path = "/callback"
access = "public"
serve = "sso_finish"
mint = [{ surface = "web", parent = "person", lifetime = "12h" }]

[[routes]]
name = "list"
methods = ["GET"]
path = "/providers"
access = { surfaces = ["web"], scopes = ["sso"] }
serve = "providers"
operation = "list"

[[routes]]
name = "create"
methods = ["POST"]
path = "/providers"
access = { surfaces = ["web"], scopes = ["sso"] }
serve = "providers"
operation = "create"
grants = ["orders:read"]
claims = ["department"]

[[routes]]
name = "update"
methods = ["PATCH"]
path = "/providers/{id}"
access = { surfaces = ["web"], scopes = ["sso"] }
serve = "providers"
operation = "update"
id = "path.id"

[[routes]]
name = "test"
methods = ["POST"]
path = "/providers/{id}/test"
access = { surfaces = ["web"], scopes = ["sso"] }
serve = "providers"
operation = "test"
id = "path.id"
"#;

fn load(text: &str) -> Result<Loaded, ConfigErrors> {
    let mut files = table(&[("gateway.toml", &format!("{GATEWAY}{text}")), ("upstreams/orders.toml", ORDERS)]);
    files.variables.insert("S".into(), "s".repeat(32));
    files.variables.insert("S2".into(), "t".repeat(32));
    check(&files)
}

fn messages(text: &str) -> Vec<String> {
    match load(text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.problems.iter().map(|located| located.problem.message.clone()).collect(),
    }
}

#[test]
fn operations_on_providers_load_with_their_body_and_their_answer() {
    let loaded = load(PROVIDERS).unwrap_or_else(|errors| panic!("{errors}"));
    let routes: Vec<_> = loaded
        .snapshot
        .served_routes
        .iter()
        .filter_map(|served| match &served.action {
            Action::Providers(route) => Some((served, route)),
            _ => None,
        })
        .collect();
    let fields = |at: usize| -> Vec<&str> {
        let (served, _) = routes[at];
        served.body.fields.iter().map(|field| field.name.as_str()).collect()
    };
    assert!(matches!(routes[0].1.operation, ProviderOperation::List) && fields(0).is_empty());
    let ProviderOperation::Create(surfaces) = &routes[1].1.operation else {
        panic!()
    };
    let only = ProviderSurfaces {
        session: "web".into(),
        account: "people".into(),
    };
    assert_eq!(*surfaces, only, "the only ones are meant");
    assert_eq!(routes[1].1.claims, ["department"]);
    assert!(fields(1).contains(&"name") && fields(2).contains(&"name"));
    for at in [1, 2] {
        assert!(fields(at).contains(&"secrets.client_secret") && !fields(at).contains(&"tenant"));
        assert_eq!(routes[at].0.body.max, 64 * 1024);
    }
    let ProviderOperation::Update(id) = &routes[2].1.operation else {
        panic!()
    };
    assert_eq!(*id, ValueSource::Path("id".into()));
    assert!(
        routes
            .iter()
            .all(|(served, _)| served.answer.status == 200 && served.answer.body.is_some())
    );
    assert!(
        routes
            .iter()
            .map(|(served, _)| served.action.changes())
            .eq([false, true, true, true])
    );
}

#[test]
fn each_mistake_of_an_operation_on_providers_is_found() {
    let (update, one_web) = ("operation = \"update\"\nid = \"path.id\"", "[surfaces.people]");
    let two_web = "[surfaces.staff]\nkind = \"session_jwt\"\ntoken_kind = \"s\"\nsecrets = \"env:S2\"\nrecord = \"own\"\nlifetime = \"15m\"\n\n\
                   [surfaces.people]";
    let section = PROVIDERS.split_once("[surfaces.people]").unwrap().0;
    for (from, to, message) in [
        ("operation = \"list\"", "operation = \"lists\"", "operation"),
        ("operation = \"list\"", "", "operation"),
        (
            "methods = [\"GET\"]\npath = \"/providers\"",
            "methods = [\"POST\"]\npath = \"/p\"",
            "is for GET alone",
        ),
        ("methods = [\"PATCH\"]", "methods = [\"GET\"]", "a method that changes something"),
        (update, "operation = \"update\"", "which one?"),
        (update, "operation = \"update\"\nid = \"path.other\"", "no parameter `other`"),
        (
            update,
            "operation = \"update\"\nid = \"path.id\"\nsession = \"web\"",
            "from when it is made",
        ),
        (
            "operation = \"list\"",
            "operation = \"list\"\nid = \"=prv_1\"",
            "no provider in particular",
        ),
        (one_web, two_web, "on which surface are the sessions"),
        (
            "operation = \"create\"",
            "operation = \"create\"\nsession = \"people\"",
            "no surface of sessions",
        ),
        (
            "operation = \"create\"",
            "operation = \"create\"\naccount = \"web\"",
            "no surface of accounts",
        ),
        (
            "operation = \"create\"",
            "operation = \"create\"\nbody = { name = {} }",
            "those of the operator API",
        ),
        (
            "access = { surfaces = [\"web\"], scopes = [\"sso\"] }\nserve = \"providers\"\noperation = \"create\"",
            "access = \"public\"\nserve = \"providers\"\noperation = \"create\"",
            "nobody is known on a public route",
        ),
        (section, "", "need single sign-on"),
    ] {
        let text = PROVIDERS.replacen(from, to, 1);
        assert_ne!(text, PROVIDERS, "{from}");
        let found = messages(&text);
        assert!(found.iter().any(|own| own.contains(message)), "{message}: {found:?}");
    }
}

#[test]
fn a_template_sees_the_members_of_a_provider() {
    let with = |operation: &str, body: &str| {
        let from = format!("operation = \"{operation}\"");
        messages(&PROVIDERS.replacen(&from, &format!("{from}\nanswer.body = '{body}'"), 1))
    };
    for (operation, body) in [
        ("create", r#"{"id":{{ provider.id }},"settings":{{ provider.settings }}}"#),
        (
            "list",
            "[{% for one in items %}{{ one.kind }}{% if not loop.last %},{% endif %}{% endfor %}]",
        ),
        ("test", r#"{"ok":{{ test.passed }},"all":{{ test.checks }}}"#),
    ] {
        assert_eq!(with(operation, body), Vec::<String>::new(), "{body}");
    }
    for (operation, body) in [
        ("create", "{{ provider.secret }}"),
        ("create", "{{ credential.id }}"),
        ("list", "{{ provider.id }}"),
        ("test", "{{ provider.id }}"),
    ] {
        assert!(!with(operation, body).is_empty(), "{body}");
    }
}
