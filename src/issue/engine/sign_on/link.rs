//! Links: somebody who is signed in to an account proves who they are at an identity provider, and signs on to the same account
//! there from then on. A link is made by the signed-in person alone, and never because two addresses are equal.

use serde_json::json;

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, SurfaceName};
use crate::base::principal::{CredentialRecord, CredentialState, Extras, RoleRecord};
use crate::base::scope::ScopeSet;
use crate::decide::accept::AnswerForm;
use crate::decide::validity;
use crate::issue::call::{IssueError, Issued, ServedCall};
use crate::issue::engine::{Engine, done, may_do};
use crate::issue::minting::blank;
use crate::issue::narrow::check_scopes;
use crate::sign_on::fault::SignOnFault;
use crate::sign_on::log_in_record::{LinkIntent, remove_cookie};
use crate::sign_on::records::{MAX_FOLLOWING, link_id, person_fingerprint};
use crate::snapshot::sign_on_route::{FinishStep, SignOnRoute, StartStep};
use crate::store::{CredentialChange, NewRecords, RestsOn, StoredFacts};

use super::provider::FoundProvider;
use super::session::{MAX_WRITES, PeopleSurface, ProvenPerson, account_surface, given_to_link, line, parent_of, set_cookie};
use super::{because, browser, refused, refused_early, roles};

/// What the store has of a person of a provider.
pub(super) struct PersonPlace {
    /// The record that counts: the one that is not revoked, or else the last one.
    pub(super) found: Option<StoredFacts>,
    /// The number of the next record of this person; `None` while there is one that is not revoked, and when there were as many as
    /// there may be.
    free: Option<usize>,
}

impl Engine {
    /// Sends the caller's browser to a provider, to link the caller's account. Nothing is stored.
    pub(super) async fn start_link(&self, call: &ServedCall, route: &SignOnRoute, step: &StartStep) -> Result<Issued, IssueError> {
        let return_to = return_to(call, route)?;
        let chosen = chosen(call)?;
        let caller = call.caller()?;
        let tenant = caller.record().tenant.clone();
        let mut offered = self.offered_at(&tenant, step, None).await?;
        if let Some(chosen) = &chosen {
            offered.retain(|provider| provider.id == *chosen);
        }
        let provider = match offered.as_slice() {
            [] => return Err(because(Denial::NotFound, &SignOnFault::NoProvider, None)),
            [only] => self.find_provider(&only.id, self.clock.now().wall).await?,
            _ => return Err(refused_early(&SignOnFault::LinkForm)),
        };
        if provider.tenant().id != tenant {
            return Err(because(Denial::NotFound, &SignOnFault::NoProvider, None));
        }
        let facts = &caller.principal.facts;
        let account = account_of(&facts.ancestors).ok_or_else(|| refused(&SignOnFault::LinkAccount, &provider))?;
        check_linkable(call, &provider, account, &facts.roles, caller.scopes())?;
        let intent = LinkIntent {
            surface: caller.record().surface.clone(),
            session: caller.record().id.clone(),
            account: account.id.clone(),
        };
        self.begin_link(call, route, step, &provider, return_to, intent).await
    }

    /// Links the account of the session that began it to a proven person. The session is judged by what the store says now. If
    /// something that the link rests on changes before it is written, it is judged again from the start.
    pub(in crate::issue::engine) async fn link_person(
        &self,
        call: &ServedCall,
        step: &FinishStep,
        proven: &ProvenPerson,
        intent: &LinkIntent,
    ) -> Result<Issued, IssueError> {
        for _ in 0..MAX_WRITES {
            match self.try_link(call, step, proven, intent).await {
                // Two answers for one person, or for one account, come at the same time: one of them finds the other now.
                Err(stop) if stop.stale || stop.denial == Denial::Taken => {}
                other => return other,
            }
        }
        Err(Denial::Overloaded.into())
    }

    async fn try_link(
        &self,
        call: &ServedCall,
        step: &FinishStep,
        proven: &ProvenPerson,
        intent: &LinkIntent,
    ) -> Result<Issued, IssueError> {
        let now = self.time().await?;
        let provider = self.find_provider(&proven.provider.record().id, now).await?;
        if !provider.is_unchanged_since(&proven.provider) {
            return Err(refused(&SignOnFault::SettingsChanged, &provider));
        }
        let fault = |fault: SignOnFault| refused(&fault, &provider);
        let session = self.linking_session(&provider, intent, now).await?;
        let account = account_of(&session.ancestors).ok_or(Denial::Internal)?;
        self.refuse_other_session(call, step, &provider, intent, now).await?;
        check_linkable(call, &provider, account, &session.roles, &may_do(call, &session))?;
        let people = account_surface(call, &provider)?;
        // The account's link is read before the person's, and judged after it. Another answer may link the same two meanwhile. This
        // order finds that link at the person; the other order could take it for a link to somebody else.
        let link = self.find_link(&provider.record().id, account).await?;
        let place = self.find_place(&provider, &people.name, &proven.person.subject).await?;
        let mut fields = vec![("Location".to_owned(), proven.return_to.clone())];
        fields.extend(proven.cookie.as_deref().map(remove_cookie).map(set_cookie));
        let issued = |done| Issued {
            status: 303,
            fields,
            body: None,
            done,
            notification: None,
        };
        if let Some(there) = place
            .found
            .as_ref()
            .map(|found| &found.credential)
            .filter(|there| !is_revoked(there))
        {
            return match there.linked_account() {
                Some(own) if *own == account.id && there.state == CredentialState::Active => {
                    Ok(issued(done("sso_link", [there].into_iter())))
                }
                Some(own) if *own == account.id => Err(fault(SignOnFault::PersonDisabled)),
                Some(_) => Err(fault(SignOnFault::LinkedElsewhere(there.id.clone()))),
                None => Err(fault(SignOnFault::PersonHasAccount(there.id.clone()))),
            };
        }
        let number = place.free.ok_or_else(|| fault(SignOnFault::TooManyLinks))?;
        let id = match link {
            LinkPlace::Linked(link) => return Err(fault(SignOnFault::AccountLinked(link.credential.id))),
            LinkPlace::Free(number) => link_id(&provider.record().id, &account.id, number).ok_or(Denial::Internal)?,
            LinkPlace::Full => return Err(fault(SignOnFault::TooManyLinks)),
        };
        let free = FreeLink { account, id, number };
        let link = self.new_link(call, &provider, &people, proven, free, now).await?;
        let mut rests_on = provider.rests_on();
        rests_on.add(RestsOn::found(&session));
        let done = done("sso_link", [&link].into_iter());
        let new = NewRecords {
            credentials: vec![link],
            rests_on,
            ..NewRecords::default()
        };
        self.write(call, new, now).await?;
        Ok(issued(done))
    }

    /// The session that began a link, if it is still in force and still that of the account.
    async fn linking_session(&self, provider: &FoundProvider, intent: &LinkIntent, now: UnixMillis) -> Result<StoredFacts, IssueError> {
        let over = || refused(&SignOnFault::LinkSessionEnded, provider);
        let found = self.find_facts(Fingerprint::of_id(&intent.surface, &intent.session)).await?;
        let session = found.ok_or_else(over)?;
        match validity::check_found(&session.credential, &session.ancestors, &session.tenant, now) {
            Ok(()) => {}
            Err(Denial::InactiveTenant) => return Err(Denial::InactiveTenant.into()),
            Err(_) => return Err(over()),
        }
        let is_of_account = account_of(&session.ancestors).is_some_and(|account| account.id == intent.account);
        if !is_of_account || session.tenant.id != provider.tenant().id {
            return Err(over());
        }
        Ok(session)
    }

    /// Refuses a link where the browser has another account's session by now: whoever looks at the page would take the link for one
    /// of that account. A browser that brings no session is no reason to refuse: the post of a SAML provider brings none.
    async fn refuse_other_session(
        &self,
        call: &ServedCall,
        step: &FinishStep,
        provider: &FoundProvider,
        intent: &LinkIntent,
        now: UnixMillis,
    ) -> Result<(), IssueError> {
        let surface = call.surface(step.mint.surface)?;
        if provider.settings.session != surface.name.as_str() {
            return Err(refused(&SignOnFault::WrongSessionSurface, provider));
        }
        let Some(other) = call.replaced.as_ref().filter(|other| **other != intent.session) else {
            return Ok(());
        };
        let found = self.find_facts(Fingerprint::of_id(&surface.name, other)).await?;
        let is_another = found.is_some_and(|found| {
            validity::check_found(&found.credential, &found.ancestors, &found.tenant, now).is_ok()
                && account_of(&found.ancestors).is_none_or(|account| account.id != intent.account)
        });
        if is_another {
            return Err(refused(&SignOnFault::LinkOtherSession, provider));
        }
        Ok(())
    }

    /// Revokes the link of the caller's account to a provider, in force or not.
    pub(super) async fn unlink(&self, call: &ServedCall, route: &SignOnRoute) -> Result<Issued, IssueError> {
        let form = browser(call)?.form;
        let return_to = return_to(call, route)?;
        let provider = chosen(call)?.ok_or_else(|| refused_early(&SignOnFault::LinkForm))?;
        let caller = call.caller()?;
        let not_linked = || because(Denial::NotFound, &SignOnFault::NotLinked, None);
        let account = account_of(&caller.principal.facts.ancestors).ok_or_else(not_linked)?;
        let LinkPlace::Linked(link) = self.find_link(&provider, account).await? else {
            return Err(not_linked());
        };
        // Nobody ends what may do more than the caller. A link may do no more than its account.
        let grants = &call.snapshot.scope_grants;
        let own = grants.effective_scopes_of(account, &[], &caller.principal.facts.roles);
        check_scopes(&may_do(call, &link).intersection(&own), caller.scopes(), &ScopeSet::default())?;
        let mut rests_on = call.rests_on();
        rests_on.add(RestsOn::found(&link));
        let now = self.time().await?;
        let changes = vec![(link.credential.id.clone(), CredentialChange::Revoke)];
        self.change(call, changes, rests_on, now).await?;
        let (status, fields, body) = match form {
            AnswerForm::Html => (303, vec![("Location".to_owned(), return_to)], None),
            AnswerForm::Json => (200, Vec::new(), Some(json!({ "location": return_to }).to_string().into_bytes())),
        };
        Ok(Issued {
            status,
            fields,
            body,
            done: done("sso_unlink", [&link.credential].into_iter()),
            notification: None,
        })
    }

    /// What the store has of a person of a provider.
    pub(super) async fn find_place(
        &self,
        provider: &FoundProvider,
        account: &SurfaceName,
        subject: &str,
    ) -> Result<PersonPlace, IssueError> {
        let mut last = None;
        for number in 0..MAX_FOLLOWING {
            let mut found = None;
            for pepper in self.peppers.iter() {
                if found.is_none() {
                    let fingerprint = person_fingerprint(pepper, account, &provider.record().id, subject, number);
                    found = self.find_facts(fingerprint).await?;
                }
            }
            match found {
                Some(found) if is_revoked(&found.credential) => last = Some(found),
                Some(found) => {
                    return Ok(PersonPlace {
                        found: Some(found),
                        free: None,
                    });
                }
                None => {
                    return Ok(PersonPlace {
                        found: last,
                        free: Some(number),
                    });
                }
            }
        }
        Ok(PersonPlace { found: last, free: None })
    }

    /// The link of an account to a provider.
    async fn find_link(&self, provider: &CredentialId, account: &CredentialRecord) -> Result<LinkPlace, IssueError> {
        for number in 0..MAX_FOLLOWING {
            let id = link_id(provider, &account.id, number).ok_or(Denial::Internal)?;
            match self.find_facts(Fingerprint::of_id(&account.surface, &id)).await? {
                None => return Ok(LinkPlace::Free(number)),
                Some(found) if found.credential.linked_account() != Some(&account.id) => return Err(Denial::CorruptRecord.into()),
                Some(found) if is_revoked(&found.credential) => {}
                Some(found) => return Ok(LinkPlace::Linked(Box::new(found))),
            }
        }
        Ok(LinkPlace::Full)
    }

    /// The account that a person signs on to by this link, if it is in force.
    pub(super) async fn linked_account(
        &self,
        provider: &FoundProvider,
        link: &CredentialRecord,
        begun_at: UnixMillis,
        now: UnixMillis,
    ) -> Result<Option<StoredFacts>, IssueError> {
        let Some(id) = link.linked_account() else { return Ok(None) };
        let found = self.find_facts(Fingerprint::of_id(&link.surface, id)).await?;
        // A link whose account is not there is never followed.
        let account = found.ok_or(Denial::CorruptRecord)?;
        let record = &account.credential;
        if record.tenant != link.tenant || record.parent().is_some() || record.is_link() {
            return Err(Denial::CorruptRecord.into());
        }
        match validity::check_found(record, &account.ancestors, &account.tenant, now) {
            Ok(()) => {}
            Err(Denial::InactiveTenant) => return Err(Denial::InactiveTenant.into()),
            Err(_) => return Err(refused(&SignOnFault::LinkedAccountEnded, provider)),
        }
        // All sessions of the account were ended while the provider answered.
        if record.valid_after.is_some_and(|watermark| watermark >= begun_at) {
            return Err(refused(&SignOnFault::SessionEnded, provider));
        }
        Ok(Some(account))
    }

    async fn new_link(
        &self,
        call: &ServedCall,
        provider: &FoundProvider,
        people: &PeopleSurface,
        proven: &ProvenPerson,
        link: FreeLink<'_>,
        now: UnixMillis,
    ) -> Result<CredentialRecord, IssueError> {
        let FreeLink { account, id, number } = link;
        let person = &proven.person;
        let known = self.known_roles(call, &provider.record().tenant).await?;
        let given = roles::existing(&given_to_link(provider, person), &known, provider).map_err(|fault| refused(&fault, provider))?;
        let pepper = self.peppers.first();
        Ok(CredentialRecord {
            fingerprint: person_fingerprint(pepper, &people.name, &provider.record().id, &person.subject, number),
            id,
            mode: account.mode,
            subject: None,
            scopes: given.scopes,
            name: person.name.as_deref().map(line),
            extras: Extras {
                parent: Some(parent_of(provider.record())),
                account: Some(account.id.clone()),
                roles: given.roles,
                // It is shown, and never the identity.
                login: person.email.as_deref().map(line),
                granted: Some(ScopeSet::default()),
                ..Extras::default()
            }
            .boxed(),
            ..blank(call.surface(people.index)?, provider.record().tenant.clone(), now)?
        })
    }
}

/// What a new link is found by.
struct FreeLink<'a> {
    account: &'a CredentialRecord,
    id: CredentialId,
    /// Of the person's records at the provider.
    number: usize,
}

/// What the store has of the links of an account to a provider.
enum LinkPlace {
    Linked(Box<StoredFacts>),
    /// There is none, and a new one has this number.
    Free(usize),
    /// There were as many as there may be.
    Full,
}

/// The person whom a session is of: what it hangs on, sign-ons passed through.
fn account_of(above: &[CredentialRecord]) -> Option<&CredentialRecord> {
    above.iter().find(|record| !record.is_sign_on())
}

const fn is_revoked(record: &CredentialRecord) -> bool {
    matches!(record.state, CredentialState::Revoked { .. })
}

/// Checks that an account can be linked to this provider, by a caller who may do `held`. Whoever signs on by the link will be able
/// to do what both the account and the provider allow, so the caller must hold that: a session that may do less than its account
/// cannot give itself more by way of a provider.
fn check_linkable(
    call: &ServedCall,
    provider: &FoundProvider,
    account: &CredentialRecord,
    roles: &[RoleRecord],
    held: &ScopeSet,
) -> Result<(), IssueError> {
    let is_of_surface = account.surface.as_str() == provider.settings.account && account_surface(call, provider)?.name == account.surface;
    if !is_of_surface || account.parent().is_some() || account.is_link() {
        return Err(refused(&SignOnFault::LinkAccount, provider));
    }
    let grants = &call.snapshot.scope_grants;
    let own = grants.effective_scopes_of(account, &[], roles);
    let ceiling = grants.effective_scopes_of(provider.record(), &[], provider.roles());
    check_scopes(&own.intersection(&ceiling), held, &ScopeSet::default())?;
    Ok(())
}

/// Where the browser goes afterwards.
fn return_to(call: &ServedCall, route: &SignOnRoute) -> Result<String, IssueError> {
    let rules = &route.settings.return_to;
    match call.body.text("return_to") {
        None => Ok(rules.first()),
        Some(address) if rules.admit(address) => Ok(address.to_owned()),
        Some(_) => Err(refused_early(&SignOnFault::ReturnTo)),
    }
}

/// The provider that the body names.
fn chosen(call: &ServedCall) -> Result<Option<CredentialId>, IssueError> {
    let named = call.body.text("provider").map(CredentialId::parse).transpose();
    named.map_err(|_| refused_early(&SignOnFault::LinkForm))
}
