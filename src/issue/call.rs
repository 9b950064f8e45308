//! One call of a served route. It owns all its data, so that it can outlive the connection.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::UnixMillis;
use crate::base::denial::{Denial, FieldErrors};
use crate::base::ids::CredentialId;
use crate::base::principal::{ClaimValue, CredentialRecord, Principal};
use crate::base::scope::ScopeSet;
use crate::decide::accept::AnswerForm;
use crate::decide::route::ServedRouteIndex;
use crate::decide::surface::{Surface, SurfaceIndex};
use crate::snapshot::Snapshot;
use crate::store::RestsOn;

use super::body::BodyMember;
use super::fields::{CheckedBody, FieldRule};
use super::hook::HookRequest;
use super::throttle::TooManyAttempts;
use crate::snapshot::served_route::{RecordFact, ServedRoute, TextOrList, ValueSource};

/// A call whose caller was admitted and whose body fits the schema.
#[derive(Debug, Clone)]
pub struct ServedCall {
    /// The configuration that the call is judged by.
    pub snapshot: Arc<Snapshot>,
    pub served_route: ServedRouteIndex,
    /// Who calls; `None` on public routes.
    pub caller: Option<AdmittedCaller>,
    pub path: PathValues,
    /// The query as received.
    pub query: Option<String>,
    pub body: Arc<CheckedBody>,
    /// The session whose cookie came with the request although the route does not ask for it. It ends when a new
    /// cookie replaces it, so that nobody can plant a session and keep it (docs/threats.md B8).
    pub replaced: Option<CredentialId>,
    /// The client's address, for the throttle.
    pub address: IpAddr,
    pub request_id: String,
    /// The answer of the service that the hook asked before the step; `null` without a hook, or if the service could
    /// not answer.
    pub hook: Arc<serde_json::Value>,
    /// What a step of single sign-on reads of the request besides; `None` for other actions.
    pub browser: Option<Box<BrowserRequest>>,
}

/// What a step of single sign-on reads of a browser's request besides its query and its body.
#[derive(Clone, Default)]
pub struct BrowserRequest {
    /// Log-in records that the browser keeps: the names of their cookies, and their sealed values.
    pub log_in_records: Vec<(String, String)>,
    /// The sealed value of the cookie with a log-out record.
    pub log_out_record: Option<String>,
    /// Whether people or programs read the answer.
    pub form: AnswerForm,
}

impl std::fmt::Debug for BrowserRequest {
    /// Shows no cookie's value.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.log_in_records.iter().map(|(name, _)| name.as_str()).collect();
        write!(f, "BrowserRequest({names:?}, {:?})", self.form)
    }
}

/// The caller as `authorize` admitted it.
#[derive(Debug, Clone)]
pub struct AdmittedCaller {
    pub surface: SurfaceIndex,
    pub principal: Principal,
    /// When the identity expires by itself.
    pub ends_at: Option<UnixMillis>,
}

/// The answer of a successful call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    pub status: u16,
    /// Header fields besides `Cache-Control`, and besides `Content-Type` if the body is JSON.
    pub fields: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
    /// The action and the records it concerned, for the access line. It never holds a secret.
    pub done: String,
    /// The notification that the hook sends afterwards.
    pub notification: Option<HookNotification>,
}

/// What the hook tells a service after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookNotification {
    /// The request; `None` if it cannot be written.
    pub request: Option<HookRequest>,
    /// The records that the step made. They are revoked again if the notification fails and must not fail.
    pub made: Vec<CredentialId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueError {
    pub denial: Denial,
    /// What is wrong with which field.
    pub details: Option<Box<FieldErrors>>,
    /// When another try makes sense, if known.
    pub retry_after: Option<Duration>,
    /// Whether facts that the call rests on changed before its write. When it is judged again, the call may succeed,
    /// or be refused for another reason.
    pub stale: bool,
    /// What exactly was wrong with a sign-on.
    pub cause: Option<Box<RefusalCause>>,
}

/// Why exactly a sign-on was refused. It holds no secret, and the caller is not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalCause {
    /// The word in logs and in the audit trail.
    pub label: &'static str,
    /// A sentence that an administrator can act on.
    pub words: String,
    /// The identity provider, if it is known.
    pub provider: Option<CredentialId>,
}

impl From<Denial> for IssueError {
    fn from(denial: Denial) -> Self {
        Self {
            denial,
            details: None,
            retry_after: None,
            stale: false,
            cause: None,
        }
    }
}

impl From<TooManyAttempts> for IssueError {
    fn from(too_many: TooManyAttempts) -> Self {
        Self {
            retry_after: Some(too_many.retry_after),
            ..Self::from(Denial::RateLimited)
        }
    }
}

impl From<FieldErrors> for IssueError {
    fn from(errors: FieldErrors) -> Self {
        Self {
            details: Some(Box::new(errors)),
            ..Self::from(Denial::InvalidFields)
        }
    }
}

impl ServedCall {
    /// The served route that was called.
    ///
    /// # Errors
    /// [`Denial::Internal`] for an index of another snapshot.
    pub fn served_route(&self) -> Result<&ServedRoute, Denial> {
        self.snapshot.served_routes.get(self.served_route.0).ok_or(Denial::Internal)
    }

    /// The surface of an index.
    ///
    /// # Errors
    /// [`Denial::Internal`] for an index of another snapshot.
    pub fn surface(&self, index: SurfaceIndex) -> Result<&Surface, Denial> {
        self.snapshot.surfaces.get(index.0).ok_or(Denial::Internal)
    }

    /// The caller, for actions that need one.
    ///
    /// # Errors
    /// [`Denial::Internal`] on a public route. Such an action does not load on a public route.
    pub fn caller(&self) -> Result<&AdmittedCaller, Denial> {
        self.caller.as_ref().ok_or(Denial::Internal)
    }

    /// The facts that every change of this call rests on: all that the caller was judged by.
    #[must_use]
    pub fn rests_on(&self) -> RestsOn {
        let facts = self.caller.as_ref().map(|caller| &caller.principal.facts);
        facts.map_or_else(RestsOn::default, |facts| RestsOn::facts(facts))
    }

    /// Whether the caller's identity has expired while the call was running.
    #[must_use]
    pub fn is_over(&self, now: UnixMillis) -> bool {
        let end = self.caller.as_ref().and_then(|caller| caller.ends_at);
        end.is_some_and(|end| now >= end)
    }

    /// The value of a source; `None` if the source has no value.
    #[must_use]
    pub fn find(&self, source: &ValueSource, parent: Option<&CredentialRecord>) -> Option<TextOrList> {
        match source {
            ValueSource::Constant(value) => Some(value.clone()),
            ValueSource::Path(name) => self.path.find(name).map(|text| TextOrList::Text(text.to_owned())),
            ValueSource::Body(name) => self.body_value(name),
            ValueSource::Caller(fact) => self.caller.as_ref().and_then(|caller| caller.fact(fact)),
            ValueSource::Parent(fact) => parent.and_then(|record| record_fact(record, fact)),
        }
    }

    /// The value of a source as one text.
    #[must_use]
    pub fn find_text(&self, source: &ValueSource, parent: Option<&CredentialRecord>) -> Option<String> {
        match self.find(source, parent)? {
            TextOrList::Text(text) => Some(text),
            TextOrList::List(_) => None,
        }
    }

    /// The value of a source as words: a list, or one text split at spaces.
    #[must_use]
    pub fn find_words(&self, source: &ValueSource, parent: Option<&CredentialRecord>) -> Vec<String> {
        match self.find(source, parent) {
            Some(TextOrList::List(words)) => words,
            Some(TextOrList::Text(text)) => text.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect(),
            None => Vec::new(),
        }
    }

    /// Refuses the value of a source. A value of the body becomes an error of its field; any other value becomes the
    /// denial `otherwise`.
    #[must_use]
    pub fn refuse(&self, source: &ValueSource, rule: FieldRule, otherwise: Denial) -> IssueError {
        let ValueSource::Body(name) = source else {
            return otherwise.into();
        };
        let field = self
            .served_route()
            .ok()
            .and_then(|route| route.body.fields.iter().find(|f| f.name == *name));
        let mut errors = FieldErrors::default();
        if let Some(field) = field {
            errors.push(name, field.message(rule));
        }
        errors.into()
    }

    fn body_value(&self, name: &str) -> Option<TextOrList> {
        let text = self.body.text(name).map(|text| TextOrList::Text(text.to_owned()));
        let list = || self.body.list(name).map(|items| TextOrList::List(items.to_vec()));
        text.or_else(list).or_else(|| match self.body.value(name)? {
            BodyMember::Integer(number) => Some(TextOrList::Text(number.to_string())),
            BodyMember::Number(number) => Some(TextOrList::Text(number.to_string())),
            BodyMember::Flag(flag) => Some(TextOrList::Text(flag.to_string())),
            // The configuration admits none of these as a value.
            BodyMember::Text(_) | BodyMember::List(_) | BodyMember::Items(_) | BodyMember::Object(_) | BodyMember::Null => None,
        })
    }
}

impl AdmittedCaller {
    /// The record the caller's credential resolves to.
    #[must_use]
    pub fn record(&self) -> &CredentialRecord {
        &self.principal.facts.credential
    }

    #[must_use]
    pub fn scopes(&self) -> &ScopeSet {
        self.principal.scopes()
    }

    /// A fact about the caller. What the record of the caller lacks is looked up in the records above it: a session
    /// has the e-mail address of its account.
    #[must_use]
    pub fn fact(&self, fact: &RecordFact) -> Option<TextOrList> {
        let facts = &self.principal.facts;
        match fact {
            RecordFact::Scopes => Some(list(self.scopes())),
            RecordFact::Subject => self.principal.subject().map(|s| TextOrList::Text(s.as_str().to_owned())),
            // An identity provider has a name too, which is no name of a person.
            RecordFact::Login | RecordFact::Name | RecordFact::Claim(_) => std::iter::once(&facts.credential)
                .chain(&facts.ancestors)
                .filter(|record| !record.is_provider())
                .find_map(|record| record_fact(record, fact)),
            RecordFact::Id | RecordFact::Tenant | RecordFact::Mode => record_fact(&facts.credential, fact),
        }
    }
}

/// A fact about a record.
#[must_use]
pub fn record_fact(record: &CredentialRecord, fact: &RecordFact) -> Option<TextOrList> {
    let text = |text: &str| TextOrList::Text(text.to_owned());
    match fact {
        RecordFact::Id => Some(text(record.id.as_str())),
        RecordFact::Subject => record.subject.as_ref().map(|s| text(s.as_str())),
        RecordFact::Tenant => Some(text(record.tenant.as_str())),
        RecordFact::Mode => record.mode.map(|mode| text(mode.as_str())),
        RecordFact::Scopes => Some(list(&record.scopes)),
        RecordFact::Login => record.login().map(text),
        RecordFact::Name => record.name.as_deref().map(text),
        RecordFact::Claim(name) => record.claim(name).map(TextOrList::from),
    }
}

fn list(scopes: &ScopeSet) -> TextOrList {
    TextOrList::List(scopes.iter().map(|s| s.as_str().to_owned()).collect())
}

impl From<&ClaimValue> for TextOrList {
    fn from(value: &ClaimValue) -> Self {
        match value {
            ClaimValue::Text(text) => Self::Text(text.clone()),
            ClaimValue::List(words) => Self::List(words.clone()),
        }
    }
}

impl From<TextOrList> for ClaimValue {
    fn from(value: TextOrList) -> Self {
        match value {
            TextOrList::Text(text) => Self::Text(text),
            TextOrList::List(words) => Self::List(words),
        }
    }
}

/// The values of the parameters of a path, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathValues(Vec<(String, String)>);

impl PathValues {
    /// Reads the parameters of a canonical path that matched this pattern. A value stays as it stands in the path. A
    /// value that is still percent-encoded is no id and names nothing.
    #[must_use]
    pub fn read(pattern: &str, path: &str) -> Self {
        let segments = pattern.split('/').zip(path.split('/'));
        let named = segments.filter_map(|(wanted, found)| {
            let name = wanted.strip_prefix('{')?.strip_suffix('}')?;
            Some((name.to_owned(), found.to_owned()))
        });
        Self(named.collect())
    }

    /// The value of a parameter.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_by_place() {
        let values = PathValues::read("/v1/tenants/{tenant}/keys/{key}", "/v1/tenants/acme/keys/key_1/");
        assert_eq!(values.iter().collect::<Vec<_>>(), [("tenant", "acme"), ("key", "key_1")]);
        assert_eq!(values.find("key"), Some("key_1"));
        assert_eq!(values.find("v1"), None);
        assert_eq!(PathValues::read("/v1/keys", "/v1/keys"), PathValues::default());
        assert_eq!(PathValues::read("/t/{id}", "/t/a%2Fb").find("id"), Some("a%2Fb"));
    }
}
