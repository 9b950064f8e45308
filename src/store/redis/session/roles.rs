//! Roles in the shared store.

use crate::base::ids::{RoleId, TenantId};
use crate::base::principal::RoleRecord;
use crate::store::change::{self, Outcome};
use crate::store::{ChangeError, EventSubject, MAX_TENANT_ROLES, RoleChange, StoreError, codec};

use super::super::endings::{Ending, Whose};
use super::super::scripts::{Change, Kind, Refusal, Written};
use super::{PAGE, Session, TRIES, contended, encode_event, nothing_written};

impl Session {
    pub(in super::super) async fn create_role(&self, role: RoleRecord) -> Result<RoleRecord, ChangeError> {
        let role = RoleRecord { epoch: 1, ..role };
        let tenant = change::tenant_of(&role)?;
        let bytes = codec::encode_role(&role).map_err(change::unwritable)?;
        let event = encode_event(&EventSubject::Role { id: role.id.clone() })?;
        let live = self.changer().map_err(nothing_written)?;
        let change = Change {
            id: role.id.as_str(),
            record: &bytes,
            event: &event,
            ending: "",
        };
        let written = self.shared.scripts.create_role(&live.wire, &change, tenant).await;
        match self.settle_change(&live, written)? {
            Written::At(counter) => self.acknowledge(&live, counter, role).await,
            Written::Refused(Refusal::NoTenant) => Err(change::no_tenant(tenant)),
            Written::Refused(Refusal::Full) => Err(change::too_many_roles(tenant)),
            Written::Refused(_) => Err(change::role_taken(&role.id)),
        }
    }

    pub(in super::super) async fn change_role(&self, id: &RoleId, change: &RoleChange) -> Result<RoleRecord, ChangeError> {
        for _ in 0..TRIES {
            let read = self.read_role(id).await.map_err(nothing_written)?;
            let (role, before) = read.ok_or_else(|| change::no_role(id))?;
            let changed = match change::change_role(&role, change)? {
                Outcome::Unchanged => return self.confirm(role).await,
                Outcome::Changed(changed) => changed,
            };
            let bytes = codec::encode_role(&changed).map_err(change::unwritable)?;
            let event = encode_event(&EventSubject::Role { id: id.clone() })?;
            let ending = Ending::of_role(&changed);
            let change = Change {
                id: id.as_str(),
                record: &bytes,
                event: &event,
                ending: &ending.encode(),
            };
            if let Some((live, counter)) = self.replace(Kind::Roles, &change, &before).await? {
                self.shared.feed.endings.note(Whose::Role(id.clone()), ending);
                return self.acknowledge(&live, counter, changed).await;
            }
        }
        Err(contended())
    }

    pub(in super::super) async fn delete_role(&self, id: &RoleId) -> Result<(), ChangeError> {
        for _ in 0..TRIES {
            let read = self.read_role(id).await.map_err(nothing_written)?;
            let (role, before) = read.ok_or_else(|| change::no_role(id))?;
            let event = encode_event(&EventSubject::Role { id: id.clone() })?;
            let change = Change {
                id: id.as_str(),
                record: &before,
                event: &event,
                ending: &Ending::RoleDeleted.encode(),
            };
            let live = self.changer().map_err(nothing_written)?;
            let written = self
                .shared
                .scripts
                .delete_role(&live.wire, &change, change::tenant_of(&role)?)
                .await;
            if let Written::At(counter) = self.settle_change(&live, written)? {
                self.shared.feed.endings.note(Whose::Role(id.clone()), Ending::RoleDeleted);
                return self.acknowledge(&live, counter, ()).await;
            }
        }
        Err(contended())
    }

    pub(in super::super) async fn find_role(&self, id: &RoleId) -> Result<Option<RoleRecord>, StoreError> {
        Ok(self.read_role(id).await?.map(|(role, _)| role))
    }

    pub(in super::super) async fn list_roles(&self, tenant: &TenantId) -> Result<Vec<RoleRecord>, StoreError> {
        let mut listed: Vec<RoleRecord> = Vec::new();
        while listed.len() < MAX_TENANT_ROLES {
            let after = listed.last().map(|role| role.id.as_str());
            let page = self.page(Kind::Roles, Some(tenant), after, PAGE).await?;
            let full = page.len() == PAGE;
            for (id, (bytes, _)) in page {
                let role = bytes.map(|bytes| codec::decode_role(&bytes)).transpose();
                listed.push(change::listed(&id, role.map_err(StoreError::from))?);
            }
            if !full {
                break;
            }
        }
        Ok(listed)
    }

    async fn read_role(&self, id: &RoleId) -> Result<Option<(RoleRecord, Vec<u8>)>, StoreError> {
        let Some(bytes) = self.read(Kind::Roles, id.as_str()).await?.0 else {
            return Ok(None);
        };
        let role = codec::decode_role(&bytes)?;
        if role.id != *id {
            return Err(StoreError::Corrupt("a role stands under another id".into()));
        }
        Ok(Some((role, bytes)))
    }
}
