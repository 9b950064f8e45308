//! What one action did to the life of a credential: whether it made it, what it tells the credential to hang on, whether it ended it.

use super::super::fields::{done_ids, parse_millis};
use super::ReportAction;

/// Whose end an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Itself,
    /// The credential hangs on it.
    Ancestor,
    /// The trail does not say whether the credential hangs on it.
    PresumedAncestor,
    Tenant,
}

/// Why something is at an end. What is ended for two reasons stays so when one is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EndReason {
    Revoked,
    Disabled,
    /// All that had been made below it ended ("log out everywhere").
    Issued,
    Expired,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Ends(EndReason),
    /// What was disabled is enabled again.
    Restores,
}

/// The ids of the records that a served route made or changed.
pub(super) fn done_list(action: &ReportAction) -> Vec<&str> {
    done_ids(action.text("done").unwrap_or_default()).collect()
}

/// What an action did: `keys.revoke`, or `log_out` of a served route.
pub(super) fn name_of(action: &ReportAction) -> String {
    let done = action.text("done").and_then(|done| done.split(' ').next());
    action.text("action").or(done).unwrap_or("unknown").to_owned()
}

/// Whether an action made this record.
pub(super) fn makes(action: &ReportAction, id: &str) -> bool {
    let done = action.text("done").unwrap_or_default();
    let made = match done.split(' ').next() {
        Some("mint") => done_list(action).contains(&id),
        // The session stands last, after what it hangs on.
        Some("sso_finish") => done_list(action).last() == Some(&id),
        Some("rotate") => done_list(action).get(1) == Some(&id),
        _ => false,
    };
    let is_new = action.text("target") == Some(id) && matches!(name_of(action).split_once('.'), Some((_, "create" | "import" | "begin")));
    made || is_new || action.text("replaced_by") == Some(id)
}

/// A record that the credential hangs on, or a record that one of those replaced.
pub(super) struct RecordAbove {
    pub(super) id: String,
    pub(super) relation: Relation,
    /// Not of a record that was replaced: its successor lives on.
    pub(super) ends_what_is_below: bool,
}

impl RecordAbove {
    pub(super) fn itself(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            relation: Relation::Itself,
            ends_what_is_below: false,
        }
    }

    fn parent(id: &str, relation: Relation) -> Self {
        Self {
            id: id.to_owned(),
            relation,
            ends_what_is_below: true,
        }
    }

    /// What this record took the place of. It hangs on the same.
    fn predecessor(&self, id: &str) -> Self {
        Self {
            id: id.to_owned(),
            relation: self.relation,
            ends_what_is_below: false,
        }
    }
}

/// The records above this one, as far as an action tells.
pub(super) fn above(action: &ReportAction, record: &RecordAbove) -> Vec<RecordAbove> {
    let id = record.id.as_str();
    let relation = match record.relation {
        Relation::Itself => Relation::Ancestor,
        other => other,
    };
    let mut found = Vec::new();
    if action.text("target") == Some(id) {
        let parent = action.entry.get("after").and_then(|after| after.get("parent")?.as_str());
        found.extend(parent.map(|parent| RecordAbove::parent(parent, relation)));
    }
    if action.text("replaced_by") == Some(id) {
        found.extend(action.text("target").map(|old| record.predecessor(old)));
    }
    let ids = done_list(action);
    match action.text("done").and_then(|done| done.split(' ').next()) {
        Some("mint" | "sso_finish") if makes(action, id) => {
            let before = ids.iter().copied().take_while(|made| *made != id);
            let makers = before.chain(action.text("credential"));
            found.extend(makers.map(|maker| RecordAbove::parent(maker, Relation::PresumedAncestor)));
        }
        Some("rotate") if ids.get(1) == Some(&id) => found.extend(ids.first().map(|old| record.predecessor(old))),
        _ => {}
    }
    found
}

/// What an action did to the life of a credential that is, or hangs on, this record, and from when on.
pub(super) fn effects(action: &ReportAction, holder: &str, relation: Relation) -> Vec<(i64, Effect)> {
    if action.text("done").is_some() {
        return served_effect(action, holder, relation)
            .map(|effect| (action.at, effect))
            .into_iter()
            .collect();
    }
    if action.text("outcome") != Some("done") || action.text("target") != Some(holder) {
        return Vec::new();
    }
    let is_above = matches!(relation, Relation::Ancestor | Relation::PresumedAncestor);
    let after = action.entry.get("after");
    let moves = |name: &str| after.and_then(|after| after.get(name)?.as_str()).and_then(parse_millis);
    let effect = match (relation, action.text("action").and_then(|name| name.split_once('.'))) {
        (Relation::Tenant, Some(("tenants", "disable"))) => Some(Effect::Ends(EndReason::Disabled)),
        (Relation::Tenant, Some(("tenants", "enable"))) => Some(Effect::Restores),
        (Relation::Tenant, _) => return Vec::new(),
        (_, Some(("keys" | "accounts" | "sessions", "revoke") | ("drill", "end"))) => Some(Effect::Ends(EndReason::Revoked)),
        (_, Some(("keys" | "accounts", "disable"))) => Some(Effect::Ends(EndReason::Disabled)),
        (_, Some(("keys" | "accounts", "enable"))) => Some(Effect::Restores),
        (_, Some(("sessions", "revoke_of"))) if is_above => Some(Effect::Ends(EndReason::Issued)),
        _ if is_above && moves("valid_after").is_some() => Some(Effect::Ends(EndReason::Issued)),
        _ => None,
    };
    let expires = moves("expires_at").map(|at| (at.max(action.at), Effect::Ends(EndReason::Expired)));
    effect.map(|effect| (action.at, effect)).into_iter().chain(expires).collect()
}

fn served_effect(action: &ReportAction, holder: &str, relation: Relation) -> Option<Effect> {
    let done = action.text("done")?;
    let ids = done_list(action);
    let is_above = matches!(relation, Relation::Ancestor | Relation::PresumedAncestor);
    match done.split(' ').next() {
        Some("revoke" | "sso_unlink") if ids.contains(&holder) => Some(Effect::Ends(EndReason::Revoked)),
        Some("log_out") if is_above && ids.contains(&holder) => Some(Effect::Ends(EndReason::Issued)),
        // A session that logs out ends, alone or with all others. A token without a record of its own ends without the record
        // that it hangs on, which the entry names with another surface than that of the token.
        Some("log_out") if relation == Relation::Itself && action.text("credential") == Some(holder) => {
            let surface = action.text("surface").unwrap_or_default();
            let is_own = done.split(' ').nth(1) == Some(&format!("{surface}:{holder}"));
            (is_own || !ids.contains(&holder)).then_some(Effect::Ends(EndReason::Revoked))
        }
        _ => None,
    }
}
