//! Hooks of served routes: a service is asked before the step of the route or notified after it, over the connections that
//! forwarded requests use.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value as Json;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::base::clock::instant;
use crate::base::denial::Denial;
use crate::decide::authorize::Permit;
use crate::decide::headers::{OutgoingHead, Screened};
use crate::decide::method::Method;
use crate::decide::route::{CredentialForwarding, Trailers, UpstreamIndex};
use crate::issue::call::{HookNotification, IssueError, Issued, ServedCall};
use crate::issue::hook::{self, HookRequest, HookVerdict, MAX_ANSWER};
use crate::snapshot::served_route::{Hook, HookFields, OnFailure};
use crate::upstream::quota::{QuotaHolder, QuotaKey};
use crate::upstream::{Forwarded, Outgoing};
use crate::wire::body::{BodyError, BodySource, Chunk};
use crate::wire::framing::Framing;

use super::worker::{SnapshotView, Worker};
use super::{AccessRecord, Examined, RequestContext};

/// Most calls at a time of one worker that notify a service after the step. The process runs as many calls of served routes.
const MAX_NOTIFY_TASKS: usize = 256;

/// Asks the service of a hook before the step. Returns the values of its answer that the response template may
/// use.
///
/// # Errors
/// The denial that the service's refusal stands for. If the hook refuses on failure, also the denial that the failure
/// stands for.
pub(super) async fn ask_before(
    context: RequestContext<'_>,
    examined: &Examined<'_>,
    permit: &Permit,
    hook: &Hook,
    call: &ServedCall,
    access: &mut AccessRecord,
) -> Result<Json, Denial> {
    let request = match hook::before_request(hook, call) {
        Ok(request) => request,
        // A value of the call that cannot stand in the path names nothing that the service could have.
        Err(Denial::NotFound) if hook.on_failure == OnFailure::GoOn => return Ok(hook::nothing(&hook.fields)),
        Err(denial) => return Err(denial),
    };
    let client = HookClient::new(context, examined, permit, hook, access)?;
    access.note_upstream(hook.upstream);
    let answer = client.call(&request, permit, access.holder()).await;
    if let Ok(answer) = &answer {
        access.note_forwarded(hook.upstream, answer.endpoint, answer.attempts);
    }
    let read = |answer: HookAnswer| {
        hook::read(&hook.fields, &answer.body).map_err(|denial| (HookVerdict::Failed(denial), "the service's answer is no JSON object"))
    };
    match answer.and_then(read) {
        Ok(values) => Ok(values),
        Err((HookVerdict::Failed(denial), why)) => {
            note_failure(context.worker, access.request_id(), denial, why);
            match hook.on_failure {
                OnFailure::Refuse => Err(denial),
                OnFailure::GoOn => Ok(hook::nothing(&hook.fields)),
            }
        }
        Err((HookVerdict::No(denial), _)) => Err(denial),
        Err((HookVerdict::Yes, _)) => Err(Denial::Internal),
    }
}

/// Takes the step of the route, then notifies the service. Both run to their end even if the client leaves meanwhile.
///
/// # Errors
/// As [`Engine::serve`](crate::issue::engine::Engine::serve). If the hook refuses on failure, also the denial that the
/// service's refusal or failure stands for; what the step made is revoked then.
pub(super) async fn serve_and_notify(
    context: RequestContext<'_>,
    examined: &Examined<'_>,
    permit: Permit,
    hook: &Hook,
    call: ServedCall,
    access: &AccessRecord,
) -> Result<CallOutcome, IssueError> {
    // The request to the service is prepared now, since the client's request may be gone when its path and body are
    // known.
    let client = HookClient::new(context, examined, &permit, hook, access)?;
    let task = NotifyTask {
        worker: context.worker.clone(),
        request_id: access.request_id().to_owned(),
        on_failure: hook.on_failure,
        permit,
        client,
    };
    context.worker.notify_tasks.run(task, call).await
}

/// The result of a call, and the permit under which it was made.
pub(super) type CallOutcome = (Result<Issued, IssueError>, Permit);

/// A call that runs in a task of its own: the step of the route, then the notification of the service.
struct NotifyTask {
    worker: Rc<Worker>,
    request_id: String,
    on_failure: OnFailure,
    permit: Permit,
    client: HookClient,
}

/// The tasks of calls that notify a service. Their worker owns them and waits for them when it ends.
#[derive(Default)]
pub(super) struct NotifyTasks {
    tasks: RefCell<JoinSet<()>>,
    /// How many tasks run; at most [`MAX_NOTIFY_TASKS`].
    open: Rc<Cell<usize>>,
}

impl NotifyTasks {
    /// Removes the tasks that have ended.
    pub(super) fn reap(&self) {
        let mut tasks = self.tasks.borrow_mut();
        while tasks.try_join_next().is_some() {}
    }

    /// Waits for all tasks. No new one is started meanwhile, since the worker has no connection any more.
    pub(super) async fn settle(&self) {
        let mut tasks = self.tasks.take();
        while tasks.join_next().await.is_some() {}
    }

    async fn run(&self, task: NotifyTask, call: ServedCall) -> Result<CallOutcome, IssueError> {
        if self.open.get() >= MAX_NOTIFY_TASKS {
            return Err(Denial::Overloaded.into());
        }
        let (sender, receiver) = oneshot::channel();
        let task_slot = TaskSlot::take(&self.open);
        self.tasks.borrow_mut().spawn_local(async move {
            let _task_slot = task_slot;
            let issued = task.run_step(call).await;
            // The send fails if the client is gone, and then nobody needs the result.
            let _ = sender.send((issued, task.permit));
        });
        receiver.await.map_err(|_| Denial::Internal.into())
    }
}

/// One of [`MAX_NOTIFY_TASKS`] slots. It is given back when dropped.
struct TaskSlot(Rc<Cell<usize>>);

impl TaskSlot {
    fn take(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(open.clone())
    }
}

impl Drop for TaskSlot {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl NotifyTask {
    async fn run_step(&self, call: ServedCall) -> Result<Issued, IssueError> {
        let mut issued = self.worker.engine.serve(call).await?;
        let Some(HookNotification { request, made }) = issued.notification.take() else {
            return Ok(issued);
        };
        let outcome = match request {
            Some(request) => self.client.call(&request, &self.permit, None).await.map(drop),
            None => Err((HookVerdict::Failed(Denial::NotFound), "the path of the request cannot be written")),
        };
        let Err((HookVerdict::No(denial) | HookVerdict::Failed(denial), why)) = outcome else {
            return Ok(issued);
        };
        note_failure(&self.worker, &self.request_id, denial, why);
        if self.on_failure == OnFailure::GoOn {
            return Ok(issued);
        }
        if let Err(stop) = self.worker.engine.take_back(made).await {
            tracing::error!(request_id = %self.request_id, done = %issued.done, "a hook failed after the step, and what the step made could not be revoked");
            return Err(stop);
        }
        Err(denial.into())
    }
}

fn note_failure(worker: &Worker, request_id: &str, denial: Denial, why: &str) {
    worker.telemetry.fail_hook();
    tracing::warn!(%request_id, denial = denial.label(), reason = why, "a hook failed");
}

/// A request to the service of a hook, without path and body, which the [`HookRequest`] has.
struct HookClient {
    view: Rc<SnapshotView>,
    upstream: UpstreamIndex,
    method: Method,
    deadline: Duration,
    fields: Vec<u8>,
    host: Vec<u8>,
    body_use: BodyUse,
}

/// Whether values of the answer's body are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyUse {
    Yes,
    No,
}

/// The answer of a service that agreed.
struct HookAnswer {
    body: Vec<u8>,
    endpoint: usize,
    attempts: u32,
}

/// What the service's refusal or failure stands for, and the reason for the log.
type HookFailure = (HookVerdict, &'static str);

impl HookClient {
    /// Writes the fields that a forwarded request of this caller would have: the same identity, request id and origin.
    /// The client's own fields are left out.
    ///
    /// # Errors
    /// As [`HeaderPolicy::write_outgoing`](crate::decide::headers::HeaderPolicy::write_outgoing).
    fn new(
        context: RequestContext<'_>,
        examined: &Examined<'_>,
        permit: &Permit,
        hook: &Hook,
        access: &AccessRecord,
    ) -> Result<Self, Denial> {
        let snapshot = &context.view.snapshot;
        let surface = access.surface().and_then(|index| snapshot.surfaces.get(index.0));
        let facts = OutgoingHead {
            principal: permit.principal().zip(surface),
            origin: examined.origin,
            peer: context.connection.peer.ip(),
            scheme: context.connection.scheme,
            request_id: access.request_id(),
            target: &examined.target,
            credentials: CredentialForwarding::Removed,
            trailers: Trailers::Dropped,
        };
        let mut fields = b"Accept: application/json\r\n".to_vec();
        if hook.body.is_some() {
            fields.extend_from_slice(b"Content-Type: application/json\r\n");
        }
        snapshot
            .headers
            .write_outgoing(context.head, &Screened::nothing(), &facts, &mut fields)?;
        Ok(Self {
            view: context.view.clone(),
            upstream: hook.upstream,
            method: hook.method,
            deadline: hook.deadline,
            fields,
            host: examined.target.authority.as_bytes().to_vec(),
            body_use: if hook.fields == HookFields::Unused {
                BodyUse::No
            } else {
                BodyUse::Yes
            },
        })
    }

    /// Sends the request and reads the answer, within the hook's deadline.
    async fn call(
        &self,
        request: &HookRequest,
        permit: &Permit,
        holder: Option<(QuotaKey, &Rc<dyn QuotaHolder>)>,
    ) -> Result<HookAnswer, HookFailure> {
        let late = (HookVerdict::Failed(Denial::UpstreamTimeout), "the service did not answer in time");
        tokio::time::timeout(self.deadline, self.send(request, permit, holder))
            .await
            .unwrap_or(Err(late))
    }

    async fn send(
        &self,
        request: &HookRequest,
        permit: &Permit,
        holder: Option<(QuotaKey, &Rc<dyn QuotaHolder>)>,
    ) -> Result<HookAnswer, HookFailure> {
        let gone = (HookVerdict::Failed(Denial::Internal), "the upstream does not exist");
        let pool = self.view.upstreams.get(self.upstream.0).ok_or(gone)?;
        let body = request.body.as_deref().unwrap_or_default();
        let outgoing = Outgoing {
            now: instant(),
            holder,
            method: self.method,
            target: request.target.as_bytes(),
            client_host: &self.host,
            fields: &self.fields,
            framing: match (body.len(), self.method) {
                (0, Method::Get | Method::Head) => Framing::None,
                (length, _) => Framing::Length(length as u64),
            },
            response_timeout: self.deadline,
            idle_timeout: self.deadline,
            trailers: Trailers::Dropped,
            upgrade: None,
        };
        let answered = pool.forward(permit, outgoing, WholeBody::new(body)).await;
        let forwarded = answered.map_err(|(none, _)| {
            (
                HookVerdict::Failed(none.error.denial()),
                "the service could not be reached, or broke off",
            )
        })?;
        match hook::verdict(forwarded.head.status) {
            HookVerdict::Yes => {}
            no => return Err((no, "the service's status is a failure")),
        }
        let (endpoint, attempts) = (forwarded.endpoint, forwarded.attempts);
        let body = match self.body_use {
            BodyUse::Yes => read_body(forwarded).await?,
            BodyUse::No => {
                // The body is read although it is not used, so that the connection can be used again.
                let _ = read_body(forwarded).await;
                Vec::new()
            }
        };
        Ok(HookAnswer { body, endpoint, attempts })
    }
}

async fn read_body(mut forwarded: Forwarded<WholeBody>) -> Result<Vec<u8>, HookFailure> {
    let mut read = Vec::new();
    while let Some(chunk) = poll_fn(|cx| forwarded.body.poll_chunk(cx)).await {
        match chunk {
            Ok(Chunk::Data(data)) if data.len() > MAX_ANSWER - read.len() => {
                return Err((
                    HookVerdict::Failed(Denial::UpstreamInvalid),
                    "the service's answer is larger than 64 KiB",
                ));
            }
            Ok(Chunk::Data(data)) => read.extend_from_slice(&data),
            Ok(Chunk::Trailers(_)) => {}
            Err(_) => return Err((HookVerdict::Failed(Denial::UpstreamInvalid), "the service's answer broke off")),
        }
    }
    Ok(read)
}

/// A request body that is in memory as a whole.
struct WholeBody(Option<Bytes>);

impl WholeBody {
    fn new(body: &[u8]) -> Self {
        Self((!body.is_empty()).then(|| Bytes::copy_from_slice(body)))
    }
}

impl BodySource for WholeBody {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        Poll::Ready(self.0.take().map(|body| Ok(Chunk::Data(body))))
    }

    fn is_end(&self) -> bool {
        self.0.is_none()
    }
}
