//! One call of an issuer: everything it may look at, owned, so that it can outlive the connection.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::UnixMillis;
use crate::base::denial::{Denial, FieldErrors};
use crate::base::ids::CredentialId;
use crate::base::principal::{ClaimValue, CredentialRecord, Principal};
use crate::base::scope::ScopeSet;
use crate::decide::route::ServedRouteIndex;
use crate::decide::surface::{Surface, SurfaceIndex};
use crate::snapshot::Snapshot;
use crate::store::RestsOn;

use super::body::BodyMember;
use super::fields::{CheckedBody, FieldRule};
use super::hook::HookRequest;
use super::throttle::TooManyAttempts;
use crate::snapshot::served_route::{RecordFact, ServedRoute, TextOrList, ValueSource};

/// A call of an issuer whose caller was admitted and whose body fits its schema.
#[derive(Debug)]
pub struct ServedCall {
    /// The configuration it is judged by.
    pub snapshot: Arc<Snapshot>,
    pub served_route: ServedRouteIndex,
    /// Who calls; `None` on public routes.
    pub caller: Option<AdmittedCaller>,
    pub path: PathValues,
    /// The query, as it was written.
    pub query: Option<String>,
    pub body: Arc<CheckedBody>,
    /// The session whose cookie came with the request although it was not asked for: it ends when a
    /// new cookie takes its place, so that nobody can plant one and keep it (hardening B8).
    pub replaced: Option<CredentialId>,
    /// The client's address, for the throttle.
    pub address: IpAddr,
    pub request_id: String,
    /// What the service told that was asked before; `null` where none was, or where it could not answer.
    pub hook: Arc<serde_json::Value>,
}

/// Who calls, as authorization admitted it.
#[derive(Debug, Clone)]
pub struct AdmittedCaller {
    pub surface: SurfaceIndex,
    pub principal: Principal,
    /// When it ends by itself.
    pub ends_at: Option<UnixMillis>,
}

/// What goes back after success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    pub status: u16,
    /// Fields besides `Content-Type` and `Cache-Control`.
    pub fields: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
    /// What was done and to which records, for the access line; never a secret.
    pub done: String,
    /// What a service is to be told of it.
    pub news: Option<HookNotification>,
}

/// What a service is told of a step that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookNotification {
    /// The request; `None` for one that cannot be written.
    pub errand: Option<HookRequest>,
    /// The records that were made, which end again where the telling must not fail.
    pub made: Vec<CredentialId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueError {
    pub denial: Denial,
    /// What is wrong with which field.
    pub details: Option<Box<FieldErrors>>,
    /// When another try makes sense, if known.
    pub retry_after: Option<Duration>,
    /// Whether the call only came too late: what it rests on had changed at the step of the write. Judged anew
    /// it may go on, or be refused for another reason.
    pub stale: bool,
}

impl From<Denial> for IssueError {
    fn from(denial: Denial) -> Self {
        Self {
            denial,
            details: None,
            retry_after: None,
            stale: false,
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
    /// What the issuer does.
    ///
    /// # Errors
    /// [`Denial::Internal`] for an index that is of another snapshot.
    pub fn served_route(&self) -> Result<&ServedRoute, Denial> {
        self.snapshot.served_routes.get(self.served_route.0).ok_or(Denial::Internal)
    }

    /// A surface.
    ///
    /// # Errors
    /// [`Denial::Internal`] for an index that is of another snapshot.
    pub fn surface(&self, index: SurfaceIndex) -> Result<&Surface, Denial> {
        self.snapshot.surfaces.get(index.0).ok_or(Denial::Internal)
    }

    /// The caller, where the action needs one.
    ///
    /// # Errors
    /// [`Denial::Internal`] on a public route, where such an action does not load.
    pub fn caller(&self) -> Result<&AdmittedCaller, Denial> {
        self.caller.as_ref().ok_or(Denial::Internal)
    }

    /// What every change of this call rests on: all that its caller was judged by.
    #[must_use]
    pub fn rests_on(&self) -> RestsOn {
        let facts = self.caller.as_ref().map(|caller| &caller.principal.facts);
        facts.map_or_else(RestsOn::default, |facts| RestsOn::facts(facts))
    }

    /// Whether the caller has ended by itself while the call was on its way.
    #[must_use]
    pub fn is_over(&self, now: UnixMillis) -> bool {
        let end = self.caller.as_ref().and_then(|caller| caller.ends_at);
        end.is_some_and(|end| now >= end)
    }

    /// What a source says; nothing where it says nothing.
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

    /// What a source says, as one text.
    #[must_use]
    pub fn find_text(&self, source: &ValueSource, parent: Option<&CredentialRecord>) -> Option<String> {
        match self.find(source, parent)? {
            TextOrList::Text(text) => Some(text),
            TextOrList::List(_) => None,
        }
    }

    /// What a source says, as words: a list, or one text with spaces.
    #[must_use]
    pub fn find_words(&self, source: &ValueSource, parent: Option<&CredentialRecord>) -> Vec<String> {
        match self.find(source, parent) {
            Some(TextOrList::List(words)) => words,
            Some(TextOrList::Text(text)) => text.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect(),
            None => Vec::new(),
        }
    }

    /// Refuses what a source said: by its field if it was the body that said it, as the caller's
    /// doing otherwise.
    #[must_use]
    pub fn refuse(&self, source: &ValueSource, rule: FieldRule, otherwise: Denial) -> IssueError {
        let ValueSource::Body(name) = source else {
            return otherwise.into();
        };
        let field = self
            .served_route()
            .ok()
            .and_then(|issuer| issuer.body.fields.iter().find(|f| f.name == *name));
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
            // Configuration takes none of these for a value.
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

    /// A fact about the caller. What its record does not have itself is looked for up the chain it
    /// hangs on: a session is asked for its account's e-mail address.
    #[must_use]
    pub fn fact(&self, fact: &RecordFact) -> Option<TextOrList> {
        let facts = &self.principal.facts;
        match fact {
            RecordFact::Scopes => Some(list(self.scopes())),
            RecordFact::Subject => self.principal.subject().map(|s| TextOrList::Text(s.as_str().to_owned())),
            RecordFact::Login | RecordFact::Name | RecordFact::Claim(_) => std::iter::once(&facts.credential)
                .chain(&facts.ancestors)
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

/// Values of a path's parameters, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathValues(Vec<(String, String)>);

impl PathValues {
    /// Reads the parameters of a canonical path that matched this pattern. Values stay as they are
    /// written in the path: what is still encoded there is no id and names nothing.
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
