//! A tenant's administrators and its identity providers: what they make and change, what of others they cannot, and that nothing
//! gives them more than they have.

use super::*;
use crate::base::principal::CredentialState;
use crate::sign_on::directory::MAX_PROVIDERS_OF_TENANT;
use crate::sign_on::management::ProviderManagement;
use crate::sign_on::management::authority::ProviderAuthority;
use crate::sign_on::management::forms::UpdateProvider;
use crate::snapshot::provider_route::{ProviderOperation, ProviderRoute, ProviderSurfaces};

const NEW: &str = r#"{"name":"Acme","settings":{"provision":true,"protocol":{"oidc":{"issuer":"https://login.example","client_id":"c"}}},
    "secrets":{"client_secret":"canary-secret"}}"#;

fn on_one(operation: fn(ValueSource) -> ProviderOperation) -> Action {
    route(operation(ValueSource::Path("id".into())))
}

fn route(operation: ProviderOperation) -> Action {
    Action::Providers(Box::new(ProviderRoute {
        operation,
        grants: scopes("granted"),
        claims: vec!["department".into()],
    }))
}

fn create() -> Action {
    route(ProviderOperation::Create(ProviderSurfaces {
        session: "session".into(),
        account: "account".into(),
    }))
}

/// A tenant with an administrator who may `sso` and `read`.
struct House {
    bench: Bench,
    admin: CredentialRecord,
}

impl House {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let admin = bench
            .record("account", "acc_admin", |record| record.scopes = scopes("sso read"))
            .await;
        Self { bench, admin }
    }

    async fn run(&self, action: Action, caller: &CredentialRecord, id: &str, body: &str) -> Result<(Issued, Json), IssueError> {
        let path = format!("/p/{id}");
        let asking = Asking {
            caller: Some((ACCOUNT, caller)),
            path: ("/p/{id}", &path),
            body,
            ..Asking::default()
        };
        self.bench.run(action, asking).await
    }

    async fn own(&self, action: Action, id: &str, body: &str) -> Result<(Issued, Json), IssueError> {
        self.run(action, &self.admin, id, body).await
    }

    async fn refused(&self, action: Action, id: &str, body: &str) -> IssueError {
        self.own(action, id, body).await.unwrap_err()
    }

    /// A provider that the administrator made.
    async fn made(&self) -> String {
        let (_, made) = self.own(create(), "", NEW).await.unwrap();
        made["id"].as_str().unwrap().to_owned()
    }

    /// What an operator does, who may give everything.
    async fn operator(&self, id: &str, update: &UpdateProvider) {
        let snapshot = snapshot(ServedRoute {
            action: Action::ListRoles,
            body: BodySchema::default(),
            answer: AnswerSpec {
                status: 204,
                body: None,
                headers: Vec::new(),
            },
            hook: None,
        });
        let peppers = peppers();
        let management = ProviderManagement {
            store: &*self.bench.store,
            peppers: &peppers,
            clock: &*self.bench.clock,
            snapshot: &snapshot,
            client: &crate::sign_on::http::ProviderClient::default(),
            verifier: &crate::sign_on::saml::SamlVerifier::of_this_program(),
            authority: &ProviderAuthority::Operator,
        };
        let planned = management.plan_update(id, update).await.unwrap();
        self.bench.store.create(planned.new, NOW).await.unwrap();
    }

    async fn state(&self, id: &str) -> CredentialState {
        self.bench.find(id).await.state
    }
}

fn details(error: &IssueError) -> Vec<&str> {
    error
        .details
        .iter()
        .flat_map(|errors| errors.iter().map(|(field, _)| field))
        .collect()
}

#[tokio::test]
async fn an_administrator_makes_changes_and_ends_a_provider_of_their_tenant() {
    let house = House::new().await;
    let (issued, made) = house.own(create(), "", NEW).await.unwrap();
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        (&made["tenant"], &made["kind"], &made["state"]),
        (&json!("acme"), &json!("oidc"), &json!("active"))
    );
    assert_eq!(
        (&made["settings"]["session"], &made["settings"]["account"]),
        (&json!("session"), &json!("account"))
    );
    assert_eq!(made["settings"]["protocol"]["oidc"]["client_secret_sealed"], "sealed");
    assert!(!made.to_string().contains("canary"), "{made}");
    assert_eq!(
        issued.done,
        format!("providers.create provider:{id} provider_settings:{id}:settings")
    );

    let (_, shown) = house.own(on_one(ProviderOperation::Show), id, "").await.unwrap();
    assert_eq!(shown, made);
    let (_, listed) = house.own(route(ProviderOperation::List), "", "").await.unwrap();
    assert_eq!(listed[0]["id"], made["id"]);

    let patch = r#"{"settings":{"protocol":{"oidc":{"client_id":"other"}}},"scopes":["read","granted"]}"#;
    let (_, changed) = house.own(on_one(ProviderOperation::Update), id, patch).await.unwrap();
    assert_eq!(changed["settings"]["protocol"]["oidc"]["client_id"], "other");
    assert_eq!(changed["scopes"], json!(["read", "granted"]));
    assert_eq!(house.bench.find(id).await.scopes, scopes("read granted"));

    for (operation, state) in [
        (ProviderOperation::Disable as fn(_) -> _, CredentialState::Disabled),
        (ProviderOperation::Enable, CredentialState::Active),
    ] {
        house.own(on_one(operation), id, "").await.unwrap();
        assert_eq!(house.state(id).await, state);
    }
    let (_, deleted) = house.own(on_one(ProviderOperation::Delete), id, "").await.unwrap();
    assert_eq!(deleted["state"], "revoked");
    assert!(matches!(house.state(id).await, CredentialState::Revoked { .. }));
    let settings = house.bench.find(&format!("{id}:settings")).await;
    assert!(!settings.settings().unwrap().contains("client_secret_sealed"));
    for operation in [
        ProviderOperation::Update as fn(_) -> _,
        ProviderOperation::Enable,
        ProviderOperation::Disable,
    ] {
        let refused = house.refused(on_one(operation), id, "{}").await;
        assert_eq!(refused.denial, Denial::NotFound, "what is deleted is gone");
    }
}

#[tokio::test]
async fn b32_a_provider_of_another_tenant_looks_as_if_it_did_not_exist() {
    let house = House::new().await;
    let id = house.made().await;
    let stranger = house
        .bench
        .record("account", "acc_other", |record| {
            record.tenant = TenantId::parse("other").unwrap();
            record.scopes = scopes("sso read");
        })
        .await;
    for operation in [
        ProviderOperation::Show as fn(_) -> _,
        ProviderOperation::Update,
        ProviderOperation::Test,
        ProviderOperation::Disable,
        ProviderOperation::Enable,
        ProviderOperation::Delete,
    ] {
        for (caller, id) in [
            (&stranger, id.as_str()),
            (&house.admin, "prv_none"),
            (&house.admin, "acc_admin"),
            (&house.admin, "%2F"),
        ] {
            let refused = house.run(on_one(operation), caller, id, "{}").await.unwrap_err();
            assert_eq!((refused.denial, refused.details), (Denial::NotFound, None), "{id}");
        }
    }
    let (_, listed) = house.run(route(ProviderOperation::List), &stranger, "", "").await.unwrap();
    assert_eq!(listed, json!([]));
    assert_eq!(house.state(&id).await, CredentialState::Active);
}

#[tokio::test]
async fn b30_nobody_gives_a_provider_more_than_they_have_by_scopes_roles_or_the_table() {
    let house = House::new().await;
    let id = house.made().await;
    let table = |row: &str| format!(r#"{{"settings":{{"roles":{{"claim":"groups","table":[{{"value":"a",{row}}}]}}}}}}"#);
    for (body, may) in [
        (r#"{"scopes":["read"]}"#.to_owned(), true),
        (r#"{"scopes":["granted"]}"#.to_owned(), true),
        (r#"{"roles":["viewer"]}"#.to_owned(), true),
        (table(r#""roles":["viewer"]"#), true),
        (table(r#""scopes":["sso"]"#), true),
        (r#"{"scopes":["write"]}"#.to_owned(), false),
        (r#"{"scopes":["read","keys"]}"#.to_owned(), false),
        (r#"{"roles":["admin"]}"#.to_owned(), false),
        (table(r#""roles":["admin"]"#), false),
        (table(r#""scopes":["write"]"#), false),
    ] {
        let update = house.own(on_one(ProviderOperation::Update), &id, &body).await;
        let body_of_new = NEW.replacen(
            '{',
            &format!("{},", body.trim_end_matches('}').replace("\"settings\":{", "\"x\":{")),
            1,
        );
        assert_eq!(update.is_ok(), may, "{body}: {update:?}");
        if let Err(refused) = update {
            assert_eq!(refused.denial, Denial::InsufficientScope, "{body}");
            assert_eq!(refused.cause.unwrap().label, "above_administrator");
            if body.starts_with("{\"scopes") || body.starts_with("{\"roles") {
                let new = house.refused(create(), "", &body_of_new).await;
                assert_eq!(new.denial, Denial::InsufficientScope, "{body_of_new}");
            }
        }
    }
    let unknown = house
        .refused(on_one(ProviderOperation::Update), &id, r#"{"roles":["nobody"]}"#)
        .await;
    assert_eq!(details(&unknown), ["roles"]);
}

#[tokio::test]
async fn b30_a_provider_above_its_administrator_is_disabled_by_them_and_nothing_else() {
    let house = House::new().await;
    let id = house.made().await;
    let above = UpdateProvider {
        roles: Some(vec!["admin".into()]),
        ..UpdateProvider::default()
    };
    house.operator(&id, &above).await;
    let attempts = [
        (ProviderOperation::Update as fn(_) -> _, r#"{"roles":[]}"#),
        (
            ProviderOperation::Update,
            r#"{"settings":{"protocol":{"oidc":{"issuer":"https://evil.example"}}},"secrets":{"client_secret":"x"}}"#,
        ),
        (ProviderOperation::Update, "{}"),
        (ProviderOperation::Enable, ""),
        (ProviderOperation::Delete, ""),
    ];
    for (operation, body) in attempts {
        let refused = house.refused(on_one(operation), &id, body).await;
        assert_eq!(refused.denial, Denial::InsufficientScope, "{body}");
    }
    house.own(on_one(ProviderOperation::Show), &id, "").await.unwrap();
    house.own(on_one(ProviderOperation::Disable), &id, "").await.unwrap();
    assert_eq!(house.state(&id).await, CredentialState::Disabled);
    assert_eq!(
        house.refused(on_one(ProviderOperation::Enable), &id, "").await.denial,
        Denial::InsufficientScope
    );
    // Whoever may do as much may change it.
    let chief = house
        .bench
        .record("account", "acc_chief", |record| record.scopes = scopes("sso read write keys"))
        .await;
    house.run(on_one(ProviderOperation::Enable), &chief, &id, "").await.unwrap();
    house.run(on_one(ProviderOperation::Update), &chief, &id, "{}").await.unwrap();
}

#[tokio::test]
async fn b30_a_provider_that_keeps_a_claim_of_the_operators_is_not_the_administrators_to_change() {
    let house = House::new().await;
    let id = house.made().await;
    let keep = |claim: &str| serde_json::from_value(json!({ "settings": { "claims": [claim] } })).unwrap();
    let claim = r#"{"settings":{"claims":["participant"]}}"#;
    assert_eq!(
        details(&house.refused(on_one(ProviderOperation::Update), &id, claim).await),
        ["settings.claims"]
    );
    house.operator(&id, &keep("department")).await;
    house.own(on_one(ProviderOperation::Update), &id, "{}").await.unwrap();
    house.operator(&id, &keep("participant")).await;
    assert_eq!(
        house.refused(on_one(ProviderOperation::Update), &id, "{}").await.denial,
        Denial::InsufficientScope
    );
}

#[tokio::test]
async fn b32_an_administrator_claims_no_domain_and_keeps_those_of_the_operator() {
    let house = House::new().await;
    let with_domain = NEW.replacen("\"provision\":true", "\"provision\":true,\"domains\":[\"acme.example\"]", 1);
    assert_eq!(details(&house.refused(create(), "", &with_domain).await), ["settings.domains"]);
    let id = house.made().await;
    let domains: UpdateProvider = serde_json::from_value(json!({ "settings": { "domains": ["acme.example"] } })).unwrap();
    house.operator(&id, &domains).await;
    for body in [
        r#"{"settings":{"domains":["acme.example","other.example"]}}"#,
        r#"{"settings":{"domains":[]}}"#,
        r#"{"settings":{"domains":null}}"#,
    ] {
        let refused = house.refused(on_one(ProviderOperation::Update), &id, body).await;
        assert_eq!(details(&refused), ["settings.domains"], "{body}");
    }
    let (_, changed) = house
        .own(on_one(ProviderOperation::Update), &id, r#"{"settings":{"provision":false}}"#)
        .await
        .unwrap();
    assert_eq!(changed["settings"]["domains"], json!(["acme.example"]));
}

#[tokio::test]
async fn b31_another_issuer_needs_the_secret_anew() {
    let house = House::new().await;
    let id = house.made().await;
    let elsewhere = r#"{"settings":{"protocol":{"oidc":{"issuer":"https://evil.example"}}}"#;
    let kept = house
        .refused(on_one(ProviderOperation::Update), &id, &format!("{elsewhere}}}"))
        .await;
    assert_eq!(details(&kept), ["secrets.client_secret"]);
    let anew = format!(r#"{elsewhere},"secrets":{{"client_secret":"another"}}}}"#);
    house.own(on_one(ProviderOperation::Update), &id, &anew).await.unwrap();
}

/// A call under a configuration with `[sign_on]`, which admits public addresses alone.
async fn guarded(house: &House, action: Action, id: &str, body: &str) -> Result<Json, IssueError> {
    let path = format!("/p/{id}");
    let asking = Asking {
        caller: Some((ACCOUNT, &house.admin)),
        path: ("/p/{id}", &path),
        body,
        ..Asking::default()
    };
    let mut call = house.bench.call(action, asking, None).await?;
    let Action::SignOn(of_sign_on) = super::sign_on::action() else {
        panic!()
    };
    let snapshot = Arc::get_mut(&mut call.snapshot).unwrap();
    snapshot.sign_on = Some(of_sign_on.settings.clone());
    // A sign-on by OpenID Connect has a route to return to.
    snapshot.served_routes.push(ServedRoute {
        action: Action::SignOn(of_sign_on),
        body: BodySchema::default(),
        answer: AnswerSpec {
            status: 204,
            body: None,
            headers: Vec::new(),
        },
        hook: None,
    });
    let issued = house.bench.engine.serve(call).await?;
    Ok(serde_json::from_slice(issued.body.as_deref().unwrap()).unwrap())
}

#[tokio::test]
async fn b33_addresses_of_the_operators_network_are_refused_by_name_and_by_number() {
    let house = House::new().await;
    for host in ["127.0.0.1", "10.0.0.1:8443", "169.254.169.254", "[::1]", "[fd00::1]"] {
        let body = NEW.replacen("login.example", host, 1);
        let refused = guarded(&house, create(), "", &body).await.unwrap_err();
        assert_eq!(details(&refused), ["settings.protocol.oidc.issuer"], "{host}");
        let metadata = NEW.replacen("\"name\"", &format!("\"metadata_url\":\"https://{host}/m\",\"name\""), 1);
        let refused = guarded(&house, create(), "", &metadata).await.unwrap_err();
        assert_eq!(details(&refused), ["metadata_url"], "{host}");
    }
    let body = NEW.replacen("login.example", "localhost:9", 1);
    let made = guarded(&house, create(), "", &body).await.unwrap();
    let test = guarded(&house, on_one(ProviderOperation::Test), made["id"].as_str().unwrap(), "")
        .await
        .unwrap();
    assert_eq!(test["passed"], false);
    assert!(test["checks"].to_string().contains("no public address"), "{test}");
    assert!(guarded(&house, create(), "", NEW).await.is_ok(), "an address of the internet");
}

#[tokio::test]
async fn what_is_wrong_with_a_provider_is_told_by_field_and_makes_nothing() {
    let house = House::new().await;
    for (from, to, field) in [
        ("https://login.example", "http://login.example", "settings.protocol.oidc.issuer"),
        ("\"provision\":true", "\"session\":\"dashboard\"", "settings.session"),
        ("\"provision\":true", "\"account\":\"key\"", "settings.session"),
        ("\"provision\":true", "\"tenant\":\"other\"", "settings"),
        (
            "\"client_id\":\"c\"",
            "\"client_id\":\"c\",\"client_secret_sealed\":\"v1.x.y\"",
            "settings",
        ),
        (
            "\"client_secret\":\"canary-secret\"",
            "\"private_key\":\"canary-secret\"",
            "secrets.private_key",
        ),
        ("\"name\":\"Acme\"", "\"tenant\":\"other\"", "tenant"),
        ("\"name\":\"Acme\"", "\"metadata\":[1]", "metadata"),
        ("\"name\":\"Acme\"", "\"scopes\":[\"no scope\"]", "scopes"),
    ] {
        let body = NEW.replacen(from, to, 1);
        assert_ne!(body, NEW, "{from}");
        let refused = house.refused(create(), "", &body).await;
        assert_eq!((refused.denial, details(&refused)), (Denial::InvalidFields, vec![field]), "{to}");
        assert!(!format!("{refused:?}").contains("canary"), "{refused:?}");
    }
    assert_eq!(house.bench.count("provider").await, 0);
}

#[tokio::test]
async fn b30_a_caller_of_one_mode_only_sees_and_disables() {
    let house = House::new().await;
    let id = house.made().await;
    let key = house
        .bench
        .record("key", "key_test", |record| {
            record.mode = Some(Mode::Test);
            record.scopes = scopes("sso read write keys");
        })
        .await;
    let run = |action: Action, body: &'static str| {
        let (house, key, path) = (&house, &key, format!("/p/{id}"));
        async move {
            let asking = Asking {
                caller: Some((KEY, key)),
                path: ("/p/{id}", &path),
                body,
                ..Asking::default()
            };
            house.bench.run(action, asking).await.map(|_| ()).map_err(|error| error.denial)
        }
    };
    assert_eq!(run(create(), NEW).await, Err(Denial::InsufficientScope));
    for operation in [
        ProviderOperation::Update as fn(_) -> _,
        ProviderOperation::Enable,
        ProviderOperation::Delete,
    ] {
        assert_eq!(run(on_one(operation), "{}").await, Err(Denial::InsufficientScope));
    }
    assert_eq!(run(on_one(ProviderOperation::Show), "").await, Ok(()));
    assert_eq!(run(on_one(ProviderOperation::Disable), "").await, Ok(()));
}

#[tokio::test]
async fn a_tenant_has_a_bounded_number_of_providers() {
    let house = House::new().await;
    let mut last = String::new();
    for _ in 0..MAX_PROVIDERS_OF_TENANT {
        last = house.made().await;
    }
    assert_eq!(house.refused(create(), "", NEW).await.denial, Denial::TooManyCredentials);
    house.own(on_one(ProviderOperation::Delete), &last, "").await.unwrap();
    house.made().await;
}

#[tokio::test]
async fn whoever_lost_their_right_meanwhile_changes_nothing() {
    let house = House::new().await;
    let id = house.made().await;
    let path = format!("/p/{id}");
    let asking = || Asking {
        caller: Some((ACCOUNT, &house.admin)),
        path: ("/p/{id}", &path),
        body: "{}",
        ..Asking::default()
    };
    let mut calls = Vec::new();
    for operation in [
        ProviderOperation::Show as fn(_) -> _,
        ProviderOperation::Update,
        ProviderOperation::Disable,
        ProviderOperation::Delete,
        ProviderOperation::Test,
    ] {
        calls.push(house.bench.call(on_one(operation), asking(), None).await.unwrap());
    }
    let admin = house.admin.id.clone();
    house
        .bench
        .store
        .change_credential(admin, CredentialChange::Disable, NOW)
        .await
        .unwrap();
    for call in calls {
        assert!(house.bench.engine.serve(call).await.unwrap_err().stale);
    }
    assert_eq!(house.state(&id).await, CredentialState::Active);
}
