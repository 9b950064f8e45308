//! Endings: what this process has seen end stays ended here, even if the store brings an older record back.
//!
//! Replication of Redis is asynchronous. A primary that is promoted without the last changes, or a restored backup, brings
//! records back as they were: a revoked key would be valid again. So each change carries beside its event its *ending*, which
//! is what the change left of the record's force. Every gateway keeps the newest ending of each record, applies it to what a
//! look-up brings, and has it written again (`operations::restoration`). A process cannot know endings that it has not seen, or
//! that it saw before it was restarted; the setting `wait_replicas` is for those.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::clock::UnixMillis;
use crate::base::ids::{CredentialId, RoleId, TenantId};
use crate::base::principal::{CredentialRecord, CredentialState, RoleRecord, TenantRecord};
use crate::base::scope::{Scope, ScopeSet};
use crate::store::change::has_changing_scopes;
use crate::store::{EventSubject, StoredFacts, watch};

/// Most endings kept, the newest ones: 20 MiB at 300 bytes each, and nearly a day at one revocation a second. No replica
/// should lag by as much as the age of what is dropped.
const MAX_ENDINGS: usize = 65_536;

/// Stands between the roles and the scopes of an ending. No role has this name.
const BEFORE_SCOPES: &str = "/";

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum RecordRef {
    Credential(CredentialId),
    Tenant(TenantId),
    Role(RoleId),
}

impl RecordRef {
    /// The record that an event is about.
    pub(crate) fn of(subject: &EventSubject) -> Self {
        match subject {
            EventSubject::Credential { id, .. } => Self::Credential(id.clone()),
            EventSubject::Tenant { id } => Self::Tenant(id.clone()),
            EventSubject::Role { id } => Self::Role(id.clone()),
        }
    }
}

/// What a change left of a record's force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    Credential {
        epoch: u64,
        state: CredentialState,
        valid_after: Option<UnixMillis>,
        expires_at: Option<UnixMillis>,
        roles: Vec<RoleId>,
        /// Only of records whose scopes may be replaced ([`has_changing_scopes`]).
        scopes: Option<ScopeSet>,
    },
    Tenant {
        epoch: u64,
        active: bool,
    },
    Role {
        epoch: u64,
        scopes: ScopeSet,
    },
    /// Final: ids of roles are never used again.
    RoleDeleted,
}

impl Ending {
    pub(crate) fn of_credential(record: &CredentialRecord) -> Self {
        Self::Credential {
            epoch: record.epoch,
            state: record.state,
            valid_after: record.valid_after,
            expires_at: record.expires_at,
            roles: record.roles().to_vec(),
            scopes: has_changing_scopes(record).then(|| record.scopes.clone()),
        }
    }

    pub(crate) const fn of_tenant(record: &TenantRecord) -> Self {
        Self::Tenant {
            epoch: record.epoch,
            active: record.active,
        }
    }

    pub(crate) fn of_role(record: &RoleRecord) -> Self {
        Self::Role {
            epoch: record.epoch,
            scopes: record.scopes.clone(),
        }
    }

    /// The text beside the event in the stream.
    pub(crate) fn encode(&self) -> String {
        let time = |time: &Option<UnixMillis>| time.map_or_else(|| "-".to_owned(), |at| at.0.to_string());
        match self {
            Self::Credential {
                epoch,
                state,
                valid_after,
                expires_at,
                roles,
                scopes,
            } => {
                let state = match state {
                    CredentialState::Active => "active".to_owned(),
                    CredentialState::Disabled => "disabled".to_owned(),
                    CredentialState::Revoked { at } => at.0.to_string(),
                };
                let mut text = format!("c {epoch} {state} {} {}", time(valid_after), time(expires_at));
                for role in roles {
                    text.push(' ');
                    text.push_str(role.as_str());
                }
                if let Some(scopes) = scopes {
                    text.push_str(&format!(" {BEFORE_SCOPES} {}", scopes.joined()));
                }
                text
            }
            Self::Tenant { epoch, active } => format!("t {epoch} {}", if *active { "active" } else { "inactive" }),
            Self::Role { epoch, scopes } => format!("r {epoch} {}", scopes.joined()),
            Self::RoleDeleted => "d".to_owned(),
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let kind = words.next()?;
        if kind == "d" {
            return words.next().is_none().then_some(Self::RoleDeleted);
        }
        let epoch = words.next()?.parse().ok()?;
        match kind {
            "c" => {
                let state = match words.next()? {
                    "active" => CredentialState::Active,
                    "disabled" => CredentialState::Disabled,
                    at => CredentialState::Revoked {
                        at: UnixMillis(at.parse().ok()?),
                    },
                };
                let (valid_after, expires_at) = (parse_time(words.next()?)?, parse_time(words.next()?)?);
                let rest: Vec<&str> = words.collect();
                let (roles, scopes) = match rest.iter().position(|word| *word == BEFORE_SCOPES) {
                    Some(at) => (rest.get(..at)?, rest.get(at + 1..)),
                    None => (rest.as_slice(), None),
                };
                let parse_scopes = |words: &[&str]| words.iter().map(|word| Scope::parse(word).ok()).collect::<Option<ScopeSet>>();
                Some(Self::Credential {
                    epoch,
                    state,
                    valid_after,
                    expires_at,
                    roles: roles.iter().map(|role| RoleId::parse(role).ok()).collect::<Option<_>>()?,
                    scopes: match scopes {
                        Some(words) => Some(parse_scopes(words)?),
                        None => None,
                    },
                })
            }
            "t" => {
                let active = match words.next()? {
                    "active" => true,
                    "inactive" => false,
                    _ => return None,
                };
                words.next().is_none().then_some(Self::Tenant { epoch, active })
            }
            "r" => Some(Self::Role {
                epoch,
                scopes: words.map(|scope| Scope::parse(scope).ok()).collect::<Option<_>>()?,
            }),
            _ => None,
        }
    }

    /// Whether this is of a later change than `other`, or of the same one. No change follows a revocation.
    fn follows(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Credential {
                    state: CredentialState::Revoked { .. },
                    ..
                },
                Self::Credential { .. },
            ) => true,
            (
                Self::Credential { .. },
                Self::Credential {
                    state: CredentialState::Revoked { .. },
                    ..
                },
            ) => false,
            (Self::Credential { epoch, .. }, Self::Credential { epoch: present, .. })
            | (Self::Tenant { epoch, .. }, Self::Tenant { epoch: present, .. })
            | (Self::Role { epoch, .. }, Self::Role { epoch: present, .. }) => epoch >= present,
            (_, Self::RoleDeleted) => false,
            _ => true,
        }
    }

    /// What is left after both. Within one branch of a history, each change has its own epoch. Two changes with the same
    /// epoch are of two branches: then what disables or ends in either of them stays in force.
    fn over(self, present: &Self) -> Self {
        let (
            Self::Credential {
                epoch,
                state,
                valid_after,
                expires_at,
                roles,
                scopes,
            },
            Self::Credential {
                epoch: same,
                state: was,
                valid_after: after,
                expires_at: until,
                scopes: had,
                ..
            },
        ) = (&self, present)
        else {
            return self;
        };
        if epoch != same {
            return self;
        }
        Self::Credential {
            epoch: *epoch,
            state: if *state == CredentialState::Active { *was } else { *state },
            valid_after: (*valid_after).max(*after),
            expires_at: match (*expires_at, *until) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            },
            roles: roles.clone(),
            scopes: match (scopes, had) {
                (Some(one), Some(other)) => Some(one.intersection(other)),
                (one, other) => one.clone().or_else(|| other.clone()),
            },
        }
    }

    /// Applies the ending to a credential. Answers whether that took something away; it never adds anything.
    ///
    /// Within one branch of a history, a record with the epoch of the ending is what the ending says. On another branch, two
    /// changes may have the same epoch: then the stricter of the two counts.
    pub(crate) fn restrict_credential(&self, record: &mut CredentialRecord) -> bool {
        let Self::Credential {
            epoch,
            state,
            valid_after,
            expires_at,
            roles,
            scopes,
        } = self
        else {
            return false;
        };
        let older = record.epoch <= *epoch;
        let mut restricted = false;
        if record.is_provider_settings() && record.epoch < *epoch && record.state == CredentialState::Active {
            // The later settings may have withdrawn a certificate or a secret, and an ending does not have them. Nobody signs on
            // by the older ones; `durward providers update` writes the settings again.
            (record.state, restricted) = (CredentialState::Disabled, true);
        }
        match (state, record.state) {
            (CredentialState::Revoked { .. }, CredentialState::Active | CredentialState::Disabled) => {
                (record.state, restricted) = (*state, true)
            }
            (CredentialState::Disabled, CredentialState::Active) if older => (record.state, restricted) = (*state, true),
            _ => {}
        }
        if *valid_after > record.valid_after {
            (record.valid_after, restricted) = (*valid_after, true);
        }
        if expires_at.is_some_and(|at| record.expires_at.is_none_or(|expiry| expiry > at)) {
            (record.expires_at, restricted) = (*expires_at, true);
        }
        if older && record.roles().iter().any(|role| !roles.contains(role)) {
            record.extras_mut().roles.retain(|role| roles.contains(role));
            restricted = true;
        }
        if let Some(scopes) = scopes
            && older
            && !scopes.covers(&record.scopes)
        {
            record.scopes = record.scopes.intersection(scopes);
            restricted = true;
        }
        if restricted {
            // The next write gets an epoch that the lost branch did not use.
            record.epoch = record.epoch.max(*epoch);
        }
        restricted
    }

    /// Applies the ending to a tenant; answers whether that took something away.
    pub(crate) const fn restrict_tenant(&self, record: &mut TenantRecord) -> bool {
        match self {
            Self::Tenant { epoch, active: false } if record.active && record.epoch <= *epoch => {
                record.active = false;
                true
            }
            _ => false,
        }
    }

    /// The scopes that are left of a role; `None` if it was deleted.
    pub(crate) fn restricted_scopes(&self, record: &RoleRecord) -> Option<ScopeSet> {
        match self {
            Self::RoleDeleted => None,
            Self::Role { epoch, scopes } if record.epoch <= *epoch => Some(record.scopes.intersection(scopes)),
            _ => Some(record.scopes.clone()),
        }
    }
}

fn parse_time(word: &str) -> Option<Option<UnixMillis>> {
    if word == "-" {
        return Some(None);
    }
    word.parse().ok().map(|at| Some(UnixMillis(at)))
}

/// The newest ending of each record, as far as this process has seen.
pub(crate) struct Endings {
    table: Mutex<EndingTable>,
    /// Changes when the store may have lost endings.
    suspicions: watch::WatchSender<u64>,
}

#[derive(Default)]
struct EndingTable {
    endings: HashMap<RecordRef, Ending>,
    /// In the order in which they were first seen.
    order: VecDeque<RecordRef>,
}

impl Default for Endings {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            suspicions: watch::channel(0).0,
        }
    }
}

impl Endings {
    /// Notes the ending of a change that was made here, or was read from the stream.
    pub(crate) fn note(&self, key: RecordRef, ending: Ending) {
        let mut table = self.table();
        let table = &mut *table;
        match table.endings.get_mut(&key) {
            Some(present) if ending.follows(present) => *present = ending.over(present),
            Some(_) => {}
            None => {
                if table.order.len() >= MAX_ENDINGS
                    && let Some(oldest) = table.order.pop_front()
                {
                    table.endings.remove(&oldest);
                }
                table.order.push_back(key.clone());
                table.endings.insert(key, ending);
            }
        }
    }

    /// Applies all endings to what a look-up brought. If that takes something away, the store has lost changes.
    pub(crate) fn restrict(&self, facts: &mut StoredFacts) {
        let table = self.table();
        if table.endings.is_empty() {
            return;
        }
        let mut restricted = false;
        for record in std::iter::once(&mut facts.credential).chain(&mut facts.ancestors) {
            if let Some(ending) = table.endings.get(&RecordRef::Credential(record.id.clone())) {
                // The epoch stays: a write that rests on these facts must not pass for one that rests on the lost change. The
                // other fields, such as the password, are those that were read.
                let epoch = record.epoch;
                restricted |= ending.restrict_credential(record);
                record.epoch = epoch;
            }
        }
        if let Some(ending) = table.endings.get(&RecordRef::Tenant(facts.tenant.id.clone())) {
            restricted |= ending.restrict_tenant(&mut facts.tenant);
        }
        let chain = std::iter::once(&facts.credential).chain(&facts.ancestors);
        let named: Vec<&RoleId> = chain.flat_map(|record| record.roles()).collect();
        facts.roles.retain_mut(|role| {
            let left = match table.endings.get(&RecordRef::Role(role.id.clone())) {
                Some(ending) => ending.restricted_scopes(role),
                None => return named.contains(&&role.id),
            };
            restricted |= left.as_ref() != Some(&role.scopes);
            let stays = left.is_some() && named.contains(&&role.id);
            role.scopes = left.unwrap_or_default();
            stays
        });
        drop(table);
        if restricted {
            self.suspect();
        }
    }

    /// Applies the ending of one credential.
    pub(crate) fn restrict_credential(&self, record: &mut CredentialRecord) {
        let restricted = match self.table().endings.get(&RecordRef::Credential(record.id.clone())) {
            Some(ending) => ending.restrict_credential(record),
            None => false,
        };
        if restricted {
            self.suspect();
        }
    }

    /// Whether the ending of a tenant takes something away from this record.
    pub(crate) fn restricts_tenant(&self, record: &TenantRecord) -> bool {
        let ending = self.table().endings.get(&RecordRef::Tenant(record.id.clone())).cloned();
        ending.is_some_and(|ending| ending.restrict_tenant(&mut record.clone()))
    }

    /// Whether the ending of a role takes something away from this record.
    pub(crate) fn restricts_role(&self, record: &RoleRecord) -> bool {
        let ending = self.table().endings.get(&RecordRef::Role(record.id.clone())).cloned();
        ending.is_some_and(|ending| ending.restricted_scopes(record).as_ref() != Some(&record.scopes))
    }

    /// Starts the restoration, because the store may have lost endings.
    pub(crate) fn suspect(&self) {
        self.suspicions.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes whenever the store may have lost endings.
    pub(crate) fn suspicions(&self) -> watch::WatchReceiver<u64> {
        self.suspicions.subscribe()
    }

    /// All endings, the latest first.
    pub(crate) fn all(&self) -> Vec<(RecordRef, Ending)> {
        let table = self.table();
        let latest = table.order.iter().rev();
        latest
            .filter_map(|key| Some((key.clone(), table.endings.get(key)?.clone())))
            .collect()
    }

    /// Forgets all endings, because there is another store now and they are not about its records.
    pub(crate) fn forget(&self) {
        *self.table() = EndingTable::default();
    }

    fn table(&self) -> MutexGuard<'_, EndingTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
