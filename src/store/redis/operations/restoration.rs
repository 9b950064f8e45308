//! Writes endings again that the store has lost, after a failover to a replica that lagged or from an old backup. What any
//! running gateway has seen end then ends for every gateway.

use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::UnixMillis;
use crate::base::principal::CredentialState;
use crate::store::redis::RedisCore;
use crate::store::redis::stream::{Ending, RecordRef};
use crate::store::{ChangeError, CredentialChange, RoleChange, StoreError, TenantState};

use super::StoreCall;

/// Time between two passes over all endings. A pass reads every record.
const PAUSE: Duration = Duration::from_secs(1);

/// Restores lost endings whenever a loss is suspected, until its task is aborted.
pub(crate) async fn restore_for_ever(shared: Arc<RedisCore>) {
    let mut suspicions = shared.feed.endings.suspicions();
    let call = StoreCall::new(Arc::clone(&shared));
    while suspicions.changed().await.is_ok() {
        match restore_all(&shared, &call).await {
            Ok(0) => {}
            Ok(restored) => tracing::warn!(restored, "endings that the store had lost were written again"),
            Err(error) => {
                tracing::debug!(%error, "lost endings are written again when the store answers");
                suspicions.mark_changed();
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One pass over all endings, the latest first. Answers how many were lost.
async fn restore_all(shared: &RedisCore, call: &StoreCall) -> Result<usize, ChangeError> {
    let mut restored = 0;
    for (whose, ending) in shared.feed.endings.all() {
        let done = match &whose {
            RecordRef::Credential(id) => restore_credential(call, id, &ending).await,
            RecordRef::Tenant(id) => restore_tenant(call, id, &ending).await,
            RecordRef::Role(id) => restore_role(call, id, &ending).await,
        };
        restored += match done {
            Ok(count) => count,
            // The ending is written. The caller that made the change first waits for the replicas.
            Err(ChangeError::Unconfirmed(_)) => 1,
            // The record is gone, or was ended by another change.
            Err(ChangeError::NotFound(_) | ChangeError::Conflict(_) | ChangeError::Taken(_)) => 0,
            // A record that cannot be read does not stop the others.
            Err(ChangeError::Store(error @ StoreError::Corrupt(_))) => {
                tracing::error!(alarm = "corrupt_record", ?whose, %error, "its ending cannot be written again");
                0
            }
            Err(error) => return Err(error),
        };
    }
    Ok(restored)
}

async fn restore_credential(call: &StoreCall, id: &crate::base::ids::CredentialId, ending: &Ending) -> Result<usize, ChangeError> {
    let Some(record) = call.find_credential(id).await? else {
        return Ok(0);
    };
    let mut restricted = record.clone();
    if !ending.restrict_credential(&mut restricted) {
        return Ok(0);
    }
    let mut changes = Vec::new();
    if restricted.valid_after != record.valid_after {
        changes.extend(restricted.valid_after.map(CredentialChange::ValidAfter));
    }
    if restricted.expires_at != record.expires_at {
        changes.extend(restricted.expires_at.map(CredentialChange::ExpireAt));
    }
    if restricted.roles() != record.roles() {
        changes.push(CredentialChange::SetRoles(restricted.roles().to_vec()));
    }
    if restricted.scopes != record.scopes {
        changes.push(CredentialChange::SetScopes(restricted.scopes.clone()));
    }
    // Last, because a revoked record takes no other change.
    let mut now = UnixMillis(0);
    match restricted.state {
        state if state == record.state => {}
        CredentialState::Revoked { at } => {
            now = at;
            changes.push(CredentialChange::Revoke);
        }
        CredentialState::Disabled => changes.push(CredentialChange::Disable),
        CredentialState::Active => {}
    }
    for change in changes {
        call.change_credential(id, &change, now).await?;
    }
    Ok(1)
}

async fn restore_tenant(call: &StoreCall, id: &crate::base::ids::TenantId, ending: &Ending) -> Result<usize, ChangeError> {
    let Some(mut record) = call.find_tenant(id).await? else {
        return Ok(0);
    };
    if !ending.restrict_tenant(&mut record) {
        return Ok(0);
    }
    call.set_tenant_active(id, TenantState::Inactive).await.map(|_| 1)
}

async fn restore_role(call: &StoreCall, id: &crate::base::ids::RoleId, ending: &Ending) -> Result<usize, ChangeError> {
    let Some(record) = call.find_role(id).await? else {
        return Ok(0);
    };
    match ending.restricted_scopes(&record) {
        None => call.delete_role(id).await.map(|()| 1),
        Some(scopes) if scopes == record.scopes => Ok(0),
        Some(scopes) => call.change_role(id, &RoleChange::SetScopes(scopes)).await.map(|_| 1),
    }
}
