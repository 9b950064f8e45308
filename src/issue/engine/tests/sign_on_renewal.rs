//! The renewal of a session by sign-on, from the right to ask the provider to what its answer makes of session and person.

use super::sign_on::links::LinkBench;
use super::sign_on::{SETTINGS, SignOnBench, Signed, effective, person, role, stored};
use super::*;
use crate::base::principal::CredentialState;
use crate::decide::validity;
use crate::issue::engine::sign_on::renewal::{Begun, Exchange, Stop};
use crate::sign_on::fault::{ProviderText, SignOnFault};
use crate::sign_on::oidc_providers::RefreshedLogIn;
use crate::sign_on::person::GivenRoles;
use crate::sign_on::provider::ProviderSettings;
use crate::sign_on::records::settings_id;
use crate::sign_on::refresh_token::{EXCHANGE, RefreshToken, SignOnOrigin, SignOnRefresh, StoredRefresh, refresh_token_fingerprint};

const AFTER: Duration = Duration::from_secs(300);

fn refresh(token: &str) -> SignOnRefresh {
    SignOnRefresh {
        token: RefreshToken::parse(token).unwrap(),
        origin: SignOnOrigin {
            subject: "ann".into(),
            nonce: "nonce".into(),
            ..SignOnOrigin::default()
        },
    }
}

fn refreshing() -> String {
    SETTINGS.replace("\"client_id\"", "\"refresh_tokens\":true,\"client_id\"")
}

/// A person who has signed on at a provider that gives refresh tokens, and whose token is due.
struct RenewalBench {
    signed_on: SignOnBench,
    signed: Signed,
}

/// What the provider says.
fn said(token: Option<&str>, roles: &[&str]) -> Result<RefreshedLogIn, SignOnFault> {
    let given = GivenRoles {
        roles: roles.iter().map(|name| role(name)).collect(),
        scopes: ScopeSet::default(),
    };
    Ok(RefreshedLogIn {
        token: token.map(|token| RefreshToken::parse(token).unwrap()),
        given: Ok(Some(given)),
    })
}

fn refused() -> Result<RefreshedLogIn, SignOnFault> {
    Err(SignOnFault::RefreshRefused(ProviderText::of("no")))
}

/// The same answer with another word about roles.
fn wrong(token: &str, fault: SignOnFault) -> Result<RefreshedLogIn, SignOnFault> {
    Ok(RefreshedLogIn {
        given: Err(fault),
        ..said(Some(token), &[]).unwrap()
    })
}

impl RenewalBench {
    async fn open(ceiling: &[&str]) -> Self {
        let signed_on = SignOnBench::open(&refreshing(), ceiling).await;
        let signed = sign_on(&signed_on, Some(refresh("first"))).await;
        let bench = Self { signed_on, signed };
        bench.pass(AFTER);
        bench
    }

    /// The same for an account that was linked to the person before.
    async fn linked(ceiling: &[&str]) -> Self {
        let links = LinkBench::open(&refreshing(), ceiling).await;
        links.link("ann").await.unwrap();
        let signed = sign_on(&links.desk, Some(refresh("first"))).await;
        let bench = Self {
            signed_on: links.desk,
            signed,
        };
        bench.pass(AFTER);
        bench
    }

    fn pass(&self, time: Duration) {
        self.signed_on.bench.clock.advance(time);
    }

    fn sign_on_id(&self) -> CredentialId {
        self.signed.facts.ancestors[0].id.clone()
    }

    async fn renewal(&self) -> SessionRenewal {
        let call = self
            .signed_on
            .bench
            .call(super::sign_on::action(), Asking::default(), None)
            .await
            .unwrap();
        SessionRenewal {
            snapshot: call.snapshot,
            surface: SESSION,
            session: self.signed.session.id.clone(),
            sign_on: self.sign_on_id(),
            provider: self.signed_on.provider.clone(),
            after: AFTER,
            request_id: "r-1".into(),
        }
    }

    async fn question(&self) -> Begun {
        let renewal = self.renewal().await;
        self.signed_on.bench.engine.find_question(&renewal).await.unwrap()
    }

    /// The right to ask, if nobody else has it.
    async fn begin(&self) -> Option<Exchange> {
        match self.question().await {
            Begun::Ask(question) => self.signed_on.bench.engine.begin_exchange(*question).await.unwrap(),
            _ => None,
        }
    }

    async fn settle(&self, exchange: &Exchange, answer: Result<RefreshedLogIn, SignOnFault>) -> Result<RenewalVerdict, Stop> {
        let renewal = self.renewal().await;
        self.signed_on.bench.engine.settle(&renewal, exchange, answer).await
    }

    /// Asks, and is answered this.
    async fn renew(&self, answer: Result<RefreshedLogIn, SignOnFault>) -> Result<RenewalVerdict, Stop> {
        let exchange = self.begin().await.expect("the right to ask");
        self.settle(&exchange, answer).await
    }

    /// The refresh token as the store has it.
    async fn token(&self) -> Option<String> {
        let by = refresh_token_fingerprint(&self.sign_on_id()).unwrap();
        let found = self.signed_on.bench.store.find(by).await.unwrap().facts.unwrap();
        let stored = StoredRefresh::of_record(&found.credential).unwrap();
        let opened = stored.open(&self.sign_on_id(), &peppers()).unwrap();
        opened.map(|refresh| refresh.token.expose().to_owned())
    }

    async fn person(&self) -> CredentialRecord {
        self.signed_on.bench.find(self.signed.facts.ancestors[1].id.as_str()).await
    }

    /// What the session may do now; or why it is refused.
    async fn may(&self) -> Result<ScopeSet, Denial> {
        let facts = self.signed_on.bench.facts(&self.signed.session).await;
        validity::check(&facts, self.signed_on.bench.clock.now().wall)?;
        Ok(effective(&facts))
    }
}

async fn sign_on(desk: &SignOnBench, refresh: Option<SignOnRefresh>) -> Signed {
    let mut proven = desk.proven(person("ann", &["viewer"], Some("sid-1"))).await.unwrap();
    proven.refresh = refresh;
    desk.finish(&proven, None).await.unwrap()
}

fn is_confirmed(begun: &Begun) -> bool {
    matches!(begun, Begun::Confirmed(_))
}

#[tokio::test]
async fn roles_follow_the_provider_s_word_and_the_session_follows_the_person() {
    let desk = RenewalBench::open(&["admin"]).await;
    assert_eq!(desk.may().await, Ok(scopes("read")));
    let Ok(RenewalVerdict::Renew(Some(renewed))) = desk.renew(said(Some("second"), &["admin"])).await else {
        panic!("it is renewed")
    };
    assert_eq!(
        renewed.session.scopes,
        scopes("read write keys"),
        "the new token is made from the new record"
    );
    assert_eq!(renewed.person.roles(), [role("admin")]);
    assert!(renewed.done.unwrap().starts_with("sso_renew sign_on:sgn_"));
    assert_eq!(desk.may().await, Ok(scopes("read write keys")), "more, for the same session");
    assert_eq!(desk.token().await.as_deref(), Some("second"));
    assert!(is_confirmed(&desk.question().await), "nobody is asked again at once");
    desk.pass(AFTER);
    assert!(matches!(
        desk.renew(said(None, &["viewer"])).await,
        Ok(RenewalVerdict::Renew(Some(_)))
    ));
    assert_eq!(desk.may().await, Ok(scopes("read")), "less, for the same session");
    assert_eq!(desk.token().await.as_deref(), Some("second"), "the provider gave no other one");
}

#[tokio::test]
async fn a_renewal_gives_nobody_more_than_the_ceiling() {
    let desk = RenewalBench::open(&["viewer"]).await;
    let verdict = desk.renew(said(Some("second"), &["admin"])).await;
    assert!(matches!(verdict, Ok(RenewalVerdict::Renew(_))));
    assert_eq!(desk.person().await.roles(), [role("admin")], "the table's word");
    assert_eq!(desk.may().await, Ok(scopes("read")), "bounded at each request");
}

#[tokio::test]
async fn b41_of_two_who_would_ask_one_does_and_the_other_waits_until_it_must_be_over() {
    let desk = RenewalBench::open(&["admin"]).await;
    let engine = &desk.signed_on.bench.engine;
    let (Begun::Ask(one), Begun::Ask(two)) = (desk.question().await, desk.question().await) else {
        panic!("both have read the same record")
    };
    assert!(engine.begin_exchange(*one).await.unwrap().is_some());
    assert!(
        engine.begin_exchange(*two).await.unwrap().is_none(),
        "the right is taken in the step of the write"
    );
    assert!(matches!(desk.question().await, Begun::Keep(lasts) if lasts <= EXCHANGE));
    // The gateway died before it could write the answer.
    desk.pass(EXCHANGE);
    let exchange = desk.begin().await.expect("the next try");
    assert_eq!(exchange.refresh.token.expose(), "first");
    let late = desk.settle(&exchange, refused()).await;
    assert!(
        matches!(late, Ok(RenewalVerdict::Ended(_))),
        "the token was used up: the person signs on again"
    );
    assert_eq!(desk.may().await, Err(Denial::RevokedCredential));
}

#[tokio::test]
async fn b41_who_lost_the_right_writes_nothing() {
    let desk = RenewalBench::open(&["admin"]).await;
    let slow = desk.begin().await.unwrap();
    desk.pass(EXCHANGE);
    let other = desk.begin().await.unwrap();
    assert!(matches!(
        desk.settle(&other, said(Some("second"), &["admin"])).await,
        Ok(RenewalVerdict::Renew(_))
    ));
    for answer in [refused(), said(Some("third"), &["viewer"]), wrong("third", SignOnFault::NoRole)] {
        assert!(matches!(desk.settle(&slow, answer).await, Ok(RenewalVerdict::Keep)));
    }
    assert_eq!(desk.token().await.as_deref(), Some("second"));
    assert_eq!(desk.may().await, Ok(scopes("read write keys")));
}

#[tokio::test]
async fn what_the_provider_does_not_renew_has_ended_with_everything_that_hangs_on_it() {
    let desk = RenewalBench::open(&["admin"]).await;
    let Ok(RenewalVerdict::Ended(done)) = desk.renew(refused()).await else {
        panic!("it has ended")
    };
    assert!(done.starts_with("sso_end sign_on:sgn_"), "{done}");
    assert_eq!(desk.may().await, Err(Denial::RevokedCredential));
    assert_eq!(desk.token().await, None, "what the provider might still take is not kept");
    assert_eq!(desk.person().await.roles(), [role("viewer")], "the person signs on again as before");
    assert_eq!(desk.person().await.state, CredentialState::Active);
}

#[tokio::test]
async fn whoever_has_no_role_any_more_loses_those_of_before_and_the_session() {
    for fault in [SignOnFault::NoRole, SignOnFault::MissingClaim(ProviderText::of("groups"))] {
        let desk = RenewalBench::open(&["admin"]).await;
        let verdict = desk.renew(wrong("second", fault)).await;
        assert!(matches!(verdict, Ok(RenewalVerdict::Ended(_))));
        assert_eq!(desk.may().await, Err(Denial::RevokedCredential));
        assert!(desk.person().await.roles().is_empty(), "in every other session too");
    }
    let desk = RenewalBench::open(&["admin"]).await;
    let gone = desk.renew(said(Some("second"), &["no-such-role"])).await;
    assert!(
        matches!(gone, Ok(RenewalVerdict::Ended(_))),
        "a role that exists no more gives nothing"
    );
}

#[tokio::test]
async fn a_provider_that_says_nothing_or_nonsense_ends_nothing_and_confirms_nothing() {
    let desk = RenewalBench::open(&["admin"]).await;
    let verdict = desk.renew(Err(SignOnFault::Busy)).await;
    assert!(matches!(verdict, Err(Stop::Fault(SignOnFault::Busy))));
    assert_eq!(desk.token().await.as_deref(), Some("first"));
    assert_eq!(desk.may().await, Ok(scopes("read")));
    assert!(
        matches!(desk.question().await, Begun::Keep(_)),
        "nobody asks again before it must be over"
    );
    desk.pass(EXCHANGE);
    let verdict = desk.renew(wrong("second", SignOnFault::RefreshChanged("sub"))).await;
    assert!(matches!(verdict, Err(Stop::Fault(SignOnFault::RefreshChanged("sub")))));
    assert_eq!(
        desk.token().await.as_deref(),
        Some("second"),
        "the old one is worth nothing any more, so the new one is kept"
    );
    assert_eq!(desk.may().await, Ok(scopes("read")));
    assert!(
        matches!(desk.question().await, Begun::Keep(_)),
        "not confirmed, and not asked again at once"
    );
    desk.pass(EXCHANGE);
    assert!(
        matches!(desk.renew(said(None, &["viewer"])).await, Ok(RenewalVerdict::Renew(_))),
        "the twin"
    );
}

#[tokio::test]
async fn settings_that_change_while_the_provider_answers_confirm_nothing_and_lose_no_token() {
    let desk = RenewalBench::open(&["admin"]).await;
    let exchange = desk.begin().await.unwrap();
    let text = stored(&refreshing().replace("\"client\"", "\"other\""));
    let settings = settings_id(&desk.signed_on.provider).unwrap();
    desk.signed_on.change(&settings, CredentialChange::SetSettings(text)).await;
    let verdict = desk.settle(&exchange, said(Some("second"), &["admin"])).await;
    assert!(matches!(verdict, Ok(RenewalVerdict::Keep)));
    assert_eq!(desk.may().await, Ok(scopes("read")));
    assert_eq!(desk.token().await.as_deref(), Some("second"));
    let verdict = desk.renew(said(Some("third"), &["admin"])).await;
    assert!(matches!(verdict, Ok(RenewalVerdict::Renew(_))), "the next try, by the new settings");
}

#[tokio::test]
async fn what_ends_while_the_provider_answers_is_not_renewed() {
    for above in 0..3 {
        let desk = RenewalBench::open(&["admin"]).await;
        let exchange = desk.begin().await.unwrap();
        let ended = desk.signed.facts.ancestors[above].id.clone();
        desk.signed_on.change(&ended, CredentialChange::Disable).await;
        let verdict = desk.settle(&exchange, said(Some("second"), &["admin"])).await;
        assert!(!matches!(verdict, Ok(RenewalVerdict::Renew(_))), "{above}");
        assert_eq!(desk.may().await, Err(Denial::DisabledCredential));
        assert_eq!(desk.person().await.roles(), [role("viewer")], "{above}");
    }
}

#[tokio::test]
async fn a_log_out_while_the_provider_answers_loses_no_token_of_other_sessions() {
    let desk = RenewalBench::open(&["admin"]).await;
    let other = sign_on(&desk.signed_on, None).await;
    let exchange = desk.begin().await.unwrap();
    desk.signed_on.change(&desk.signed.session.id, CredentialChange::Revoke).await;
    let verdict = desk.settle(&exchange, said(Some("second"), &["admin"])).await;
    assert!(matches!(verdict, Err(Stop::Other(_))));
    assert_eq!(desk.token().await.as_deref(), Some("second"));
    let desk = RenewalBench { signed: other, ..desk };
    assert!(matches!(
        desk.renew(said(Some("third"), &["admin"])).await,
        Ok(RenewalVerdict::Renew(_))
    ));
}

#[tokio::test]
async fn a_new_sign_on_in_the_same_session_there_is_not_ended_by_what_was_said_before() {
    let desk = RenewalBench::open(&["admin"]).await;
    let exchange = desk.begin().await.unwrap();
    let second = sign_on(&desk.signed_on, Some(refresh("fresh"))).await;
    assert_eq!(second.facts.ancestors[0].id, desk.sign_on_id());
    assert!(matches!(desk.settle(&exchange, refused()).await, Ok(RenewalVerdict::Keep)));
    assert_eq!(desk.token().await.as_deref(), Some("fresh"));
    assert_eq!(desk.may().await, Ok(scopes("read")));
    assert!(
        is_confirmed(&desk.question().await),
        "the sign-on is the newest word of the provider"
    );
}

#[tokio::test]
async fn whoever_was_given_no_refresh_token_is_renewed_without_a_question() {
    let desk = SignOnBench::open(&refreshing(), &["admin"]).await;
    let signed = sign_on(&desk, None).await;
    assert_eq!(desk.bench.count("refresh_token").await, 0);
    let bench = RenewalBench { signed_on: desk, signed };
    bench.pass(AFTER);
    assert!(matches!(bench.question().await, Begun::Unasked));
    // The first refresh token of a session at the provider may come with a later sign-on.
    sign_on(&bench.signed_on, Some(refresh("first"))).await;
    assert_eq!(bench.token().await.as_deref(), Some("first"));
    bench.pass(AFTER);
    assert!(matches!(bench.question().await, Begun::Ask(_)));
    let off = stored(SETTINGS);
    let settings = settings_id(&bench.signed_on.provider).unwrap();
    bench.signed_on.change(&settings, CredentialChange::SetSettings(off)).await;
    assert!(
        matches!(bench.question().await, Begun::Unasked),
        "the settings do not want it any more"
    );
}

#[tokio::test]
async fn a_log_out_drops_the_refresh_token_and_a_new_sign_on_brings_another() {
    let desk = RenewalBench::open(&["admin"]).await;
    let sign_on_id = desk.sign_on_id();
    let drop = async || {
        let ids = [sign_on_id.clone(), CredentialId::parse("sgn_none").unwrap()];
        desk.signed_on.bench.engine.drop_refresh_tokens(ids.iter()).await;
    };
    drop().await;
    drop().await;
    assert_eq!(desk.token().await, None);
    assert!(
        matches!(desk.question().await, Begun::Keep(_)),
        "no other session of this sign-on is renewed by it"
    );
    sign_on(&desk.signed_on, Some(refresh("fresh"))).await;
    assert_eq!(desk.token().await.as_deref(), Some("fresh"));
    assert!(is_confirmed(&desk.question().await));
}

#[tokio::test]
async fn a_session_that_a_renewal_elsewhere_confirmed_follows_its_person_without_a_question() {
    let desk = RenewalBench::open(&["admin"]).await;
    let other = sign_on(&desk.signed_on, None).await;
    assert!(matches!(
        desk.renew(said(Some("second"), &["admin"])).await,
        Ok(RenewalVerdict::Renew(_))
    ));
    let renewal = SessionRenewal {
        session: other.session.id.clone(),
        ..desk.renewal().await
    };
    let engine = &desk.signed_on.bench.engine;
    let RenewalVerdict::Renew(Some(renewed)) = engine.renew_session(&renewal).await else {
        panic!("the provider has just confirmed it")
    };
    assert_eq!((renewed.session.id, renewed.done), (other.session.id, None));
    assert_eq!(renewed.session.scopes, scopes("read write keys"));
    assert!(
        matches!(engine.begin_renewal(renewal), BegunRenewal::Renew),
        "it is remembered for a moment"
    );
}

#[tokio::test]
async fn refresh_tokens_are_refused_where_sessions_are_not_renewed() {
    let desk = SignOnBench::usual().await;
    let call = desk.bench.call(super::sign_on::action(), Asking::default(), None).await.unwrap();
    let is_refused = |settings: &str| {
        let mistakes = ProviderSettings::parse(settings).unwrap().mistakes_under(&call.snapshot);
        mistakes.iter().any(|mistake| mistake.field == "protocol.oidc.refresh_tokens")
    };
    assert!(is_refused(&refreshing()), "the surface has no `refresh`");
    assert!(!is_refused(SETTINGS), "the twin");
}

#[tokio::test]
async fn roles_that_were_given_here_stay_where_the_provider_gives_none() {
    let begin = SETTINGS.find("\"roles\"").unwrap();
    let end = SETTINGS.find("\"protocol\"").unwrap();
    let without = format!("{}{}", &SETTINGS[..begin], &SETTINGS[end..]);
    let desk = SignOnBench::open(&without, &["admin"]).await;
    let ann = || person("ann", &[], Some("sid-1"));
    let signed = desk.sign_on(ann()).await.unwrap();
    let account = signed.facts.ancestors[1].id.clone();
    desk.change(&account, CredentialChange::SetRoles(vec![role("viewer")])).await;
    let again = desk.sign_on(ann()).await.unwrap();
    assert_eq!(again.facts.ancestors[1].roles(), [role("viewer")]);
    assert_eq!(again.session.scopes, scopes("read"));
}

#[tokio::test]
async fn a_renewal_gives_roles_to_the_link_and_never_to_the_account_that_is_linked() {
    let desk = RenewalBench::linked(&["admin"]).await;
    let above = &desk.signed.facts.ancestors;
    let (account, link) = (above[1].id.clone(), above[2].id.clone());
    assert!(above[2].is_link() && above[3].is_provider());
    let before = desk.signed_on.bench.find(account.as_str()).await;
    let roles_of_link = async || desk.signed_on.bench.find(link.as_str()).await.roles().to_vec();
    assert_eq!(desk.may().await, Ok(scopes("read")));
    let Ok(RenewalVerdict::Renew(Some(renewed))) = desk.renew(said(Some("second"), &["admin"])).await else {
        panic!("it is renewed")
    };
    assert_eq!(
        (renewed.person.id.clone(), renewed.session.scopes.clone()),
        (account.clone(), scopes("read write")),
        "the account within the link: not `keys`, which the role has and the account has not"
    );
    assert_eq!(roles_of_link().await, [role("admin")]);
    assert_eq!(desk.may().await, Ok(scopes("read write")));
    desk.pass(AFTER);
    let verdict = desk.renew(wrong("third", SignOnFault::NoRole)).await;
    assert!(matches!(verdict, Ok(RenewalVerdict::Ended(_))));
    assert_eq!(roles_of_link().await, []);
    assert_eq!(desk.may().await, Err(Denial::RevokedCredential));
    assert_eq!(
        desk.signed_on.bench.find(account.as_str()).await,
        before,
        "what was given to the account here stays"
    );
}
