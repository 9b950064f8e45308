//! From a person whom a provider has proven to a session. The person is found or made, roles are replaced, the session at the
//! provider is noted, the session here is made: all of it in one step of the store, the same for OIDC and SAML.

use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::{BootMillis, UnixMillis};
use crate::base::denial::Denial;
use crate::base::fingerprint::{Fingerprint, Pepper};
use crate::base::ids::{CredentialId, RoleId, SurfaceName};
use crate::base::key::{IdKind, mint_id};
use crate::base::principal::{
    CredentialRecord, CredentialState, Extras, Facts, IdentityLines, Parent, Position, Principal, Reading, RecordClaims, RoleRecord,
    SIGN_ON_SURFACE,
};
use crate::base::scope::ScopeSet;
use crate::decide::surface::{Recipe, SurfaceIndex};
use crate::decide::token::MAX_AHEAD;
use crate::decide::validity;
use crate::issue::call::{AdmittedCaller, IssueError, Issued, ServedCall};
use crate::issue::engine::mint::session_cookie;
use crate::issue::engine::{Engine, done, unavailable};
use crate::issue::minting::{MAX_NAME, MintInputs, ParentRecord, blank, make};
use crate::sign_on::fault::SignOnFault;
use crate::sign_on::log_in_record::remove_cookie;
use crate::sign_on::person::{GivenRoles, SignedOnPerson};
use crate::sign_on::records::{person_fingerprint, sign_on_fingerprint};
use crate::sign_on::refresh_token::SignOnRefresh;
use crate::sign_on::sign_on_secrets::{SamlName, SignOnSecrets};
use crate::snapshot::sign_on_route::FinishStep;
use crate::store::{CredentialChange, NewRecords, RestsOn, StoredFacts};

use super::provider::FoundProvider;
use super::refresh_token::RefreshTokenWrite;
use super::{refused, roles};

/// How often one sign-on is written. Each time, somebody else changed what it rests on in the milliseconds before.
pub(super) const MAX_WRITES: usize = 3;

/// Sessions at providers are noted by periods of this length, and each note is kept to the end of the next period. So a session
/// that was ended is remembered for at least as long as the longest session by a sign-on, and one that lasts for months at the
/// provider does not end here because its note has.
const PERIOD: Duration = Duration::from_secs(30 * 86_400);

/// Most notes of one session at a provider in one period. There is one more each time that the person logs out everywhere here
/// and signs on again without logging in there.
const MAX_NOTES: usize = 16;

/// A person whom a provider has proven.
pub(in crate::issue::engine) struct ProvenPerson {
    pub(in crate::issue::engine) person: SignedOnPerson,
    /// The provider as the proof was judged by it.
    pub(in crate::issue::engine) provider: FoundProvider,
    /// The store's time before the provider was asked. What ends the person's sessions after it ends this sign-on too.
    pub(in crate::issue::engine) begun_at: UnixMillis,
    /// Where the browser goes. It was checked.
    pub(in crate::issue::engine) return_to: String,
    /// The cookie of the log-in record, which is removed.
    pub(in crate::issue::engine) cookie: Option<String>,
    /// What the provider is asked with when the session is renewed.
    pub(in crate::issue::engine) refresh: Option<SignOnRefresh>,
    /// How a SAML provider calls the session, if it can be ended there from here.
    pub(in crate::issue::engine) saml_name: Option<SamlName>,
}

/// The person's record as the sign-on leaves it, and what it may do.
struct SignedOnRecord {
    /// The account that is the provider's, or the link.
    record: CredentialRecord,
    /// The account that the person is linked to.
    account: Option<CredentialRecord>,
    /// Within the provider's ceiling.
    may: ScopeSet,
    /// The roles of the store among its own, and among those of the records above and of the linked account.
    roles: Vec<RoleRecord>,
}

impl SignedOnRecord {
    /// The account that signs on.
    fn person(&self) -> &CredentialRecord {
        self.account.as_ref().unwrap_or(&self.record)
    }

    fn link(&self) -> Option<&CredentialRecord> {
        self.account.is_some().then_some(&self.record)
    }
}

/// The account surface of a provider's people.
pub(super) struct PeopleSurface {
    pub(super) index: SurfaceIndex,
    pub(super) name: SurfaceName,
}

/// What the store has of a session at a provider.
#[derive(Default)]
pub(super) struct SessionNotes {
    /// The notes of this period, the first one first.
    pub(super) this: Vec<StoredFacts>,
    /// Those of the period before.
    pub(super) earlier: Vec<StoredFacts>,
}

/// The record of the session at the provider.
enum NotedSession {
    /// There is one already.
    Found(CredentialRecord),
    New(CredentialRecord),
}

impl NotedSession {
    const fn record(&self) -> &CredentialRecord {
        match self {
            Self::Found(record) | Self::New(record) => record,
        }
    }
}

impl Engine {
    /// Gives a proven person a session. If something that the sign-on rests on changes before it is written, it is judged
    /// again from the start.
    pub(in crate::issue::engine) async fn sign_person_on(
        &self,
        call: &ServedCall,
        step: &FinishStep,
        proven: &ProvenPerson,
    ) -> Result<Issued, IssueError> {
        for _ in 0..MAX_WRITES {
            match self.try_sign_on(call, step, proven).await {
                // Two tabs of one new person make the same record: one of them finds it now.
                Err(stop) if stop.stale || stop.denial == Denial::Taken => {}
                other => return other,
            }
        }
        Err(Denial::Overloaded.into())
    }

    async fn try_sign_on(&self, call: &ServedCall, step: &FinishStep, proven: &ProvenPerson) -> Result<Issued, IssueError> {
        let now = self.time().await?;
        // The provider as it is now. A secret or a certificate that was withdrawn while the provider answered makes nothing.
        let provider = self.find_provider(&proven.provider.record().id, now).await?;
        if !provider.is_unchanged_since(&proven.provider) {
            return Err(refused(&SignOnFault::SettingsChanged, &provider));
        }
        let session_surface = call.surface(step.mint.surface)?;
        if provider.settings.session != session_surface.name.as_str() {
            return Err(refused(&SignOnFault::WrongSessionSurface, &provider));
        }
        let account = account_surface(call, &provider)?;
        let mut rests_on = provider.rests_on();
        // The notes are read before the person. Another sign-on may write a person and a note in one step. This order finds the
        // person of every note that it finds; the other order could take a person's own note for that of somebody else.
        let notes = match &proven.person.session_id {
            Some(session) => self.find_notes(&provider, session, now).await?,
            None => SessionNotes::default(),
        };
        let found = self.find_person(&provider, &account.name, &proven.person.subject).await?;
        if let Some(found) = &found {
            check_person(found, &provider, proven.begun_at, now)?;
            rests_on.add(RestsOn::found(found));
        }
        let linked = match &found {
            Some(found) => self.linked_account(&provider, &found.credential, proven.begun_at, now).await?,
            None => None,
        };
        if let Some(linked) = &linked {
            rests_on.add(RestsOn::found(linked));
        }
        let (mut person, mut changes) = self.person_after(call, &provider, &account, found, proven, now).await?;
        if let Some(linked) = linked {
            person = with_account(call, &provider, person, linked);
        }
        rests_on.add_roles(person.roles.iter());
        let lifetime = session_lifetime(call, step, &provider, &proven.person, now)?;
        let noted = self.note_session(&provider, &person, proven, notes, lifetime, now, &mut rests_on)?;
        let refresh = self.refresh_token_after(proven, noted.record(), now, &mut rests_on).await?;
        let signed_on = as_caller(call, &person, &provider, account.index);
        let base = ParentRecord {
            // The session ends with what the provider allows, whatever the person's record does.
            record: CredentialRecord {
                expires_at: earliest(person.person().expires_at, earliest(person.record.expires_at, Some(lifetime))),
                ..person.person().clone()
            },
            may: person.may.clone(),
            sign_on: Some(noted.record().clone()),
        };
        let (roles, role_scopes) = self
            .find_roles(&signed_on, step.mint.roles.as_ref(), &provider.record().tenant, &mut rests_on)
            .await?;
        let inputs = MintInputs {
            tenant: &provider.record().tenant,
            parent: Some(&base),
            password: None,
            roles,
            role_scopes,
            pepper: self.peppers.first(),
            now,
            latest: self.clock.now().wall.plus(MAX_AHEAD),
        };
        let made = make(&signed_on, &step.mint, inputs)?;
        let mut fields = vec![("Location".to_owned(), proven.return_to.clone())];
        let mints = std::slice::from_ref(&step.mint);
        let records = std::iter::once(person.person()).chain(person.link());
        let done = done("sso_finish", records.chain([noted.record(), &made.record]));
        let cookie = session_cookie(call, mints, std::slice::from_ref(&made), 0, now)?;
        fields.extend(
            [cookie]
                .into_iter()
                .chain(proven.cookie.as_deref().map(remove_cookie))
                .map(set_cookie),
        );
        let mut credentials = Vec::new();
        if person.record.epoch == 0 {
            credentials.push(person.record);
            // What is made has its roles from the start.
            changes.clear();
        }
        if let NotedSession::New(record) = noted {
            credentials.push(record);
        }
        match refresh {
            RefreshTokenWrite::None => {}
            RefreshTokenWrite::Make(record) => credentials.push(*record),
            RefreshTokenWrite::Change(id, change) => changes.push((id, change)),
        }
        credentials.push(made.record);
        let new = NewRecords {
            credentials,
            changes,
            rests_on,
            ..NewRecords::default()
        };
        self.write(call, new, now).await?;
        self.end_replaced(call, now).await;
        Ok(Issued {
            status: 303,
            fields,
            body: None,
            done,
            notification: None,
        })
    }

    /// The person whom the provider knows by this subject, under any pepper: the record that is not revoked, or the last one.
    pub(in crate::issue::engine) async fn find_person(
        &self,
        provider: &FoundProvider,
        account: &SurfaceName,
        subject: &str,
    ) -> Result<Option<StoredFacts>, IssueError> {
        Ok(self.find_place(provider, account, subject).await?.found)
    }

    /// The record of the person with the roles and scopes that the provider's table gives now, and the changes that lead to it.
    async fn person_after(
        &self,
        call: &ServedCall,
        provider: &FoundProvider,
        account: &PeopleSurface,
        found: Option<StoredFacts>,
        proven: &ProvenPerson,
        now: UnixMillis,
    ) -> Result<(SignedOnRecord, Vec<(CredentialId, CredentialChange)>), IssueError> {
        let person = &proven.person;
        let known = self.known_roles(call, &provider.record().tenant).await?;
        let is_link = found.as_ref().is_some_and(|found| found.credential.is_link());
        let given = if is_link {
            given_to_link(provider, person)
        } else {
            GivenRoles {
                roles: person.roles.clone(),
                scopes: person.scopes.clone(),
            }
        };
        let given = roles::existing(&given, &known, provider).map_err(|fault| refused(&fault, provider))?;
        let mut changes = Vec::new();
        let record = match found {
            Some(found) => {
                let mut record = found.credential;
                // Roles that the provider does not give were given here, and stay. A link never has others than the provider's.
                if is_link || provider.settings.roles.is_some() {
                    changes = roles::set(&mut record, &given);
                }
                record
            }
            None if !provider.settings.provision => return Err(refused(&SignOnFault::NotProvisioned, provider)),
            None => new_person(call, provider, account, person, &given.roles, self.peppers.first(), now)?,
        };
        let roles = roles::of_chain(known, std::iter::once(&record), provider);
        let above = std::slice::from_ref(provider.record());
        let may = call.snapshot.scope_grants.effective_scopes_of(&record, above, &roles).into_owned();
        let person = SignedOnRecord {
            record,
            account: None,
            may,
            roles,
        };
        Ok((person, changes))
    }

    /// The record of the session at the provider. A session that has ended there is not revived by whoever comes late.
    fn note_session(
        &self,
        provider: &FoundProvider,
        person: &SignedOnRecord,
        proven: &ProvenPerson,
        notes: SessionNotes,
        ends_at: UnixMillis,
        now: UnixMillis,
        rests_on: &mut RestsOn,
    ) -> Result<NotedSession, IssueError> {
        let link = person.link().map(parent_of);
        let new_note = |fingerprint, end| -> Result<NotedSession, IssueError> {
            let mut note = new_sign_on(provider, person.person(), fingerprint, Some(end), now)?;
            note.extras_mut().link.clone_from(&link);
            self.named_note(note, proven)
        };
        let Some(session) = &proven.person.session_id else {
            return new_note(None, ends_at);
        };
        let SessionNotes { this, earlier } = notes;
        for found in this.iter().chain(&earlier) {
            rests_on.add(RestsOn::found(found));
            if found.credential.state != CredentialState::Active {
                return Err(refused(&SignOnFault::SessionEnded, provider));
            }
            let own = Some(parent_of(person.person()));
            let is_own = found.credential.parent() == own.as_ref() && found.credential.link() == link.as_ref();
            // A person who was deleted, or whose link was undone, may come again as another one within the same session there.
            let is_undone = found
                .ancestors
                .iter()
                .any(|above| !above.is_provider() && matches!(above.state, CredentialState::Revoked { .. }));
            if !is_own && !is_undone {
                return Err(refused(&SignOnFault::SessionOfAnother, provider));
            }
        }
        let number = this.len();
        let last_note = this.into_iter().next_back();
        // A note from before the person logged out everywhere stands for sessions that have ended. The session at the provider
        // goes on, so it is noted anew.
        let in_force = |found: &StoredFacts| validity::check_found(&found.credential, &found.ancestors, &found.tenant, now).is_ok();
        if let Some(found) = last_note.filter(in_force) {
            return Ok(NotedSession::Found(found.credential));
        }
        if number == MAX_NOTES {
            return Err(refused(&SignOnFault::SessionEnded, provider));
        }
        let [period, _] = periods(now);
        let fingerprint = noted_fingerprint(self.peppers.first(), provider, session, period, number);
        new_note(fingerprint, end_of_note(period))
    }

    /// What was noted of a session at the provider.
    pub(super) async fn find_notes(&self, provider: &FoundProvider, session: &str, now: UnixMillis) -> Result<SessionNotes, IssueError> {
        let [this, last] = periods(now);
        Ok(SessionNotes {
            this: self.find_noted(provider, session, this).await?,
            earlier: self.find_noted(provider, session, last).await?,
        })
    }

    /// A new note that keeps how the provider calls the session.
    fn named_note(&self, mut note: CredentialRecord, proven: &ProvenPerson) -> Result<NotedSession, IssueError> {
        if let Some(name) = &proven.saml_name {
            let name_id = name
                .seal(&note.id, &self.peppers)
                .map_err(|fault| refused(&fault, &proven.provider))?;
            note.extras_mut().settings = SignOnSecrets { name_id }.to_text();
        }
        Ok(NotedSession::New(note))
    }

    /// The notes of a session at the provider in one period, the first one first.
    async fn find_noted(&self, provider: &FoundProvider, session: &str, period: i64) -> Result<Vec<StoredFacts>, IssueError> {
        let mut notes = Vec::new();
        while notes.len() < MAX_NOTES {
            let mut found = None;
            for pepper in self.peppers.iter() {
                if let Some(fingerprint) = noted_fingerprint(pepper, provider, session, period, notes.len())
                    && found.is_none()
                {
                    found = self.find_facts(fingerprint).await?;
                }
            }
            match found {
                Some(note) => notes.push(note),
                None => break,
            }
        }
        Ok(notes)
    }

    pub(in crate::issue::engine) async fn find_facts(&self, fingerprint: Fingerprint) -> Result<Option<StoredFacts>, IssueError> {
        let reply = self.store.find(fingerprint).await.map_err(|error| unavailable(&error))?;
        Ok(reply.facts)
    }
}

/// This period and the one before, by number.
pub(in crate::issue::engine) fn periods(now: UnixMillis) -> [i64; 2] {
    let length = i64::try_from(PERIOD.as_millis()).unwrap_or(i64::MAX);
    let this = now.0.div_euclid(length);
    [this, this.saturating_sub(1)]
}

/// When a note of this period is not needed any more: at the end of the next one.
pub(in crate::issue::engine) fn end_of_note(period: i64) -> UnixMillis {
    let length = i64::try_from(PERIOD.as_millis()).unwrap_or(i64::MAX);
    UnixMillis(period.saturating_add(2).saturating_mul(length))
}

/// What finds one of the notes of a session at a provider in one period.
pub(in crate::issue::engine) fn noted_fingerprint(
    pepper: &Pepper,
    provider: &FoundProvider,
    session: &str,
    period: i64,
    number: usize,
) -> Option<Fingerprint> {
    sign_on_fingerprint(pepper, &provider.record().id, &format!("{session}\0{period}\0{number}"))
}

/// A new note of a session at a provider; found by its id alone where the provider names no session.
pub(in crate::issue::engine) fn new_sign_on(
    provider: &FoundProvider,
    parent: &CredentialRecord,
    fingerprint: Option<Fingerprint>,
    expires_at: Option<UnixMillis>,
    now: UnixMillis,
) -> Result<CredentialRecord, Denial> {
    let id = mint_id(IdKind::SignOn, now).map_err(|_| Denial::Internal)?;
    let surface = SurfaceName::parse(SIGN_ON_SURFACE).map_err(|_| Denial::Internal)?;
    Ok(CredentialRecord {
        fingerprint: fingerprint.unwrap_or_else(|| Fingerprint::of_id(&surface, &id)),
        id,
        surface,
        scopes: ScopeSet::default(),
        name: None,
        created_at: now,
        expires_at,
        valid_after: None,
        epoch: 0,
        pepper: None,
        extras: Extras {
            parent: Some(parent_of(parent)),
            granted: Some(ScopeSet::default()),
            ..Extras::default()
        }
        .boxed(),
        state: CredentialState::Active,
        ..provider.record().clone()
    })
}

pub(super) fn parent_of(record: &CredentialRecord) -> Parent {
    Parent {
        surface: record.surface.clone(),
        id: record.id.clone(),
    }
}

/// The account surface of the provider's people.
pub(super) fn account_surface(call: &ServedCall, provider: &FoundProvider) -> Result<PeopleSurface, IssueError> {
    let mut surfaces = call.snapshot.surfaces.iter().enumerate();
    let found = surfaces.find(|(_, surface)| surface.name.as_str() == provider.settings.account);
    match found {
        Some((index, surface)) if matches!(surface.kind.recipe(), Recipe::Account) => Ok(PeopleSurface {
            index: SurfaceIndex(index),
            name: surface.name.clone(),
        }),
        _ => Err(refused(&SignOnFault::NoAccountSurface, provider)),
    }
}

/// What the provider gives the person of a link: by its table; where it has none, as much as its ceiling, since what the account
/// may do bounds it too.
pub(super) fn given_to_link(provider: &FoundProvider, person: &SignedOnPerson) -> GivenRoles {
    let (roles, scopes) = match provider.settings.roles {
        Some(_) => (&person.roles[..], &person.scopes),
        None => (provider.record().roles(), &provider.record().scopes),
    };
    GivenRoles {
        roles: roles.to_vec(),
        scopes: scopes.clone(),
    }
}

/// The person of a link with the account that the link is of: the account signs on, within what the link may do.
fn with_account(call: &ServedCall, provider: &FoundProvider, person: SignedOnRecord, linked: StoredFacts) -> SignedOnRecord {
    let mut roles = person.roles;
    for role in linked.roles {
        if !roles.iter().any(|known| known.id == role.id) {
            roles.push(role);
        }
    }
    let above = [person.record.clone(), provider.record().clone()];
    let may = call.snapshot.scope_grants.effective_scopes_of(&linked.credential, &above, &roles);
    SignedOnRecord {
        may: may.into_owned(),
        record: person.record,
        account: Some(linked.credential),
        roles,
    }
}

/// Whether a person may sign on again.
fn check_person(found: &StoredFacts, provider: &FoundProvider, begun_at: UnixMillis, now: UnixMillis) -> Result<(), IssueError> {
    let record = &found.credential;
    if record.parent().is_none_or(|parent| parent.id != provider.record().id) {
        return Err(Denial::CorruptRecord.into());
    }
    let fault = match record.state {
        CredentialState::Disabled => SignOnFault::PersonDisabled,
        CredentialState::Revoked { .. } if record.is_link() => SignOnFault::LinkUndone,
        CredentialState::Revoked { .. } => SignOnFault::PersonRevoked,
        // All sessions of the person were ended while the provider answered.
        CredentialState::Active if record.valid_after.is_some_and(|watermark| watermark >= begun_at) => SignOnFault::SessionEnded,
        CredentialState::Active => {
            return match validity::check_found(record, &found.ancestors, &found.tenant, now) {
                Ok(()) => Ok(()),
                Err(Denial::InactiveTenant) => Err(Denial::InactiveTenant.into()),
                Err(_) => Err(refused(&SignOnFault::PersonDisabled, provider)),
            };
        }
    };
    Err(refused(&fault, provider))
}

/// The record of a person who signs on for the first time.
fn new_person(
    call: &ServedCall,
    provider: &FoundProvider,
    account: &PeopleSurface,
    person: &SignedOnPerson,
    roles: &[RoleId],
    pepper: &Pepper,
    now: UnixMillis,
) -> Result<CredentialRecord, IssueError> {
    let blank = blank(call.surface(account.index)?, provider.record().tenant.clone(), now)?;
    let claims = RecordClaims::new(person.claims.clone()).map_err(|_| refused(&SignOnFault::ClaimsTooLarge, provider))?;
    Ok(CredentialRecord {
        fingerprint: person_fingerprint(pepper, &account.name, &provider.record().id, &person.subject, 0),
        scopes: person.scopes.clone(),
        name: person.name.as_deref().map(line),
        extras: Extras {
            parent: Some(parent_of(provider.record())),
            roles: roles.to_vec(),
            claims,
            // It is shown, and never the identity.
            login: person.email.as_deref().map(line),
            granted: Some(ScopeSet::default()),
            ..Extras::default()
        }
        .boxed(),
        ..blank
    })
}

/// A text of the provider as one line for lists.
pub(super) fn line(text: &str) -> String {
    let mut line: String = text.chars().filter(|c| !c.is_control()).collect();
    while line.len() > MAX_NAME {
        line.pop();
    }
    line
}

/// When a session by this sign-on ends at the latest: by the route, the provider's settings, and the provider's word.
fn session_lifetime(
    call: &ServedCall,
    step: &FinishStep,
    provider: &FoundProvider,
    person: &SignedOnPerson,
    now: UnixMillis,
) -> Result<UnixMillis, IssueError> {
    let of_surface = call
        .surface(step.mint.surface)?
        .kind
        .session()
        .and_then(|session| session.minting.as_ref());
    let own = step.mint.lifetime.default.or_else(|| of_surface.map(|minting| minting.lifetime));
    let mut end = now.plus(own.unwrap_or(PERIOD).min(PERIOD));
    if let Some(longest) = provider.settings.max_session() {
        end = end.min(now.plus(longest));
    }
    if let Some(there) = person.ends_at {
        end = end.min(there);
    }
    if end <= now {
        return Err(refused(&SignOnFault::SessionEnded, provider));
    }
    Ok(end)
}

fn earliest(one: Option<UnixMillis>, other: Option<UnixMillis>) -> Option<UnixMillis> {
    one.into_iter().chain(other).min()
}

/// The call as if the person made it: the session is given what the person may do, as a log-in's is.
fn as_caller(call: &ServedCall, person: &SignedOnRecord, provider: &FoundProvider, account: SurfaceIndex) -> ServedCall {
    let facts = Facts {
        reading: Reading::new(BootMillis::default(), Position::default()),
        ancestors: person.link().into_iter().chain([provider.record()]).cloned().collect(),
        tenant: provider.tenant().clone(),
        lines: IdentityLines::default(),
        credential: person.person().clone(),
        roles: person.roles.clone(),
    };
    let mut principal = Principal::new(Arc::new(facts), None);
    principal.record_scopes = Some(person.may.clone());
    ServedCall {
        caller: Some(AdmittedCaller {
            surface: account,
            principal,
            ends_at: None,
        }),
        ..call.clone()
    }
}

pub(super) fn set_cookie(value: String) -> (String, String) {
    ("Set-Cookie".to_owned(), value)
}
