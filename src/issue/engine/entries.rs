//! The action `audit`: the entries of the audit trail that are of the caller's tenant.

use std::time::Duration;

use crate::audit::tenants::TenantEntry;
use crate::base::denial::Denial;
use crate::issue::answer::{self, AnswerData};
use crate::issue::call::{IssueError, Issued, ServedCall};
use crate::issue::entry_filter;
use crate::issue::trail_reader::{TrailAccess, TrailReadError};

use super::Engine;

/// When a call that found no place should be repeated. A page takes a second at most.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Engine {
    /// Lists entries. The caller is checked after the wait: an answer is for whoever may see it when it is sent.
    pub(super) async fn list_entries(&self, call: &ServedCall) -> Result<Issued, IssueError> {
        let unknown = call.served_route()?.body.unknown.as_deref();
        let (page, mut filter) = entry_filter::parse(call.query.as_deref(), unknown)?;
        let Some(TrailAccess { reader, .. }) = &self.trail else {
            // A configuration with such a route does not load without `[audit]`, at a start and at a reload.
            tracing::error!("a route serves the audit trail, and this gateway keeps none");
            return Err(Denial::Internal.into());
        };
        let before = match &page.after {
            None => None,
            Some(after) => Some(reader.position(after).ok_or_else(|| page.bad_after())?),
        };
        let record = call.caller()?.record();
        filter.mode = record.mode;
        let found = reader.read(&record.tenant, filter, before, page.limit).await.map_err(refused)?;
        if let Some(problem) = found.problems.first() {
            tracing::warn!(
                problem,
                problems = found.problems.len(),
                "a tenant was given entries that are not all"
            );
        }
        let next = found
            .next
            .map(|next| reader.cursor(next))
            .transpose()
            .map_err(|error| refused(TrailReadError::Failed(error)))?;
        self.check_caller(call).await?;
        let data = AnswerData {
            items: found.entries.into_iter().map(TenantEntry::into_json).collect(),
            next: next.map(|next| (page, next)),
            missing: !found.problems.is_empty(),
            done: "audit".into(),
            ..AnswerData::default()
        };
        Ok(answer::render(call, data)?)
    }
}

fn refused(error: TrailReadError) -> IssueError {
    match error {
        TrailReadError::Full | TrailReadError::Late => IssueError {
            retry_after: Some(RETRY_AFTER),
            ..Denial::Overloaded.into()
        },
        TrailReadError::Failed(error) => {
            tracing::error!(%error, "the audit trail cannot be read for a tenant");
            Denial::Internal.into()
        }
    }
}
