//! Operators' actions on the audit trail: one entry for each operation that changes something, with who, what, and how it ended.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::audit::action::{ActionEntry, ActionOutcome, Actor};
use crate::audit::changes::{ChangeWindow, RecordedChanges, find_changes};
use crate::audit::mask::Shapes;
use crate::audit::settings::OnFull;
use crate::audit::trail::Trail;
use crate::base::clock::{BootMillis, UnixMillis};
use crate::base::fingerprint::PepperMark;
use crate::base::ids::is_valid_id;
use crate::base::principal::CredentialRecord;
use crate::store::BoxFuture;

use super::Operations;
use super::actions::{ActionEffect, ActionTarget, NewRecordKind, OperatorAction, named_in};
use super::error::OperationError;
use super::http::{AdminCall, AdminReply, SocketPeer, fail};
use super::roles::RoleView;
use super::routes::operate;
use super::tenants::TenantView;
use super::text::{mode_word, parse_id, parse_role_id, parse_tenant, printable, role_words, scope_words, state_word, write};

/// Longest wait for an entry to reach the disk. A disk that takes longer hangs, and the operator must get the answer.
const RECORDING: Duration = Duration::from_secs(5);

/// Most gateways whose receipts an entry shows; it counts the others.
const SHOWN_RECEIPTS: usize = 100;

/// Most characters of a message in an entry.
const MAX_MESSAGE: usize = 500;

/// Where actions are recorded: the audit trail of this gateway.
pub trait ActionRecorder: Send + Sync {
    /// Whether what cannot be recorded is to be refused (`on_full = "refuse"`).
    fn refuses(&self) -> bool;

    /// Whether an entry can be recorded now.
    fn can_record(&self) -> bool;

    /// Records an entry, and answers when it is on the disk; else why it is not.
    fn record(&self, members: Vec<u8>) -> BoxFuture<'static, Result<(), String>>;

    /// Records an entry as soon as that is possible, without a wait.
    fn record_later(&self, members: Vec<u8>);

    /// Removes the bodies of a request, and answers how many there were. Blocks.
    ///
    /// # Errors
    /// Why they could not be removed.
    fn erase(&self, request_id: &str, who: &Actor) -> Result<u64, String>;

    /// Finds who changed records in this time, operators and callers of served routes. Blocks.
    ///
    /// # Errors
    /// Why nothing could be read.
    fn find_changes(&self, window: ChangeWindow) -> Result<RecordedChanges, String>;
}

impl ActionRecorder for Trail {
    fn refuses(&self) -> bool {
        self.settings().on_full == OnFull::Refuse
    }

    fn can_record(&self) -> bool {
        self.is_writable()
    }

    fn record(&self, members: Vec<u8>) -> BoxFuture<'static, Result<(), String>> {
        let receipt = self.append_durable(&members);
        Box::pin(async move { receipt.await.map(drop).map_err(|error| error.to_string()) })
    }

    fn record_later(&self, members: Vec<u8>) {
        self.append(&members);
    }

    fn erase(&self, request_id: &str, who: &Actor) -> Result<u64, String> {
        let who = [b",\"who\":".as_slice(), &who.to_json()].concat();
        Self::erase(self, request_id, &who).map_err(|error| error.to_string())
    }

    fn find_changes(&self, window: ChangeWindow) -> Result<RecordedChanges, String> {
        find_changes(&self.settings().directory, window).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for dyn ActionRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActionRecorder")
    }
}

/// Answers a call of the operator API, and records it if it changes something.
pub(super) async fn operate_on_record(operations: &Operations, call: &AdminCall) -> AdminReply {
    let Some((recorder, action)) = operations.trail.as_ref().zip(OperatorAction::of(call)) else {
        return answer(operate(operations, call, actor_of(call, None)).await);
    };
    let who = actor_of(call, user_name(call.peer).await);
    let mut pending = PendingEntry::new(operations, recorder.clone(), &action, who.clone());
    if recorder.refuses() && action.effect != ActionEffect::Restricts && !recorder.can_record() {
        let error = OperationError::NotRecordable(
            "the audit trail cannot record this now, and `audit.on_full` is \"refuse\": nothing was done. The log says what is wrong with \
             the trail. Revoking and disabling go on"
                .into(),
        );
        pending.entry.outcome = outcome_of_error(&error);
        pending.finish_later();
        return answer(Err(error));
    }
    let before = operations.describe(&action.target).await.unwrap_or_default();
    pending.entry.target = before.id.clone();
    pending.entry.tenant.clone_from(&before.tenant);
    pending.entry.before.clone_from(&before.members);
    let outcome = operate(operations, call, who).await;
    match &outcome {
        Ok(reply) => note_success(operations, &action, reply, &mut pending.entry).await,
        Err(error) => {
            pending.entry.outcome = outcome_of_error(error);
            pending.entry.before = Map::new();
            if before.id.is_none() {
                note_refused_creation(operations, &action, call, &mut pending.entry).await;
            }
        }
    }
    let (name, target) = (pending.entry.action, pending.entry.target.clone());
    let recorded = pending.finish().await;
    match recorded {
        Ok(()) => answer(outcome),
        Err(why) => {
            tracing::error!(
                alarm = "not_recorded",
                action = name,
                target,
                "an operator's action is not on the audit trail: {why}"
            );
            unrecorded(action.effect, recorder.refuses(), answer(outcome), &why)
        }
    }
}

/// The answer to an action that could not be recorded after all. What was done stands; a secret is not shown where an
/// unrecorded action is refused.
fn unrecorded(effect: ActionEffect, refuses: bool, reply: AdminReply, why: &str) -> AdminReply {
    if effect == ActionEffect::Reveals && refuses && reply.status < 300 {
        return answer(Err(OperationError::NotRecordable(format!(
            "the audit trail did not record this ({why}): the secret is not shown"
        ))));
    }
    match serde_json::from_slice(&reply.body) {
        Ok(Value::Object(mut body)) if reply.status < 300 => {
            body.insert(
                "not_recorded".into(),
                format!("this was done, and is not on the audit trail: {why}").into(),
            );
            AdminReply::json(reply.status, &body)
        }
        _ => reply,
    }
}

fn answer(outcome: Result<AdminReply, OperationError>) -> AdminReply {
    outcome.unwrap_or_else(|error| fail(error.status(), error.code(), &error.to_string()))
}

/// An entry of an action that has begun. If nobody waits for its end, for example because the command was interrupted, the
/// trail says that the outcome is not known.
struct PendingEntry<'o> {
    operations: &'o Operations,
    recorder: Arc<dyn ActionRecorder>,
    entry: ActionEntry,
    begun: BootMillis,
    finished: bool,
}

impl<'o> PendingEntry<'o> {
    fn new(operations: &'o Operations, recorder: Arc<dyn ActionRecorder>, action: &OperatorAction, who: Actor) -> Self {
        Self {
            operations,
            recorder,
            entry: ActionEntry {
                who,
                action: action.name,
                target: None,
                tenant: None,
                before: Map::new(),
                after: Map::new(),
                replaced_by: None,
                outcome: ActionOutcome::Unknown {
                    message: "nobody waited for the end of it".into(),
                },
                wait: None,
                took_ms: 0,
            },
            begun: operations.clock.now().boot,
            finished: false,
        }
    }

    async fn finish(mut self) -> Result<(), String> {
        let members = self.members();
        let recorded = timeout(RECORDING, self.recorder.record(members)).await;
        recorded.unwrap_or_else(|_| Err("the disk did not take it in time; it may follow".into()))
    }

    fn finish_later(mut self) {
        let members = self.members();
        self.recorder.record_later(members);
    }

    fn members(&mut self) -> Vec<u8> {
        self.finished = true;
        self.entry.mask(&Shapes::of(&self.operations.snapshot.load().surfaces));
        let now = self.operations.clock.now();
        self.entry.took_ms = u64::try_from(now.boot.since(self.begun).as_millis()).unwrap_or(u64::MAX);
        self.entry.members(now.wall)
    }
}

impl Drop for PendingEntry<'_> {
    fn drop(&mut self) {
        if !self.finished {
            let members = self.members();
            self.recorder.record_later(members);
        }
    }
}

/// Asks for the bodies of one request to be removed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EraseBodies {
    /// The request's id, as its entry and its answer have it.
    pub request_id: String,
}

/// The answer to that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodiesErased {
    pub request_id: String,
    /// How many bodies were removed.
    pub erased: u64,
}

impl Operations {
    /// Removes the bodies of a request from the trail of this gateway. The entry stays, and the trail records who did it.
    ///
    /// # Errors
    /// [`OperationError::Usage`] for a text that is no id, [`OperationError::Conflict`] without a trail,
    /// [`OperationError::NotFound`] when no body of such a request is there, [`OperationError::Unavailable`] when the trail
    /// cannot be written.
    pub async fn erase_bodies(&self, request: &EraseBodies, who: Actor) -> Result<BodiesErased, OperationError> {
        let id = request.request_id.clone();
        if !is_valid_id(&id) {
            return Err(OperationError::Usage("the request's id is not an id".into()));
        }
        let recorder = self
            .trail
            .clone()
            .ok_or_else(|| OperationError::Conflict("this gateway keeps no audit trail: its configuration has no `[audit]`".into()))?;
        let erased = tokio::task::spawn_blocking(move || recorder.erase(&id, &who))
            .await
            .unwrap_or_else(|_| Err("it ended by a defect".into()))
            .map_err(|why| OperationError::Unavailable(format!("the bodies are not known to be removed: {why}; repeat the command")))?;
        if erased == 0 {
            return Err(OperationError::NotFound(format!(
                "the trail of this gateway has no body of the request `{}`",
                request.request_id
            )));
        }
        tracing::info!(request_id = request.request_id, erased, "bodies were removed from the audit trail");
        Ok(BodiesErased {
            request_id: request.request_id.clone(),
            erased,
        })
    }
}

/// What a target is, without secrets, fingerprints and hashes, and without people's addresses, which no entry can lose again.
#[derive(Default)]
struct TargetState {
    /// None when there is no such target. What an operator wrote may be a key instead of an id, and is not repeated.
    id: Option<String>,
    tenant: Option<String>,
    members: Map<String, Value>,
}

impl Operations {
    async fn describe(&self, target: &ActionTarget) -> Option<TargetState> {
        match target {
            ActionTarget::Credential(id) => {
                let found = self.store.find_credential(parse_id(id).ok()?).await.ok()??;
                let mut state = credential_state(&found);
                if found.is_provider()
                    && let Some(settings) = self.settings_for_trail(&found).await
                {
                    state.members.insert("settings".into(), settings.into());
                }
                Some(state)
            }
            ActionTarget::Tenant(id) => {
                let found = self.store.find_tenant(parse_tenant(id).ok()?).await.ok()?;
                let view = found.as_ref().map(TenantView::from)?;
                Some(TargetState {
                    id: Some(view.id.clone()),
                    tenant: Some(view.id.clone()),
                    members: members_of(&view),
                })
            }
            ActionTarget::Role(id) => {
                let found = self.store.find_role(parse_role_id(id).ok()?).await.ok()?;
                let view = found.as_ref().map(RoleView::from)?;
                Some(TargetState {
                    id: Some(view.id.clone()),
                    tenant: view.tenant.clone(),
                    members: members_of(&view),
                })
            }
            ActionTarget::Pepper(mark) => {
                let mark = PepperMark::parse(mark)?;
                Some(TargetState {
                    id: Some(mark.to_string()),
                    ..TargetState::default()
                })
            }
            ActionTarget::New(_) | ActionTarget::Gateway => None,
        }
    }
}

/// The members of a view but for its id and tenant, which the entry has already.
fn members_of(view: &impl Serialize) -> Map<String, Value> {
    let Ok(Value::Object(mut members)) = serde_json::to_value(view) else {
        return Map::new();
    };
    members.retain(|name, value| !value.is_null() && name != "id" && name != "tenant");
    members
}

fn credential_state(record: &CredentialRecord) -> TargetState {
    let mut members = Map::new();
    let texts = |words: Vec<String>| Some(words).filter(|words| !words.is_empty()).map(Value::from);
    let time = |at: Option<UnixMillis>| at.map(|at| Value::from(write(at)));
    for (name, value) in [
        ("state", Some(state_word(record.state).into())),
        ("surface", Some(record.surface.as_str().into())),
        ("subject", record.subject.as_ref().map(|subject| subject.as_str().into())),
        ("mode", mode_word(record.mode).map(Value::from)),
        ("scopes", texts(scope_words(&record.scopes))),
        ("roles", texts(role_words(record))),
        ("parent", record.parent().map(|parent| parent.id.as_str().into())),
        ("linked_account", record.linked_account().map(|account| account.as_str().into())),
        ("name", record.name.as_deref().map(Value::from)),
        ("description", record.description().map(Value::from)),
        ("not_before", time(record.not_before)),
        ("expires_at", time(record.expires_at)),
        ("valid_after", time(record.valid_after)),
    ] {
        if let Some(value) = value {
            members.insert(name.to_owned(), value);
        }
    }
    TargetState {
        id: Some(record.id.as_str().to_owned()),
        tenant: Some(record.tenant.as_str().to_owned()),
        members,
    }
}

async fn note_success(operations: &Operations, action: &OperatorAction, reply: &AdminReply, entry: &mut ActionEntry) {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let waited = body.get("acknowledged_at").is_some();
    let result = if waited {
        body.get("result").unwrap_or(&Value::Null)
    } else {
        &body
    };
    entry.wait = waited.then(|| receipts_of(&body));
    let doubt = result.get("doubt").or_else(|| body.get("doubts").and_then(|doubts| doubts.get(0)));
    entry.outcome = ActionOutcome::Done {
        doubt: doubt.and_then(Value::as_str).map(shown_message),
    };
    let id = |value: &Value| value.get("id").and_then(Value::as_str).map(str::to_owned);
    let made = result.get("credential").and_then(id);
    if action.name == "keys.rotate" {
        entry.replaced_by.clone_from(&made);
    }
    if action.name == "peppers.move" {
        let moved = result.get("moved").cloned().unwrap_or_default();
        entry.after.insert("moved".into(), moved);
    }
    if action.effect == ActionEffect::Reveals {
        // Nothing changed.
        entry.before = Map::new();
        return;
    }
    let target = match &action.target {
        ActionTarget::New(kind) => {
            let Some(id) = made.or_else(|| id(result)) else { return };
            match kind {
                NewRecordKind::Credential => ActionTarget::Credential(id),
                NewRecordKind::Tenant => ActionTarget::Tenant(id),
                NewRecordKind::Role => ActionTarget::Role(id),
            }
        }
        other => other.clone(),
    };
    match operations.describe(&target).await {
        Some(after) => {
            entry.target = after.id;
            entry.tenant = after.tenant.or_else(|| entry.tenant.take());
            entry.after.extend(after.members);
        }
        None => {
            if let ActionTarget::Credential(id) | ActionTarget::Tenant(id) | ActionTarget::Role(id) = target {
                entry.target = Some(id);
            }
            // A deleted role is not there any more. Of anything else the store did not tell what it is now.
            if action.name != "roles.delete" {
                entry.before = Map::new();
            }
        }
    }
}

/// A creation that was refused names its tenant, if there is one of this name.
async fn note_refused_creation(operations: &Operations, action: &OperatorAction, call: &AdminCall, entry: &mut ActionEntry) {
    let ActionTarget::New(kind) = action.target else { return };
    let member = if kind == NewRecordKind::Tenant { "id" } else { "tenant" };
    if let Some(named) = named_in(call, member) {
        entry.tenant = operations
            .describe(&ActionTarget::Tenant(named))
            .await
            .and_then(|state| state.tenant);
    }
}

/// The receipts of a waited change: which gateways confirmed, and what is not certain.
fn receipts_of(body: &Value) -> Value {
    let mut wait = Map::new();
    for member in ["confirmed", "acknowledged_at", "not_ruled_out"] {
        if let Some(value) = body.get(member) {
            wait.insert(member.into(), value.clone());
        }
    }
    if let Some(gateways) = body.get("gateways").and_then(Value::as_array) {
        let shown: Vec<Value> = gateways.iter().take(SHOWN_RECEIPTS).cloned().collect();
        if gateways.len() > shown.len() {
            wait.insert("more_gateways".into(), (gateways.len() - shown.len()).into());
        }
        wait.insert("gateways".into(), shown.into());
    }
    Value::Object(wait)
}

fn outcome_of_error(error: &OperationError) -> ActionOutcome {
    match error {
        OperationError::Unavailable(why) => ActionOutcome::Unknown {
            message: shown_message(why),
        },
        OperationError::Unconfirmed(why) => ActionOutcome::Done {
            doubt: Some(shown_message(why)),
        },
        // The words of other refusals may repeat what the operator wrote, and that may be a secret in the wrong place.
        _ => ActionOutcome::Refused {
            reason: error.code(),
            message: match error {
                OperationError::Conflict(why) => Some(shown_message(why)),
                _ => None,
            },
        },
    }
}

fn shown_message(text: &str) -> String {
    printable(text).chars().take(MAX_MESSAGE).collect()
}

fn actor_of(call: &AdminCall, user: Option<String>) -> Actor {
    match call.peer {
        Some(SocketPeer { uid }) => Actor::Socket { uid, user },
        None => Actor::Cli,
    }
}

/// The name of the peer's user id in `/etc/passwd`. Users of a directory service are not in it, and have their number only.
async fn user_name(peer: Option<SocketPeer>) -> Option<String> {
    let uid = peer?.uid;
    let read = tokio::task::spawn_blocking(|| std::fs::read_to_string("/etc/passwd"));
    let text = read.await.ok()?.ok()?;
    name_in(&text, uid)
}

fn name_in(passwd: &str, uid: u32) -> Option<String> {
    let user = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(uid)).then_some(name)
    })?;
    Some(user.chars().take(64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_whole_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad\nalice:x:1000:1000::/srv/alice:/bin/sh\nbob:x:100:1::/:/\n";
        assert_eq!(name_in(passwd, 1000).as_deref(), Some("alice"));
        assert_eq!(name_in(passwd, 100).as_deref(), Some("bob"));
        assert_eq!(name_in(passwd, 10), None);
    }
}
