//! The actions on existing records: list, revoke, rotate, set roles.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::base::denial::Denial;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::CredentialId;
use crate::base::key::IdKind;
use crate::base::principal::{CredentialRecord, CredentialState};
use crate::base::scope::ScopeSet;
use crate::decide::route::Access;
use crate::decide::scope_grants::mode_reaches;
use crate::decide::surface::{Surface, SurfaceIndex};
use crate::issue::answer::{self, AnswerData};
use crate::issue::call::{IssueError, Issued, ServedCall};
use crate::issue::minting::{id_kind, successor};
use crate::issue::narrow::check_scopes;
use crate::issue::page::PageRequest;
use crate::snapshot::served_route::{Reach, ValueSource};
use crate::store::{CredentialChange, CredentialFilter, IdFilter, NewRecords, RestsOn, StoredFacts};

use super::{Engine, check_in_force, done, may_do, named_tenant, unavailable};

/// A record as a route names it.
#[derive(Clone, Copy)]
pub(super) struct RecordTarget<'t> {
    pub(super) surface: SurfaceIndex,
    /// Where the record's id comes from.
    pub(super) id: &'t ValueSource,
    /// Which records the route may name.
    pub(super) reach: &'t Reach,
}

impl Engine {
    pub(super) async fn list(&self, call: &ServedCall, surface: SurfaceIndex, reach: &Reach) -> Result<Issued, IssueError> {
        let page = requested_page(call)?;
        self.check_caller(call).await?;
        let caller = call.caller()?;
        let now = self.time().await?;
        let mut filter = CredentialFilter {
            tenant: Some(caller.record().tenant.clone()),
            surface: Some(call.surface(surface)?.name.clone()),
            ids: ids_of(call.surface(surface)?),
            caller_mode: caller.record().mode,
            live_at: Some(now),
            limit: page.limit,
            after: page
                .after
                .as_deref()
                .map(CredentialId::parse)
                .transpose()
                .map_err(|_| page.bad_after())?,
            // A record that cannot be read admits nobody, so the list goes on without it.
            passes_over_broken: true,
            ..CredentialFilter::default()
        };
        match reach {
            Reach::Tenant => {}
            Reach::TenantNamed(parameter) => drop(named_tenant(call, parameter)?),
            Reach::Children => filter.parent = Some(caller.record().id.clone()),
            Reach::Claim { claim, from } => {
                let wanted = call.find_text(from, None).ok_or(Denial::NotFound)?;
                filter.claim = Some((claim.clone(), wanted));
            }
        }
        let found = self.store.page_credentials(filter).await.map_err(|error| unavailable(&error))?;
        let data = AnswerData {
            items: found.records.iter().map(|record| answer::item(record, now)).collect(),
            next: found.next.map(|next| (page, next.as_str().to_owned())),
            done: "list".into(),
            ..AnswerData::default()
        };
        Ok(answer::render(call, data)?)
    }

    pub(super) async fn revoke(&self, call: &ServedCall, target: RecordTarget<'_>, grants: &ScopeSet) -> Result<Issued, IssueError> {
        let now = self.time().await?;
        let (record, rests_on) = self.find_touchable(call, target, grants).await?;
        let data = AnswerData {
            minted: vec![answer::item(&record, now)],
            done: done("revoke", std::iter::once(&record)),
            ..AnswerData::default()
        };
        let issued = answer::render(call, data)?;
        let changes = vec![(record.id, CredentialChange::Revoke)];
        self.change(call, changes, rests_on, now).await?;
        Ok(issued)
    }

    /// Makes the new credential in the same step of the store that sets the end of the old one.
    pub(super) async fn rotate(
        &self,
        call: &ServedCall,
        target: RecordTarget<'_>,
        grace: Option<Duration>,
        grants: &ScopeSet,
    ) -> Result<Issued, IssueError> {
        let now = self.time().await?;
        let found = self.find_target(call, target).await?;
        check_in_force(&found, now)?;
        // Whoever gets the new secret can do what the record can do.
        let rests_on = touch(call, &found, grants)?;
        let old = found.credential;
        let made = successor(call.surface(target.surface)?, &old, now, self.peppers.first())?;
        let data = AnswerData {
            minted: vec![answer::minted(&made, now)],
            done: done("rotate", [&old, &made.record].into_iter()),
            ..AnswerData::default()
        };
        let issued = answer::render(call, data)?;
        let new = NewRecords {
            credentials: vec![made.record],
            changes: grace
                .map(|grace| (old.id, CredentialChange::ExpireAt(now.plus(grace))))
                .into_iter()
                .collect(),
            rests_on,
            ..NewRecords::default()
        };
        self.write(call, new, now).await?;
        Ok(issued)
    }

    pub(super) async fn set_roles(
        &self,
        call: &ServedCall,
        target: RecordTarget<'_>,
        field: &str,
        grants: &ScopeSet,
    ) -> Result<Issued, IssueError> {
        let (record, mut rests_on) = self.find_touchable(call, target, grants).await?;
        if matches!(record.state, CredentialState::Revoked { .. }) {
            return Err(Denial::NotFound.into());
        }
        let source = ValueSource::Body(field.to_owned());
        let (roles, scopes) = self.find_roles(call, Some(&source), &record.tenant, &mut rests_on).await?;
        check_scopes(&scopes, call.caller()?.scopes(), grants)?;
        let now = self.time().await?;
        let mut after = record;
        let mut extras = after.extras.take().map(|extras| *extras).unwrap_or_default();
        extras.roles.clone_from(&roles);
        after.extras = extras.boxed();
        let data = AnswerData {
            minted: vec![answer::item(&after, now)],
            done: done("set_roles", std::iter::once(&after)),
            ..AnswerData::default()
        };
        let issued = answer::render(call, data)?;
        let changes = vec![(after.id, CredentialChange::SetRoles(roles))];
        self.change(call, changes, rests_on, now).await?;
        Ok(issued)
    }

    pub(super) async fn list_roles(&self, call: &ServedCall) -> Result<Issued, IssueError> {
        let page = requested_page(call)?;
        self.check_caller(call).await?;
        let tenant = call.caller()?.record().tenant.clone();
        let roles = self.known_roles(call, &tenant).await?;
        let (roles, next) = page.cut(roles, |role| role.id.as_str().to_owned())?;
        let items = roles.iter().map(|role| {
            json!({
                "id": role.id.as_str(),
                "name": role.name,
                "description": role.description,
                "scopes": answer::scopes(&role.scopes),
            })
        });
        let data = AnswerData {
            items: items.collect(),
            next: next.map(|next| (page, next)),
            done: "list_roles".into(),
            ..AnswerData::default()
        };
        Ok(answer::render(call, data)?)
    }

    /// Lists every scope that a route needs, or that a role of the configuration or of the caller's tenant holds.
    pub(super) async fn list_scopes(&self, call: &ServedCall) -> Result<Issued, IssueError> {
        let page = requested_page(call)?;
        self.check_caller(call).await?;
        let mut known = BTreeSet::new();
        for route in &call.snapshot.routes {
            if let Access::Surfaces { scopes, .. } = &route.access {
                known.extend(scopes.iter().cloned());
            }
        }
        let tenant = call.caller()?.record().tenant.clone();
        for role in self.known_roles(call, &tenant).await? {
            known.extend(role.scopes.iter().cloned());
        }
        let (known, next) = page.cut(known.into_iter().collect(), |scope| scope.as_str().to_owned())?;
        let items = known.iter().map(|scope| {
            let word = scope.as_str();
            json!({ "id": word, "name": word, "description": null, "scopes": [word] })
        });
        let data = AnswerData {
            items: items.collect(),
            next: next.map(|next| (page, next)),
            done: "list_scopes".into(),
            ..AnswerData::default()
        };
        Ok(answer::render(call, data)?)
    }

    /// The record that a route names, with all facts that decide about it. A record out of reach looks as if it did
    /// not exist. If the path names another tenant, the answer is 403, since the caller knew the name of that tenant.
    pub(super) async fn find_target(&self, call: &ServedCall, target: RecordTarget<'_>) -> Result<StoredFacts, IssueError> {
        let RecordTarget { surface, id, reach } = target;
        let caller = call.caller()?.record();
        if let Reach::TenantNamed(parameter) = reach {
            named_tenant(call, parameter)?;
        }
        let id = call.find_text(id, None).and_then(|id| CredentialId::parse(&id).ok());
        let id = id.ok_or(Denial::NotFound)?;
        let fingerprint = Fingerprint::of_id(&call.surface(surface)?.name, &id);
        let found = self.store.find(fingerprint).await.map_err(|error| unavailable(&error))?;
        let found = found.facts.ok_or(Denial::NotFound)?;
        let record = &found.credential;
        let within = match reach {
            Reach::Tenant | Reach::TenantNamed(_) => true,
            Reach::Children => record.parent().is_some_and(|parent| parent.id == caller.id),
            Reach::Claim { claim, from } => {
                let wanted = call.find_text(from, None);
                wanted.is_some_and(|wanted| record.claim(claim).is_some_and(|value| value.names(&wanted)))
            }
        };
        if record.tenant == caller.tenant && within && mode_reaches(caller.mode, record.mode) {
            Ok(found)
        } else {
            Err(Denial::NotFound.into())
        }
    }

    /// As [`find_target`](Self::find_target), for a record that the caller may change; with what the change rests on.
    async fn find_touchable(
        &self,
        call: &ServedCall,
        target: RecordTarget<'_>,
        grants: &ScopeSet,
    ) -> Result<(CredentialRecord, RestsOn), IssueError> {
        let found = self.find_target(call, target).await?;
        let rests_on = touch(call, &found, grants)?;
        Ok((found.credential, rests_on))
    }
}

/// The form of the ids of a surface's records. Imported keys have ids of any form.
fn ids_of(surface: &Surface) -> IdFilter {
    match id_kind(surface) {
        Some(kind @ (IdKind::Session | IdKind::Account)) => IdFilter::Beginning(kind.prefix()),
        Some(_) => IdFilter::NotBeginning(IdKind::Session.prefix()),
        None => IdFilter::All,
    }
}

/// The page that the call requests.
pub(super) fn requested_page(call: &ServedCall) -> Result<PageRequest, IssueError> {
    Ok(PageRequest::parse(
        call.query.as_deref(),
        call.served_route()?.body.unknown.as_deref(),
    )?)
}

/// Checks that the caller may change a record: every scope that the record may use now, the caller must hold now as
/// it was presented, or the route must grant. The rule holds for the caller's own record too, since a token may be
/// narrower than its record. Returns what the change rests on.
///
/// # Errors
/// [`Denial::InsufficientScope`].
fn touch(call: &ServedCall, found: &StoredFacts, grants: &ScopeSet) -> Result<RestsOn, Denial> {
    check_scopes(&may_do(call, found), call.caller()?.scopes(), grants)?;
    let mut rests_on = call.rests_on();
    rests_on.add(RestsOn::found(found));
    Ok(rests_on)
}
