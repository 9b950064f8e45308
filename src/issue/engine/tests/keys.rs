//! Keys, pairs, tokens: minted, listed, ended, rotated, given roles.

use super::*;
use crate::base::principal::{CredentialState, Extras, RecordClaims};

fn named(mut mint: Mint) -> Mint {
    mint.name = Some(ValueSource::Body("name".into()));
    mint.mode = ModeSource::From(ValueSource::Body("mode".into()));
    mint.scopes = ScopeSource::From(ValueSource::Body("scopes".into()));
    mint
}

fn revoking(surface: SurfaceIndex, reach: Reach) -> Action {
    Action::Revoke {
        grants: ScopeSet::default(),
        surface,
        id: ValueSource::Path("id".into()),
        reach,
    }
}

async fn caller(bench: &Bench, held: &str, mode: Option<Mode>) -> CredentialRecord {
    bench
        .record("key", "key_caller", |record| {
            record.scopes = scopes(held);
            record.mode = mode;
        })
        .await
}

fn asking<'a>(caller: &'a CredentialRecord, path: &'a str, body: &'a str) -> Asking<'a> {
    Asking {
        caller: Some((KEY, caller)),
        path: ("/keys/{id}", path),
        body,
        replaced: None,
    }
}

#[tokio::test]
async fn a_key_is_shown_once_stored_hashed_and_found_by_what_was_shown() {
    let bench = Bench::new().await;
    let caller = caller(&bench, "read write", None).await;
    let body = r#"{"name":"ci","mode":"live","scopes":["read"]}"#;
    let (issued, told) = bench.run(minting(vec![named(mint(KEY))]), asking(&caller, "", body)).await.unwrap();
    let made = &told[0];
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("klive_"));
    assert_eq!((made["name"].as_str(), made["mode"].as_str()), (Some("ci"), Some("live")));
    assert_eq!(made["scopes"], json!(["read"]));
    assert_eq!(made["last4"].as_str().unwrap(), &key[key.len() - 4..]);
    assert_eq!(made["expires_at"], Json::Null);
    let stored = bench.find(made["id"].as_str().unwrap()).await;
    let pepper = Pepper::new(&[7; 32]).unwrap();
    assert_eq!(
        stored.fingerprint,
        pepper.fingerprint(&stored.surface, CredentialPart::Key, key.as_bytes())
    );
    assert!(!format!("{stored:?}").contains(&key[10..]));
    assert_eq!(issued.done, format!("mint key:{}", stored.id), "the access line names ids only");
}

#[tokio::test]
async fn a_list_never_shows_a_secret_another_tenant_or_what_has_ended() {
    let bench = Bench::new().await;
    let caller = caller(&bench, "", None).await;
    bench.record("key", "key_a", |r| r.last4 = "wxyz".into()).await;
    bench
        .record("key", "key_foreign", |r| r.tenant = TenantId::parse("other").unwrap())
        .await;
    bench.record("pair", "pair_a", |_| ()).await;
    let dead = bench.record("key", "key_dead", |_| ()).await;
    bench.store.change_credential(dead.id, CredentialChange::Revoke, NOW).await.unwrap();
    let list = Action::List {
        surface: KEY,
        reach: Reach::Tenant,
    };
    let (_, items) = bench.run(list, asking(&caller, "", "")).await.unwrap();
    let items = items.as_array().unwrap();
    let ids: Vec<&str> = items.iter().map(|i| i["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["key_a", "key_caller"]);
    assert!(
        items
            .iter()
            .all(|i| i["key"].is_null() && i["secret"].is_null() && i["token"].is_null())
    );
}

/// The ids of a list, and what its `Link` leads to.
async fn listed(bench: &Bench, caller: &CredentialRecord, query: &str) -> Result<(Vec<String>, Option<String>), IssueError> {
    let list = Action::List {
        surface: KEY,
        reach: Reach::Tenant,
    };
    let (issued, items) = bench.run_with(list, asking(caller, "", ""), Some(query)).await?;
    let items = items.as_array().unwrap().iter();
    let ids = items.map(|item| item["id"].as_str().unwrap().to_owned());
    let link = issued.fields.iter().find(|(name, _)| name == "Link");
    let next = link.map(|(_, value)| {
        let value = value.strip_prefix("<?").unwrap();
        value.strip_suffix(">; rel=\"next\"").unwrap().to_owned()
    });
    Ok((ids.collect(), next))
}

#[tokio::test]
async fn a_list_is_filtered_before_it_is_cut_and_says_what_follows() {
    let bench = Bench::new().await;
    let caller = caller(&bench, "", Some(Mode::Test)).await;
    for number in 0..60 {
        let mode = if number % 10 == 9 { Mode::Test } else { Mode::Live };
        bench.record("key", &format!("key_a{number:02}"), |r| r.mode = Some(mode)).await;
    }
    bench.record("session", "ses_1", |_| ()).await;
    let all = ["key_a09", "key_a19", "key_a29", "key_a39", "key_a49", "key_a59", "key_caller"];
    assert_eq!(listed(&bench, &caller, "").await.unwrap(), (all.map(str::to_owned).to_vec(), None));
    for limit in 1..=8 {
        let mut query = format!("limit={limit}");
        let mut seen = Vec::new();
        for turn in 0.. {
            let (ids, next) = listed(&bench, &caller, &query).await.unwrap();
            assert!(ids.len() <= limit && turn < 8, "{query}");
            seen.extend(ids);
            let Some(next) = next else { break };
            query = next;
        }
        assert_eq!(seen, all, "limit {limit}");
    }
    for bad in ["limit=0", "limit=1001", "after=a%20b", "page=2"] {
        assert_eq!(
            listed(&bench, &caller, bad).await.unwrap_err().denial,
            Denial::InvalidFields,
            "{bad}"
        );
    }
}

#[tokio::test]
async fn what_is_made_last_is_listed_first_and_imported_ids_are_listed_too() {
    let bench = Bench::new().await;
    let caller = caller(&bench, "", None).await;
    let mut made = Vec::new();
    for _ in 0..3 {
        let (_, told) = bench
            .run(minting(vec![named(mint(KEY))]), asking(&caller, "", r#"{"mode":"live"}"#))
            .await
            .unwrap();
        made.insert(0, told[0]["id"].as_str().unwrap().to_owned());
        bench.clock.advance(Duration::from_millis(2));
    }
    bench.record("key", "zz-imported", |_| ()).await;
    made.extend(["key_caller", "zz-imported"].map(str::to_owned));
    assert_eq!(listed(&bench, &caller, "").await.unwrap(), (made, None));
}

#[tokio::test]
async fn roles_and_scopes_are_cut_as_asked_and_a_tenants_own_scopes_are_known() {
    let bench = Bench::new().await;
    let caller = caller(&bench, "", None).await;
    let own = |id: &str, tenant: &str, words: &str| RoleRecord {
        id: RoleId::parse(id).unwrap(),
        tenant: Some(TenantId::parse(tenant).unwrap()),
        name: id.into(),
        description: None,
        scopes: scopes(words),
        created_at: NOW,
        epoch: 0,
    };
    bench.store.create_role(own("clerk", "acme", "invoices:read")).await.unwrap();
    bench.store.create_role(own("theirs", "other", "secret:read")).await.unwrap();
    let ids = async |action: fn() -> Action, query: &str| {
        let (issued, items) = bench.run_with(action(), asking(&caller, "", ""), Some(query)).await?;
        let link = issued.fields.iter().any(|(name, _)| name == "Link");
        let ids = items.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned());
        Ok::<_, IssueError>((ids.collect::<Vec<_>>(), link))
    };
    let (known, _) = ids(|| Action::ListScopes, "").await.unwrap();
    assert!(
        known.contains(&"invoices:read".to_owned()) && !known.contains(&"secret:read".to_owned()),
        "{known:?}"
    );
    for action in [|| Action::ListScopes, || Action::ListRoles] as [fn() -> Action; 2] {
        let (all, more) = ids(action, "").await.unwrap();
        assert!(all.len() > 1 && !more);
        let (first, more) = ids(action, "limit=1").await.unwrap();
        assert_eq!((&first[..], more), (&all[..1], true));
        let (rest, more) = ids(action, &format!("after={}", first[0])).await.unwrap();
        assert_eq!((&rest[..], more), (&all[1..], false));
        assert_eq!(ids(action, "after=nothing").await.unwrap_err().denial, Denial::InvalidFields);
        assert_eq!(ids(action, "x=1").await.unwrap_err().denial, Denial::InvalidFields);
    }
}

#[tokio::test]
async fn a_key_grants_only_what_it_holds_or_what_the_route_gives() {
    let bench = Bench::new().await;
    let caller = caller(&bench, "read", None).await;
    let judge = |grants: &str, body: &'static str| {
        let mut one = named(mint(KEY));
        one.grants = scopes(grants);
        bench.run(minting(vec![one]), asking(&caller, "", body))
    };
    assert!(judge("", r#"{"mode":"test","scopes":["read"]}"#).await.is_ok());
    let refused = judge("", r#"{"mode":"test","scopes":["read","write"]}"#).await.unwrap_err();
    assert_eq!(refused.denial, Denial::InsufficientScope);
    assert!(judge("write", r#"{"mode":"test","scopes":["read","write"]}"#).await.is_ok());
    assert_eq!(bench.count("key").await, 3, "the refused one was not made");
}

#[tokio::test]
async fn a_test_key_makes_sees_and_ends_nothing_live() {
    let bench = Bench::new().await;
    let caller = caller(&bench, "", Some(Mode::Test)).await;
    bench.record("key", "key_live", |r| r.mode = Some(Mode::Live)).await;
    let make = |body| bench.run(minting(vec![named(mint(KEY))]), asking(&caller, "", body));
    let refused = make(r#"{"mode":"live"}"#).await.unwrap_err();
    assert_eq!(refused.denial, Denial::InvalidFields);
    let details = refused.details.unwrap();
    let (field, messages) = details.iter().next().unwrap();
    assert_eq!((field, messages), ("mode", &["The selected mode is invalid.".to_owned()][..]));
    assert!(make(r#"{"mode":"test"}"#).await.is_ok());
    let revoked = bench.run(revoking(KEY, Reach::Tenant), asking(&caller, "/keys/key_live", "")).await;
    assert_eq!(revoked.unwrap_err().denial, Denial::NotFound);
    let list = Action::List {
        surface: KEY,
        reach: Reach::Tenant,
    };
    let (_, items) = bench.run(list, asking(&caller, "", "")).await.unwrap();
    assert!(!items.to_string().contains("key_live"));
}

#[tokio::test]
async fn revoking_ends_what_is_in_reach_and_nothing_else() {
    let bench = Bench::new().await;
    let caller = caller(&bench, "", None).await;
    for (id, tid) in [("key_1", "tx_1"), ("key_2", "tx_2")] {
        let claims = RecordClaims::new([("tid".to_owned(), ClaimValue::Text(tid.into()))]).unwrap();
        let extras = Extras {
            claims,
            ..Extras::default()
        };
        bench.record("key", id, |r| r.extras = extras.boxed()).await;
    }
    bench
        .record("key", "key_foreign", |r| r.tenant = TenantId::parse("other").unwrap())
        .await;
    let revoke = |reach: Reach, pattern: &'static str, path: &'static str| {
        let asking = Asking {
            path: (pattern, path),
            ..asking(&caller, "", "")
        };
        bench.run(revoking(KEY, reach), asking)
    };
    let claim = || Reach::Claim {
        claim: "tid".into(),
        from: ValueSource::Path("tx".into()),
    };
    let wrong = revoke(claim(), "/{tx}/{id}", "/tx_1/key_2").await;
    assert_eq!(wrong.unwrap_err().denial, Denial::NotFound, "of another transaction");
    assert!(revoke(claim(), "/{tx}/{id}", "/tx_2/key_2").await.is_ok());
    assert!(matches!(bench.find("key_2").await.state, CredentialState::Revoked { .. }));
    assert_eq!(bench.find("key_1").await.state, CredentialState::Active);
    let named = || Reach::TenantNamed("t".into());
    for (path, denial) in [
        ("/other/key_foreign", Denial::ForeignTenant),
        ("/other/key_1", Denial::ForeignTenant),
        ("/acme/key_foreign", Denial::NotFound),
        ("/acme/key_nobody", Denial::NotFound),
        ("/acme/%00", Denial::NotFound),
    ] {
        assert_eq!(revoke(named(), "/{t}/{id}", path).await.unwrap_err().denial, denial, "{path}");
    }
    let children = revoke(Reach::Children, "/{id}", "/key_1").await;
    assert_eq!(children.unwrap_err().denial, Denial::NotFound);
    assert!(revoke(named(), "/{t}/{id}", "/acme/key_1").await.is_ok());
}

#[tokio::test]
async fn both_of_a_rotated_pair_work_until_the_grace_is_over() {
    let bench = Bench::new().await;
    let caller = bench.record("pair", "pair_1", |r| r.mode = Some(Mode::Live)).await;
    let rotate = Action::Rotate {
        grants: ScopeSet::default(),
        surface: PAIR,
        id: ValueSource::Path("id".into()),
        reach: Reach::Tenant,
        grace: Some(Duration::from_secs(60)),
    };
    let asking = Asking {
        caller: Some((PAIR, &caller)),
        ..asking(&caller, "/keys/pair_1", "")
    };
    let (_, told) = bench.run(rotate, asking).await.unwrap();
    assert!(told[0]["key"].as_str().unwrap().starts_with("pk_live_"));
    assert!(told[0]["secret"].as_str().unwrap().starts_with("sk_live_"));
    assert_eq!(bench.find("pair_1").await.expires_at, Some(NOW.plus(Duration::from_secs(60))));
    let new = bench.find(told[0]["id"].as_str().unwrap()).await;
    assert_eq!((new.expires_at, new.mode), (None, Some(Mode::Live)));
    assert_ne!(new.fingerprint, caller.fingerprint);
}

#[tokio::test]
async fn nobody_rotates_a_key_that_can_do_more_than_he_can() {
    let bench = Bench::new().await;
    let caller = caller(&bench, "keys", None).await;
    bench
        .record("key", "key_admin", |r| {
            r.scopes = scopes("everything");
            r.mode = Some(Mode::Live);
        })
        .await;
    let rotate = Action::Rotate {
        grants: ScopeSet::default(),
        surface: KEY,
        id: ValueSource::Path("id".into()),
        reach: Reach::Tenant,
        grace: None,
    };
    let refused = bench.run(rotate, asking(&caller, "/keys/key_admin", "")).await;
    assert_eq!(refused.unwrap_err().denial, Denial::InsufficientScope);
    assert_eq!(bench.count("key").await, 2);
}

#[tokio::test]
async fn roles_are_given_only_within_what_the_giver_holds() {
    let bench = Bench::new().await;
    let caller = caller(&bench, "read keys", None).await;
    bench.record("key", "key_new", |_| ()).await;
    let set = |names: &'static [&'static str]| {
        let ids: Vec<String> = names.iter().map(|n| RoleId::of_name(n).as_str().to_owned()).collect();
        let (bench, caller) = (&bench, &caller);
        async move {
            let action = Action::SetRoles {
                grants: ScopeSet::default(),
                surface: KEY,
                id: ValueSource::Path("id".into()),
                roles: "role_ids".into(),
                reach: Reach::Tenant,
            };
            let body = json!({ "role_ids": ids }).to_string();
            bench.run(action, asking(caller, "/keys/key_new", &body)).await
        }
    };
    let (_, told) = set(&["viewer"]).await.unwrap();
    assert_eq!(told[0]["roles"], json!([RoleId::of_name("viewer").as_str()]));
    assert_eq!(bench.find("key_new").await.roles(), [RoleId::of_name("viewer")]);
    assert_eq!(set(&["admin"]).await.unwrap_err().denial, Denial::InsufficientScope);
    assert_eq!(set(&["nobody"]).await.unwrap_err().denial, Denial::InvalidFields);
    assert_eq!(bench.find("key_new").await.roles(), [RoleId::of_name("viewer")], "as it was");
    set(&[]).await.unwrap();
    assert!(bench.find("key_new").await.roles().is_empty());
}

#[tokio::test]
async fn a_token_lives_as_asked_within_its_longest_and_never_beyond_its_parent() {
    let bench = Bench::new().await;
    let caller = bench
        .record("key", "key_caller", |r| {
            r.mode = Some(Mode::Test);
            r.expires_at = Some(NOW.plus(Duration::from_secs(1_000)));
        })
        .await;
    let made = |body: &'static str| {
        let mut one = mint(KEY);
        one.parent = ParentSource::Caller;
        one.lifetime = MintLifetime {
            default: Some(Duration::from_secs(600)),
            max: Some(Duration::from_secs(5_000)),
            from: Some(ValueSource::Body("expires_in".into())),
        };
        bench.run(minting(vec![one]), asking(&caller, "", body))
    };
    assert_eq!(made("{}").await.unwrap().1[0]["expires_in"], json!(600));
    assert_eq!(made(r#"{"expires_in":60}"#).await.unwrap().1[0]["expires_in"], json!(60));
    assert_eq!(
        made(r#"{"expires_in":5000}"#).await.unwrap().1[0]["expires_in"],
        json!(1000),
        "the parent's end"
    );
    let refused = made(r#"{"expires_in":5001}"#).await.unwrap_err();
    assert_eq!(refused.denial, Denial::InvalidFields);
    let details = refused.details.unwrap();
    assert_eq!(
        details.iter().next().unwrap().1,
        ["The expires in field must not be greater than 5000."]
    );
}

#[tokio::test]
async fn nothing_is_made_when_what_it_would_hang_on_has_ended() {
    let bench = Bench::new().await;
    let caller = caller(&bench, "", Some(Mode::Test)).await;
    let client = bench.record("account", "acc_client", |_| ()).await;
    let made = || {
        let mut one = mint(KEY);
        one.parent = ParentSource::Record {
            surface: ACCOUNT,
            id: ValueSource::Path("id".into()),
        };
        one.subject = Some(ValueSource::Parent(RecordFact::Id));
        bench.run(minting(vec![one]), asking(&caller, "/keys/acc_client", ""))
    };
    assert_eq!(made().await.unwrap().1[0]["subject"], json!("acc_client"));
    bench
        .store
        .change_credential(client.id, CredentialChange::Revoke, NOW)
        .await
        .unwrap();
    assert_eq!(made().await.unwrap_err().denial, Denial::NotFound);
    assert_eq!(bench.count("key").await, 2);
}

#[tokio::test]
async fn several_are_made_together_or_not_at_all() {
    let bench = Bench::new().await;
    let caller = caller(&bench, "", Some(Mode::Test)).await;
    let action = |grants: &str| {
        let mut second = mint(KEY);
        second.parent = ParentSource::Minted(0);
        second.scopes = ScopeSource::Fixed(scopes("portal"));
        second.grants = scopes(grants);
        minting(vec![mint(ACCOUNT), second])
    };
    let refused = bench.run(action(""), asking(&caller, "", "")).await.unwrap_err();
    assert_eq!(refused.denial, Denial::InsufficientScope);
    assert_eq!(bench.count("account").await, 0, "the first was not kept");
    let (_, told) = bench.run(action("portal"), asking(&caller, "", "")).await.unwrap();
    let key = bench.find(told[1]["id"].as_str().unwrap()).await;
    assert_eq!(key.parent().unwrap().id.as_str(), told[0]["id"].as_str().unwrap());
}
