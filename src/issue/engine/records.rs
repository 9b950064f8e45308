//! What issuers do to records that are there: list, revoke, rotate, set roles.

use std::time::Duration;

use serde_json::json;

use crate::base::denial::Denial;
use crate::base::ids::CredentialId;
use crate::base::principal::{CredentialRecord, State};
use crate::base::scope::ScopeSet;
use crate::decide::surface::SurfaceIndex;
use crate::issue::answer::{self, Told};
use crate::issue::call::{Call, Issued, Stop};
use crate::issue::making::successor;
use crate::issue::narrow::{check_scopes, mode_reaches};
use crate::issue::spec::{Reach, Source};
use crate::store::{CredentialChange, CredentialFilter, MAX_LIST, NewRecords};

use super::{Engine, done, named_tenant, refused_change, unavailable};

/// A record as a route names it: its surface, where its id is said, and which records may be meant.
pub(super) type Target<'t> = (SurfaceIndex, &'t Source, &'t Reach);

impl Engine {
    pub(super) async fn list(&self, call: &Call, surface: SurfaceIndex, reach: &Reach) -> Result<Issued, Stop> {
        let caller = call.caller()?;
        let now = self.now();
        let mut filter = CredentialFilter {
            tenant: Some(caller.record().tenant.clone()),
            surface: Some(call.surface(surface)?.name.clone()),
            live_at: Some(now),
            limit: MAX_LIST,
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
        let found = self.store.list_credentials(filter).await.map_err(|error| unavailable(&error))?;
        let own_mode = caller.record().mode;
        let shown = found.iter().filter(|record| mode_reaches(own_mode, record.mode));
        let told = Told {
            items: shown.map(|record| answer::item(record, now)).collect(),
            done: "list".into(),
            ..Told::default()
        };
        Ok(answer::render(call, told)?)
    }

    pub(super) async fn revoke(&self, call: &Call, surface: SurfaceIndex, id: &Source, reach: &Reach) -> Result<Issued, Stop> {
        let now = self.now();
        let record = self.find_target(call, surface, id, reach).await?;
        let told = Told {
            minted: vec![answer::item(&record, now)],
            done: done("revoke", std::iter::once(&record)),
            ..Told::default()
        };
        let issued = answer::render(call, told)?;
        let change = self.store.change_credential(record.id, CredentialChange::Revoke, now);
        change.await.map_err(refused_change)?;
        Ok(issued)
    }

    /// Makes the new one first: a crash in between leaves two that work, never none. If the old one
    /// cannot be told its end, the new one, which nobody has seen, is revoked again.
    pub(super) async fn rotate(&self, call: &Call, target: Target<'_>, grace: Option<Duration>) -> Result<Issued, Stop> {
        let now = self.now();
        let (index, id, reach) = target;
        let old = self.find_target(call, index, id, reach).await?;
        self.check_in_force(&old, now).await?;
        let caller = call.caller()?;
        if old.id != caller.record().id {
            // Who gets the new secret can do what it can do.
            let (_, role_scopes) = self.held_by_roles(call, &old).await?;
            for scopes in [&old.scopes, &role_scopes] {
                check_scopes(scopes, caller.scopes(), &ScopeSet::default())?;
            }
        }
        let surface = call.surface(index)?;
        let made = successor(surface, &old, now, self.peppers.first())?;
        let told = Told {
            minted: vec![answer::minted(&made, now)],
            done: done("rotate", [&old, &made.record].into_iter()),
            ..Told::default()
        };
        let issued = answer::render(call, told)?;
        let new = NewRecords {
            credentials: vec![made.record],
            changes: grace
                .map(|grace| (old.id, CredentialChange::ExpireAt(now.plus(grace))))
                .into_iter()
                .collect(),
            ..NewRecords::default()
        };
        self.store.create(new, now).await.map_err(refused_change)?;
        Ok(issued)
    }

    pub(super) async fn set_roles(&self, call: &Call, target: Target<'_>, field: &str) -> Result<Issued, Stop> {
        let (index, id, reach) = target;
        let record = self.find_target(call, index, id, reach).await?;
        if matches!(record.state, State::Revoked { .. }) {
            return Err(Denial::NotFound.into());
        }
        let source = Source::Body(field.to_owned());
        let (roles, scopes) = self.find_roles(call, Some(&source), &record.tenant).await?;
        check_scopes(&scopes, call.caller()?.scopes(), &ScopeSet::default())?;
        let now = self.now();
        let mut after = record;
        let mut extras = after.extras.take().map(|extras| *extras).unwrap_or_default();
        extras.roles.clone_from(&roles);
        after.extras = extras.boxed();
        let told = Told {
            minted: vec![answer::item(&after, now)],
            done: done("set_roles", std::iter::once(&after)),
            ..Told::default()
        };
        let issued = answer::render(call, told)?;
        let change = self.store.change_credential(after.id, CredentialChange::SetRoles(roles), now);
        change.await.map_err(refused_change)?;
        Ok(issued)
    }

    pub(super) async fn list_roles(&self, call: &Call) -> Result<Issued, Stop> {
        let tenant = call.caller()?.record().tenant.clone();
        let roles = self.known_roles(call, &tenant).await?;
        let items = roles.iter().map(|role| {
            json!({
                "id": role.id.as_str(),
                "name": role.name,
                "description": role.description,
                "scopes": answer::scopes(&role.scopes),
            })
        });
        let told = Told {
            items: items.collect(),
            done: "list_roles".into(),
            ..Told::default()
        };
        Ok(answer::render(call, told)?)
    }

    /// The record a route names, if it is within reach; what is not is not there. Another tenant that
    /// is named as such is 403, since its name was no secret to the caller.
    pub(super) async fn find_target(
        &self,
        call: &Call,
        surface: SurfaceIndex,
        id: &Source,
        reach: &Reach,
    ) -> Result<CredentialRecord, Stop> {
        let caller = call.caller()?.record();
        if let Reach::TenantNamed(parameter) = reach {
            named_tenant(call, parameter)?;
        }
        let id = call.find_text(id, None).and_then(|id| CredentialId::parse(&id).ok());
        let id = id.ok_or(Denial::NotFound)?;
        let found = self.store.find_credential(id).await.map_err(|error| unavailable(&error))?;
        let record = found.ok_or(Denial::NotFound)?;
        let within = match reach {
            Reach::Tenant | Reach::TenantNamed(_) => true,
            Reach::Children => record.parent().is_some_and(|parent| parent.id == caller.id),
            Reach::Claim { claim, from } => {
                let wanted = call.find_text(from, None);
                wanted.is_some_and(|wanted| record.claim(claim).is_some_and(|value| value.names(&wanted)))
            }
        };
        let same = record.tenant == caller.tenant && record.surface == call.surface(surface)?.name;
        if same && within && mode_reaches(caller.mode, record.mode) {
            Ok(record)
        } else {
            Err(Denial::NotFound.into())
        }
    }

    async fn held_by_roles(&self, call: &Call, record: &CredentialRecord) -> Result<(usize, ScopeSet), Stop> {
        if record.roles().is_empty() {
            return Ok((0, ScopeSet::default()));
        }
        let known = self.known_roles(call, &record.tenant).await?;
        let held = known.iter().filter(|role| record.roles().contains(&role.id));
        let scopes = held.flat_map(|role| role.scopes.iter().cloned()).collect();
        Ok((record.roles().len(), scopes))
    }
}
