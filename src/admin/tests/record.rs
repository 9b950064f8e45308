//! What the trail has of operators' actions, over a recorder that fails on command.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ::http::Method;
use bytes::Bytes;
use serde_json::Value;

use crate::admin::Operations;
use crate::admin::http::{AdminCall, AdminReply, SocketPeer};
use crate::admin::record::{ActionRecorder, operate_on_record};
use crate::audit::action::Actor;
use crate::audit::changes::{ChangeWindow, RecordedChanges};
use crate::store::BoxFuture;

use super::fixture::{Memory, key, with_acme};

#[derive(Default)]
struct Recorder {
    entries: Mutex<Vec<Value>>,
    refuses: AtomicBool,
    /// Known before an action.
    full: AtomicBool,
    /// Not known before an action.
    fails: AtomicBool,
}

impl Recorder {
    fn keep(&self, members: &[u8]) {
        let line = [b"{\"seq\":0".as_slice(), members, b"}"].concat();
        self.entries.lock().unwrap().push(serde_json::from_slice(&line).unwrap());
    }

    fn taken(&self) -> Vec<Value> {
        std::mem::take(&mut *self.entries.lock().unwrap())
    }
}

impl ActionRecorder for Recorder {
    fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Relaxed)
    }

    fn can_record(&self) -> bool {
        !self.full.load(Ordering::Relaxed)
    }

    fn record(&self, members: Vec<u8>) -> BoxFuture<'static, Result<(), String>> {
        self.keep(&members);
        let failed = self.full.load(Ordering::Relaxed) || self.fails.load(Ordering::Relaxed);
        Box::pin(async move { if failed { Err("the disk is full".into()) } else { Ok(()) } })
    }

    fn record_later(&self, members: Vec<u8>) {
        self.keep(&members);
    }

    fn find_changes(&self, _: ChangeWindow) -> Result<RecordedChanges, String> {
        Err("the trail cannot be read".into())
    }

    fn erase(&self, request_id: &str, _: &Actor) -> Result<u64, String> {
        Ok(u64::from(request_id == "known"))
    }
}

async fn scene() -> (Arc<Memory>, Arc<Recorder>, Operations, String) {
    let (store, mut operations) = with_acme().await;
    let id = operations.create_key(&key("api")).await.unwrap().credential.id;
    let recorder = Arc::<Recorder>::default();
    operations.trail = Some(recorder.clone());
    (store, recorder, operations, id)
}

async fn call(operations: &Operations, method: Method, path: &str, body: &str) -> (u16, Value) {
    let call = AdminCall {
        method,
        uri: path.parse().unwrap(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        peer: Some(SocketPeer { uid: 0 }),
    };
    let AdminReply { status, body, .. } = operate_on_record(operations, &call).await;
    (status, serde_json::from_slice(&body).unwrap())
}

async fn post(operations: &Operations, path: &str) -> (u16, Value) {
    call(operations, Method::POST, path, "").await
}

fn only(entries: Vec<Value>) -> Value {
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.into_iter().next().unwrap()
}

#[tokio::test]
async fn a_change_has_one_entry_with_who_and_what_differs_and_a_reading_has_none() {
    let (_, recorder, operations, id) = scene().await;
    assert_eq!(call(&operations, Method::GET, &format!("/v1/keys/{id}"), "").await.0, 200);
    assert_eq!(recorder.taken(), Vec::<Value>::new());
    assert_eq!(post(&operations, &format!("/v1/keys/{id}/disable")).await.0, 200);
    let entry = only(recorder.taken());
    assert_eq!(
        (
            &entry["kind"],
            &entry["action"],
            &entry["target"],
            &entry["tenant"],
            &entry["outcome"]
        ),
        (
            &"operator".into(),
            &"keys.disable".into(),
            &id.as_str().into(),
            &"acme".into(),
            &"done".into()
        )
    );
    assert_eq!((&entry["who"]["via"], &entry["who"]["uid"]), (&"socket".into(), &0.into()));
    assert_eq!(
        (&entry["before"], &entry["after"]),
        (
            &serde_json::json!({ "state": "active" }),
            &serde_json::json!({ "state": "disabled" })
        )
    );
}

#[tokio::test]
async fn a_new_key_is_shown_without_its_secret() {
    let (_, recorder, operations, _) = scene().await;
    let body = serde_json::to_string(&key("api")).unwrap();
    let (status, made) = call(&operations, Method::POST, "/v1/keys", &body).await;
    assert_eq!(status, 200);
    let entry = only(recorder.taken());
    assert_eq!(
        (&entry["action"], &entry["target"], &entry["after"]["scopes"]),
        (
            &"keys.create".into(),
            &made["credential"]["id"],
            &serde_json::json!(["orders:read"])
        )
    );
    assert!(!entry.to_string().contains(made["credential"]["key"].as_str().unwrap()), "{entry}");
}

#[tokio::test]
async fn a_refused_action_says_why_and_repeats_nothing_that_could_be_a_secret() {
    let (store, recorder, operations, id) = scene().await;
    assert_eq!(post(&operations, "/v1/keys/canary-key-instead-of-an-id/revoke").await.0, 404);
    let entry = only(recorder.taken());
    assert_eq!((&entry["outcome"], &entry["reason"]), (&"refused".into(), &"not_found".into()));
    assert!(!entry.to_string().contains("canary"), "{entry}");
    *store.fail_changes.lock().unwrap() = 1;
    assert_eq!(post(&operations, &format!("/v1/keys/{id}/revoke")).await.0, 503);
    let entry = only(recorder.taken());
    assert_eq!((&entry["outcome"], &entry["target"]), (&"unknown".into(), &id.as_str().into()));
    assert!(entry["message"].is_string(), "{entry}");
}

#[tokio::test]
async fn what_cannot_be_recorded_is_refused_only_where_that_is_configured_and_a_revocation_never() {
    let (_, recorder, operations, id) = scene().await;
    recorder.full.store(true, Ordering::Relaxed);
    let enable = format!("/v1/keys/{id}/enable");
    let (status, answer) = post(&operations, &enable).await;
    assert!(status == 200 && answer["not_recorded"].is_string(), "{answer}");
    recorder.refuses.store(true, Ordering::Relaxed);
    recorder.taken();
    let (status, answer) = post(&operations, &enable).await;
    assert_eq!((status, &answer["error"]["code"]), (503, &"not_recordable".into()));
    assert_eq!(only(recorder.taken())["reason"], "not_recordable");
    for path in [
        format!("/v1/keys/{id}/disable"),
        format!("/v1/keys/{id}/revoke"),
        "/v1/tenants/acme/disable".to_owned(),
    ] {
        let (status, answer) = post(&operations, &path).await;
        assert!(status == 200 && answer["not_recorded"].is_string(), "{path}: {answer}");
    }
    recorder.full.store(false, Ordering::Relaxed);
    let (status, answer) = post(&operations, "/v1/tenants/acme/enable").await;
    assert!(status == 200 && answer.get("not_recorded").is_none(), "{answer}");
}

#[tokio::test]
async fn an_action_that_nobody_waits_for_is_on_record_as_unknown() {
    let (_, recorder, operations, id) = scene().await;
    let path = format!("/v1/keys/{id}/disable?wait=25000");
    {
        let mut pending = Box::pin(post(&operations, &path));
        // The store of this test has no receipts, so that the wait may end at once or never; both must be on record.
        let _ = tokio::time::timeout(std::time::Duration::ZERO, pending.as_mut()).await;
    }
    let entries = recorder.taken();
    if entries.is_empty() {
        // It was dropped before it had begun: then nothing was changed either.
        assert_eq!(operations.show_key(&id).await.unwrap().state, "active");
        return;
    }
    let entry = only(entries);
    assert_eq!(entry["action"], "keys.disable");
    assert!(["unknown", "done"].contains(&entry["outcome"].as_str().unwrap()), "{entry}");
}

#[tokio::test]
async fn bodies_are_erased_through_the_trail_and_only_where_there_are_some() {
    let (_, _, operations, _) = scene().await;
    let erase = |id: &str| format!("{{\"request_id\":\"{id}\"}}");
    let (status, answer) = call(&operations, Method::POST, "/v1/audit/erase", &erase("known")).await;
    assert_eq!((status, &answer["erased"]), (200, &1.into()));
    assert_eq!(call(&operations, Method::POST, "/v1/audit/erase", &erase("other")).await.0, 404);
    let (_, without) = with_acme().await;
    assert_eq!(call(&without, Method::POST, "/v1/audit/erase", &erase("known")).await.0, 409);
}
