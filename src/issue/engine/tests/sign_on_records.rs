//! Where the record that a session hangs on means the person, a sign-on between them is passed through.

use super::*;
use crate::base::principal::{CredentialState, Extras, Parent};
use crate::issue::minting::{MintInputs, ParentRecord, make};
use crate::issue::token::renew;

/// A person of a provider with a ceiling, with a session that hangs on a sign-on.
struct SignedOn {
    bench: Bench,
    person: CredentialRecord,
    sign_on: CredentialRecord,
    session: CredentialRecord,
}

fn below(parent: &CredentialRecord) -> Option<Box<Extras>> {
    Extras {
        parent: Some(Parent {
            surface: parent.surface.clone(),
            id: parent.id.clone(),
        }),
        granted: Some(ScopeSet::default()),
        ..Extras::default()
    }
    .boxed()
}

async fn signed_on() -> SignedOn {
    let bench = Bench::new().await;
    let provider = bench
        .record("provider", "prv_1", |r| {
            (r.scopes, r.name) = (scopes("read write"), Some("The provider".into()));
        })
        .await;
    let person = bench
        .record("account", "acc_1", |r| {
            (r.scopes, r.extras) = (scopes("read write keys"), below(&provider))
        })
        .await;
    let sign_on = bench.record("sign_on", "sgn_1", |r| r.extras = below(&person)).await;
    let session = bench
        .record("session", "ses_1", |r| {
            (r.scopes, r.extras) = (scopes("read write keys"), below(&sign_on))
        })
        .await;
    SignedOn {
        bench,
        person,
        sign_on,
        session,
    }
}

fn by(record: &CredentialRecord) -> Asking<'_> {
    Asking {
        caller: Some((SESSION, record)),
        ..Asking::default()
    }
}

#[tokio::test]
async fn what_a_session_makes_for_its_person_hangs_on_the_person_and_stays_below_the_ceiling() {
    let SignedOn { bench, session, .. } = signed_on().await;
    let key = |words: &str| {
        minting(vec![Mint {
            parent: ParentSource::CallersParent,
            scopes: ScopeSource::Fixed(scopes(words)),
            mode: ModeSource::CallerOr(Mode::Live),
            ..mint(KEY)
        }])
    };
    let (_, told) = bench.run(key("read"), by(&session)).await.unwrap();
    let made = bench.find(told[0]["id"].as_str().unwrap()).await;
    assert_eq!(made.parent().unwrap().id.as_str(), "acc_1");
    // The person was given this scope, and the provider is not to give it to anybody.
    let refused = bench.run(key("keys"), by(&session)).await.unwrap_err();
    assert_eq!(refused.denial, Denial::InsufficientScope);
    assert_eq!(bench.count("key").await, 1);
}

#[tokio::test]
async fn logging_out_everywhere_ends_every_session_of_the_person_and_leaves_the_person() {
    let SignedOn {
        bench, person, session, ..
    } = signed_on().await;
    let elsewhere = bench.record("sign_on", "sgn_2", |r| r.extras = below(&person)).await;
    let other = bench.record("session", "ses_2", |r| r.extras = below(&elsewhere)).await;
    let stranger = bench.record("account", "acc_2", |_| ()).await;
    let theirs = bench.record("session", "ses_3", |r| r.extras = below(&stranger)).await;
    bench.clock.advance(Duration::from_secs(1));
    let out = Action::LogOut {
        extent: Extent::Everywhere,
    };
    bench.run(out, by(&session)).await.unwrap();
    let now = bench.clock.now().wall;
    for record in [&session, &other] {
        let judged = validity::check(&*bench.facts(record).await, now);
        assert_eq!(judged, Err(Denial::RevokedCredential), "{}", record.id);
    }
    assert_eq!(
        validity::check(&*bench.facts(&theirs).await, now),
        Ok(()),
        "somebody else's goes on"
    );
    assert!(bench.find("acc_1").await.valid_after.is_some());
    assert_eq!(validity::check(&*bench.facts(&person).await, now), Ok(()));
    assert_eq!(bench.find("sgn_1").await.valid_after, None, "it is the person who logs out");
}

#[tokio::test]
async fn logging_out_here_ends_this_session_only() {
    let SignedOn {
        bench, sign_on, session, ..
    } = signed_on().await;
    let other = bench.record("session", "ses_2", |r| r.extras = below(&sign_on)).await;
    let out = Action::LogOut { extent: Extent::This };
    bench.run(out, by(&session)).await.unwrap();
    assert!(matches!(bench.find("ses_1").await.state, CredentialState::Revoked { .. }));
    let now = bench.clock.now().wall;
    assert_eq!(validity::check(&*bench.facts(&other).await, now), Ok(()));
}

#[tokio::test]
async fn a_session_below_a_sign_on_ends_with_it_and_its_token_names_the_person() {
    let SignedOn {
        bench,
        person,
        mut sign_on,
        ..
    } = signed_on().await;
    let end = NOW.plus(Duration::from_secs(600));
    sign_on.expires_at = Some(end);
    let call = bench.call(minting(vec![mint(SESSION)]), Asking::default(), None).await.unwrap();
    let mint = Mint {
        lifetime: MintLifetime {
            default: Some(Duration::from_secs(43_200)),
            ..MintLifetime::default()
        },
        ..mint(SESSION)
    };
    let peppers = peppers();
    let made = |sign_on: Option<&CredentialRecord>| {
        let base = ParentRecord {
            record: person.clone(),
            may: scopes("read"),
            sign_on: sign_on.cloned(),
        };
        let inputs = MintInputs {
            tenant: &person.tenant,
            parent: Some(&base),
            password: None,
            roles: Vec::new(),
            role_scopes: ScopeSet::default(),
            pepper: peppers.first(),
            now: NOW,
            latest: NOW,
        };
        make(&call, &mint, inputs).unwrap()
    };
    for (sign_on, parent, expires) in [
        (Some(&sign_on), "sgn_1", end),
        (None, "acc_1", NOW.plus(Duration::from_secs(43_200))),
    ] {
        let one = made(sign_on);
        assert_eq!(one.record.parent().unwrap().id.as_str(), parent);
        assert_eq!(one.record.expires_at, Some(expires));
        let SurfaceKind::Session(surface) = &surfaces()[SESSION.0].kind else {
            panic!("it is a session surface")
        };
        let token = one.token.unwrap();
        let claims = surface.rules.verify_own(token.text.as_bytes(), NOW).unwrap();
        assert_eq!(claims.subject.as_str(), "acc_1");
        // A renewal finds the person through the facts, as the gateway does.
        bench.store.create_credential(one.record.clone()).await.unwrap();
        let facts = bench.facts(&one.record).await;
        let person = facts.hangs_on().map(|(person, _)| person);
        let later = NOW.plus(Duration::from_secs(1_800));
        let Some(renewed) = renew(&surface.rules, &one.record, person, claims.expires_at, later).unwrap() else {
            panic!("it ends later")
        };
        let claims = surface.rules.verify_own(renewed.text.as_bytes(), NOW).unwrap();
        assert_eq!(claims.subject.as_str(), "acc_1");
    }
}

#[tokio::test]
async fn the_name_of_a_provider_is_no_name_of_a_person() {
    let SignedOn { bench, session, .. } = signed_on().await;
    let caller = async |record: &CredentialRecord| AdmittedCaller {
        surface: SESSION,
        principal: Principal::new(bench.facts(record).await, None),
        ends_at: None,
    };
    assert_eq!(caller(&session).await.fact(&RecordFact::Name), None);
    let named = bench.record("account", "acc_2", |r| r.name = Some("Ann".into())).await;
    let session = bench.record("session", "ses_2", |r| r.extras = below(&named)).await;
    assert_eq!(caller(&session).await.fact(&RecordFact::Name), Some(TextOrList::Text("Ann".into())));
}
