//! Every order in which a call, the changes of the records that its caller depends on, and its write can meet: nothing is made
//! after one of these records has ended.
//!
//! # What is real and what is a model
//!
//! Real: what a write rests on ([`RestsOn`]) and how the store compares it (`rests_on::check_epoch`), what each
//! change makes of a record (`change.rs`: every store's rule), who is in force (`decide/validity.rs`) and what a
//! record may do (`decide/authority.rs`). A model of a few lines: the store as the list of its states, and the call
//! as `gateway/serve.rs` and `issue/engine.rs` take it: judged, judged again, written, up to three times.
//!
//! # What can happen
//!
//! The caller is a session of an account. What it may do comes from a role of the account; it presented the
//! account's password, as a log-in does. At any moment one of fifteen changes happens to the session, the account,
//! the tenant or the role (three in all). The caller is judged by the facts of *any* state that the store ever had,
//! which is more than memory, ages and events allow, so nothing shown here rests on them. A write that comes too
//! late is judged anew by what the store has at a moment after it; then other changes may come again.
//!
//! What is made is made in one step, in which the store compares and writes. That step must find the caller in force
//! and holding the scope, by rules of the model's own; whoever is given up must have been overtaken three times.

use std::collections::{HashSet, VecDeque};

use crate::base::clock::{BootMillis, UnixMillis};
use crate::base::ids::{CredentialId, RoleId};
use crate::base::principal::{
    CredentialRecord, CredentialState, Facts, IdentityLines, Parent, PasswordHash, Position, Reading, RoleRecord, TenantRecord,
};
use crate::base::scope::{Scope, ScopeSet};
use crate::decide::scope_grants::ScopeGrants;
use crate::decide::validity;
use crate::store::change::{self, ChangeOutcome, ChangeTimes};
use crate::store::codec::tests::{facts_of, sample};
use crate::store::rests_on::check_epoch;
use crate::store::{ChangeError, CredentialChange, RestsOn, RoleChange, TenantState};

/// Most changes while a call is on its way. Three are an end, a lift and another end; and as many as overtake a call
/// until it is given up.
const CHANGES: usize = 3;

/// How often a call is judged, as in `gateway/serve.rs`.
const JUDGEMENTS: u8 = 3;

/// The present. Nothing here ends by itself.
const NOW: UnixMillis = UnixMillis(1_000_000);

/// What can happen to what a call rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum RecordChange {
    RevokeSession,
    DisableSession,
    EnableSession,
    RevokeAccount,
    DisableAccount,
    EnableAccount,
    EndSessions,
    SetPassword,
    TakeRoles,
    SuspendTenant,
    ResumeTenant,
    NarrowRole,
    WidenRole,
    DeleteRole,
    /// Ends nothing, and is a change.
    RenameRole,
}

const ALL_CHANGES: [RecordChange; 15] = [
    RecordChange::RevokeSession,
    RecordChange::DisableSession,
    RecordChange::EnableSession,
    RecordChange::RevokeAccount,
    RecordChange::DisableAccount,
    RecordChange::EnableAccount,
    RecordChange::EndSessions,
    RecordChange::SetPassword,
    RecordChange::TakeRoles,
    RecordChange::SuspendTenant,
    RecordChange::ResumeTenant,
    RecordChange::NarrowRole,
    RecordChange::WidenRole,
    RecordChange::DeleteRole,
    RecordChange::RenameRole,
];

/// The guard that is left out, to show that the exploration notices it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WithoutCheck {
    Nothing,
    Precondition,
    /// The write does not rest on the session itself, what it hangs on, its tenant, or its roles.
    Session,
    Account,
    Tenant,
    Roles,
    /// A record that is gone is taken for one that has not changed.
    Absence,
    /// Who came too late is judged by what was known before.
    Freshness,
    /// What a record may do is what it was given.
    Derivation,
}

#[derive(Debug, Clone)]
struct StoreState {
    session: CredentialRecord,
    account: CredentialRecord,
    tenant: TenantRecord,
    role: Option<RoleRecord>,
}

fn scope() -> ScopeSet {
    std::iter::once(Scope::parse("keys:write").unwrap()).collect()
}

fn password(text: &str) -> PasswordHash {
    PasswordHash::parse(text).unwrap()
}

impl StoreState {
    fn first() -> Self {
        let session = sample();
        let tenant = facts_of(session.clone()).tenant;
        let role = RoleRecord {
            id: RoleId::of_name("writer"),
            tenant: Some(tenant.id.clone()),
            name: "writer".into(),
            description: None,
            scopes: scope(),
            created_at: UnixMillis(0),
            epoch: 1,
        };
        let plain = CredentialRecord {
            scopes: ScopeSet::default(),
            created_at: UnixMillis(1),
            state: CredentialState::Active,
            not_before: None,
            expires_at: None,
            valid_after: None,
            extras: None,
            epoch: 1,
            ..session
        };
        let mut account = CredentialRecord {
            id: CredentialId::parse("account").unwrap(),
            ..plain.clone()
        };
        account.extras_mut().roles = vec![role.id.clone()];
        account.extras_mut().password = Some(password("$old"));
        // What it was given when it was made is all that its account had.
        let mut session = CredentialRecord { scopes: scope(), ..plain };
        session.extras_mut().parent = Some(Parent {
            surface: account.surface.clone(),
            id: account.id.clone(),
        });
        session.extras_mut().granted = Some(ScopeSet::default());
        Self {
            session,
            account,
            tenant,
            role: Some(role),
        }
    }

    /// As it is after a change, by the rules of every store; nothing where it changes nothing.
    fn after(&self, step: RecordChange) -> Option<Self> {
        let mut after = self.clone();
        let (session, account) = (&mut after.session, &mut after.account);
        match step {
            RecordChange::RevokeSession => apply(session, &CredentialChange::Revoke)?,
            RecordChange::DisableSession => apply(session, &CredentialChange::Disable)?,
            RecordChange::EnableSession => apply(session, &CredentialChange::Enable)?,
            RecordChange::RevokeAccount => apply(account, &CredentialChange::Revoke)?,
            RecordChange::DisableAccount => apply(account, &CredentialChange::Disable)?,
            RecordChange::EnableAccount => apply(account, &CredentialChange::Enable)?,
            RecordChange::EndSessions => apply(account, &CredentialChange::EndIssued)?,
            RecordChange::SetPassword => apply(account, &CredentialChange::SetPassword(password("$new")))?,
            RecordChange::TakeRoles => apply(account, &CredentialChange::SetRoles(Vec::new()))?,
            RecordChange::SuspendTenant => after.tenant = changed(change::change_tenant(&self.tenant, TenantState::Inactive))?,
            RecordChange::ResumeTenant => after.tenant = changed(change::change_tenant(&self.tenant, TenantState::Active))?,
            RecordChange::NarrowRole => after.role = Some(self.role_with(ScopeSet::default())?),
            RecordChange::WidenRole => after.role = Some(self.role_with(scope())?),
            RecordChange::RenameRole => {
                let role = self.role.as_ref()?;
                let rename = RoleChange::Rename {
                    name: format!("{} again", role.name),
                    description: None,
                };
                after.role = Some(changed(change::change_role(role, &rename))?);
            }
            RecordChange::DeleteRole => after.role = None,
        }
        (step != RecordChange::DeleteRole || self.role.is_some()).then_some(after)
    }

    fn role_with(&self, scopes: ScopeSet) -> Option<RoleRecord> {
        changed(change::change_role(self.role.as_ref()?, &RoleChange::SetScopes(scopes)))
    }

    /// As a look-up finds it: a role that is named and there.
    fn facts(&self) -> Facts {
        let named = |role: &&RoleRecord| self.account.roles().contains(&role.id);
        Facts {
            credential: self.session.clone(),
            tenant: self.tenant.clone(),
            ancestors: vec![self.account.clone()],
            roles: self.role.iter().filter(named).cloned().collect(),
            reading: Reading::new(BootMillis(0), Position(0)),
            lines: IdentityLines::default(),
        }
    }

    /// What the gateway says of a caller who presented the old password, by the product's own rules.
    fn admits(&self, without: WithoutCheck) -> bool {
        let facts = self.facts();
        let may = match without {
            WithoutCheck::Derivation => self.session.scopes.clone(),
            _ => ScopeGrants::default()
                .effective_scopes(&facts)
                .unwrap_or_else(|| self.session.scopes.clone()),
        };
        let same_password = self.account.password() == Some(&password("$old"));
        validity::check(&facts, NOW).is_ok() && same_password && may.covers(&scope())
    }

    fn is_right(&self) -> bool {
        let role = self.role.as_ref().is_some_and(|role| role.scopes.covers(&scope()));
        self.session.state == CredentialState::Active
            && self.account.state == CredentialState::Active
            && self.account.valid_after.is_none()
            && self.account.password() == Some(&password("$old"))
            && !self.account.roles().is_empty()
            && self.tenant.active
            && role
    }

    /// Whether the store makes what rests on these facts, in the step of the write.
    fn takes(&self, facts: &Facts, without: WithoutCheck) -> bool {
        if without == WithoutCheck::Precondition {
            return true;
        }
        let rests_on = RestsOn::facts(facts);
        let credentials = rests_on.credentials.iter().filter(|(id, _)| match without {
            WithoutCheck::Session => *id != self.session.id,
            WithoutCheck::Account => *id != self.account.id,
            _ => true,
        });
        let tenants = rests_on.tenants.iter().filter(|_| without != WithoutCheck::Tenant);
        let roles = rests_on.roles.iter().filter(|_| without != WithoutCheck::Roles);
        let of_credential = |id: &CredentialId| [&self.session, &self.account].into_iter().find(|record| record.id == *id);
        let epochs = credentials
            .map(|(id, judged)| (*judged, of_credential(id).map(|record| record.epoch)))
            .chain(tenants.map(|(_, judged)| (*judged, Some(self.tenant.epoch))))
            .chain(roles.map(|(_, judged)| (*judged, self.role.as_ref().map(|role| role.epoch))));
        epochs
            .filter(|(_, stored)| without != WithoutCheck::Absence || stored.is_some())
            .all(|(judged, stored)| check_epoch(judged, stored).is_ok())
    }
}

fn apply(record: &mut CredentialRecord, change: &CredentialChange) -> Option<()> {
    let at = ChangeTimes { now: NOW, watermark: NOW };
    *record = changed(change::change_credential(record, change, at))?;
    Some(())
}

fn changed<T>(outcome: Result<ChangeOutcome<T>, ChangeError>) -> Option<T> {
    match outcome {
        Ok(ChangeOutcome::Changed(record)) => Some(record),
        Ok(ChangeOutcome::Unchanged) | Err(_) => None,
    }
}

/// The stage of a call. Facts are named by the number of changes that they contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum CallStage {
    /// Before this judgement, from 0.
    Waits {
        judgement: u8,
        known: usize,
    },
    /// Admitted by these facts, and on its way to the store.
    Admitted {
        judgement: u8,
        facts: usize,
    },
    Refused,
    /// After as many judgements as there are, with so many changes in the store when it was first judged.
    GivenUp,
    Made,
}

/// A state of the world: the changes so far, and the call.
type CallState = (Vec<RecordChange>, CallStage);

/// What went wrong, and the shortest way to it.
#[derive(Debug, PartialEq, Eq)]
enum BrokenPromise {
    /// The caller had ended, or may not do it any more.
    MadeAfterTheEnd(Vec<RecordChange>),
    GivenUpUnharmed(Vec<RecordChange>),
}

/// Explores every order, breadth first, to the end or to the first broken rule; answers how many states there are,
/// and how many calls were made, refused and given up.
fn explore(without: WithoutCheck) -> Result<(usize, [usize; 3]), BrokenPromise> {
    let start = (Vec::new(), CallStage::Waits { judgement: 0, known: 0 });
    let (mut known, mut next) = (HashSet::from([start.clone()]), VecDeque::from([start]));
    let mut ends = [0; 3];
    while let Some((changes, place)) = next.pop_front() {
        let states = states(&changes);
        let now = states.last().unwrap();
        let mut found: Vec<CallState> = Vec::new();
        match place {
            CallStage::Made => ends[0] += 1,
            CallStage::Refused => ends[1] += 1,
            CallStage::GivenUp => ends[2] += 1,
            CallStage::Waits { judgement, known } => {
                // First by facts of any age; whoever came too late by what the store has now.
                let from = if judgement == 0 || without == WithoutCheck::Freshness {
                    known
                } else {
                    changes.len()
                };
                for (facts, state) in states.iter().enumerate().skip(from) {
                    let place = if state.admits(without) {
                        CallStage::Admitted { judgement, facts }
                    } else {
                        CallStage::Refused
                    };
                    found.push((changes.clone(), place));
                }
            }
            CallStage::Admitted { judgement, facts } => {
                let place = if now_takes(&states, facts, without) {
                    if !now.is_right() {
                        return Err(BrokenPromise::MadeAfterTheEnd(changes));
                    }
                    CallStage::Made
                } else if judgement + 1 < JUDGEMENTS {
                    CallStage::Waits {
                        judgement: judgement + 1,
                        known: facts,
                    }
                } else if changes.len() < usize::from(JUDGEMENTS) {
                    return Err(BrokenPromise::GivenUpUnharmed(changes));
                } else {
                    CallStage::GivenUp
                };
                found.push((changes.clone(), place));
            }
        }
        if changes.len() < CHANGES && matches!(place, CallStage::Waits { .. } | CallStage::Admitted { .. }) {
            for step in ALL_CHANGES {
                if now.after(step).is_some() {
                    let mut changes = changes.clone();
                    changes.push(step);
                    found.push((changes, place));
                }
            }
        }
        next.extend(found.into_iter().filter(|world| known.insert(world.clone())));
    }
    Ok((known.len(), ends))
}

fn states(changes: &[RecordChange]) -> Vec<StoreState> {
    let mut states = vec![StoreState::first()];
    for step in changes {
        let after = states.last().unwrap().after(*step);
        states.push(after.expect("only what changes something is a change"));
    }
    states
}

fn now_takes(states: &[StoreState], facts: usize, without: WithoutCheck) -> bool {
    states.last().unwrap().takes(&states[facts].facts(), without)
}

#[test]
fn nothing_is_made_after_what_it_rests_on_has_ended() {
    let (states, [made, refused, given_up]) = explore(WithoutCheck::Nothing).unwrap();
    let _ = std::io::Write::write_fmt(
        &mut std::io::stdout(),
        format_args!("{states} states; {made} ways to make it, {refused} to refuse it, {given_up} to give it up\n"),
    );
    assert!(states > 4_000 && made > 5 && refused > 1_000 && given_up > 0);
}

#[test]
fn without_any_one_guard_something_is_made_after_an_end_or_somebody_is_given_up() {
    use BrokenPromise::{GivenUpUnharmed, MadeAfterTheEnd};
    for (without, broken) in [
        (WithoutCheck::Precondition, MadeAfterTheEnd(vec![RecordChange::RevokeSession])),
        (WithoutCheck::Session, MadeAfterTheEnd(vec![RecordChange::RevokeSession])),
        (WithoutCheck::Account, MadeAfterTheEnd(vec![RecordChange::RevokeAccount])),
        (WithoutCheck::Tenant, MadeAfterTheEnd(vec![RecordChange::SuspendTenant])),
        (WithoutCheck::Roles, MadeAfterTheEnd(vec![RecordChange::NarrowRole])),
        (WithoutCheck::Absence, MadeAfterTheEnd(vec![RecordChange::DeleteRole])),
        (WithoutCheck::Derivation, MadeAfterTheEnd(vec![RecordChange::TakeRoles])),
    ] {
        assert_eq!(explore(without), Err(broken), "without {without:?}");
    }
    // Harmless changes, such as a role that is given the same scopes in another step, overtake it for ever.
    assert!(matches!(explore(WithoutCheck::Freshness), Err(GivenUpUnharmed(_))));
}
