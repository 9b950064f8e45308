//! The operator API's paths.

use std::sync::Arc;

use ::http::{Method, Request};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::{CredentialChange, TenantState};

use super::api::{CreateTenant, Failure, FailureBody};
use super::error::OperationError;
use super::http::{self, Answer, Call, Service};
use super::{Operations, SessionQuery, probes};

/// The whole operator API, for the Unix socket.
#[derive(Debug)]
pub struct OperatorApi(pub Arc<Operations>);

impl Service for OperatorApi {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let call = match http::read(request).await {
            Ok(call) => call,
            Err(refusal) => return refusal,
        };
        if let Some(answer) = probes::answer(&self.0, &call) {
            return answer;
        }
        match operate(&self.0, &call).await {
            Ok(answer) => answer,
            Err(error) => fail(error.status(), error.code(), &error.to_string()),
        }
    }
}

async fn operate(operations: &Operations, call: &Call) -> Result<Answer, OperationError> {
    let path: Vec<&str> = call.uri.path().split('/').skip(1).collect();
    let query = Query::parse(call.uri.query().unwrap_or_default())?;
    match path.as_slice() {
        ["v1", "accounts", rest @ ..] => operate_accounts(operations, call, rest, &query).await,
        ["v1", "roles", rest @ ..] => operate_roles(operations, call, rest, &query).await,
        ["v1", "sessions", rest @ ..] => operate_sessions(operations, call, rest, query).await,
        _ => operate_keys(operations, call, &path, &query).await,
    }
}

async fn operate_keys(operations: &Operations, call: &Call, path: &[&str], query: &Query) -> Result<Answer, OperationError> {
    let get = call.method == Method::GET;
    let post = call.method == Method::POST;
    match path {
        ["v1", "tenants"] if get => done(&operations.list_tenants(query.after.as_deref(), query.limit).await?),
        ["v1", "tenants"] if post => done(&operations.create_tenant(&parse::<CreateTenant>(call)?).await?),
        ["v1", "tenants", id, "enable"] if post => done(&operations.set_tenant(id, TenantState::Active).await?),
        ["v1", "tenants", id, "disable"] if post => done(&operations.set_tenant(id, TenantState::Inactive).await?),
        ["v1", "keys"] if get => {
            let (tenant, surface) = (query.tenant.as_deref(), query.surface.as_deref());
            done(&operations.list_keys(tenant, surface, query.after.as_deref(), query.limit).await?)
        }
        ["v1", "keys"] if post => done(&operations.create_key(&parse(call)?).await?),
        ["v1", "keys", "import"] if post => done(&operations.import_key(&parse(call)?).await?),
        ["v1", "keys", id] if get => done(&operations.show_key(id).await?),
        ["v1", "keys", id, "disable"] if post => done(&operations.change_key(id, CredentialChange::Disable).await?),
        ["v1", "keys", id, "enable"] if post => done(&operations.change_key(id, CredentialChange::Enable).await?),
        ["v1", "keys", id, "revoke"] if post => done(&operations.change_key(id, CredentialChange::Revoke).await?),
        ["v1", "keys", id, "rotate"] if post => done(&operations.rotate_key(id, &parse(call)?).await?),
        ["v1", "reload"] if post => done(&operations.reload().await?),
        ["v1", "status"] if get => done(&operations.status()),
        _ => Ok(no_such_path(call)),
    }
}

async fn operate_accounts(operations: &Operations, call: &Call, path: &[&str], query: &Query) -> Result<Answer, OperationError> {
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
        [id, "disable"] if post => done(&operations.change_account(id, CredentialChange::Disable).await?),
        [id, "enable"] if post => done(&operations.change_account(id, CredentialChange::Enable).await?),
        [id, "revoke"] if post => done(&operations.change_account(id, CredentialChange::Revoke).await?),
        [id, "password"] if post => done(&operations.set_password(id, &parse_secret(call)?).await?),
        _ => Ok(no_such_path(call)),
    }
}

async fn operate_roles(operations: &Operations, call: &Call, path: &[&str], query: &Query) -> Result<Answer, OperationError> {
    let get = call.method == Method::GET;
    let post = call.method == Method::POST;
    match path {
        [] if get => done(&operations.list_roles(query.tenant.as_deref()).await?),
        [] if post => done(&operations.create_role(&parse(call)?).await?),
        [id] if get => done(&operations.show_role(id).await?),
        [id] if post => done(&operations.set_role(id, &parse(call)?).await?),
        [id, "delete"] if post => done(&operations.delete_role(id).await?),
        _ => Ok(no_such_path(call)),
    }
}

async fn operate_sessions(operations: &Operations, call: &Call, path: &[&str], query: Query) -> Result<Answer, OperationError> {
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
        [id, "revoke"] if post => done(&operations.revoke_session(id).await?),
        ["of", id, "revoke"] if post => done(&operations.revoke_sessions_of(id).await?),
        _ => Ok(no_such_path(call)),
    }
}

fn done(value: &impl Serialize) -> Result<Answer, OperationError> {
    Ok(Answer::json(200, value))
}

/// Reads a body; an empty one counts as `{}`.
fn parse<T: DeserializeOwned>(call: &Call) -> Result<T, OperationError> {
    let body: &[u8] = if call.body.is_empty() { b"{}" } else { &call.body };
    // serde's message may quote a value of the body, but only of a wrong type or field: what holds a
    // secret is read by `parse_secret`.
    serde_json::from_slice(body).map_err(|error| OperationError::Usage(format!("the body is not what this operation takes: {error}")))
}

/// Reads a body that holds a password: what is wrong with it is not quoted.
fn parse_secret<T: DeserializeOwned>(call: &Call) -> Result<T, OperationError> {
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
    after: Option<String>,
    limit: Option<usize>,
}

impl Query {
    fn parse(text: &str) -> Result<Self, OperationError> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value_text = Some(value.to_owned());
            match name {
                "tenant" => query.tenant = value_text,
                "surface" => query.surface = value_text,
                "parent" => query.parent = value_text,
                "subject" => query.subject = value_text,
                "after" => query.after = value_text,
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=1_000).contains(limit));
                    query.limit = Some(limit.ok_or_else(|| OperationError::Usage("limit is a number from 1 to 1000".into()))?);
                }
                _ => {
                    return Err(OperationError::Usage(
                        "lists take tenant, surface, parent, subject, after and limit".into(),
                    ));
                }
            }
        }
        Ok(query)
    }
}

pub(crate) fn no_such_path(call: &Call) -> Answer {
    let path = super::times::printable(call.uri.path());
    fail(404, "not_found", &format!("there is no `{} {path}` here", call.method))
}

pub(crate) fn wrong_method(right: &str) -> Answer {
    fail(405, "usage", &format!("this path takes {right}"))
}

fn fail(status: u16, code: &str, message: &str) -> Answer {
    let error = FailureBody {
        code: code.into(),
        message: message.into(),
    };
    Answer::json(status, &Failure { error })
}
