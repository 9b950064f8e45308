//! The operator API's paths.

use std::sync::Arc;
use std::time::Duration;

use ::http::{Method, Request};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::audit::action::Actor;
use crate::base::percent;
use crate::store::{CredentialChange, TenantState};

use super::error::OperationError;
use super::http::{AdminCall, AdminReply, AdminService, no_such_path, read};
use super::receipts::{ChangeSubject, Doubtful, MAX_WAIT};
use super::record::operate_on_record;
use super::sessions::SessionQuery;
use super::tenants::CreateTenant;
use super::{Operations, probes};

/// The whole operator API, for the Unix socket.
#[derive(Debug)]
pub struct OperatorApi(pub Arc<Operations>);

impl AdminService for OperatorApi {
    async fn answer(&self, request: Request<Incoming>) -> AdminReply {
        let call = match read(request).await {
            Ok(call) => call,
            Err(refusal) => return refusal,
        };
        if let Some(answer) = probes::answer(&self.0, &call) {
            return answer;
        }
        operate_on_record(&self.0, &call).await
    }
}

pub(super) async fn operate(operations: &Operations, call: &AdminCall, who: Actor) -> Result<AdminReply, OperationError> {
    let path: Vec<&str> = call.uri.path().split('/').skip(1).collect();
    let query = Query::parse(call.uri.query().unwrap_or_default())?;
    match path.as_slice() {
        ["v1", "accounts", rest @ ..] => operate_accounts(operations, call, rest, &query).await,
        ["v1", "roles", rest @ ..] => operate_roles(operations, call, rest, &query).await,
        ["v1", "providers", rest @ ..] => operate_providers(operations, call, rest, &query).await,
        ["v1", "peppers", rest @ ..] => operate_peppers(operations, call, rest, &query).await,
        ["v1", "sessions", rest @ ..] => operate_sessions(operations, call, rest, query).await,
        ["v1", "reload"] if call.method == Method::POST => done(&operations.reload(who).await?),
        ["v1", "audit", "erase"] if call.method == Method::POST => done(&operations.erase_bodies(&parse(call)?, who).await?),
        _ => operate_keys(operations, call, &path, &query).await,
    }
}

async fn operate_keys(operations: &Operations, call: &AdminCall, path: &[&str], query: &Query) -> Result<AdminReply, OperationError> {
    let get = call.method == Method::GET;
    let post = call.method == Method::POST;
    match path {
        ["v1", "tenants"] if get => done(&operations.list_tenants(query.after.as_deref(), query.limit).await?),
        ["v1", "tenants"] if post => done(&operations.create_tenant(&parse::<CreateTenant>(call)?).await?),
        ["v1", "tenants", id, "enable"] if post => {
            let about = ChangeSubject::tenant(id)?;
            change(operations, query, &about, operations.set_tenant(id, TenantState::Active)).await
        }
        ["v1", "tenants", id, "disable"] if post => {
            let about = ChangeSubject::tenant(id)?;
            change(operations, query, &about, operations.set_tenant(id, TenantState::Inactive)).await
        }
        ["v1", "keys"] if get && let Some(mark) = &query.pepper => {
            let (tenant, surface) = (query.tenant.as_deref(), query.surface.as_deref());
            done(
                &operations
                    .list_keys_under(mark, tenant, surface, query.after.as_deref(), query.limit)
                    .await?,
            )
        }
        ["v1", "keys"] if get => {
            let (tenant, surface) = (query.tenant.as_deref(), query.surface.as_deref());
            done(&operations.list_keys(tenant, surface, query.after.as_deref(), query.limit).await?)
        }
        ["v1", "keys"] if post => done(&operations.create_key(&parse(call)?).await?),
        ["v1", "keys", "import"] if post => done(&operations.import_key(&parse_secret(call)?).await?),
        ["v1", "keys", id] if get => done(&operations.show_key(id).await?),
        ["v1", "keys", id, "secret"] if get => done(&operations.reveal_key(id).await?),
        ["v1", "keys", id, "rotate"] if post => {
            let (about, request) = (ChangeSubject::credential(id)?, parse(call)?);
            change(operations, query, &about, operations.rotate_key(id, &request)).await
        }
        ["v1", "keys", id, verb] if post && let Some(new_state) = change_of(verb) => {
            let about = ChangeSubject::credential(id)?;
            change(operations, query, &about, operations.change_key(id, new_state)).await
        }
        ["v1", "drill"] if post => done(&operations.begin_drill(&parse(call)?).await?),
        ["v1", "drill", "end"] if post => done(&operations.end_drill(&parse(call)?).await?),
        ["v1", "gateways"] if get => done(&operations.list_gateways().await?),
        ["v1", "events"] if get => done(&operations.list_events(query.position()?, query.limit, query.settled).await?),
        // The request may hold credentials.
        ["v1", "explain"] if post => done(&operations.explain(parse_secret(call)?).await?),
        ["v1", "status"] if get => done(&operations.status()),
        _ => Ok(no_such_path(call)),
    }
}

async fn operate_accounts(operations: &Operations, call: &AdminCall, path: &[&str], query: &Query) -> Result<AdminReply, OperationError> {
    let get = call.method == Method::GET;
    let post = call.method == Method::POST;
    match path {
        [] if get => {
            let (tenant, surface) = (query.tenant.as_deref(), query.surface.as_deref());
            done(
                &operations
                    .list_accounts(tenant, surface, query.after.as_deref(), query.limit)
                    .await?,
            )
        }
        [] if post => done(&operations.create_account(&parse_secret(call)?).await?),
        [id] if get => done(&operations.show_account(id).await?),
        [id, "password"] if post => {
            let (about, request) = (ChangeSubject::credential(id)?, parse_secret(call)?);
            change(operations, query, &about, operations.set_password(id, &request)).await
        }
        [id, verb] if post && let Some(new_state) = change_of(verb) => {
            let about = ChangeSubject::credential(id)?;
            change(operations, query, &about, operations.change_account(id, new_state)).await
        }
        _ => Ok(no_such_path(call)),
    }
}

async fn operate_providers(operations: &Operations, call: &AdminCall, path: &[&str], query: &Query) -> Result<AdminReply, OperationError> {
    let get = call.method == Method::GET;
    let post = call.method == Method::POST;
    match path {
        [] if get => done(
            &operations
                .list_providers(query.tenant.as_deref(), query.after.as_deref(), query.limit)
                .await?,
        ),
        [] if post => done(&operations.create_provider(&parse_secret(call)?).await?),
        [id] if get => done(&operations.show_provider(id).await?),
        [id] if post => {
            let (about, request) = (ChangeSubject::credential(id)?, parse_secret(call)?);
            change(operations, query, &about, operations.update_provider(id, &request)).await
        }
        [id, "test"] if post => done(&operations.test_provider(id).await?),
        [id, "delete"] if post => {
            let about = ChangeSubject::credential(id)?;
            change(operations, query, &about, operations.delete_provider(id)).await
        }
        [id, "disable"] if post => {
            let about = ChangeSubject::credential(id)?;
            change(operations, query, &about, operations.disable_provider(id)).await
        }
        [id, "enable"] if post => {
            let about = ChangeSubject::credential(id)?;
            change(operations, query, &about, operations.enable_provider(id)).await
        }
        _ => Ok(no_such_path(call)),
    }
}

async fn operate_peppers(operations: &Operations, call: &AdminCall, path: &[&str], query: &Query) -> Result<AdminReply, OperationError> {
    let post = call.method == Method::POST;
    match path {
        [] if call.method == Method::GET => done(&operations.list_peppers().await?),
        ["move"] if post => done(&operations.move_accounts(query.after.as_deref()).await?),
        [mark, "drop"] if post => done(&operations.drop_pepper(mark).await?),
        _ => Ok(no_such_path(call)),
    }
}

async fn operate_roles(operations: &Operations, call: &AdminCall, path: &[&str], query: &Query) -> Result<AdminReply, OperationError> {
    let get = call.method == Method::GET;
    let post = call.method == Method::POST;
    match path {
        [] if get => done(&operations.list_roles(query.tenant.as_deref()).await?),
        [] if post => done(&operations.create_role(&parse(call)?).await?),
        [id] if get => done(&operations.show_role(id).await?),
        [id] if post => {
            let (about, request) = (ChangeSubject::role(id)?, parse(call)?);
            change(operations, query, &about, operations.set_role(id, &request)).await
        }
        [id, "delete"] if post => {
            let about = ChangeSubject::role(id)?;
            change(operations, query, &about, operations.delete_role(id)).await
        }
        _ => Ok(no_such_path(call)),
    }
}

async fn operate_sessions(operations: &Operations, call: &AdminCall, path: &[&str], query: Query) -> Result<AdminReply, OperationError> {
    let post = call.method == Method::POST;
    match path {
        [] if call.method == Method::GET => {
            let query = SessionQuery {
                tenant: query.tenant,
                surface: query.surface,
                parent: query.parent,
                subject: query.subject,
                after: query.after,
                limit: query.limit,
            };
            done(&operations.list_sessions(&query).await?)
        }
        [id, "revoke"] if post => {
            let about = ChangeSubject::credential(id)?;
            change(operations, &query, &about, operations.revoke_session(id)).await
        }
        ["of", id, "revoke"] if post => {
            let about = ChangeSubject::credential(id)?;
            change(operations, &query, &about, operations.revoke_sessions_of(id)).await
        }
        _ => Ok(no_such_path(call)),
    }
}

/// What `keys` and `accounts` call a change of state.
fn change_of(verb: &str) -> Option<CredentialChange> {
    match verb {
        "disable" => Some(CredentialChange::Disable),
        "enable" => Some(CredentialChange::Enable),
        "revoke" => Some(CredentialChange::Revoke),
        _ => None,
    }
}

/// Makes a change; with `?wait=` answers 200 when every gateway has confirmed it, else 202.
async fn change<T: Serialize + Doubtful>(
    operations: &Operations,
    query: &Query,
    about: &ChangeSubject,
    change: impl Future<Output = Result<T, OperationError>>,
) -> Result<AdminReply, OperationError> {
    let Some(wait) = query.wait else {
        return done(&change.await?);
    };
    let waited = operations.confirm(about, wait, change).await?;
    Ok(AdminReply::json(if waited.confirmed { 200 } else { 202 }, &waited))
}

fn done(value: &impl Serialize) -> Result<AdminReply, OperationError> {
    Ok(AdminReply::json(200, value))
}

/// Reads a body; an empty one counts as `{}`.
fn parse<T: DeserializeOwned>(call: &AdminCall) -> Result<T, OperationError> {
    let body: &[u8] = if call.body.is_empty() { b"{}" } else { &call.body };
    // The message of serde may quote a value of the body that has a wrong type or field. A body with a secret is therefore
    // read by `parse_secret`.
    serde_json::from_slice(body).map_err(|error| OperationError::Usage(format!("the body is not what this operation takes: {error}")))
}

/// Reads a body that holds a secret. An error quotes nothing of the body.
fn parse_secret<T: DeserializeOwned>(call: &AdminCall) -> Result<T, OperationError> {
    serde_json::from_slice(&call.body).map_err(|error| {
        let place = error.column();
        OperationError::Usage(format!("the body is not what this operation takes (column {place})"))
    })
}

/// Parameters of lists. All values are ids, so nothing needs decoding.
#[derive(Debug, Default)]
struct Query {
    tenant: Option<String>,
    surface: Option<String>,
    parent: Option<String>,
    subject: Option<String>,
    pepper: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
    /// How long a change waits for receipts.
    wait: Option<Duration>,
    /// Whether events are left out whose entries the trail may not have yet.
    settled: bool,
}

impl Query {
    fn position(&self) -> Result<Option<u64>, OperationError> {
        let parse = |text: &String| {
            text.parse()
                .map_err(|_| OperationError::Usage("`after` must be a position, which is a whole number".into()))
        };
        self.after.as_ref().map(parse).transpose()
    }

    fn parse(text: &str) -> Result<Self, OperationError> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value_text = Some(value.to_owned());
            match name {
                "tenant" => query.tenant = value_text,
                "surface" => query.surface = value_text,
                "parent" => query.parent = value_text,
                "subject" => {
                    let subject = percent::decode(value)
                        .ok_or_else(|| OperationError::Usage("the subject is not percent-encoded correctly".into()))?;
                    query.subject = Some(subject);
                }
                "pepper" => query.pepper = value_text,
                "after" => query.after = value_text,
                "settled" => query.settled = true,
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=1_000).contains(limit));
                    query.limit = Some(limit.ok_or_else(|| OperationError::Usage("`limit` must be a number from 1 to 1000".into()))?);
                }
                "wait" => {
                    let wait = value.parse().ok().map(Duration::from_millis).filter(|wait| *wait <= MAX_WAIT);
                    query.wait =
                        Some(wait.ok_or_else(|| OperationError::Usage("`wait` must be a number of milliseconds, at most 25000".into()))?);
                }
                _ => {
                    return Err(OperationError::Usage(
                        "lists take tenant, surface, parent, subject, pepper, after and limit; changes take wait".into(),
                    ));
                }
            }
        }
        Ok(query)
    }
}
