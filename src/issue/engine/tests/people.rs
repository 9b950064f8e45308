//! Accounts and their sessions: sign-up, sessions signed and stored, log-out, passwords.

use super::*;
use crate::base::login::login_fingerprint;
use crate::base::principal::{CredentialState, Extras, Parent};
use crate::decide::token::{TokenKeys, TokenRules};
use crate::decide::validity;
use crate::issue::password::verify_password;
use crate::issue::throttle::AttemptKind;
use crate::issue::token::renew;
use crate::store::CredentialFilter;

fn rules(index: SurfaceIndex) -> TokenRules {
    let (secret, kind) = if index == DASHBOARD { (1, "dashboard") } else { (2, "session") };
    let mut rules = samples::token_rules(&[secret; 32], kind);
    rules.scopes_claim = None;
    rules
}

fn sign_up() -> Action {
    let mut account = mint(ACCOUNT);
    account.login = Some(ValueSource::Body("email".into()));
    account.password = Some(ValueSource::Body("password".into()));
    let mut session = mint(DASHBOARD);
    session.parent = ParentSource::Minted(0);
    session.claims = vec![("email".into(), ValueSource::Parent(RecordFact::Login))];
    session.lifetime.default = Some(Duration::from_secs(7 * 86_400));
    Action::Mint {
        tenant: TenantSource::New,
        mints: vec![account, session],
        cookie: None,
    }
}

fn log_in(surface: SurfaceIndex) -> Action {
    let mut session = mint(surface);
    session.parent = ParentSource::Caller;
    session.lifetime.default = Some(Duration::from_secs(43_200));
    Action::Mint {
        tenant: TenantSource::Caller,
        mints: vec![session],
        cookie: (surface == SESSION).then_some(0),
    }
}

fn claims_of(token: &str) -> Json {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn by(record: &CredentialRecord) -> Asking<'_> {
    Asking {
        caller: Some((ACCOUNT, record)),
        ..Asking::default()
    }
}

fn said(body: &str) -> Asking<'_> {
    Asking { body, ..Asking::default() }
}

#[tokio::test]
async fn sign_up_makes_a_tenant_an_account_and_a_session_that_verifies() {
    let bench = Bench::new().await;
    let body = r#"{"email":"Ann@Example.com","password":"correct horse"}"#;
    let (issued, told) = bench.run(sign_up(), said(body)).await.unwrap();
    let account = bench.find(told[0]["id"].as_str().unwrap()).await;
    assert_eq!(account.login(), Some("Ann@Example.com"));
    let pepper = Pepper::new(&[7; 32]).unwrap();
    assert_eq!(account.fingerprint, login_fingerprint(&pepper, &account.surface, "ann@example.com"));
    let hash = account.extras.as_ref().unwrap().password.as_ref().unwrap();
    assert_eq!(verify_password(hash.expose(), "correct horse"), Ok(true));
    assert!(bench.store.find_tenant(account.tenant.clone()).await.unwrap().unwrap().active);
    let token = told[1]["token"].as_str().unwrap();
    let verified = rules(DASHBOARD).verify(token.as_bytes(), NOW).unwrap();
    assert_eq!(verified.record, account.id);
    let claims = claims_of(token);
    assert_eq!(claims["email"], json!("Ann@Example.com"));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 7 * 86_400);
    assert_eq!(claims["kind"], json!("dashboard"));
    assert!(!format!("{issued:?}{told}").contains("correct horse"));
    assert!(!told.to_string().contains("argon2"));

    let again = bench.run(sign_up(), said(body)).await.unwrap_err();
    assert_eq!(again.denial, Denial::Taken, "an address has one account");
    assert_eq!(bench.count("account").await, 1);
    let tenants = bench.store.list_tenants(None, 100).await.unwrap();
    assert_eq!(tenants.len(), 3, "no tenant was left behind");
}

#[tokio::test]
async fn an_address_has_one_account_whatever_pepper_is_first() {
    let mut bench = Bench::new().await;
    let body = r#"{"email":"Ann@Example.com","password":"correct horse"}"#;
    bench.run(sign_up(), said(body)).await.unwrap();
    let both = Peppers::new([8, 7].map(|byte| Pepper::new(&[byte; 32]).unwrap()).to_vec()).unwrap();
    bench.engine = engine(&bench.store, both, &bench.clock);
    let again = bench.run(sign_up(), said(&body.to_lowercase())).await.unwrap_err();
    assert_eq!(again.denial, Denial::Taken);
    assert_eq!(bench.count("account").await, 1);
    bench.run(sign_up(), said(&body.replace("Ann", "Bob"))).await.unwrap();
    assert_eq!(bench.count("account").await, 2);
}

#[tokio::test]
async fn a_session_with_a_record_is_named_by_jti_and_its_token_ends_before_it() {
    let bench = Bench::new().await;
    let account = bench.record("account", "acc_1", |_| ()).await;
    let (issued, told) = bench.run(log_in(SESSION), by(&account)).await.unwrap();
    let token = told[0]["token"].as_str().unwrap();
    let verified = rules(SESSION).verify_own(token.as_bytes(), NOW).unwrap();
    let record = bench.find(verified.record.as_str()).await;
    assert_eq!(record.parent().unwrap().id, account.id);
    assert_eq!(record.expires_at, Some(NOW.plus(Duration::from_secs(43_200))));
    assert_eq!(verified.subject.as_str(), "acc_1");
    assert_eq!(told[0]["expires_in"], json!(900), "the token's end, not the record's");
    let cookie = &issued.fields.iter().find(|(name, _)| name == "Set-Cookie").unwrap().1;
    assert_eq!(*cookie, format!("__Host-s={token}; Path=/; HttpOnly; Secure; SameSite=Lax"));
    assert_eq!(
        rules(DASHBOARD).verify(token.as_bytes(), NOW).unwrap_err().denial,
        Denial::InvalidToken,
        "never crosses over"
    );
}

#[tokio::test]
async fn j17_a_renewed_token_keeps_its_session_and_its_age_and_ends_later() {
    let bench = Bench::new().await;
    let account = bench.record("account", "acc_1", |_| ()).await;
    let (_, told) = bench.run(log_in(SESSION), by(&account)).await.unwrap();
    let token = told[0]["token"].as_str().unwrap();
    let rules = rules(SESSION);
    let old = rules.verify_own(token.as_bytes(), NOW).unwrap();
    let end = NOW.plus(Duration::from_secs(1_800));
    let record = bench.find(old.record.as_str()).await;
    let renewed = renew(&rules, &record, Some(&account), old.expires_at, end).unwrap().unwrap();
    let new = rules.verify_own(renewed.text.as_bytes(), NOW).unwrap();
    assert_eq!((&new.record, new.issued_at), (&old.record, old.issued_at));
    assert_eq!(new.expires_at.secs(), end.secs());
    assert!(
        renew(&rules, &record, Some(&account), old.expires_at, old.expires_at)
            .unwrap()
            .is_none(),
        "nothing is gained"
    );
}

#[tokio::test]
async fn a_session_made_under_a_retired_secret_is_renewed_under_the_present_one_from_its_record() {
    let bench = Bench::new().await;
    let account = bench.record("account", "acc_1", |_| ()).await;
    let mut mint = log_in(SESSION);
    if let Action::Mint { mints, .. } = &mut mint {
        mints[0].claims = vec![(
            "plan".into(),
            ValueSource::Constant(crate::snapshot::served_route::TextOrList::Text("gold".into())),
        )];
    }
    let (_, told) = bench.run(mint, by(&account)).await.unwrap();
    let token = told[0]["token"].as_str().unwrap();
    let keys = |secrets: &[[u8; 32]]| TokenRules {
        keys: TokenKeys::new(secrets).unwrap(),
        scopes_claim: Some("scopes".into()),
        ..rules(SESSION)
    };
    let (retired, present, both) = (keys(&[[2; 32]]), keys(&[[3; 32]]), keys(&[[3; 32], [2; 32]]));
    let mut forged = claims_of(token);
    for (name, value) in [
        ("plan", json!("platinum")),
        ("admin", json!(true)),
        ("scopes", json!(["everything"])),
    ] {
        forged[name] = value;
    }
    for presented in [token.to_owned(), retired.keys.sign(forged.as_object().unwrap()).unwrap()] {
        let old = both.verify_own(presented.as_bytes(), NOW).unwrap();
        let record = bench.find(old.record.as_str()).await;
        let ends = (old.expires_at, NOW.plus(Duration::from_secs(1_800)));
        let renewed = renew(&both, &record, Some(&account), ends.0, ends.1).unwrap().unwrap();
        assert!(retired.verify_own(renewed.text.as_bytes(), NOW).is_err());
        let new = present.verify_own(renewed.text.as_bytes(), NOW).unwrap();
        assert_eq!(
            (&new.record, new.issued_at, &new.subject),
            (&old.record, old.issued_at, &old.subject)
        );
        let claims = claims_of(&renewed.text);
        assert_eq!((&claims["plan"], &claims["scopes"]), (&json!("gold"), &json!([])));
        assert_eq!(claims.get("admin"), None, "what the record does not hold is not carried on");
    }
}

#[tokio::test]
async fn a_session_made_after_a_log_out_lives_whatever_the_clock_of_its_gateway_says() {
    let bench = Bench::new().await;
    let account = bench.record("account", "acc_1", |_| ()).await;
    let change = bench.store.change_credential(account.id.clone(), CredentialChange::EndIssued, NOW);
    let watermark = change.await.unwrap().valid_after.unwrap();
    let slow = UnixMillis(NOW.0 - 5_000);
    bench.clock.step_wall(slow);
    let account = bench.find("acc_1").await;
    let (_, told) = bench.run(log_in(SESSION), by(&account)).await.unwrap();
    let session = bench.find(told[0]["id"].as_str().unwrap()).await;
    assert!(session.created_at >= watermark, "the record is dated by the store");
    assert_eq!(validity::check(&*bench.facts(&session).await, slow), Ok(()));
    let token = told[0]["token"].as_str().unwrap();
    assert!(
        rules(SESSION).verify_own(token.as_bytes(), slow).is_ok(),
        "and the token by its gateway"
    );
}

#[tokio::test]
async fn b8_a_new_cookie_ends_the_session_whose_place_it_takes() {
    let bench = Bench::new().await;
    let account = bench.record("account", "acc_1", |_| ()).await;
    let planted = bench.record("session", "ses_planted", |_| ()).await;
    let asking = Asking {
        replaced: Some(planted.id),
        ..by(&account)
    };
    bench.run(log_in(SESSION), asking).await.unwrap();
    assert!(matches!(bench.find("ses_planted").await.state, CredentialState::Revoked { .. }));
}

#[tokio::test]
async fn logging_out_everywhere_leaves_a_log_in_of_the_same_second_alive() {
    let bench = Bench::new().await;
    let account = bench.record("account", "acc_1", |_| ()).await;
    for millis in [101, 333, 678] {
        let watermark = UnixMillis(NOW.0 + millis);
        let change = CredentialChange::ValidAfter(watermark);
        bench.store.change_credential(account.id.clone(), change, NOW).await.unwrap();
        bench.clock.step_wall(watermark);
        let (_, told) = bench.run(log_in(DASHBOARD), by(&account)).await.unwrap();
        let token = told[0]["token"].as_str().unwrap();
        let verified = rules(DASHBOARD).verify(token.as_bytes(), watermark).unwrap();
        let account = bench.find("acc_1").await;
        let judged = validity::check_token(&verified, &account, Duration::ZERO, watermark);
        assert_eq!(judged, Ok(()), "{:?} {watermark:?}", verified.issued_at);
    }
}

#[tokio::test]
async fn log_out_ends_this_session_or_all_and_takes_the_cookie_away() {
    let bench = Bench::new().await;
    let account = bench.record("account", "acc_1", |_| ()).await;
    let session = |id: &'static str| {
        let parent = Some(Parent {
            surface: account.surface.clone(),
            id: account.id.clone(),
        });
        let extras = Extras {
            parent,
            ..Extras::default()
        };
        bench.record("session", id, |r| r.extras = extras.boxed())
    };
    let (one, two, three) = (session("ses_1").await, session("ses_2").await, session("ses_3").await);
    bench.clock.advance(Duration::from_secs(1));
    let out = |extent, record| {
        let asking = Asking {
            caller: Some((SESSION, record)),
            ..Asking::default()
        };
        bench.run(Action::LogOut { extent }, asking)
    };
    let (issued, _) = out(Extent::This, &one).await.unwrap();
    let removed =
        |(name, value): &(String, String)| name == "Set-Cookie" && value.starts_with("__Host-s=;") && value.ends_with("Max-Age=0");
    assert!(issued.fields.iter().any(removed));
    assert!(matches!(bench.find("ses_1").await.state, CredentialState::Revoked { .. }));
    let now = bench.clock.now().wall;
    assert_eq!(validity::check(&*bench.facts(&two).await, now), Ok(()), "the other goes on");
    out(Extent::Everywhere, &two).await.unwrap();
    for record in [&two, &three] {
        let judged = validity::check(&*bench.facts(record).await, now);
        assert_eq!(judged, Err(Denial::RevokedCredential), "{}", record.id);
    }
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_the_old_one() {
    let bench = Bench::new().await;
    let body = r#"{"email":"a@b.co","password":"old one"}"#;
    let (_, told) = bench.run(sign_up(), said(body)).await.unwrap();
    let account = bench.find(told[0]["id"].as_str().unwrap()).await;
    let set = |body: &'static str| {
        let action = Action::SetPassword {
            grants: ScopeSet::default(),
            surface: ACCOUNT,
            current: Some("password".into()),
            new: "new_password".into(),
            sessions: Sessions::Ended,
        };
        bench.run(action, Asking { body, ..by(&account) })
    };
    for refused in [r#"{"password":"wrong","new_password":"new one"}"#, r#"{"password":"old one"}"#] {
        assert_eq!(set(refused).await.unwrap_err().denial, Denial::InvalidFields);
    }
    set(r#"{"password":"old one","new_password":"new one"}"#).await.unwrap();
    let changed = bench.find(account.id.as_str()).await;
    let hash = changed.extras.as_ref().unwrap().password.as_ref().unwrap().expose().to_owned();
    assert_eq!(verify_password(&hash, "new one"), Ok(true));
    assert_eq!(verify_password(&hash, "old one"), Ok(false));
    let after_all_that_was_made = UnixMillis(NOW.0 + 1);
    assert_eq!(changed.valid_after, Some(after_all_that_was_made), "sessions made before are over");
    for _ in 0..10 {
        assert_eq!(
            set(r#"{"password":"guess","new_password":"x"}"#).await.unwrap_err().denial,
            Denial::InvalidFields
        );
    }
    let throttled = set(r#"{"password":"new one","new_password":"x"}"#).await.unwrap_err();
    assert_eq!(throttled.denial, Denial::RateLimited);
    assert!(throttled.retry_after.is_some());
    let filter = CredentialFilter {
        surface: Some(account.surface.clone()),
        limit: 10,
        ..CredentialFilter::default()
    };
    assert_eq!(bench.store.list_credentials(filter).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_password_that_could_not_be_judged_is_one_try_given_back() {
    let bench = Bench::new().await;
    let body = r#"{"email":"a@b.co","password":"old one"}"#;
    let (_, told) = bench.run(sign_up(), said(body)).await.unwrap();
    let account = bench.find(told[0]["id"].as_str().unwrap()).await;
    let hash = account.extras.as_ref().unwrap().password.clone().unwrap();
    let too_dear = "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQxMjM0NTY$YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE";
    let keep = |hash: PasswordHash| {
        let change = CredentialChange::SetPassword(hash);
        bench.store.change_credential(account.id.clone(), change, NOW)
    };
    let guess = || async {
        let action = Action::SetPassword {
            grants: ScopeSet::default(),
            surface: ACCOUNT,
            current: Some("password".into()),
            new: "new_password".into(),
            sessions: Sessions::Ended,
        };
        let body = r#"{"password":"guess","new_password":"x"}"#;
        bench.run(action, Asking { body, ..by(&account) }).await.unwrap_err().denial
    };
    for _ in 0..9 {
        assert_eq!(guess().await, Denial::InvalidFields);
    }
    keep(PasswordHash::parse(too_dear).unwrap()).await.unwrap();
    for _ in 0..5 {
        assert_eq!(guess().await, Denial::CorruptRecord);
    }
    keep(hash).await.unwrap();
    assert_eq!(guess().await, Denial::InvalidFields, "the tenth");
    assert_eq!(guess().await, Denial::RateLimited);
}

#[tokio::test]
async fn guesses_at_an_account_of_an_older_pepper_are_counted_as_those_at_the_log_in() {
    let mut bench = Bench::new().await;
    let (_, told) = bench
        .run(sign_up(), said(r#"{"email":"a@b.co","password":"old one"}"#))
        .await
        .unwrap();
    let account = bench.find(told[0]["id"].as_str().unwrap()).await;
    let both = Peppers::new([8, 7].map(|byte| Pepper::new(&[byte; 32]).unwrap()).to_vec()).unwrap();
    let under_first = login_fingerprint(both.first(), &account.surface, "a@b.co");
    bench.engine = engine(&bench.store, both, &bench.clock);
    for _ in 0..10 {
        let action = Action::SetPassword {
            grants: ScopeSet::default(),
            surface: ACCOUNT,
            current: Some("password".into()),
            new: "new_password".into(),
            sessions: Sessions::Ended,
        };
        let body = r#"{"password":"guess","new_password":"x"}"#;
        let refused = bench.run(action, Asking { body, ..by(&account) }).await.unwrap_err();
        assert_eq!(refused.denial, Denial::InvalidFields);
    }
    let boot = bench.clock.now().boot;
    let guess = |fingerprint| {
        bench
            .engine
            .throttle()
            .attempt(AttemptKind::Session, fingerprint, Ipv4Addr::LOCALHOST.into(), boot)
    };
    assert!(guess(under_first).is_err() && guess(account.fingerprint).is_ok());
}

#[tokio::test]
async fn no_claim_of_a_route_stands_in_the_place_of_what_verification_rests_on() {
    let bench = Bench::new().await;
    let account = bench.record("account", "acc_1", |_| ()).await;
    let mut session = mint(DASHBOARD);
    session.parent = ParentSource::Caller;
    let evil = |name: &str, value: &str| (name.to_owned(), ValueSource::Constant(TextOrList::Text(value.into())));
    session.claims = [("sub", "acc_2"), ("kind", "session"), ("jti", "ses_1"), ("nbf", "9"), ("role", "x")]
        .into_iter()
        .map(|(name, value)| evil(name, value))
        .collect();
    let (_, told) = bench.run(minting(vec![session]), by(&account)).await.unwrap();
    let claims = claims_of(told[0]["token"].as_str().unwrap());
    assert_eq!((&claims["sub"], &claims["kind"]), (&json!("acc_1"), &json!("dashboard")));
    assert_eq!(
        (&claims["jti"], &claims["nbf"], &claims["role"]),
        (&Json::Null, &Json::Null, &json!("x"))
    );
}
