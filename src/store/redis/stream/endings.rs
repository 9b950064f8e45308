//! What this process has seen end: it outranks an older record, whoever may serve one again.
//!
//! Replication of Redis is asynchronous. A primary that is promoted without the last changes, or a
//! restored backup, brings back records as they were: a revoked key would live again. Each change
//! carries beside its event what it left of the record's force (its *ending*); every gateway keeps
//! the newest of each record, lays it over whatever a look-up brings, and has it written again
//! ([`restoration`](super::restoration)). What a process has not seen, or had before it was started
//! anew, it cannot know: that is what `wait_replicas` is for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::clock::UnixMillis;
use crate::base::ids::{CredentialId, RoleId, TenantId};
use crate::base::principal::{CredentialRecord, CredentialState, RoleRecord, TenantRecord};
use crate::base::scope::{Scope, ScopeSet};
use crate::store::{EventSubject, FoundFacts, watch};

/// Most endings kept, the newest of them: at 300 bytes each, 20 MiB, and a day of a revocation a
/// second. What falls out is as old as no replica should lag.
const MAX_ENDINGS: usize = 65_536;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum RecordRef {
    Credential(CredentialId),
    Tenant(TenantId),
    Role(RoleId),
}

impl RecordRef {
    /// What an event is about.
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
    },
    Tenant {
        epoch: u64,
        active: bool,
    },
    Role {
        epoch: u64,
        scopes: ScopeSet,
    },
    /// Ids of roles are never used again, so this holds for ever.
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

    /// As it stands beside the event in the stream: words.
    pub(crate) fn encode(&self) -> String {
        let time = |time: &Option<UnixMillis>| time.map_or_else(|| "-".to_owned(), |at| at.0.to_string());
        match self {
            Self::Credential {
                epoch,
                state,
                valid_after,
                expires_at,
                roles,
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
                Some(Self::Credential {
                    epoch,
                    state,
                    valid_after: parse_time(words.next()?)?,
                    expires_at: parse_time(words.next()?)?,
                    roles: words.map(|role| RoleId::parse(role).ok()).collect::<Option<_>>()?,
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

    /// Whether this is of a later change than `other`, or as late. A revocation is the last of all.
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
            (Self::Credential { epoch, .. }, Self::Credential { epoch: held, .. })
            | (Self::Tenant { epoch, .. }, Self::Tenant { epoch: held, .. })
            | (Self::Role { epoch, .. }, Self::Role { epoch: held, .. }) => epoch >= held,
            (_, Self::RoleDeleted) => false,
            _ => true,
        }
    }

    /// What is left after both. Changes of one branch of a history have numbers of their own. With the same number,
    /// the later one was made on a branch that knew nothing of the other: what switches off or ends holds on.
    fn over(self, held: &Self) -> Self {
        let (
            Self::Credential {
                epoch,
                state,
                valid_after,
                expires_at,
                roles,
            },
            Self::Credential {
                epoch: same,
                state: was,
                valid_after: after,
                expires_at: until,
                ..
            },
        ) = (&self, held)
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
        }
    }

    /// Lays it over a credential; never gives it anything. Answers whether it took something away.
    ///
    /// Of one branch of a history, a record as late as the ending is what the ending says. On
    /// another branch two changes may have the same number: then the stricter of the two holds.
    pub(crate) fn restrict_credential(&self, record: &mut CredentialRecord) -> bool {
        let Self::Credential {
            epoch,
            state,
            valid_after,
            expires_at,
            roles,
        } = self
        else {
            return false;
        };
        let older = record.epoch <= *epoch;
        let mut restricted = false;
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
        if restricted {
            // Whatever is written over this has a number that the lost branch did not give.
            record.epoch = record.epoch.max(*epoch);
        }
        restricted
    }

    /// Lays it over a tenant.
    pub(crate) const fn restrict_tenant(&self, record: &mut TenantRecord) -> bool {
        match self {
            Self::Tenant { epoch, active: false } if record.active && record.epoch <= *epoch => {
                record.active = false;
                true
            }
            _ => false,
        }
    }

    /// What is left of a role's scopes; `None` for nothing at all, of a role that was deleted.
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
    kept: Mutex<EndingTable>,
    /// Grows when the store may have lost some.
    suspicions: watch::Sender<u64>,
}

#[derive(Default)]
struct EndingTable {
    endings: HashMap<RecordRef, Ending>,
    /// In the order they were first seen.
    order: VecDeque<RecordRef>,
}

impl Default for Endings {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            suspicions: watch::channel(0).0,
        }
    }
}

impl Endings {
    /// A change has been made, or been heard of.
    pub(crate) fn note(&self, whose: RecordRef, ending: Ending) {
        let mut kept = self.kept();
        let kept = &mut *kept;
        match kept.endings.get_mut(&whose) {
            Some(held) if ending.follows(held) => *held = ending.over(held),
            Some(_) => {}
            None => {
                if kept.order.len() >= MAX_ENDINGS
                    && let Some(oldest) = kept.order.pop_front()
                {
                    kept.endings.remove(&oldest);
                }
                kept.order.push_back(whose.clone());
                kept.endings.insert(whose, ending);
            }
        }
    }

    /// Lays everything seen over what a look-up brought; if that took anything away, the store has
    /// lost changes.
    pub(crate) fn restrict(&self, facts: &mut FoundFacts) {
        let kept = self.kept();
        if kept.endings.is_empty() {
            return;
        }
        let mut restricted = false;
        for record in std::iter::once(&mut facts.credential).chain(&mut facts.ancestors) {
            if let Some(ending) = kept.endings.get(&RecordRef::Credential(record.id.clone())) {
                // A write that rests on what was read must not pass for one that rests on the change: facts hold what
                // was read otherwise, as the password.
                let epoch = record.epoch;
                restricted |= ending.restrict_credential(record);
                record.epoch = epoch;
            }
        }
        if let Some(ending) = kept.endings.get(&RecordRef::Tenant(facts.tenant.id.clone())) {
            restricted |= ending.restrict_tenant(&mut facts.tenant);
        }
        let chain = std::iter::once(&facts.credential).chain(&facts.ancestors);
        let named: Vec<&RoleId> = chain.flat_map(|record| record.roles()).collect();
        facts.roles.retain_mut(|role| {
            let left = match kept.endings.get(&RecordRef::Role(role.id.clone())) {
                Some(ending) => ending.restricted_scopes(role),
                None => return named.contains(&&role.id),
            };
            restricted |= left.as_ref() != Some(&role.scopes);
            let stays = left.is_some() && named.contains(&&role.id);
            role.scopes = left.unwrap_or_default();
            stays
        });
        drop(kept);
        if restricted {
            self.suspect();
        }
    }

    /// Lays what was seen over one credential.
    pub(crate) fn restrict_credential(&self, record: &mut CredentialRecord) {
        let restricted = match self.kept().endings.get(&RecordRef::Credential(record.id.clone())) {
            Some(ending) => ending.restrict_credential(record),
            None => false,
        };
        if restricted {
            self.suspect();
        }
    }

    /// Whether less is left of a tenant than this record says.
    pub(crate) fn restricts_tenant(&self, record: &TenantRecord) -> bool {
        let ending = self.kept().endings.get(&RecordRef::Tenant(record.id.clone())).cloned();
        ending.is_some_and(|ending| ending.restrict_tenant(&mut record.clone()))
    }

    /// Whether less is left of a role than this record says.
    pub(crate) fn restricts_role(&self, record: &RoleRecord) -> bool {
        let ending = self.kept().endings.get(&RecordRef::Role(record.id.clone())).cloned();
        ending.is_some_and(|ending| ending.restricted_scopes(record).as_ref() != Some(&record.scopes))
    }

    /// The store may have lost some: whoever restores them is told.
    pub(crate) fn suspect(&self) {
        self.suspicions.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes whenever the store may have lost some.
    pub(crate) fn suspicions(&self) -> watch::Receiver<u64> {
        self.suspicions.subscribe()
    }

    /// All that are kept, the latest first.
    pub(crate) fn all(&self) -> Vec<(RecordRef, Ending)> {
        let kept = self.kept();
        let latest = kept.order.iter().rev();
        latest
            .filter_map(|whose| Some((whose.clone(), kept.endings.get(whose)?.clone())))
            .collect()
    }

    /// Another store stands where that one was: nothing that was seen is about its records.
    pub(crate) fn forget(&self) {
        *self.kept() = EndingTable::default();
    }

    fn kept(&self) -> MutexGuard<'_, EndingTable> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
