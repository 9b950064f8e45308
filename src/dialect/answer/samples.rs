//! Sample data for the template of an answer. Each template is tried with them when it is loaded.

use serde_json::{Map, json};

use crate::decide::audit::TENANT_MEMBERS;

use super::{AnswerNames, AnswerSubject, CALLER, CallerPresence, HookNames, MAX_MINTED, NAMED, PROVIDER, PROVIDER_SUMMARY, PROVIDER_TEST};

/// Whether a sample has its optional values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Filling {
    Full,
    Sparse,
}

impl Filling {
    /// A member as answers have it. Lists and ids are always there.
    fn member(self, name: &str) -> serde_json::Value {
        match (name, self) {
            ("headers", Self::Full) => json!({ "user-agent": "curl", "accept": ["a", "b"] }),
            ("status" | "took_us" | "bytes_in" | "bytes_out", Self::Full) => json!(200),
            ("completed" | "passed", Self::Full) => json!(true),
            ("passed", Self::Sparse) => json!(false),
            ("settings", _) => json!({ "version": 1 }),
            ("checks", Self::Full) => json!([{ "name": "keys", "outcome": "ok", "why": "why" }]),
            ("scopes" | "roles" | "warnings" | "domains", Self::Full) => json!(["a", "b"]),
            ("scopes" | "roles" | "warnings" | "domains" | "checks", Self::Sparse) => json!([]),
            ("expires_in", Self::Full) => json!(60),
            ("id" | "tenant" | "created_at", _) | (_, Self::Full) => json!(name),
            (_, Self::Sparse) => serde_json::Value::Null,
        }
    }

    fn members<'n>(self, names: impl IntoIterator<Item = &'n str>) -> Map<String, serde_json::Value> {
        names.into_iter().map(|name| (name.to_owned(), self.member(name))).collect()
    }

    /// A body of these fields, with dots for members of objects.
    fn body(self, names: &[String]) -> serde_json::Value {
        let mut body = json!({});
        let holds = |name: &str| {
            names
                .iter()
                .any(|other| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
        };
        for name in names.iter().filter(|name| !holds(name)) {
            let member = name.rsplit('.').next().unwrap_or(name);
            put(&mut body, name, self.member(member));
        }
        body
    }

    /// An answer of a service with these members.
    fn hook(self, names: &HookNames) -> serde_json::Value {
        match (names, self) {
            (HookNames::None, _) | (HookNames::Whole, Self::Sparse) => serde_json::Value::Null,
            (HookNames::Whole, Self::Full) => json!({ "id": "id", "member": { "of": [1, true, null] } }),
            (HookNames::Named(names), _) => {
                let mut members = json!({});
                for name in names {
                    put(&mut members, name, (self == Self::Full).then_some(name.as_str()).into());
                }
                members
            }
        }
    }

    fn record<'n>(self, names: impl IntoIterator<Item = &'n str>, claims: &[String]) -> serde_json::Value {
        let mut record = self.members(names);
        record.insert("claims".to_owned(), self.members(claims.iter().map(String::as_str)).into());
        record.into()
    }
}

impl AnswerNames {
    /// One of `minted` or `items`.
    pub(super) fn item(&self, filling: Filling) -> serde_json::Value {
        match self.subject {
            AnswerSubject::Names => filling.members(NAMED).into(),
            AnswerSubject::Entries => filling.members(TENANT_MEMBERS).into(),
            AnswerSubject::Providers => filling.members(PROVIDER_SUMMARY).into(),
            _ => filling.record(self.of_credential(), &self.claims),
        }
    }

    /// All that a template may use.
    pub(super) fn sample(&self, filling: Filling) -> serde_json::Value {
        let (credential, item) = (filling.record(self.of_credential(), &self.claims), self.item(filling));
        // What is made is always there; lists may be empty.
        let items = if self.is_list() && filling == Filling::Full {
            vec![item; 2]
        } else {
            Vec::new()
        };
        let only = |subject: AnswerSubject, members: serde_json::Value| (self.subject == subject).then_some(members);
        let made = matches!(self.subject, AnswerSubject::Credential);
        json!({
            "request_id": "request",
            "caller": (self.caller == CallerPresence::Present).then(|| filling.record(CALLER, &self.caller_claims)),
            "credential": made.then(|| credential.clone()),
            "minted": if made { vec![credential; MAX_MINTED] } else { Vec::new() },
            "page": self.is_list().then(|| json!({
                "next": (filling == Filling::Full).then_some("next"),
                "more": filling == Filling::Full,
                "missing": filling == Filling::Full,
            })),
            "items": items,
            "provider": only(AnswerSubject::Provider, filling.members(PROVIDER).into()),
            "test": only(AnswerSubject::ProviderTest, filling.members(PROVIDER_TEST).into()),
            "hook": filling.hook(&self.hook),
            "path": Filling::Full.members(self.path.iter().map(String::as_str)),
            "body": filling.body(&self.body),
        })
    }
}

/// Puts a value at the end of a path of members. Missing objects on the way are made.
pub(crate) fn put(object: &mut serde_json::Value, path: &str, value: serde_json::Value) {
    let (member, rest) = path.split_once('.').map_or((path, None), |(member, rest)| (member, Some(rest)));
    let Some(members) = object.as_object_mut() else { return };
    match rest {
        Some(rest) => put(members.entry(member).or_insert_with(|| json!({})), rest, value),
        None => drop(members.insert(member.to_owned(), value)),
    }
}
