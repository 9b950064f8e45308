//! What a tenant's own administrators do with its identity providers: the same operations as an operator's, for one tenant, and
//! never for more than the administrator may do.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value as Json;
use tokio::time::timeout;

use crate::audit::action::{ActionEntry, ActionOutcome, Actor};
use crate::audit::mask::Shapes;
use crate::audit::settings::OnFull;
use crate::base::denial::{Denial, FieldErrors};
use crate::base::ids::{CredentialId, TenantId};
use crate::issue::answer::{self, AnswerData};
use crate::issue::body::BodyMember;
use crate::issue::call::{IssueError, Issued, RefusalCause, ServedCall};
use crate::issue::trail_reader::TrailAccess;
use crate::sign_on::http::ProviderClient;
use crate::sign_on::management::authority::{Administrator, ProviderAuthority};
use crate::sign_on::management::error::ManagementError;
use crate::sign_on::management::forms::{CreateProvider, PlainSecret, ProviderSecrets, UpdateProvider};
use crate::sign_on::management::trail::trail_members;
use crate::sign_on::management::{PlannedChange, ProviderManagement};
use crate::sign_on::saml::SamlVerifier;
use crate::snapshot::provider_route::{ProviderOperation, ProviderRoute, ProviderSurfaces};
use crate::snapshot::served_route::ValueSource;

use super::records::requested_page;
use super::{Engine, done, unavailable};

/// Most calls at a time that ask providers, read their metadata or make keys. One of them takes 20 seconds at most, or a second of
/// a core; they must not crowd out the sign-ons of the others.
const MAX_CALLS: usize = 8;

/// When a call that found no room should be repeated.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Longest wait for an entry to reach the disk, as for operators.
const RECORDING: Duration = Duration::from_secs(5);

/// What administrators manage providers with. It is not that of the sign-ons, so that the two do not wait for each other.
pub(super) struct ProviderTools {
    client: ProviderClient,
    verifier: SamlVerifier,
    /// The tenants whose calls take long now. A tenant has one such call at a time, so that nobody makes a scanner of the gateway
    /// (docs/threats.md B33).
    busy: Arc<Mutex<HashSet<TenantId>>>,
}

/// The room of one call. It is free again when this is dropped.
struct CallRoom {
    busy: Arc<Mutex<HashSet<TenantId>>>,
    tenant: TenantId,
}

impl ProviderTools {
    pub(super) fn new() -> Self {
        Self {
            client: ProviderClient::default(),
            verifier: SamlVerifier::of_this_program(),
            busy: Arc::default(),
        }
    }

    fn take_room(&self, tenant: &TenantId) -> Result<CallRoom, IssueError> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let denial = if busy.contains(tenant) {
            Denial::RateLimited
        } else if busy.len() >= MAX_CALLS {
            Denial::Overloaded
        } else {
            busy.insert(tenant.clone());
            return Ok(CallRoom {
                busy: self.busy.clone(),
                tenant: tenant.clone(),
            });
        };
        Err(IssueError {
            retry_after: Some(RETRY_AFTER),
            ..denial.into()
        })
    }
}

impl Drop for CallRoom {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.tenant);
    }
}

impl Engine {
    /// Does what the route says, for the tenant of the caller.
    pub(super) async fn manage_providers(&self, call: &ServedCall, route: &ProviderRoute) -> Result<Issued, IssueError> {
        let authority = authority_of(call, route)?;
        let management = ProviderManagement {
            store: &*self.store,
            peppers: &self.peppers,
            clock: &*self.clock,
            snapshot: &call.snapshot,
            client: &self.provider_tools.client,
            verifier: &self.provider_tools.verifier,
            authority: &authority,
        };
        let managed = match &route.operation {
            ProviderOperation::List => return self.list_providers(call, &management).await,
            ProviderOperation::Show(id) => return self.show_provider(call, &management, id).await,
            ProviderOperation::Test(id) => return self.test_provider(call, &management, id).await,
            ProviderOperation::Create(surfaces) => self.create_provider(call, &management, surfaces).await,
            ProviderOperation::Update(id) => self.update_provider(call, &management, id).await,
            ProviderOperation::Disable(id) => {
                let planned = management.plan_disabling(&named(call, id)?).await;
                self.write_planned(call, "providers.disable", planned).await
            }
            ProviderOperation::Enable(id) => {
                let planned = management.plan_enabling(&named(call, id)?).await;
                self.write_planned(call, "providers.enable", planned).await
            }
            ProviderOperation::Delete(id) => {
                let planned = management.plan_deletion(&named(call, id)?).await;
                self.write_planned(call, "providers.delete", planned).await
            }
        };
        if let Err(IssueError { cause: Some(cause), .. }) = &managed {
            tracing::warn!(
                request_id = call.request_id,
                cause = cause.label,
                "an administrator may not do this with identity providers: {}",
                cause.words
            );
        }
        managed
    }

    async fn list_providers(&self, call: &ServedCall, management: &ProviderManagement<'_>) -> Result<Issued, IssueError> {
        let page = requested_page(call)?;
        let after = page.after.as_deref().map(CredentialId::parse).transpose();
        let after = after.map_err(|_| page.bad_after())?;
        let found = management.list(None, after.as_ref(), page.limit).await.map_err(refused)?;
        self.check_caller(call).await?;
        let data = AnswerData {
            items: found.providers.iter().map(json).collect(),
            next: found.next.map(|next| (page, next)),
            done: "providers.list".into(),
            ..AnswerData::default()
        };
        Ok(answer::render(call, data)?)
    }

    async fn show_provider(&self, call: &ServedCall, management: &ProviderManagement<'_>, id: &ValueSource) -> Result<Issued, IssueError> {
        let found = management.find(&named(call, id)?).await.map_err(refused)?;
        let view = management.view(&found).map_err(refused)?;
        self.check_caller(call).await?;
        let data = AnswerData {
            provider: Some(json(&view)),
            done: "providers.show".into(),
            ..AnswerData::default()
        };
        Ok(answer::render(call, data)?)
    }

    /// Asks the provider. The caller is checked before, since the gateway works for them, and after, since they are told then.
    async fn test_provider(&self, call: &ServedCall, management: &ProviderManagement<'_>, id: &ValueSource) -> Result<Issued, IssueError> {
        let _room = self.provider_tools.take_room(&call.caller()?.record().tenant)?;
        self.check_caller(call).await?;
        let found = management.find(&named(call, id)?).await.map_err(refused)?;
        let test = management.test(&found).await.map_err(refused)?;
        self.check_caller(call).await?;
        let data = AnswerData {
            test: Some(json(&test)),
            done: "providers.test".into(),
            ..AnswerData::default()
        };
        Ok(answer::render(call, data)?)
    }

    async fn create_provider(
        &self,
        call: &ServedCall,
        management: &ProviderManagement<'_>,
        surfaces: &ProviderSurfaces,
    ) -> Result<Issued, IssueError> {
        let tenant = &call.caller()?.record().tenant;
        let _room = self.provider_tools.take_room(tenant)?;
        self.check_caller(call).await?;
        let mut request = CreateProvider {
            name: call.body.text("name").map(str::to_owned),
            scopes: list(call, "scopes").unwrap_or_default(),
            roles: list(call, "roles").unwrap_or_default(),
            settings: settings(call)?,
            metadata: metadata(call)?,
            metadata_url: call.body.text("metadata_url").map(str::to_owned),
            secrets: secrets(call),
            ..CreateProvider::default()
        };
        for (member, name) in [("session", &surfaces.session), ("account", &surfaces.account)] {
            request.settings.entry(member).or_insert_with(|| name.as_str().into());
        }
        let planned = management.plan_creation(tenant, &request).await;
        self.write_planned(call, "providers.create", planned).await
    }

    async fn update_provider(
        &self,
        call: &ServedCall,
        management: &ProviderManagement<'_>,
        id: &ValueSource,
    ) -> Result<Issued, IssueError> {
        let _room = self.provider_tools.take_room(&call.caller()?.record().tenant)?;
        self.check_caller(call).await?;
        let request = UpdateProvider {
            name: call.body.text("name").map(str::to_owned),
            scopes: list(call, "scopes"),
            roles: list(call, "roles"),
            settings: settings(call)?,
            metadata: metadata(call)?,
            metadata_url: call.body.text("metadata_url").map(str::to_owned),
            secrets: secrets(call),
        };
        let planned = management.plan_update(&named(call, id)?, &request).await;
        self.write_planned(call, "providers.update", planned).await
    }

    /// The one step of the store, with its entry in the trail. The entry says what was changed; the request's own entry says who
    /// asked, and what was refused.
    async fn write_planned(
        &self,
        call: &ServedCall,
        action: &'static str,
        planned: Result<Box<PlannedChange>, ManagementError>,
    ) -> Result<Issued, IssueError> {
        let planned = planned.map_err(refused)?;
        let begun = self.clock.now();
        self.check_recordable(action)?;
        let made = planned.before.is_none().then(|| planned.provider.id.clone());
        let data = AnswerData {
            provider: Some(json(&planned.view)),
            done: done(action, [&planned.provider, &planned.settings].into_iter()),
            made: made.into_iter().collect(),
            ..AnswerData::default()
        };
        let issued = answer::render(call, data)?;
        let now = self.time().await?;
        self.write(call, planned.new, now).await?;
        tracing::info!(request_id = call.request_id, provider = %planned.provider.id, action, "an administrator changed an identity provider");
        if let Some(TrailAccess { trail, .. }) = &self.trail {
            let before = planned.before.as_ref();
            let before = before
                .map(|before| trail_members(&before.provider, &before.settings))
                .unwrap_or_default();
            let mut entry = ActionEntry {
                who: actor(call),
                action,
                target: Some(planned.provider.id.as_str().to_owned()),
                tenant: Some(planned.provider.tenant.as_str().to_owned()),
                before,
                after: trail_members(&planned.provider, &planned.settings),
                replaced_by: None,
                outcome: ActionOutcome::Done { doubt: None },
                wait: None,
                took_ms: 0,
            };
            let ended = self.clock.now();
            entry.took_ms = u64::try_from(ended.boot.since(begun.boot).as_millis()).unwrap_or(u64::MAX);
            entry.mask(&Shapes::of(&call.snapshot.surfaces));
            let receipt = trail.append_durable(&entry.members(ended.wall));
            if !matches!(timeout(RECORDING, receipt).await, Ok(Ok(_))) {
                tracing::error!(
                    alarm = "not_recorded",
                    action,
                    target = entry.target,
                    "an administrator's change is not on the audit trail"
                );
            }
        }
        Ok(issued)
    }

    /// Refuses what could not be recorded, where the configuration says so. Who disables or deletes only takes something away.
    fn check_recordable(&self, action: &str) -> Result<(), IssueError> {
        let restricts = matches!(action, "providers.disable" | "providers.delete");
        match &self.trail {
            Some(TrailAccess { trail, .. }) if !restricts && trail.settings().on_full == OnFull::Refuse && !trail.is_writable() => {
                Err(Denial::NotRecordable.into())
            }
            _ => Ok(()),
        }
    }
}

/// Who calls, and what they may do.
fn authority_of(call: &ServedCall, route: &ProviderRoute) -> Result<ProviderAuthority, Denial> {
    let caller = call.caller()?;
    Ok(ProviderAuthority::Administrator(Box::new(Administrator {
        tenant: caller.record().tenant.clone(),
        mode: caller.record().mode,
        scopes: caller.scopes().union(&route.grants),
        claims: route.claims.clone(),
        surfaces: match &route.operation {
            ProviderOperation::Create(surfaces) => Some(surfaces.clone()),
            _ => None,
        },
        rests_on: call.rests_on(),
    })))
}

fn actor(call: &ServedCall) -> Actor {
    let caller = call.caller.as_ref();
    Actor::Route {
        request_id: call.request_id.clone(),
        credential: caller.map(|caller| caller.record().id.clone()),
        subject: caller.and_then(|caller| caller.principal.subject().cloned()),
    }
}

/// The id of the provider. What is no id names nothing.
fn named(call: &ServedCall, id: &ValueSource) -> Result<String, IssueError> {
    Ok(call.find_text(id, None).ok_or(Denial::NotFound)?)
}

fn json(value: &impl serde::Serialize) -> Json {
    serde_json::to_value(value).unwrap_or_default()
}

fn list(call: &ServedCall, field: &str) -> Option<Vec<String>> {
    call.body.list(field).map(<[String]>::to_vec)
}

fn settings(call: &ServedCall) -> Result<serde_json::Map<String, Json>, IssueError> {
    match call.body.value("settings").map(BodyMember::to_json) {
        None => Ok(serde_json::Map::new()),
        Some(Json::Object(settings)) => Ok(settings),
        Some(_) => Err(field_error("settings", "The settings field must be an object.")),
    }
}

fn metadata(call: &ServedCall) -> Result<Option<String>, IssueError> {
    match call.body.value("metadata") {
        None => Ok(None),
        Some(BodyMember::Text(text)) => Ok(Some(text.as_str().to_owned())),
        Some(_) => Err(field_error("metadata", "The metadata field must be a string.")),
    }
}

fn secrets(call: &ServedCall) -> ProviderSecrets {
    let secret = |field: &str| call.body.text(field).map(|text| PlainSecret::new(text.to_owned()));
    ProviderSecrets {
        client_secret: secret("secrets.client_secret"),
        private_key: secret("secrets.private_key"),
    }
}

fn field_error(field: &str, message: impl Into<String>) -> IssueError {
    let mut errors = FieldErrors::default();
    errors.push(field, message);
    errors.into()
}

/// What the administrator is told. Whose fault it is stays apart: theirs is an error of a field, or a scope that they lack; the
/// operator's is a 503, with its reason in the log.
fn refused(error: ManagementError) -> IssueError {
    match error {
        ManagementError::Settings(mistakes) => {
            let mut errors = FieldErrors::default();
            for mistake in mistakes {
                let of_body = mistake.field.starts_with("secrets.");
                let field = if of_body {
                    mistake.field
                } else {
                    format!("settings.{}", mistake.field)
                };
                errors.push(&field, mistake.why);
            }
            errors.into()
        }
        ManagementError::Request(mistake) => field_error(&mistake.field, mistake.why),
        ManagementError::UnknownRole { field, .. } => field_error(field, "one of these roles does not exist"),
        ManagementError::Sealed(field, _) => field_error(&format!("secrets.{field}"), "it cannot be opened any more: give it again"),
        ManagementError::DomainTaken(_) => field_error("settings.domains", "one of these domains belongs to somebody else"),
        ManagementError::NotFound(_) | ManagementError::Deleted(_) => Denial::NotFound.into(),
        ManagementError::Full(_) => Denial::TooManyCredentials.into(),
        ManagementError::Forbidden(words) => IssueError {
            cause: Some(Box::new(RefusalCause {
                label: "above_administrator",
                words: words.to_owned(),
                provider: None,
            })),
            ..Denial::InsufficientScope.into()
        },
        ManagementError::PepperLeaving(_) | ManagementError::Unavailable(_) => {
            tracing::error!("an identity provider cannot be changed now: {error}");
            Denial::StoreUnavailable.into()
        }
        ManagementError::Store(error) => unavailable(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn b33_a_tenant_has_one_long_call_at_a_time_and_all_tenants_a_bounded_number() {
        let tools = ProviderTools::new();
        let tenant = |n: usize| TenantId::parse(&format!("t{n}")).unwrap();
        let first = tools.take_room(&tenant(0)).unwrap();
        assert_eq!(tools.take_room(&tenant(0)).err().unwrap().denial, Denial::RateLimited);
        let mut others: Vec<CallRoom> = (1..MAX_CALLS).map(|n| tools.take_room(&tenant(n)).unwrap()).collect();
        let full = tools.take_room(&tenant(MAX_CALLS)).err().unwrap();
        assert_eq!((full.denial, full.retry_after), (Denial::Overloaded, Some(RETRY_AFTER)));
        drop(first);
        others.push(tools.take_room(&tenant(0)).unwrap());
        drop(others);
        assert!(tools.busy.lock().unwrap().is_empty());
    }
}
