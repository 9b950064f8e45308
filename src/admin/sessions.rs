//! Sessions: their JSON, and operations on them. A session is a record with a parent, or one that expires when it is idle.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::base::clock::UnixMillis;
use crate::base::ids::{CredentialId, Subject};
use crate::base::principal::chain::next_above;
use crate::base::principal::{ClaimValue, CredentialRecord, CredentialState, IdleTimeout, MAX_ANCESTORS};
use crate::store::{CredentialChange, CredentialFilter};

use super::Operations;
use super::error::OperationError;
use super::receipts::Doubtful;
use super::text::{PAGE, mode_word, parse_id, parse_subject, parse_surface, parse_tenant, scope_words, state_word, write};

/// A session as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    pub id: String,
    /// One of `active`, `disabled` and `revoked`.
    pub state: String,
    pub surface: String,
    pub tenant: String,
    /// Who acts within the tenant.
    pub subject: Option<String>,
    /// The id of the parent. When the parent ends, this record ends too.
    pub parent: Option<String>,
    /// `test` or `live`; none where the surface has no modes.
    pub mode: Option<String>,
    /// Its scopes, in the order in which they were given.
    pub scopes: Vec<String>,
    pub claims: serde_json::Map<String, serde_json::Value>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it was last used, RFC 3339, about a minute late; only for sessions that expire when they are idle.
    pub last_used_at: Option<String>,
    /// When it ends if it is not used before, RFC 3339; only for sessions that expire when they are idle.
    pub idle_at: Option<String>,
    /// When it ends in any case, RFC 3339.
    pub expires_at: Option<String>,
    /// When it ends if it is not used before, by itself or with its parents, RFC 3339; `None`: it has no end.
    #[serde(default)]
    pub ends_at: Option<String>,
}

impl SessionView {
    /// A session that ends at `ends_at` if it is not used before.
    pub(super) fn new(record: &CredentialRecord, ends_at: Option<UnixMillis>) -> Self {
        let claims = record.claims().into_iter().flat_map(|claims| claims.iter());
        let json = |value: &ClaimValue| match value {
            ClaimValue::Text(text) => serde_json::Value::from(text.as_str()),
            ClaimValue::List(words) => serde_json::Value::from(words.clone()),
        };
        Self {
            id: record.id.as_str().into(),
            state: state_word(record.state).into(),
            surface: record.surface.as_str().into(),
            tenant: record.tenant.as_str().into(),
            subject: record.subject.as_ref().map(|s| s.as_str().into()),
            parent: record.parent().map(|parent| parent.id.as_str().into()),
            mode: mode_word(record.mode),
            scopes: scope_words(&record.scopes),
            claims: claims.map(|(name, value)| (name.to_owned(), json(value))).collect(),
            created_at: write(record.created_at),
            last_used_at: record.idle().map(|idle| write(idle.last_used)),
            idle_at: record.idle().map(|idle| write(idle.ends_at())),
            expires_at: record.expires_at.map(write),
            ends_at: ends_at.map(write),
        }
    }
}

impl Doubtful for SessionView {}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionList {
    /// In the order of their ids.
    pub sessions: Vec<SessionView>,
    /// Where the next page begins (`after`); none after the last.
    pub next: Option<String>,
}

/// The answer to the end of all sessions of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsEnded {
    /// The id of the record, which stays in force.
    pub id: String,
    /// Children of the record that were made before this time are ended, RFC 3339.
    pub valid_after: Option<String>,
}

impl Doubtful for SessionsEnded {}

#[derive(Debug, Clone, Default)]
pub struct SessionQuery {
    pub tenant: Option<String>,
    pub surface: Option<String>,
    /// Only children of the record with this id: an account, a key, a token.
    pub parent: Option<String>,
    pub subject: Option<String>,
    pub after: Option<String>,
    pub limit: Option<usize>,
}

/// Most pages of the store that are read for one page of sessions, since keys and accounts stand between them. 50,000
/// records take about a second.
const MAX_READ: usize = 50;

/// Parents of the sessions of a page, each read once; `None` for one that does not exist.
type Ancestors = HashMap<CredentialId, Option<CredentialRecord>>;

/// How long a session lives.
enum SessionLifetime {
    /// It has ended, since one of its parents has.
    Over,
    /// Until then, if it is not used before; `None`: without an end.
    Until(Option<UnixMillis>),
}

impl Operations {
    /// Lists sessions in force: neither the session nor a parent is revoked, expired or idle for too long. A page may be short
    /// although more sessions follow; `next` says so.
    ///
    /// # Errors
    /// [`OperationError::Usage`], or an error of the store.
    pub async fn list_sessions(&self, query: &SessionQuery) -> Result<SessionList, OperationError> {
        let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
        let parse_subject = |text: &String| -> Result<Subject, OperationError> { parse_subject(text) };
        let now = self.clock.now().wall;
        let mut filter = CredentialFilter {
            tenant: query.tenant.as_deref().map(parse_tenant).transpose()?,
            surface: query.surface.as_deref().map(parse_surface).transpose()?,
            parent: query.parent.as_deref().map(parse_id).transpose()?,
            subject: query.subject.as_ref().map(parse_subject).transpose()?,
            live_at: Some(now),
            after: query.after.as_deref().map(parse_id).transpose()?,
            limit: PAGE,
            ..CredentialFilter::default()
        };
        let (mut sessions, mut above) = (Vec::new(), Ancestors::new());
        for _ in 0..MAX_READ {
            let found = self.store.list_credentials(filter.clone()).await?;
            let last = found.len() < PAGE;
            for record in found {
                if sessions.len() == limit {
                    let next = filter.after.map(|id| id.as_str().to_owned());
                    return Ok(SessionList { sessions, next });
                }
                filter.after = Some(record.id.clone());
                if self.is_session(&record)
                    && let SessionLifetime::Until(ends_at) = self.life_of(&record, now, &mut above).await?
                {
                    sessions.push(SessionView::new(&record, ends_at));
                }
            }
            if last {
                return Ok(SessionList { sessions, next: None });
            }
        }
        let next = filter.after.map(|id| id.as_str().to_owned());
        Ok(SessionList { sessions, next })
    }

    /// Whether a record is a session, and not a key or an account. Sessions are records with a parent (sign-ons too, but not the
    /// people of identity providers), records that expire when they are idle, and all records of a surface of sessions.
    fn is_session(&self, record: &CredentialRecord) -> bool {
        let of_sessions = || {
            let snapshot = self.snapshot.load();
            let surface = snapshot.surfaces.iter().find(|surface| surface.name == record.surface);
            surface.is_some_and(|surface| surface.kind.session().is_some())
        };
        let is_of_provider = record.is_person_of_provider() || record.is_provider_settings() || record.is_provider();
        let is_other = is_of_provider || record.is_refresh_token();
        !is_other && (record.parent().is_some() || record.idle().is_some() || of_sessions())
    }

    /// How long a session lives, by its own end and by those of its parents.
    async fn life_of(&self, record: &CredentialRecord, now: UnixMillis, above: &mut Ancestors) -> Result<SessionLifetime, OperationError> {
        let mut end = own_end(record);
        let (mut chain, mut oldest) = (Vec::new(), record.created_at);
        while chain.len() < MAX_ANCESTORS
            && let Some(named) = next_above(record, &chain).cloned()
        {
            if !above.contains_key(&named.id) {
                let found = self.store.find_credential(named.id.clone()).await?;
                above.insert(named.id.clone(), found);
            }
            // A record whose parent does not exist admits nobody.
            let Some(Some(ancestor)) = above.get(&named.id) else {
                return Ok(SessionLifetime::Over);
            };
            let ended =
                matches!(ancestor.state, CredentialState::Revoked { .. }) || ancestor.valid_after.is_some_and(|since| oldest < since);
            end = earlier(end, own_end(ancestor));
            if ended || end.is_some_and(|end| end <= now) {
                return Ok(SessionLifetime::Over);
            }
            let is_account_of_link = chain.last().unwrap_or(record).link().is_some();
            if !is_account_of_link {
                oldest = oldest.min(ancestor.created_at);
            }
            chain.push(ancestor.clone());
        }
        Ok(SessionLifetime::Until(end))
    }

    /// Revokes one session, and with it its children.
    ///
    /// # Errors
    /// [`OperationError::NotFound`] when there is none of this id (a key is not one), or an error of the store.
    pub async fn revoke_session(&self, id: &str) -> Result<SessionView, OperationError> {
        let found = self.store.find_credential(parse_id(id)?).await?;
        let session = found
            .filter(|record| self.is_session(record))
            .ok_or_else(|| OperationError::NotFound(format!("there is no session `{id}`")))?;
        let now = self.clock.now().wall;
        let record = self.store.change_credential(session.id, CredentialChange::Revoke, now).await?;
        tracing::info!(session = %record.id, "session revoked");
        Ok(SessionView::new(&record, own_end(&record)))
    }

    /// Ends all children of a record that were made before now. The record itself stays in force.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], [`OperationError::Conflict`] for a revoked record, or an error of the
    /// store.
    pub async fn revoke_sessions_of(&self, id: &str) -> Result<SessionsEnded, OperationError> {
        let now = self.clock.now().wall;
        let record = self
            .store
            .change_credential(parse_id(id)?, CredentialChange::EndIssued, now)
            .await?;
        tracing::info!(credential = %record.id, "everything that hangs on it was ended");
        Ok(SessionsEnded {
            id: record.id.as_str().into(),
            valid_after: record.valid_after.map(write),
        })
    }
}

/// When a record ends by itself if it is not used before.
fn own_end(record: &CredentialRecord) -> Option<UnixMillis> {
    earlier(record.expires_at, record.idle().map(IdleTimeout::ends_at))
}

fn earlier(one: Option<UnixMillis>, other: Option<UnixMillis>) -> Option<UnixMillis> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
