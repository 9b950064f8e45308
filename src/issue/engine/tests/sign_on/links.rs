//! Links: an account that has a password, a person of a provider, and sessions that both give.

use super::*;
use crate::base::principal::{Extras, Parent};
use crate::issue::call::BrowserRequest;
use crate::sign_on::log_in_record::LinkIntent;
use crate::sign_on::records::{MAX_FOLLOWING, link_id, person_fingerprint};

/// A desk with an account that is not the provider's, and its session by password.
pub(in crate::issue::engine::tests) struct LinkBench {
    pub(in crate::issue::engine::tests) desk: SignOnBench,
    account: CredentialRecord,
    session: CredentialRecord,
}

fn parent_of(record: &CredentialRecord) -> Option<Parent> {
    Some(Parent {
        surface: record.surface.clone(),
        id: record.id.clone(),
    })
}

fn person_of(subject: &str) -> SignedOnPerson {
    person(subject, &["admin"], Some(&format!("sid of {subject}")))
}

impl LinkBench {
    pub(in crate::issue::engine::tests) async fn open(settings: &str, ceiling: &[&str]) -> Self {
        let desk = SignOnBench::open(settings, ceiling).await;
        let account = Self::account(&desk, "acc_1").await;
        let session = Self::session(&desk, "ses_1", &account, "read write").await;
        Self { desk, account, session }
    }

    async fn usual() -> Self {
        Self::open(SETTINGS, &["admin"]).await
    }

    async fn account(desk: &SignOnBench, id: &str) -> CredentialRecord {
        desk.bench.record("account", id, |r| r.scopes = scopes("read write")).await
    }

    async fn session(desk: &SignOnBench, id: &str, account: &CredentialRecord, words: &str) -> CredentialRecord {
        let extras = Extras {
            parent: parent_of(account),
            granted: Some(ScopeSet::default()),
            ..Extras::default()
        };
        desk.bench
            .record("session", id, |r| (r.scopes, r.extras) = (scopes(words), extras.boxed()))
            .await
    }

    fn intent(&self) -> LinkIntent {
        Self::intent_of(&self.session, &self.account)
    }

    fn intent_of(session: &CredentialRecord, account: &CredentialRecord) -> LinkIntent {
        LinkIntent {
            surface: session.surface.clone(),
            session: session.id.clone(),
            account: account.id.clone(),
        }
    }

    /// The provider has proven a person to whom a session wants to link its account.
    async fn finish(&self, proven: &ProvenPerson, intent: &LinkIntent, replaced: Option<CredentialId>) -> Result<Issued, IssueError> {
        let asking = Asking {
            replaced,
            ..Asking::default()
        };
        let call = self.desk.bench.call(action(), asking, None).await?;
        self.desk.bench.engine.link_person(&call, &finish(), proven, intent).await
    }

    async fn link_by(&self, subject: &str, intent: &LinkIntent) -> Result<Issued, IssueError> {
        let proven = self.desk.proven(person_of(subject)).await?;
        self.finish(&proven, intent, None).await
    }

    pub(in crate::issue::engine::tests) async fn link(&self, subject: &str) -> Result<Issued, IssueError> {
        self.link_by(subject, &self.intent()).await
    }

    /// The id of the link that an answer names.
    fn id_of(issued: &Issued) -> CredentialId {
        CredentialId::parse(issued.done.strip_prefix("sso_link account:").unwrap()).unwrap()
    }

    async fn unlink(&self, session: &CredentialRecord, provider: &CredentialId) -> Result<Issued, IssueError> {
        let body = format!(r#"{{"provider":"{provider}"}}"#);
        let asking = Asking {
            caller: Some((SESSION, session)),
            body: &body,
            ..Asking::default()
        };
        let Action::SignOn(route) = action() else {
            panic!("another action")
        };
        let unlink = Action::SignOn(Box::new(SignOnRoute {
            step: SignOnStep::Unlink,
            ..*route
        }));
        let mut call = self.desk.bench.call(unlink, asking, None).await?;
        call.browser = Some(Box::new(BrowserRequest::default()));
        self.desk.bench.engine.serve(call).await
    }

    async fn later(&self) {
        self.desk.bench.clock.advance(Duration::from_secs(1));
    }
}

fn why(refused: Result<Issued, IssueError>) -> &'static str {
    let refused = refused.unwrap_err();
    refused.cause.map_or_else(|| refused.denial.label(), |cause| cause.label)
}

#[tokio::test]
async fn a_linked_person_signs_on_to_the_account_within_what_link_and_provider_allow() {
    let closed = SETTINGS.replace("\"provision\":true", "\"provision\":false");
    let links = LinkBench::open(&closed, &["admin"]).await;
    let desk = &links.desk;
    assert_eq!(cause(desk.sign_on(person_of("ann")).await), "not_provisioned", "before the link");
    let issued = links.link("ann").await.unwrap();
    assert_eq!(issued.status, 303);
    let fields: Vec<(&str, &str)> = issued.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(fields[0], ("Location", "https://app.example.com/x"));
    assert!(fields[1].1.starts_with("__Host-durward-sign-on-abcdefgh=;"), "{fields:?}");
    assert_eq!(fields.len(), 2, "the session stays as it is: {fields:?}");
    let id = LinkBench::id_of(&issued);
    let link = desk.bench.find(id.as_str()).await;
    assert_eq!(link.linked_account(), Some(&links.account.id));
    assert_eq!((link.login(), link.password()), (Some("ann@acme.example"), None));

    let signed = desk.sign_on(person_of("ann")).await.unwrap();
    let above: Vec<&str> = signed.facts.ancestors[1..].iter().map(|record| record.id.as_str()).collect();
    assert_eq!(above, ["acc_1", id.as_str(), desk.provider.as_str()]);
    assert_eq!(signed.facts.hangs_on().unwrap().0.id, links.account.id);
    assert_eq!(signed.session.subject.as_ref().unwrap().as_str(), "acc_1");
    assert_eq!(
        signed.session.scopes,
        scopes("read write"),
        "no more than the account, though the role has `keys`"
    );
    assert_eq!(desk.judge(&signed).await, Ok(()));
    // By the provider's word the link is narrowed; the session by password is not.
    let narrow = desk.sign_on(person("ann", &["viewer"], Some("sid of ann"))).await.unwrap();
    assert_eq!(narrow.session.scopes, scopes("read"));
    assert_eq!(
        narrow.facts.ancestors[0].id, signed.facts.ancestors[0].id,
        "the same session at the provider"
    );
    assert_eq!(effective(&*desk.bench.facts(&signed.session).await), scopes("read"));
    assert_eq!(effective(&*desk.bench.facts(&links.session).await), scopes("read write"));
    assert_eq!(desk.bench.count("account").await, 2, "no other account was made");
}

#[tokio::test]
async fn without_a_table_the_link_may_do_as_much_as_the_provider_s_ceiling() {
    let no_table = SETTINGS.replace(r#""roles":{"claim":"groups","table":[{"value":"a","roles":["admin"]}]},"#, "");
    for (ceiling, expected) in [("viewer", "read"), ("admin", "read write")] {
        let links = LinkBench::open(&no_table, &[ceiling]).await;
        links.link("ann").await.unwrap();
        let signed = links.desk.sign_on(person("ann", &[], None)).await.unwrap();
        assert_eq!(signed.session.scopes, scopes(expected), "{ceiling}");
    }
}

#[tokio::test]
async fn the_account_the_link_the_provider_and_the_tenant_each_end_a_session_by_a_link() {
    let links = LinkBench::usual().await;
    let desk = &links.desk;
    let link = LinkBench::id_of(&links.link("ann").await.unwrap());
    let signed = desk.sign_on(person_of("ann")).await.unwrap();
    for (id, label) in [
        (&links.account.id, "linked_account_ended"),
        (&link, "person_disabled"),
        (&desk.provider, "provider_ended"),
    ] {
        desk.change(id, CredentialChange::Disable).await;
        assert_eq!(desk.judge(&signed).await, Err(Denial::DisabledCredential), "{label}");
        assert_eq!(cause(desk.sign_on(person_of("ann")).await), label);
        desk.change(id, CredentialChange::Enable).await;
        assert_eq!(desk.judge(&signed).await, Ok(()), "{label}");
        assert!(desk.sign_on(person_of("ann")).await.is_ok());
    }
    let tenant = TenantId::parse("acme").unwrap();
    desk.bench.store.set_tenant_active(tenant, TenantState::Inactive).await.unwrap();
    assert_eq!(desk.judge(&signed).await, Err(Denial::InactiveTenant));
    assert_eq!(cause(desk.sign_on(person_of("ann")).await), "inactive_tenant");
}

#[tokio::test]
async fn log_out_everywhere_and_the_provider_s_log_out_each_end_it_and_the_next_sign_on_works() {
    let links = LinkBench::usual().await;
    let desk = &links.desk;
    links.link("ann").await.unwrap();
    let first = desk.sign_on(person_of("ann")).await.unwrap();
    links.later().await;
    let asking = Asking {
        caller: Some((SESSION, &links.session)),
        ..Asking::default()
    };
    let out = Action::LogOut {
        extent: Extent::Everywhere,
    };
    desk.bench.run(out, asking).await.unwrap();
    assert_eq!(
        desk.judge(&first).await,
        Err(Denial::RevokedCredential),
        "by the session with the password"
    );
    links.later().await;
    let second = desk.sign_on(person_of("ann")).await.unwrap();
    assert_eq!(desk.judge(&second).await, Ok(()));
    links.later().await;
    let found = desk.bench.engine.find_provider(&desk.provider, NOW).await.unwrap();
    assert_eq!(desk.bench.engine.end_sessions_of_person(&found, "ann").await.unwrap().len(), 1);
    assert_eq!(desk.judge(&second).await, Err(Denial::RevokedCredential), "by the provider");
    links.later().await;
    let third = desk.sign_on(person_of("ann")).await.unwrap();
    assert_eq!(desk.judge(&third).await, Ok(()), "the account is older than what ended, and lives");
    desk.end_session("sid of ann").await;
    assert_eq!(desk.judge(&third).await, Err(Denial::RevokedCredential));
    assert_eq!(cause(desk.sign_on(person_of("ann")).await), "session_ended");
}

#[tokio::test]
async fn what_is_linked_already_is_not_linked_to_somebody_else() {
    let links = LinkBench::usual().await;
    let desk = &links.desk;
    let other = LinkBench::account(desk, "acc_2").await;
    let theirs = LinkBench::session(desk, "ses_2", &other, "read write").await;
    let theirs = LinkBench::intent_of(&theirs, &other);
    let first = links.link("ann").await.unwrap();
    let before = desk.counts().await;
    assert_eq!(
        LinkBench::id_of(&links.link("ann").await.unwrap()),
        LinkBench::id_of(&first),
        "said twice"
    );
    assert_eq!(why(links.link_by("ann", &theirs).await), "linked_elsewhere");
    assert_eq!(why(links.link("bob").await), "account_linked");
    assert_eq!(desk.counts().await, before);
    let own = desk.sign_on(person_of("eve")).await.unwrap();
    assert_eq!(why(links.link_by("eve", &theirs).await), "person_has_account");
    // The operator says that nobody needs it.
    desk.change(&own.facts.ancestors[1].id, CredentialChange::Revoke).await;
    assert_eq!(
        cause(desk.sign_on(person_of("eve")).await),
        "person_revoked",
        "and nobody gets another by signing on"
    );
    links.link_by("eve", &theirs).await.unwrap();
    let signed = desk.sign_on(person_of("eve")).await.unwrap();
    assert_eq!(signed.facts.ancestors[1].id, other.id, "in the same session at the provider");
    desk.change(&LinkBench::id_of(&first), CredentialChange::Disable).await;
    assert_eq!(
        why(links.link("ann").await),
        "person_disabled",
        "what an operator disabled, nobody links again"
    );
}

#[tokio::test]
async fn a_link_needs_the_session_that_began_it_to_be_in_force() {
    type Step = fn(&LinkBench) -> (CredentialId, CredentialChange);
    let ends: [Step; 4] = [
        |links| (links.session.id.clone(), CredentialChange::Revoke),
        |links| (links.account.id.clone(), CredentialChange::Disable),
        |links| (links.account.id.clone(), CredentialChange::EndIssued),
        |links| (links.session.id.clone(), CredentialChange::ExpireAt(NOW)),
    ];
    for (i, end) in ends.into_iter().enumerate() {
        let links = LinkBench::usual().await;
        let proven = links.desk.proven(person_of("ann")).await.unwrap();
        links.later().await;
        let (id, change) = end(&links);
        links.desk.change(&id, change).await;
        assert_eq!(why(links.finish(&proven, &links.intent(), None).await), "link_session_ended", "{i}");
        assert_eq!(links.desk.bench.count("account").await, 1, "{i}");
    }
    // Another account than that of the session, and a session that is not there.
    let links = LinkBench::usual().await;
    for wrong in [
        LinkIntent {
            account: CredentialId::parse("acc_2").unwrap(),
            ..links.intent()
        },
        LinkIntent {
            session: CredentialId::parse("ses_9").unwrap(),
            ..links.intent()
        },
    ] {
        assert_eq!(why(links.link_by("ann", &wrong).await), "link_session_ended");
    }
    let proven = links.desk.proven(person_of("ann")).await.unwrap();
    links.desk.change(&links.desk.provider, CredentialChange::Disable).await;
    assert_eq!(why(links.finish(&proven, &links.intent(), None).await), "provider_ended");
    links.desk.change(&links.desk.provider, CredentialChange::Enable).await;
    assert_eq!(why(links.finish(&proven, &links.intent(), None).await), "settings_changed");
    assert!(links.link("ann").await.is_ok(), "the twin");
}

#[tokio::test]
async fn a_browser_that_has_another_account_s_session_by_now_links_nothing() {
    let links = LinkBench::usual().await;
    let desk = &links.desk;
    let other = LinkBench::account(desk, "acc_2").await;
    let theirs = LinkBench::session(desk, "ses_2", &other, "read").await;
    let own = LinkBench::session(desk, "ses_3", &links.account, "read").await;
    let proven = desk.proven(person_of("ann")).await.unwrap();
    let refused = links.finish(&proven, &links.intent(), Some(theirs.id.clone())).await;
    assert_eq!(why(refused), "link_other_session");
    // The twins: another session of the same account, and one that has ended.
    desk.change(&theirs.id, CredentialChange::Revoke).await;
    for there in [theirs.id, own.id.clone(), links.session.id.clone()] {
        assert!(links.finish(&proven, &links.intent(), Some(there)).await.is_ok());
    }
    assert!(
        matches!(desk.bench.find(own.id.as_str()).await.state, CredentialState::Active),
        "no session was replaced"
    );
}

#[tokio::test]
async fn only_an_account_that_hangs_on_nothing_is_linked_and_by_whoever_may_do_what_the_link_gives() {
    let links = LinkBench::usual().await;
    let desk = &links.desk;
    let signed = desk.sign_on(person_of("eve")).await.unwrap();
    let theirs = LinkBench::intent_of(&signed.session, &signed.facts.ancestors[1]);
    assert_eq!(
        why(links.link_by("ann", &theirs).await),
        "link_account",
        "the provider's own account"
    );
    let elsewhere = desk.bench.record("people", "acc_3", |_| ()).await;
    let session = LinkBench::session(desk, "ses_3", &elsewhere, "").await;
    let foreign = LinkBench::intent_of(&session, &elsewhere);
    assert_eq!(why(links.link_by("ann", &foreign).await), "link_account", "of another surface");
    let narrow = LinkBench::session(desk, "ses_4", &links.account, "read").await;
    let narrow = LinkBench::intent_of(&narrow, &links.account);
    assert_eq!(why(links.link_by("ann", &narrow).await), "insufficient_scope");
    // The twin: a provider that gives no more than the session may do.
    let links = LinkBench::open(SETTINGS, &["viewer"]).await;
    let narrow = LinkBench::session(&links.desk, "ses_4", &links.account, "read").await;
    assert!(links.link_by("ann", &LinkBench::intent_of(&narrow, &links.account)).await.is_ok());
}

#[tokio::test]
async fn a_link_that_was_undone_ends_its_sessions_and_may_be_made_again() {
    let links = LinkBench::usual().await;
    let desk = &links.desk;
    assert_eq!(why(links.unlink(&links.session, &desk.provider).await), "not_linked");
    let first = LinkBench::id_of(&links.link("ann").await.unwrap());
    let signed = desk.sign_on(person_of("ann")).await.unwrap();
    let other = LinkBench::account(desk, "acc_2").await;
    let theirs = LinkBench::session(desk, "ses_2", &other, "read write").await;
    assert_eq!(
        why(links.unlink(&theirs, &desk.provider).await),
        "not_linked",
        "somebody else's stays"
    );
    let narrow = LinkBench::session(desk, "ses_3", &links.account, "read").await;
    assert_eq!(why(links.unlink(&narrow, &desk.provider).await), "insufficient_scope");
    assert_eq!(desk.judge(&signed).await, Ok(()));

    let issued = links.unlink(&links.session, &desk.provider).await.unwrap();
    assert_eq!(issued.done, format!("sso_unlink account:{first}"));
    assert_eq!(desk.judge(&signed).await, Err(Denial::RevokedCredential));
    assert_eq!(
        cause(desk.sign_on(person_of("ann")).await),
        "link_undone",
        "and no account is made instead"
    );
    let again = LinkBench::id_of(&links.link("ann").await.unwrap());
    assert_ne!(again, first);
    let new = desk.sign_on(person_of("ann")).await.unwrap();
    assert_eq!(
        (desk.judge(&new).await, desk.judge(&signed).await),
        (Ok(()), Err(Denial::RevokedCredential))
    );
    // It is undone with the provider disabled too.
    desk.bench
        .store
        .change_credential(desk.provider.clone(), CredentialChange::Disable, NOW)
        .await
        .unwrap();
    links.unlink(&links.session, &desk.provider).await.unwrap();
    desk.change(&desk.provider, CredentialChange::Enable).await;
    // Another account, in the same session at the provider.
    links.link_by("ann", &LinkBench::intent_of(&theirs, &other)).await.unwrap();
    assert_eq!(desk.sign_on(person_of("ann")).await.unwrap().facts.ancestors[1].id, other.id);
}

#[tokio::test]
async fn one_person_and_one_account_are_linked_sixteen_times_at_most() {
    let links = LinkBench::usual().await;
    let desk = &links.desk;
    let (pepper, account) = (Pepper::new(&[7; 32]).unwrap(), &links.account);
    // Links that were made and undone: `number` counts those of the account, `of_person` those of the person.
    let undone = async |number: usize, subject: &str, of_person: usize| {
        let id = link_id(&desk.provider, &account.id, number).unwrap();
        let extras = Extras {
            parent: Some(Parent {
                surface: SurfaceName::parse("provider").unwrap(),
                id: desk.provider.clone(),
            }),
            account: Some(account.id.clone()),
            ..Extras::default()
        };
        let fingerprint = person_fingerprint(&pepper, &account.surface, &desk.provider, subject, of_person);
        let made = desk
            .bench
            .record("account", id.as_str(), |r| {
                (r.fingerprint, r.extras) = (fingerprint, extras.boxed())
            })
            .await;
        desk.change(&made.id, CredentialChange::Revoke).await;
    };
    for number in 0..3 {
        undone(number, "ann", number).await;
    }
    let last = LinkBench::id_of(&links.link("ann").await.unwrap());
    assert_eq!(Some(&last), link_id(&desk.provider, &account.id, 3).as_ref());
    assert!(desk.sign_on(person_of("ann")).await.is_ok());
    desk.change(&last, CredentialChange::Revoke).await;
    for number in 4..MAX_FOLLOWING {
        undone(number, "ann", number).await;
    }
    assert_eq!(why(links.link("ann").await), "too_many_links", "of the person, and of the account");
    assert_eq!(why(links.link("bob").await), "too_many_links", "of the account");
    assert_eq!(cause(desk.sign_on(person_of("ann")).await), "link_undone");
}

#[tokio::test]
async fn a_session_by_a_narrow_link_does_not_change_the_password_of_its_account() {
    let links = LinkBench::open(SETTINGS, &["viewer"]).await;
    let desk = &links.desk;
    links.link("ann").await.unwrap();
    let signed = desk.sign_on(person("ann", &["viewer"], None)).await.unwrap();
    let set = || Action::SetPassword {
        grants: ScopeSet::default(),
        surface: ACCOUNT,
        current: Some("password".into()),
        new: "new_password".into(),
        sessions: Sessions::Ended,
    };
    let asking = Asking {
        caller: Some((SESSION, &signed.session)),
        body: r#"{"password":"old one","new_password":"new one"}"#,
        ..Asking::default()
    };
    let refused = desk.bench.run(set(), asking).await.unwrap_err();
    assert_eq!(refused.denial, Denial::InsufficientScope);
}

#[tokio::test]
async fn two_answers_for_one_account_make_one_link() {
    for steps in 0.. {
        let links = LinkBench::usual().await;
        let (one, two) = (
            links.desk.proven(person_of("ann")).await.unwrap(),
            links.desk.proven(person_of("ann")).await.unwrap(),
        );
        let intent = links.intent();
        let (one, two) = (links.finish(&one, &intent, None), links.finish(&two, &intent, None));
        let both = Interleaved::run(steps, Box::pin(one), Box::pin(two)).await;
        let is_last = both.was_last(steps);
        assert_eq!(both.first.unwrap().done, both.second.unwrap().done, "after {steps} steps");
        assert_eq!(links.desk.bench.count("account").await, 2, "after {steps} steps");
        if is_last {
            return;
        }
    }
}
