//! The data that the template of an answer is rendered from: one JSON object, in which each secret appears once.

use serde_json::{Map, Value as Json, json};

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::ids::CredentialId;
use crate::base::key::GeneratedKey;
use crate::base::principal::{ClaimValue, CredentialRecord, RecordClaims};
use crate::base::scope::ScopeSet;
use crate::dialect::answer::put;

use super::body::BodyMember;
use super::call::{HookNotification, Issued, ServedCall};
use super::hook;
use super::minting::MintedCredential;
use super::page::PageRequest;
use crate::snapshot::body_schema::{FieldKind, UnknownFields};
use crate::snapshot::served_route::{Hook, OnFailure, TextOrList, When};

/// What an action adds to caller, path, body and request id.
#[derive(Debug, Default)]
pub struct AnswerData {
    /// `minted`. The last one is `credential` too.
    pub minted: Vec<Json>,
    /// `items`.
    pub items: Vec<Json>,
    /// `provider`, an identity provider.
    pub provider: Option<Json>,
    /// `test`, what a test of one found.
    pub test: Option<Json>,
    /// `page.next` of a list: the page that was requested, and the id after which the next page begins.
    pub next: Option<(PageRequest, String)>,
    /// `page.missing`: something that belongs into the list could not be read.
    pub missing: bool,
    /// `Set-Cookie` values.
    pub cookies: Vec<String>,
    pub done: String,
    pub made: Vec<CredentialId>,
}

/// Renders the answer of a call.
///
/// # Errors
/// [`Denial::Internal`] when the template cannot be rendered. The template was tried when the configuration was
/// loaded.
pub fn render(call: &ServedCall, data: AnswerData) -> Result<Issued, Denial> {
    let served_route = call.served_route()?;
    let spec = &served_route.answer;
    let notification = match &served_route.hook {
        Some(hook) if hook.when == When::After => Some(notification(hook, call, &data)?),
        _ => None,
    };
    let body = match &spec.body {
        Some(template) if spec.status != 204 => {
            let rendered = template.render(&context(call, &data)?);
            Some(rendered.map_err(|error| {
                tracing::error!(%error, "an answer cannot be written");
                Denial::Internal
            })?)
        }
        _ => None,
    };
    let cookies = data.cookies.into_iter().map(|cookie| ("Set-Cookie".to_owned(), cookie));
    let link = data.next.map(|(page, next)| ("Link".to_owned(), page.link(&next)));
    Ok(Issued {
        status: spec.status,
        fields: spec.headers.iter().cloned().chain(cookies).chain(link).collect(),
        body,
        done: data.done,
        notification,
    })
}

/// The request that tells a service about the step. A path that cannot be written counts as a failure of the hook.
fn notification(hook: &Hook, call: &ServedCall, data: &AnswerData) -> Result<HookNotification, Denial> {
    let request = match hook::after_request(hook, call, context(call, data)?) {
        Ok(request) => Some(request),
        Err(Denial::NotFound) if hook.on_failure == OnFailure::GoOn => None,
        Err(denial) => return Err(denial),
    };
    Ok(HookNotification {
        request,
        made: data.made.clone(),
    })
}

/// The data that templates are rendered from.
///
/// # Errors
/// [`Denial::Internal`] for an index of another snapshot.
pub fn context(call: &ServedCall, data: &AnswerData) -> Result<Json, Denial> {
    let path: Map<String, Json> = call.path.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    Ok(json!({
        "request_id": call.request_id,
        "caller": caller(call),
        "credential": data.minted.last(),
        "minted": data.minted,
        "items": data.items,
        "provider": data.provider,
        "test": data.test,
        "page": { "next": data.next.as_ref().map(|(_, next)| next), "more": data.next.is_some(), "missing": data.missing },
        "path": path,
        "body": body(call)?,
        "hook": &*call.hook,
    }))
}

/// The fields of the body, with `null` for absent fields. Unknown members are there if the schema keeps them. Secret
/// fields are left out.
fn body(call: &ServedCall) -> Result<Json, Denial> {
    let schema = &call.served_route()?.body;
    let keeps_unknown = schema.unknown_fields == UnknownFields::Kept;
    let mut shown = if keeps_unknown { call.body.to_json() } else { Map::new().into() };
    for field in &schema.fields {
        let value = call.body.value(&field.name);
        match (&field.kind, value) {
            (FieldKind::Secret { .. }, _) => remove(&mut shown, &field.name),
            (FieldKind::Object, Some(_)) if keeps_unknown => {}
            (FieldKind::Object, _) => put(&mut shown, &field.name, Map::new().into()),
            (_, value) => put(&mut shown, &field.name, value.map(BodyMember::to_json).unwrap_or_default()),
        }
    }
    Ok(shown)
}

/// Removes the member at the end of a path.
fn remove(object: &mut Json, path: &str) {
    match path.rsplit_once('.') {
        None => drop(object.as_object_mut().and_then(|members| members.remove(path))),
        Some((of, member)) => {
            let of = of.split('.').try_fold(object, |at, name| at.get_mut(name));
            drop(of.and_then(|of| of.as_object_mut()?.remove(member)));
        }
    }
}

fn caller(call: &ServedCall) -> Json {
    use crate::snapshot::served_route::RecordFact;
    let Some(caller) = &call.caller else {
        return Json::Null;
    };
    let fact = |fact: RecordFact| caller.fact(&fact).map(Json::from);
    json!({
        "id": fact(RecordFact::Id),
        "tenant": fact(RecordFact::Tenant),
        "subject": fact(RecordFact::Subject),
        "mode": fact(RecordFact::Mode),
        "scopes": fact(RecordFact::Scopes),
        "login": fact(RecordFact::Login),
        "name": fact(RecordFact::Name),
        "claims": claims(caller.record().claims()),
    })
}

/// A new credential with its secrets. No other answer shows them.
#[must_use]
pub fn minted(made: &MintedCredential, now: UnixMillis) -> Json {
    let mut shown = item(&made.record, now);
    if let Json::Object(members) = &mut shown {
        let text = |key: Option<&GeneratedKey>| key.map(|key| Json::from(key.expose())).unwrap_or_default();
        members.insert("key".into(), text(made.key.as_ref()));
        members.insert("secret".into(), text(made.secret.as_ref()));
        if let Some(token) = &made.token {
            members.insert("token".into(), token.text.as_str().into());
            members.insert("expires_at".into(), rfc3339(token.expires_at).into());
            members.insert("expires_in".into(), (token.expires_at.secs() - now.secs()).max(0).into());
        }
    }
    shown
}

/// A record without its secrets, as lists show it.
#[must_use]
pub fn item(record: &CredentialRecord, now: UnixMillis) -> Json {
    json!({
        "id": record.id.as_str(),
        "key": null,
        "secret": null,
        "token": null,
        "prefix": record.prefix,
        "last4": record.last4,
        "mode": record.mode.map(crate::base::scope::Mode::as_str),
        "scopes": scopes(&record.scopes),
        "roles": record.roles().iter().map(|id| id.as_str()).collect::<Vec<_>>(),
        "name": record.name,
        "description": record.description(),
        "subject": record.subject.as_ref().map(|s| s.as_str()),
        "login": record.login(),
        "claims": claims(record.claims()),
        "created_at": rfc3339(record.created_at),
        "expires_at": record.expires_at.map(rfc3339),
        "expires_in": record.expires_at.map(|end| (end.0 - now.0).max(0) / 1000),
    })
}

/// The scopes of a set, as a list.
#[must_use]
pub fn scopes(scopes: &ScopeSet) -> Vec<&str> {
    scopes.iter().map(|s| s.as_str()).collect()
}

fn claims(claims: Option<&RecordClaims>) -> Map<String, Json> {
    let each = claims.into_iter().flat_map(RecordClaims::iter);
    each.map(|(name, value)| {
        let value = match value {
            ClaimValue::Text(text) => Json::from(text.as_str()),
            ClaimValue::List(words) => Json::from(words.as_slice()),
        };
        (name.to_owned(), value)
    })
    .collect()
}

impl From<TextOrList> for Json {
    fn from(value: TextOrList) -> Self {
        match value {
            TextOrList::Text(text) => text.into(),
            TextOrList::List(words) => words.into(),
        }
    }
}

/// A time as RFC 3339 has it, in whole seconds.
fn rfc3339(time: UnixMillis) -> String {
    jiff::Timestamp::from_second(time.secs()).map_or_else(|_| String::new(), |time| time.to_string())
}
