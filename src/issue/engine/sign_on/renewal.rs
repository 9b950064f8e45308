//! The renewal of a session by sign-on: the provider is asked whether the session there goes on, and what the person may do now.
//!
//! The worker that admitted a request with an old token begins it and hardly waits. Whatever comes of it, the request goes on: its
//! token is still in force.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::CredentialId;
use crate::base::principal::{CredentialRecord, RoleRecord};
use crate::decide::surface::SurfaceIndex;
use crate::decide::validity;
use crate::issue::call::IssueError;
use crate::issue::engine::{Engine, refused_change, unavailable};
use crate::sign_on::client::{oidc_client, person_rules};
use crate::sign_on::fault::SignOnFault;
use crate::sign_on::refresh_token::{EXCHANGE, SignOnRefresh, StoredRefresh, refresh_token_fingerprint};
use crate::snapshot::Snapshot;
use crate::snapshot::served_route::ScopeSource;
use crate::snapshot::sign_on_route::SignOnStep;
use crate::store::{CredentialChange, NewRecords, RestsOn, StoredFacts};

use super::provider::FoundProvider;
use super::renewal_table::Remembered;
use super::{access, roles};

mod answer;

/// Most renewals at a time: half of the questions that are asked of providers at a time, so that sign-ons find room beside them.
pub(in crate::issue::engine) const MAX_RENEWALS: usize = 32;

/// How often one renewal is written. Each time, somebody else changed what it rests on in the milliseconds before.
const MAX_WRITES: usize = 3;

/// How often an answer is written, also to a store that fails over, and the time between two tries: five seconds together. With the
/// questions to the provider they lie within [`EXCHANGE`].
const MAX_ANSWER_WRITES: usize = 10;
const WRITE_PAUSE: Duration = Duration::from_millis(500);

/// How long a provider is left alone that could not be reached.
const PROVIDER_PAUSE: Duration = Duration::from_secs(10);

/// How long the good end of a renewal is remembered without asking the store. Programs that do not keep the new token need this.
const MEMORY: Duration = Duration::from_secs(60);

/// A session whose token is due for renewal, and that hangs on a sign-on.
#[derive(Debug, Clone)]
pub struct SessionRenewal {
    pub snapshot: Arc<Snapshot>,
    pub surface: SurfaceIndex,
    pub session: CredentialId,
    pub sign_on: CredentialId,
    pub provider: CredentialId,
    /// How long the provider's word counts: the age at which tokens of this surface are renewed.
    pub after: Duration,
    /// Of the request that began it, for the log.
    pub request_id: String,
}

/// What is known at once.
#[derive(Debug)]
pub enum BegunRenewal {
    /// The token may be renewed, from the facts that the request was judged by.
    Renew,
    /// The token stays as it is, for now.
    Keep,
    /// The provider is asked. The task runs to its end when nobody waits for it, within [`EXCHANGE`].
    Asking(JoinHandle<RenewalVerdict>),
}

/// What came of a renewal.
#[derive(Debug)]
pub enum RenewalVerdict {
    /// The token may be renewed, from these records; `None`: from the facts that the request was judged by, as that of a log-in.
    Renew(Option<Box<RenewedRecords>>),
    /// The token stays as it is, and ends at its end.
    Keep,
    /// The session has ended: the words for the access line.
    Ended(String),
}

/// A session and its person as the store has them after a renewal.
#[derive(Debug)]
pub struct RenewedRecords {
    pub session: CredentialRecord,
    pub person: CredentialRecord,
    /// What was done, for the access line; `None` if the provider was not asked.
    pub done: Option<String>,
}

/// A session as it was read, with what stands above it.
struct FoundSession {
    facts: StoredFacts,
    sign_on: CredentialRecord,
    person: CredentialRecord,
    /// Set where the person has an account of its own, which the session began with by a link.
    link: Option<CredentialRecord>,
}

impl FoundSession {
    /// The record to which the provider gives roles. What a linked account has was given here, and is never the provider's to set.
    const fn given_to(&mut self) -> &mut CredentialRecord {
        match &mut self.link {
            Some(link) => link,
            None => &mut self.person,
        }
    }
}

/// What a provider is to be asked, and what that rests on.
pub(in crate::issue::engine) struct RefreshQuestion {
    /// The record of the refresh token, with the sign-on and all above it.
    found: StoredFacts,
    provider: FoundProvider,
    stored: StoredRefresh,
    refresh: SignOnRefresh,
}

/// The right to ask a provider about a sign-on, which no other gateway has now.
pub(in crate::issue::engine) struct Exchange {
    provider: FoundProvider,
    pub(in crate::issue::engine) refresh: SignOnRefresh,
    /// What the record holds since this gateway asks.
    stored: StoredRefresh,
    /// The store's time before the provider was asked.
    begun_at: UnixMillis,
}

/// What the records say before the provider is asked.
pub(in crate::issue::engine) enum Begun {
    /// The provider gave no refresh token, or it is not wanted any more: nobody is asked.
    Unasked,
    /// The last word of the provider still counts for this long.
    Confirmed(Duration),
    /// Not now.
    Keep(Duration),
    Ask(Box<RefreshQuestion>),
}

/// Why a renewal failed.
#[derive(Debug)]
pub(in crate::issue::engine) enum Stop {
    /// The provider, or its settings.
    Fault(SignOnFault),
    /// The store, or what the session hangs on.
    Other(IssueError),
}

impl From<IssueError> for Stop {
    fn from(error: IssueError) -> Self {
        Self::Other(error)
    }
}

impl From<Denial> for Stop {
    fn from(denial: Denial) -> Self {
        Self::Other(denial.into())
    }
}

impl Engine {
    /// Begins the renewal of a session by sign-on. It is called on a worker and does not wait.
    #[must_use]
    pub fn begin_renewal(self: &Arc<Self>, renewal: SessionRenewal) -> BegunRenewal {
        let now = self.clock.now().boot;
        match self.renewals.begin(&renewal.sign_on, &renewal.provider, now, EXCHANGE) {
            Ok(()) => {}
            Err(Remembered::Renew) => return BegunRenewal::Renew,
            Err(Remembered::Keep) => return BegunRenewal::Keep,
        }
        let Ok(permit) = self.renewal_permits.clone().try_acquire_owned() else {
            self.renewals.note(&renewal.sign_on, Remembered::Keep, now, Duration::from_secs(1));
            return BegunRenewal::Keep;
        };
        let engine = self.clone();
        BegunRenewal::Asking(self.control.spawn(async move {
            let _permit = permit;
            engine.renew_session(&renewal).await
        }))
    }

    /// Renews a session, or says why not. What it learned is remembered for the next requests.
    pub(in crate::issue::engine) async fn renew_session(&self, renewal: &SessionRenewal) -> RenewalVerdict {
        match self.try_renewal(renewal).await {
            Ok(verdict) => verdict,
            Err(Stop::Other(error)) => {
                let label = error.denial.label();
                if self.renewals.admits_line(&renewal.provider, label, self.clock.now().boot) {
                    tracing::warn!(
                        request_id = renewal.request_id,
                        sign_on = %renewal.sign_on,
                        denial = label,
                        "a session was not renewed, and ends with its token unless the next try succeeds"
                    );
                }
                self.remember(renewal, Remembered::Keep, PROVIDER_PAUSE);
                RenewalVerdict::Keep
            }
            Err(Stop::Fault(fault)) => {
                self.warn_of_renewal(&renewal.request_id, &renewal.provider, &fault);
                let now = self.clock.now().boot;
                if matches!(fault, SignOnFault::Fetch(..) | SignOnFault::Busy) {
                    self.renewals.note(&renewal.provider, Remembered::Keep, now, PROVIDER_PAUSE);
                }
                // Nobody may ask again before the record says so.
                self.remember(renewal, Remembered::Keep, EXCHANGE);
                RenewalVerdict::Keep
            }
        }
    }

    /// Logs why a session is not renewed, once in a minute for each provider and reason.
    pub(super) fn warn_of_renewal(&self, request_id: &str, provider: &CredentialId, fault: &SignOnFault) {
        if self.renewals.admits_line(provider, fault.label(), self.clock.now().boot) {
            tracing::warn!(
                request_id,
                %provider,
                cause = fault.label(),
                "a session was not renewed by its provider: {fault}"
            );
        }
    }

    /// Remembers for the next requests of a sign-on, for this long.
    fn remember(&self, renewal: &SessionRenewal, what: Remembered, lasts: Duration) {
        self.renewals.note(&renewal.sign_on, what, self.clock.now().boot, lasts);
    }

    async fn try_renewal(&self, renewal: &SessionRenewal) -> Result<RenewalVerdict, Stop> {
        for _ in 0..MAX_WRITES {
            let question = match self.find_question(renewal).await? {
                Begun::Unasked => {
                    self.remember(renewal, Remembered::Renew, MEMORY);
                    return Ok(RenewalVerdict::Renew(None));
                }
                Begun::Confirmed(lasts) => {
                    let renewed = self.follow_person(renewal).await?;
                    self.remember(renewal, Remembered::Renew, lasts.min(MEMORY));
                    return Ok(RenewalVerdict::Renew(Some(Box::new(renewed))));
                }
                Begun::Keep(lasts) => {
                    self.remember(renewal, Remembered::Keep, lasts.min(EXCHANGE));
                    return Ok(RenewalVerdict::Keep);
                }
                Begun::Ask(question) => question,
            };
            let settings = &question.provider.settings;
            let oidc = settings.oidc().ok_or(Denial::Internal)?;
            let client = oidc_client(&renewal.provider, oidc, &self.peppers).map_err(Stop::Fault)?;
            let rules = person_rules(settings);
            let access = access(renewal.snapshot.sign_on.as_ref().ok_or(Denial::Internal)?);
            // Before the right is taken: a provider that cannot be reached was not asked.
            let metadata = self.oidc.metadata(&client, &access).await.map_err(Stop::Fault)?;
            let Some(exchange) = self.begin_exchange(*question).await? else {
                continue;
            };
            let answer = self.oidc.refresh(&client, &metadata, &exchange.refresh, &rules, &access).await;
            let verdict = self.settle(renewal, &exchange, answer).await?;
            match &verdict {
                RenewalVerdict::Renew(_) => self.remember(renewal, Remembered::Renew, MEMORY.min(renewal.after)),
                RenewalVerdict::Keep | RenewalVerdict::Ended(_) => self.remember(renewal, Remembered::Keep, PROVIDER_PAUSE),
            }
            return Ok(verdict);
        }
        self.remember(renewal, Remembered::Keep, Duration::from_secs(1));
        Ok(RenewalVerdict::Keep)
    }

    /// Reads what is known of a sign-on, and whether its provider is to be asked.
    pub(in crate::issue::engine) async fn find_question(&self, renewal: &SessionRenewal) -> Result<Begun, Stop> {
        let fingerprint = refresh_token_fingerprint(&renewal.sign_on).ok_or(Denial::Internal)?;
        let Some(found) = self.find_facts(fingerprint).await? else {
            return Ok(Begun::Unasked);
        };
        let now = self.time().await?;
        validity::check_found(&found.credential, &found.ancestors, &found.tenant, now)?;
        let stored = StoredRefresh::of_record(&found.credential).map_err(|error| unavailable(&error))?;
        let provider = self.find_provider(&renewal.provider, now).await?;
        if !provider.settings.oidc().is_some_and(|oidc| oidc.refresh_tokens) {
            return Ok(Begun::Unasked);
        }
        if let Some(lasts) = stored.confirmed_for(renewal.after, now) {
            return Ok(Begun::Confirmed(lasts));
        }
        if let Some(lasts) = stored.asked_for(now) {
            return Ok(Begun::Keep(lasts));
        }
        let opened = stored.open(&renewal.sign_on, &self.peppers).map_err(Stop::Fault)?;
        // Dropped: the person has logged out.
        Ok(opened.map_or(Begun::Keep(EXCHANGE), |refresh| {
            Begun::Ask(Box::new(RefreshQuestion {
                found,
                provider,
                stored,
                refresh,
            }))
        }))
    }

    /// Takes the right to ask. It is written on the record of the refresh token, in one step with the comparison that nobody has
    /// changed what it rests on: of two gateways one gets it. `None` if somebody has.
    pub(in crate::issue::engine) async fn begin_exchange(&self, question: RefreshQuestion) -> Result<Option<Exchange>, Stop> {
        let RefreshQuestion {
            found,
            provider,
            stored,
            refresh,
        } = question;
        let begun_at = self.time().await?;
        let stored = stored.asked(Some(begun_at));
        let mut rests_on = RestsOn::found(&found);
        rests_on.add(provider.rests_on());
        let changes = vec![(found.credential.id, CredentialChange::SetSettings(stored.to_text()))];
        match self.write_renewal(changes, rests_on, begun_at).await {
            Err(error) if error.stale => Ok(None),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(Some(Exchange {
                provider,
                refresh,
                stored,
                begun_at,
            })),
        }
    }

    /// Gives a session what its person may do now, where nobody has to be asked for it: another session of the same sign-on has been
    /// renewed, perhaps at another gateway.
    async fn follow_person(&self, renewal: &SessionRenewal) -> Result<RenewedRecords, Stop> {
        for _ in 0..MAX_WRITES {
            let now = self.time().await?;
            let found = self.find_session(renewal, now).await?;
            let provider = self.find_provider(&renewal.provider, now).await?;
            let rests_on = RestsOn::found(&found.facts);
            let mut session = found.facts.credential.clone();
            let known = self.known_roles_under(&renewal.snapshot, &session.tenant).await?;
            let change = follow(renewal, &mut session, &found, &provider, known);
            let person = found.person;
            if let Some(change) = change {
                match self.write_renewal(vec![change], rests_on, now).await {
                    Err(error) if error.stale => continue,
                    written => written?,
                }
            }
            return Ok(RenewedRecords {
                session,
                person,
                done: None,
            });
        }
        Err(Denial::StoreUnavailable.into())
    }

    /// The session as the store has it now, with all that it hangs on in force.
    async fn find_session(&self, renewal: &SessionRenewal, now: UnixMillis) -> Result<FoundSession, IssueError> {
        let surface = renewal.snapshot.surfaces.get(renewal.surface.0).ok_or(Denial::Internal)?;
        let fingerprint = Fingerprint::of_id(&surface.name, &renewal.session);
        let facts = self.find_facts(fingerprint).await?.ok_or(Denial::NotFound)?;
        validity::check_found(&facts.credential, &facts.ancestors, &facts.tenant, now)?;
        match &facts.ancestors[..] {
            [sign_on, person, above @ ..] if sign_on.id == renewal.sign_on => Ok(FoundSession {
                sign_on: sign_on.clone(),
                person: person.clone(),
                link: above.first().filter(|record| record.is_link()).cloned(),
                facts,
            }),
            _ => Err(Denial::CorruptRecord.into()),
        }
    }

    async fn write_renewal(
        &self,
        changes: Vec<(CredentialId, CredentialChange)>,
        rests_on: RestsOn,
        now: UnixMillis,
    ) -> Result<(), IssueError> {
        let new = NewRecords {
            changes,
            rests_on,
            ..NewRecords::default()
        };
        self.store.create(new, now).await.map(drop).map_err(refused_change)
    }
}

/// The change that gives a session what its person may do, if the routes make sessions of its surface so (`scopes = "person"`).
/// Otherwise a session keeps the scopes that its route gave it. The person and the provider bound both, on each request.
fn follow(
    renewal: &SessionRenewal,
    session: &mut CredentialRecord,
    found: &FoundSession,
    provider: &FoundProvider,
    known: Vec<RoleRecord>,
) -> Option<(CredentialId, CredentialChange)> {
    let routes = renewal.snapshot.served_routes.iter().filter_map(|route| route.action.sign_on());
    let mints = routes.filter_map(|route| match &route.step {
        SignOnStep::FinishOidc(finish) => Some(&finish.mint),
        _ => None,
    });
    let mut of_surface = mints.filter(|mint| mint.surface == renewal.surface).peekable();
    if of_surface.peek().is_none() || !of_surface.all(|mint| mint.scopes == ScopeSource::Caller) {
        return None;
    }
    let roles = roles::of_chain(known, std::iter::once(&found.person).chain(&found.link), provider);
    let above: Vec<CredentialRecord> = found.link.iter().chain([provider.record()]).cloned().collect();
    let may = renewal.snapshot.scope_grants.effective_scopes_of(&found.person, &above, &roles);
    let may = session
        .granted()
        .map_or_else(|| may.clone().into_owned(), |granted| may.union(granted));
    if may == session.scopes {
        return None;
    }
    session.scopes = may.clone();
    Some((session.id.clone(), CredentialChange::SetScopes(may)))
}
