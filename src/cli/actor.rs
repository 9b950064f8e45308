//! Who did what an entry of the audit trail tells, in words for people.

use serde_json::Value;

/// The name of whoever stands in the member `who`: an operator's user and its number; the caller of a served route.
///
/// The caller's subject is a text that the caller chose: show it with [`visible_in_line`](super::output::visible_in_line).
pub(crate) fn actor_name(who: &Value) -> String {
    let text = |name: &str| who.get(name).and_then(Value::as_str);
    if text("via") == Some("route") {
        let caller = match (text("credential"), text("subject")) {
            (Some(credential), Some(subject)) => format!("{credential} ({subject})"),
            (Some(caller), None) | (None, Some(caller)) => caller.to_owned(),
            (None, None) => "a caller without a credential".to_owned(),
        };
        let tenant = text("tenant").map(|tenant| format!(" of {tenant}")).unwrap_or_default();
        return format!("{caller}{tenant} on route {}", text("route").unwrap_or("(unknown)"));
    }
    let uid = who.get("uid").map(|uid| format!("uid {uid}"));
    match (text("user"), uid) {
        (Some(user), Some(uid)) => format!("{user} ({uid})"),
        (Some(user), None) => user.to_owned(),
        (None, Some(uid)) => uid,
        (None, None) => text("via").unwrap_or("an operator").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everyone_who_acts_has_a_name() {
        for (who, name) in [
            (json!({ "via": "socket", "uid": 0, "user": "root" }), "root (uid 0)"),
            (json!({ "via": "socket", "uid": 1000 }), "uid 1000"),
            (json!({ "via": "signal" }), "signal"),
            (json!(null), "an operator"),
            (
                json!({ "via": "route", "route": "keys", "credential": "key_1", "tenant": "acme", "subject": "ann" }),
                "key_1 (ann) of acme on route keys",
            ),
            (
                json!({ "via": "route", "route": "sign-up" }),
                "a caller without a credential on route sign-up",
            ),
        ] {
            assert_eq!(actor_name(&who), name, "{who}");
        }
    }
}
