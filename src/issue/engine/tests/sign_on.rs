//! From a person whom a provider has proven to a session, and its ends: by the provider, by settings, by the tenant.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use super::*;
use crate::base::principal::{CredentialState, Position};
use crate::decide::external::FetchAddresses;
use crate::decide::return_to::{ReturnRule, ReturnRules};
use crate::decide::validity;
use crate::issue::engine::sign_on::session::ProvenPerson;
use crate::sign_on::person::SignedOnPerson;
use crate::sign_on::provider::ProviderSettings;
use crate::sign_on::records::{NewProvider, new_provider_id, provider_records, settings_id};
use crate::snapshot::sign_on_route::{FinishStep, RouteUrl, SignOnRoute, SignOnSettings, SignOnStep};
use crate::store::TenantState;

pub(super) mod links;

/// A tenant with one provider, whose ceiling is what the role `admin` may do.
pub(super) struct SignOnBench {
    pub(super) bench: Bench,
    pub(super) provider: CredentialId,
}

pub(super) const SETTINGS: &str = r#"{"version":1,"session":"session","account":"account","provision":true,
    "roles":{"claim":"groups","table":[{"value":"a","roles":["admin"]}]},
    "protocol":{"oidc":{"issuer":"https://login.example","client_id":"client","client_secret_sealed":"v1.x.y"}}}"#;

pub(super) fn role(name: &str) -> RoleId {
    RoleId::of_name(name)
}

/// Settings as the store keeps them.
pub(super) fn stored(settings: &str) -> Arc<str> {
    ProviderSettings::parse(settings).unwrap().to_text().unwrap()
}

/// What a provider has proven: this subject, in this session.
pub(super) fn person(subject: &str, roles: &[&str], session: Option<&str>) -> SignedOnPerson {
    SignedOnPerson {
        subject: subject.to_owned(),
        email: Some(format!("{subject}@acme.example")),
        name: Some("Ann".to_owned()),
        roles: roles.iter().map(|name| role(name)).collect(),
        scopes: ScopeSet::default(),
        session_id: session.map(str::to_owned),
        ends_at: None,
        claims: Vec::new(),
        auth_time: None,
    }
}

fn finish() -> FinishStep {
    let mut session = mint(SESSION);
    session.parent = ParentSource::Person;
    session.subject = Some(ValueSource::Parent(RecordFact::Id));
    session.scopes = ScopeSource::Caller;
    session.lifetime.default = Some(Duration::from_secs(43_200));
    FinishStep {
        tenant: None,
        mint: session,
        url: RouteUrl {
            public_url: "https://api.example.com".into(),
            pattern: "/callback".into(),
        },
        metadata: None,
    }
}

pub(super) fn action() -> Action {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.unwrap().with_root_certificates(rustls::RootCertStore::empty());
    let settings = SignOnSettings {
        public_url: "https://api.example.com".into(),
        return_to: ReturnRules::new(vec![ReturnRule::parse("https://app.example.com").unwrap()]).unwrap(),
        contact: "us".into(),
        tls: Arc::new(tls.with_no_client_auth()),
        addresses: FetchAddresses::Public,
    };
    Action::SignOn(Box::new(SignOnRoute {
        settings: Arc::new(settings),
        step: SignOnStep::FinishOidc(finish()),
    }))
}

/// Why a sign-on was refused.
fn cause(refused: Result<Signed, IssueError>) -> &'static str {
    let refused = refused.err().unwrap();
    refused.cause.map_or_else(|| refused.denial.label(), |cause| cause.label)
}

/// A sign-on that was made: the answer, and the records of its session.
#[derive(Debug)]
pub(super) struct Signed {
    issued: Issued,
    pub(super) session: CredentialRecord,
    pub(super) facts: Arc<Facts>,
}

impl SignOnBench {
    pub(super) async fn open(settings: &str, ceiling: &[&str]) -> Self {
        let bench = Bench::new().await;
        let id = new_provider_id(NOW).unwrap();
        let new = NewProvider {
            id: id.clone(),
            tenant: TenantId::parse("acme").unwrap(),
            name: "Acme's provider".into(),
            scopes: ScopeSet::default(),
            roles: ceiling.iter().map(|name| role(name)).collect(),
            settings: stored(settings),
            now: NOW,
        };
        let new = NewRecords {
            credentials: provider_records(new).unwrap().to_vec(),
            ..NewRecords::default()
        };
        bench.store.create(new, NOW).await.unwrap();
        Self { bench, provider: id }
    }

    pub(super) async fn usual() -> Self {
        Self::open(SETTINGS, &["admin"]).await
    }

    /// The provider has proven this person.
    pub(super) async fn proven(&self, person: SignedOnPerson) -> Result<ProvenPerson, IssueError> {
        let engine = &self.bench.engine;
        let begun_at = self.bench.store.time().await.unwrap();
        Ok(ProvenPerson {
            provider: engine.find_provider(&self.provider, begun_at).await?,
            person,
            begun_at,
            return_to: "https://app.example.com/x".to_owned(),
            cookie: Some("__Host-durward-sign-on-abcdefgh".to_owned()),
            refresh: None,
            saml_name: None,
        })
    }

    pub(super) async fn finish(&self, proven: &ProvenPerson, replaced: Option<CredentialId>) -> Result<Signed, IssueError> {
        let asking = Asking {
            replaced,
            ..Asking::default()
        };
        let call = self.bench.call(action(), asking, None).await?;
        let issued = self.bench.engine.sign_person_on(&call, &finish(), proven).await?;
        let id = issued.done.rsplit_once("session:").unwrap().1;
        let session = self.bench.find(id).await;
        let facts = self.bench.facts(&session).await;
        Ok(Signed { issued, session, facts })
    }

    pub(super) async fn sign_on(&self, person: SignedOnPerson) -> Result<Signed, IssueError> {
        let proven = self.proven(person).await?;
        self.finish(&proven, None).await
    }

    /// What judging this session says now.
    async fn judge(&self, signed: &Signed) -> Result<(), Denial> {
        let facts = self.bench.facts(&signed.session).await;
        validity::check(&facts, self.bench.store.time().await.unwrap())
    }

    async fn end_session(&self, session: &str) {
        let found = self.bench.engine.find_provider(&self.provider, NOW).await.unwrap();
        self.bench.engine.end_session_of_provider(&found, session).await.unwrap();
    }

    pub(super) async fn change(&self, id: &CredentialId, change: CredentialChange) {
        self.bench.store.change_credential(id.clone(), change, NOW).await.unwrap();
    }

    /// What each record of single sign-on and each session has become, to see that nothing was made.
    async fn counts(&self) -> [usize; 3] {
        let bench = &self.bench;
        [
            bench.count("account").await,
            bench.count("sign_on").await,
            bench.count("session").await,
        ]
    }
}

fn ids(facts: &Facts) -> Vec<&str> {
    facts.ancestors.iter().map(|record| record.surface.as_str()).collect()
}

#[tokio::test]
async fn a_first_sign_on_makes_the_person_and_a_session_that_hangs_on_provider_and_session_there() {
    let desk = SignOnBench::usual().await;
    let signed = desk.sign_on(person("ann", &["admin"], Some("sid-1"))).await.unwrap();
    assert_eq!(ids(&signed.facts), ["sign_on", "account", "provider"]);
    let [note, account, provider] = &signed.facts.ancestors[..] else {
        panic!()
    };
    assert!(note.id.as_str().starts_with("sgn_") && provider.id == desk.provider);
    assert_eq!((account.login(), account.name.as_deref()), (Some("ann@acme.example"), Some("Ann")));
    assert_eq!(account.password(), None, "nobody logs in with a password");
    assert_eq!(account.roles(), [role("admin")]);
    assert_eq!(signed.session.subject.as_ref().unwrap().as_str(), account.id.as_str());
    assert_eq!(
        signed.session.expires_at,
        Some(signed.session.created_at.plus(Duration::from_secs(43_200)))
    );
    let words: Vec<&str> = signed.session.scopes.iter().map(|scope| scope.as_str()).collect();
    assert_eq!(words, ["read", "write", "keys"]);
    let field = |name: &str| {
        let all = signed.issued.fields.iter().filter(|(own, _)| own == name);
        all.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (signed.issued.status, field("Location")),
        (303, vec!["https://app.example.com/x".to_owned()])
    );
    let cookies = field("Set-Cookie");
    assert!(cookies[0].starts_with("__Host-s=ey") && cookies[0].ends_with("; HttpOnly; Secure; SameSite=Lax"));
    assert!(cookies[1].starts_with("__Host-durward-sign-on-abcdefgh=;") && cookies[1].ends_with("Max-Age=0"));
    let token = cookies[0].trim_start_matches("__Host-s=").split(';').next().unwrap();
    assert!(
        !token.split('.').any(|part| signed.issued.done.contains(part)),
        "no token in the log"
    );
    assert_eq!(desk.judge(&signed).await, Ok(()));
}

#[tokio::test]
async fn a_second_sign_on_finds_the_person_and_the_session_there_and_replaces_the_roles() {
    let desk = SignOnBench::usual().await;
    let first = desk.sign_on(person("ann", &["admin"], Some("sid-1"))).await.unwrap();
    let second = desk.sign_on(person("ann", &["viewer"], Some("sid-1"))).await.unwrap();
    assert_eq!(desk.counts().await, [1, 1, 2]);
    assert_eq!(first.facts.ancestors[0].id, second.facts.ancestors[0].id);
    assert_eq!(second.facts.ancestors[1].roles(), [role("viewer")]);
    let words = |signed: &Signed| -> String { signed.session.scopes.iter().map(|scope| scope.as_str()).collect() };
    assert_eq!(words(&second), "read");
    // The first session may do no more than the person may now.
    assert_eq!(effective(&*desk.bench.facts(&first.session).await), scopes("read"));
    let other = desk.sign_on(person("bob", &["viewer"], Some("sid-2"))).await.unwrap();
    assert_ne!(other.facts.ancestors[1].id, first.facts.ancestors[1].id);
    let again = desk.sign_on(person("bob", &["viewer"], None)).await.unwrap();
    assert_eq!(again.facts.ancestors[1].id, other.facts.ancestors[1].id);
    assert_ne!(
        again.facts.ancestors[0].id, other.facts.ancestors[0].id,
        "no session was named: a note of its own"
    );
}

/// What the record of these facts may do, under the roles of the configuration.
pub(super) fn effective(facts: &Facts) -> ScopeSet {
    let route = ServedRoute {
        action: Action::ListRoles,
        body: BodySchema::default(),
        answer: AnswerSpec {
            status: 204,
            body: None,
            headers: Vec::new(),
        },
        hook: None,
    };
    let grants = snapshot(route).scope_grants;
    let may = grants.effective_scopes_of(&facts.credential, &facts.ancestors, &facts.roles);
    may.into_owned()
}

#[tokio::test]
async fn nobody_may_do_more_than_the_provider_s_ceiling() {
    let desk = SignOnBench::open(SETTINGS, &["viewer"]).await;
    let signed = desk.sign_on(person("ann", &["admin"], None)).await.unwrap();
    assert_eq!(signed.session.scopes, scopes("read"));
    let mut scoped = person("bob", &[], None);
    scoped.scopes = scopes("read write");
    let signed = desk.sign_on(scoped).await.unwrap();
    assert_eq!(signed.session.scopes, scopes("read"));
    assert_eq!(
        signed.facts.ancestors[1].scopes,
        scopes("read write"),
        "the table's word, bounded at each request"
    );
}

#[tokio::test]
async fn whom_the_settings_or_an_operator_keep_out_gets_nothing() {
    let closed = SignOnBench::open(&SETTINGS.replace("\"provision\":true", "\"provision\":false"), &["admin"]).await;
    let ann = || person("ann", &["admin"], Some("sid-1"));
    assert_eq!(cause(closed.sign_on(ann()).await), "not_provisioned");
    assert_eq!(closed.counts().await, [0, 0, 0]);

    let desk = SignOnBench::usual().await;
    assert_eq!(
        cause(desk.sign_on(person("ann", &["gone"], None)).await),
        "no_role",
        "its role exists no more"
    );
    let signed = desk.sign_on(ann()).await.unwrap();
    let account = signed.facts.ancestors[1].id.clone();
    let before = desk.counts().await;
    for (change, label) in [
        (CredentialChange::Disable, "person_disabled"),
        (CredentialChange::Enable, ""),
        (CredentialChange::Revoke, "person_revoked"),
    ] {
        desk.change(&account, change).await;
        match label {
            "" => assert_eq!(desk.judge(&signed).await, Ok(())),
            label => {
                assert_eq!(cause(desk.sign_on(ann()).await), label);
                assert!(desk.judge(&signed).await.is_err(), "{label}");
            }
        }
    }
    assert_eq!(desk.counts().await, before);
}

#[tokio::test]
async fn a_provider_or_a_tenant_that_ends_ends_every_session_and_makes_no_other() {
    let desk = SignOnBench::usual().await;
    let ann = || person("ann", &["admin"], Some("sid-1"));
    let signed = desk.sign_on(ann()).await.unwrap();
    let proven = desk.proven(ann()).await.unwrap();
    desk.change(&desk.provider, CredentialChange::Disable).await;
    assert_eq!(desk.judge(&signed).await, Err(Denial::DisabledCredential));
    assert_eq!(cause(desk.finish(&proven, None).await), "provider_ended");
    desk.change(&desk.provider, CredentialChange::Enable).await;
    assert_eq!(desk.judge(&signed).await, Ok(()));
    let tenant = TenantId::parse("acme").unwrap();
    desk.bench
        .store
        .set_tenant_active(tenant.clone(), TenantState::Inactive)
        .await
        .unwrap();
    assert_eq!(desk.judge(&signed).await, Err(Denial::InactiveTenant));
    assert_eq!(cause(desk.finish(&proven, None).await), "inactive_tenant");
    desk.bench.store.set_tenant_active(tenant, TenantState::Active).await.unwrap();
    desk.change(&desk.provider, CredentialChange::Revoke).await;
    assert_eq!(desk.judge(&signed).await, Err(Denial::RevokedCredential));
    assert_eq!(cause(desk.finish(&proven, None).await), "provider_ended");
}

#[tokio::test]
async fn settings_that_change_while_the_provider_answers_make_nothing() {
    let desk = SignOnBench::usual().await;
    let proven = desk.proven(person("ann", &["admin"], None)).await.unwrap();
    let text = stored(&SETTINGS.replace("\"client\"", "\"other\""));
    desk.change(&settings_id(&desk.provider).unwrap(), CredentialChange::SetSettings(text))
        .await;
    assert_eq!(cause(desk.finish(&proven, None).await), "settings_changed");
    assert_eq!(desk.counts().await, [0, 0, 0]);
    assert!(
        desk.sign_on(person("ann", &["admin"], None)).await.is_ok(),
        "the twin: proven by the new settings"
    );
    let elsewhere = stored(&SETTINGS.replace("\"session\":\"session\"", "\"session\":\"dashboard\""));
    desk.change(&settings_id(&desk.provider).unwrap(), CredentialChange::SetSettings(elsewhere))
        .await;
    assert_eq!(cause(desk.sign_on(person("ann", &["admin"], None)).await), "wrong_session_surface");
}

#[tokio::test]
async fn what_the_provider_ends_by_session_ends_here_and_is_not_revived() {
    let desk = SignOnBench::usual().await;
    let ann = |session: &str| person("ann", &["admin"], Some(session));
    let (one, two) = (desk.sign_on(ann("sid-1")).await.unwrap(), desk.sign_on(ann("sid-1")).await.unwrap());
    let other = desk.sign_on(ann("sid-2")).await.unwrap();
    desk.end_session("sid-1").await;
    for ended in [&one, &two] {
        assert_eq!(desk.judge(ended).await, Err(Denial::RevokedCredential));
    }
    assert_eq!(desk.judge(&other).await, Ok(()), "another session at the provider goes on");
    assert_eq!(cause(desk.sign_on(ann("sid-1")).await), "session_ended");
    // The end overtakes the sign-on.
    let late = desk.proven(ann("sid-3")).await.unwrap();
    desk.end_session("sid-3").await;
    assert_eq!(cause(desk.finish(&late, None).await), "session_ended");
    assert_eq!(
        cause(desk.sign_on(person("bob", &["admin"], Some("sid-2"))).await),
        "session_of_another"
    );
    assert!(desk.sign_on(ann("sid-4")).await.is_ok());
    desk.end_session("sid-1").await;
    assert_eq!(desk.bench.count("sign_on").await, 4, "an end that is told twice makes nothing");
    // A month later the note is of the period before.
    desk.bench.clock.advance(Duration::from_secs(30 * 86_400));
    for ended in ["sid-1", "sid-3"] {
        assert_eq!(cause(desk.sign_on(ann(ended)).await), "session_ended");
    }
    let again = desk.sign_on(ann("sid-4")).await.unwrap();
    assert_ne!(again.facts.ancestors[0].id, other.facts.ancestors[0].id);
    desk.end_session("sid-4").await;
    assert_eq!(desk.judge(&again).await, Err(Denial::RevokedCredential));
}

#[tokio::test]
async fn what_the_provider_ends_by_person_ends_what_is_on_its_way_too() {
    let desk = SignOnBench::usual().await;
    let ann = || person("ann", &["admin"], None);
    let signed = desk.sign_on(ann()).await.unwrap();
    let late = desk.proven(ann()).await.unwrap();
    let found = desk.bench.engine.find_provider(&desk.provider, NOW).await.unwrap();
    assert_eq!(desk.bench.engine.end_sessions_of_person(&found, "nobody").await.unwrap(), []);
    desk.bench.clock.advance(Duration::from_millis(5));
    let ended = desk.bench.engine.end_sessions_of_person(&found, "ann").await.unwrap();
    assert_eq!(ended.len(), 1);
    assert_eq!(desk.judge(&signed).await, Err(Denial::RevokedCredential));
    assert_eq!(cause(desk.finish(&late, None).await), "session_ended");
    desk.bench.clock.advance(Duration::from_millis(5));
    let again = desk.sign_on(ann()).await.unwrap();
    assert_eq!(desk.judge(&again).await, Ok(()));
}

#[tokio::test]
async fn whoever_logged_out_everywhere_signs_on_again_in_the_same_session_of_the_provider() {
    let desk = SignOnBench::usual().await;
    let ann = || person("ann", &["admin"], Some("sid-1"));
    let first = desk.sign_on(ann()).await.unwrap();
    desk.bench.clock.advance(Duration::from_secs(1));
    desk.change(&first.facts.ancestors[1].id, CredentialChange::EndIssued).await;
    assert_eq!(desk.judge(&first).await, Err(Denial::RevokedCredential));
    desk.bench.clock.advance(Duration::from_secs(1));
    let second = desk.sign_on(ann()).await.unwrap();
    assert_eq!(desk.judge(&second).await, Ok(()));
    assert_ne!(first.facts.ancestors[0].id, second.facts.ancestors[0].id);
    desk.end_session("sid-1").await;
    assert_eq!(desk.judge(&second).await, Err(Denial::RevokedCredential), "the provider ends both");
    assert_eq!(cause(desk.sign_on(ann()).await), "session_ended");
}

#[tokio::test]
async fn a_session_ends_when_the_provider_s_settings_or_its_word_say() {
    let desk = SignOnBench::open(&SETTINGS.replace("\"provision\"", "\"max_session\":600,\"provision\""), &["admin"]).await;
    let signed = desk.sign_on(person("ann", &["admin"], Some("sid-1"))).await.unwrap();
    assert_eq!(
        signed.session.expires_at,
        Some(signed.session.created_at.plus(Duration::from_secs(600)))
    );
    let mut short = person("ann", &["admin"], Some("sid-1"));
    short.ends_at = Some(desk.bench.clock.now().wall.plus(Duration::from_secs(60)));
    let signed = desk.sign_on(short.clone()).await.unwrap();
    assert_eq!(signed.session.expires_at, short.ends_at);
    short.ends_at = Some(desk.bench.clock.now().wall);
    assert_eq!(cause(desk.sign_on(short).await), "session_ended");
}

#[tokio::test]
async fn b8_a_session_that_was_planted_ends_when_somebody_signs_on() {
    let desk = SignOnBench::usual().await;
    let planted = desk.sign_on(person("eve", &["viewer"], None)).await.unwrap();
    let proven = desk.proven(person("ann", &["admin"], None)).await.unwrap();
    let signed = desk.finish(&proven, Some(planted.session.id.clone())).await.unwrap();
    assert_ne!(signed.session.id, planted.session.id);
    assert_eq!(desk.judge(&planted).await, Err(Denial::RevokedCredential));
    assert_eq!(desk.judge(&signed).await, Ok(()));
    assert!(matches!(planted.facts.credential.state, CredentialState::Active) && planted.facts.position() >= Position(0));
}

/// What two futures gave, of which the second ran from its start to its end between two steps of the first.
pub(super) struct Interleaved<T> {
    pub(super) first: T,
    pub(super) second: T,
    /// The first ended before it had taken so many steps.
    ended_early: bool,
}

impl<T> Interleaved<T> {
    /// Runs `second` once `first` has waited for the store `steps` times and waits again.
    pub(super) async fn run(steps: usize, first: impl Future<Output = T>, second: impl Future<Output = T>) -> Self {
        let mut first = pin!(first);
        let mut waited = 0;
        let early = poll_fn(|context| match first.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if waited == steps => Poll::Ready(None),
            Poll::Pending => {
                waited += 1;
                Poll::Pending
            }
        });
        let early = early.await;
        let second = second.await;
        let ended_early = early.is_some();
        let first = match early {
            Some(output) => output,
            None => first.await,
        };
        Self {
            first,
            second,
            ended_early,
        }
    }

    /// Whether there are no further steps of the first to put the second between.
    pub(super) fn was_last(&self, steps: usize) -> bool {
        assert!(!self.ended_early || steps > 0, "the first never waited: nothing was interleaved");
        self.ended_early
    }
}

#[tokio::test]
async fn two_tabs_of_a_new_person_make_one_account() {
    for steps in 0.. {
        let desk = SignOnBench::usual().await;
        let ann = || person("ann", &["admin"], Some("sid-1"));
        let (one, two) = (desk.proven(ann()).await.unwrap(), desk.proven(ann()).await.unwrap());
        let both = Interleaved::run(steps, Box::pin(desk.finish(&one, None)), Box::pin(desk.finish(&two, None))).await;
        let is_last = both.was_last(steps);
        let (one, two) = (both.first.unwrap(), both.second.unwrap());
        assert_eq!(one.facts.ancestors[1].id, two.facts.ancestors[1].id, "after {steps} steps");
        assert_eq!(desk.counts().await, [1, 1, 2], "after {steps} steps");
        if is_last {
            return;
        }
    }
}

#[tokio::test]
async fn a_log_out_at_the_provider_between_any_two_steps_of_a_sign_on_ends_it() {
    // The note of the session is there before, or is made by this sign-on.
    for is_known in [false, true] {
        let mut made = 0;
        for steps in 0.. {
            let desk = SignOnBench::usual().await;
            let ann = || person("ann", &["admin"], Some("sid-1"));
            if is_known {
                desk.sign_on(ann()).await.unwrap();
            }
            let proven = desk.proven(ann()).await.unwrap();
            let sign_on = Box::pin(async { Some(desk.finish(&proven, None).await) });
            let log_out = Box::pin(async {
                desk.end_session("sid-1").await;
                None
            });
            let both = Interleaved::run(steps, sign_on, log_out).await;
            let is_last = both.was_last(steps);
            match both.first.unwrap() {
                Ok(signed) => {
                    made += 1;
                    assert_eq!(desk.judge(&signed).await, Err(Denial::RevokedCredential), "after {steps} steps");
                }
                Err(error) => assert_eq!(error.cause.unwrap().label, "session_ended", "after {steps} steps"),
            }
            if is_last {
                break;
            }
        }
        assert!(made > 0, "what was written before the log-out is ended by it");
    }
}
