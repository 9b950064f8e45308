//! Operations on sessions: what hangs on another record, or slides, is listed and ended.

use crate::base::ids::Subject;
use crate::base::principal::CredentialRecord;
use crate::store::{CredentialChange, CredentialFilter};

use super::Operations;
use super::error::OperationError;
use super::keys::{parse_id, parse_subject, parse_surface};
use super::people::{SessionList, SessionView, SessionsEnded};
use super::tenants::{PAGE, parse_tenant};

/// Which sessions are listed.
#[derive(Debug, Clone, Default)]
pub struct SessionQuery {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this surface.
    pub surface: Option<String>,
    /// Hanging on the record of this id: an account, a key, a token.
    pub parent: Option<String>,
    /// Of this subject.
    pub subject: Option<String>,
    /// After this id.
    pub after: Option<String>,
    /// At most this many.
    pub limit: Option<usize>,
}

impl Operations {
    /// Lists live sessions: neither revoked nor expired nor idle for too long. A page may be short
    /// although more follow; `next` says so.
    ///
    /// # Errors
    /// [`OperationError::Usage`], or as the store has it.
    pub async fn list_sessions(&self, query: &SessionQuery) -> Result<SessionList, OperationError> {
        let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
        let parse_subject = |text: &String| -> Result<Subject, OperationError> { parse_subject(text) };
        let filter = CredentialFilter {
            tenant: query.tenant.as_deref().map(parse_tenant).transpose()?,
            surface: query.surface.as_deref().map(parse_surface).transpose()?,
            parent: query.parent.as_deref().map(parse_id).transpose()?,
            subject: query.subject.as_ref().map(parse_subject).transpose()?,
            live_at: Some(self.clock.now().wall),
            after: query.after.as_deref().map(parse_id).transpose()?,
            limit,
            ..CredentialFilter::default()
        };
        let found = self.store.list_credentials(filter).await?;
        let next = (found.len() == limit).then(|| found.last().map(|r| r.id.as_str().to_owned()));
        Ok(SessionList {
            sessions: found.iter().filter(|r| is_session(r)).map(SessionView::from).collect(),
            next: next.flatten(),
        })
    }

    /// Ends one session for ever, and what hangs on it.
    ///
    /// # Errors
    /// [`OperationError::NotFound`] when there is none of this id (a key is not one), or as the store has it.
    pub async fn revoke_session(&self, id: &str) -> Result<SessionView, OperationError> {
        let found = self.store.find_credential(parse_id(id)?).await?;
        let session = found
            .filter(is_session)
            .ok_or_else(|| OperationError::NotFound(format!("there is no session `{id}`")))?;
        let now = self.clock.now().wall;
        let record = self.store.change_credential(session.id, CredentialChange::Revoke, now).await?;
        tracing::info!(session = %record.id, "session revoked");
        Ok(SessionView::from(&record))
    }

    /// Ends everything that hangs on a record and was made before now; the record itself goes on.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], [`OperationError::Conflict`] for a revoked record, or as the store
    /// has it.
    pub async fn revoke_sessions_of(&self, id: &str) -> Result<SessionsEnded, OperationError> {
        let now = self.clock.now().wall;
        let record = self
            .store
            .change_credential(parse_id(id)?, CredentialChange::EndIssued, now)
            .await?;
        tracing::info!(credential = %record.id, "everything that hangs on it was ended");
        Ok(SessionsEnded {
            id: record.id.as_str().into(),
            valid_after: record.valid_after.map(super::times::write),
        })
    }
}

/// What somebody began and what ends by itself, unlike keys and accounts.
fn is_session(record: &CredentialRecord) -> bool {
    record.parent().is_some() || record.idle().is_some()
}
