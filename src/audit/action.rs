//! Entries that no request makes: what an operator did, what changed in the configuration, a drill.

use std::io::Write as _;

use serde_json::{Map, Value};

use crate::base::clock::UnixMillis;
use crate::base::ids::{CredentialId, Subject};
use crate::telemetry::members::Timestamp;

use super::mask::{Shapes, mask_text};

/// Most bytes of an entry's members. The line, which also has a number and a gateway, must stay below 64 KiB.
const MAX_MEMBERS: usize = 60 * 1024;

/// Whose doing an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// Somebody at the operator socket, as the kernel tells it (`SO_PEERCRED`).
    Socket {
        uid: u32,
        /// The name of that user id in `/etc/passwd`, where it has one.
        user: Option<String>,
    },
    /// Somebody of a tenant who called a served route. The request has an entry of its own.
    Route {
        request_id: String,
        credential: Option<CredentialId>,
        subject: Option<Subject>,
    },
    /// Somebody who called an operation without a socket.
    Cli,
    /// Whoever sent SIGHUP.
    Signal,
    /// Whoever changed a file of the configuration.
    File,
    /// Whoever started the gateway.
    Start,
}

impl Actor {
    /// The value of the member `who`.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        ascii(&self.to_value())
    }

    /// See [`to_json`](Self::to_json).
    #[must_use]
    pub fn to_value(&self) -> Value {
        let via = match self {
            Self::Socket { uid, user } => {
                let mut who = Map::new();
                who.insert("via".into(), "socket".into());
                who.insert("uid".into(), (*uid).into());
                if let Some(user) = user {
                    who.insert("user".into(), user.as_str().into());
                }
                return Value::Object(who);
            }
            Self::Route {
                request_id,
                credential,
                subject,
            } => {
                let mut who = Map::new();
                who.insert("via".into(), "route".into());
                who.insert("request_id".into(), request_id.as_str().into());
                if let Some(credential) = credential {
                    who.insert("credential".into(), credential.as_str().into());
                }
                if let Some(subject) = subject {
                    who.insert("subject".into(), subject.as_str().into());
                }
                return Value::Object(who);
            }
            Self::Cli => "cli",
            Self::Signal => "signal",
            Self::File => "file",
            Self::Start => "start",
        };
        serde_json::json!({ "via": via })
    }
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActionOutcome {
    /// It was done. What is not certain about it, in words.
    Done { doubt: Option<String> },
    /// It was not done.
    Refused { reason: &'static str, message: Option<String> },
    /// The store did not answer, or nobody waited for its answer.
    Unknown { message: String },
}

/// What an operator, or a tenant's administrator, did. Holds no secret: whoever makes one leaves them out.
#[derive(Debug, Clone)]
pub struct ActionEntry {
    pub who: Actor,
    /// `keys.revoke`.
    pub action: &'static str,
    /// The id of what it was done to.
    pub target: Option<String>,
    pub tenant: Option<String>,
    /// What the target was before and after, of which the entry shows what differs.
    pub before: Map<String, Value>,
    /// See `before`.
    pub after: Map<String, Value>,
    /// The id of the credential that takes the target's place.
    pub replaced_by: Option<String>,
    pub outcome: ActionOutcome,
    /// Which gateways confirmed, where the operator waited for it.
    pub wait: Option<Value>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl ActionEntry {
    /// Masks what looks like a credential in texts that people chose, such as names.
    pub fn mask(&mut self, shapes: &Shapes) {
        for members in [&mut self.before, &mut self.after] {
            members.values_mut().for_each(|value| mask_value(value, shapes));
        }
        let (ActionOutcome::Done { doubt: text } | ActionOutcome::Refused { message: text, .. }) = &mut self.outcome else {
            return;
        };
        if let Some(text) = text {
            *text = mask_text(text, shapes).into_owned();
        }
    }

    /// The members of the entry, from the time on. Drills have a kind of their own.
    #[must_use]
    pub fn members(&self, at: UnixMillis) -> Vec<u8> {
        let whole = self.write(at, true);
        if whole.len() <= MAX_MEMBERS { whole } else { self.write(at, false) }
    }

    fn write(&self, at: UnixMillis, whole: bool) -> Vec<u8> {
        let kind = match &self.who {
            // What it was done to stands in the request's entry too, so this one is of another kind, and is counted once.
            Actor::Route { .. } => "administrator",
            _ if self.action.starts_with("drill.") => "drill",
            _ => "operator",
        };
        let mut out = head(at, kind);
        push(&mut out, "who", &self.who.to_value());
        push(&mut out, "action", &self.action.into());
        push_text(&mut out, "target", self.target.as_deref());
        push_text(&mut out, "tenant", self.tenant.as_deref());
        push_text(&mut out, "replaced_by", self.replaced_by.as_deref());
        if whole {
            let (before, after) = difference(&self.before, &self.after);
            for (name, members) in [("before", before), ("after", after)] {
                if !members.is_empty() {
                    push(&mut out, name, &Value::Object(members));
                }
            }
        } else {
            push(&mut out, "shortened", &true.into());
        }
        let (word, reason, message) = match &self.outcome {
            ActionOutcome::Done { doubt } => ("done", None, doubt.as_deref()),
            ActionOutcome::Refused { reason, message } => ("refused", Some(*reason), message.as_deref()),
            ActionOutcome::Unknown { message } => ("unknown", None, Some(message.as_str())),
        };
        push(&mut out, "outcome", &word.into());
        push_text(&mut out, "reason", reason);
        push_text(&mut out, "message", message);
        push(&mut out, "took_ms", &self.took_ms.into());
        if let Some(wait) = self.wait.as_ref().filter(|_| whole) {
            push(&mut out, "wait", wait);
        }
        out
    }
}

/// Masks texts and lists of texts; nothing in an entry is deeper.
fn mask_value(value: &mut Value, shapes: &Shapes) {
    match value {
        Value::String(text) => *text = mask_text(text, shapes).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(|item| {
            if let Value::String(text) = item {
                *text = mask_text(text, shapes).into_owned();
            }
        }),
        _ => {}
    }
}

/// What of two descriptions of the same thing differs. A member that is only on one side stays on that side.
fn difference(before: &Map<String, Value>, after: &Map<String, Value>) -> (Map<String, Value>, Map<String, Value>) {
    let only = |of: &Map<String, Value>, other: &Map<String, Value>| {
        let differs = |(name, value): &(&String, &Value)| other.get(*name) != Some(*value);
        let members = of.iter().filter(differs);
        members.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    (only(before, after), only(after, before))
}

/// A configuration that was put in force.
#[derive(Debug, Clone)]
pub struct ConfigurationEntry {
    pub who: Actor,
    /// Counts the configurations since the start.
    pub version: u64,
    /// The keys that changed, without their values.
    pub changed: Vec<String>,
    /// What waits for a restart.
    pub needs_restart: Vec<String>,
    /// Whether `changed` has every key that changed since the last entry. A first start knows none.
    pub compared: bool,
}

impl ConfigurationEntry {
    /// The members of the entry, from the time on.
    #[must_use]
    pub fn members(&self, at: UnixMillis) -> Vec<u8> {
        let mut out = head(at, "configuration");
        push(&mut out, "who", &self.who.to_value());
        push(&mut out, "version", &self.version.into());
        push(&mut out, "compared", &self.compared.into());
        if !self.needs_restart.is_empty() {
            push(&mut out, "needs_restart", &self.needs_restart.clone().into());
        }
        if !self.changed.is_empty() {
            let before = out.len();
            push(&mut out, "changed", &self.changed.clone().into());
            if out.len() > MAX_MEMBERS {
                out.truncate(before);
                push(&mut out, "changed_keys", &self.changed.len().into());
                push(&mut out, "shortened", &true.into());
            }
        }
        out
    }
}

fn head(at: UnixMillis, kind: &str) -> Vec<u8> {
    let mut out = b",\"time\":\"".to_vec();
    Timestamp::new().write(at, &mut out);
    out.extend_from_slice(b"\",\"kind\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.push(b'"');
    out
}

fn push_text(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        push(out, name, &value.into());
    }
}

fn push(out: &mut Vec<u8>, name: &str, value: &Value) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(&ascii(value));
}

/// JSON in printable ASCII. Other characters stand only in texts, where an escape means the same.
fn ascii(value: &Value) -> Vec<u8> {
    let text = value.to_string();
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(c) {
            Ok(plain @ b' '..=b'~') => out.push(plain),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing into memory does not fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> ActionEntry {
        ActionEntry {
            who: Actor::Socket {
                uid: 1000,
                user: Some("alice".into()),
            },
            action: "keys.revoke",
            target: Some("key_1".into()),
            tenant: Some("acme".into()),
            before: Map::new(),
            after: Map::new(),
            replaced_by: None,
            outcome: ActionOutcome::Done { doubt: None },
            wait: None,
            took_ms: 12,
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers write a literal")]
    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn parsed(members: &[u8]) -> Value {
        let line = [b"{\"seq\":0".as_slice(), members, b"}"].concat();
        assert!(line.iter().all(|b| (b' '..=b'~').contains(b)), "{}", String::from_utf8_lossy(&line));
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn an_entry_shows_what_differs_and_nothing_else() {
        let entry = ActionEntry {
            before: object(serde_json::json!({ "state": "active", "name": "a" })),
            after: object(serde_json::json!({ "state": "revoked", "name": "a", "revoked_at": "now" })),
            ..entry()
        };
        let members = entry.members(UnixMillis(1_795_307_838_042));
        assert!(members.starts_with(b",\"time\":\"2026-11-22T00:37:18.042Z\",\"kind\":\"operator\",\"who\":"));
        let line = parsed(&members);
        assert_eq!(line["who"], serde_json::json!({ "via": "socket", "uid": 1000, "user": "alice" }));
        assert_eq!(
            (&line["before"], &line["after"]),
            (
                &serde_json::json!({ "state": "active" }),
                &serde_json::json!({ "state": "revoked", "revoked_at": "now" })
            )
        );
        assert_eq!((&line["action"], &line["outcome"]), (&"keys.revoke".into(), &"done".into()));
        assert_eq!(line["took_ms"], 12);
    }

    #[test]
    fn an_entry_is_ascii_and_has_a_bound() {
        let long = "\u{2028}ä\u{1f600}\u{7f}\n".repeat(4);
        let small = ActionEntry {
            after: object(serde_json::json!({ "name": long })),
            ..entry()
        };
        assert_eq!(parsed(&small.members(UnixMillis(0)))["after"]["name"], Value::from(long.clone()));
        let large = ActionEntry {
            after: object(serde_json::json!({ "scopes": long.repeat(2_000) })),
            ..entry()
        };
        let members = large.members(UnixMillis(0));
        assert!(members.len() < MAX_MEMBERS);
        let line = parsed(&members);
        assert_eq!((&line["shortened"], &line["target"]), (&true.into(), &"key_1".into()));
        let changed: Vec<String> = (0..5_000).map(|n| format!("upstreams.main.routes.{n}")).collect();
        let many = ConfigurationEntry {
            who: Actor::Signal,
            version: 2,
            changed,
            needs_restart: vec!["workers".into()],
            compared: true,
        };
        let line = parsed(&many.members(UnixMillis(0)));
        assert_eq!((&line["changed_keys"], &line["who"]["via"]), (&5_000.into(), &"signal".into()));
    }

    #[test]
    fn a_drill_has_a_kind_of_its_own() {
        let drill = ActionEntry {
            action: "drill.begin",
            outcome: ActionOutcome::Refused {
                reason: "usage",
                message: None,
            },
            ..entry()
        };
        let line = parsed(&drill.members(UnixMillis(0)));
        assert_eq!((&line["kind"], &line["reason"]), (&"drill".into(), &"usage".into()));
    }
}
