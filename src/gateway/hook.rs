//! Hooks of served routes: a service is asked before the step of an issuer, or told after it, over the
//! connections that forwarded requests use.

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
use crate::upstream::holders::{Caller, Holder};
use crate::upstream::{Forwarded, Outgoing};
use crate::wire::body::{BodyError, BodySource, Chunk};
use crate::wire::framing::Framing;

use super::worker::{View, Worker};
use super::{Asked, Examined, Exchange};

/// Most calls at a time of one worker that have a hook after the step: as many as the process runs calls of issuers.
const MAX_TELLINGS: usize = 256;

/// Asks the service of a hook before anything is made. Returns the values of its answer that the template may use.
///
/// # Errors
/// The denial that the service's refusal means; and the one that its failure means, if the hook refuses on failure.
pub(super) async fn ask(
    asked: Asked<'_>,
    examined: &Examined<'_>,
    permit: &Permit,
    (hook, call): (&Hook, &ServedCall),
    exchange: &mut Exchange,
) -> Result<Json, Denial> {
    let errand = match hook::question(hook, call) {
        Ok(errand) => errand,
        // A value of the call cannot stand in the path, so the service has nothing of that name.
        Err(Denial::NotFound) if hook.on_failure == OnFailure::GoOn => return Ok(hook::nothing(&hook.fields)),
        Err(denial) => return Err(denial),
    };
    let template = Template::write(asked, examined, permit, hook, exchange)?;
    exchange.note_upstream(hook.upstream);
    let heard = template.run(&errand, permit, exchange.holder()).await;
    if let Ok(heard) = &heard {
        exchange.note_forwarded(hook.upstream, heard.endpoint, heard.attempts);
    }
    let read = |heard: Heard| {
        hook::read(&hook.fields, &heard.body).map_err(|denial| (HookVerdict::Failed(denial), "what it answered is no JSON object"))
    };
    match heard.and_then(read) {
        Ok(told) => Ok(told),
        Err((HookVerdict::Failed(denial), why)) => {
            note_failure(asked.worker, exchange.request_id(), (denial, why));
            match hook.on_failure {
                OnFailure::Refuse => Err(denial),
                OnFailure::GoOn => Ok(hook::nothing(&hook.fields)),
            }
        }
        Err((HookVerdict::No(denial), _)) => Err(denial),
        Err((HookVerdict::Yes, _)) => Err(Denial::Internal),
    }
}

/// Takes the step of the issuer, then tells the service. Both run to their end even if the client leaves meanwhile.
///
/// # Errors
/// As [`Engine::serve`](crate::issue::engine::Engine::serve). If the hook refuses on failure, also the denial that
/// the service's refusal or failure means; what was made is ended again then.
pub(super) async fn serve_and_tell(
    asked: Asked<'_>,
    examined: &Examined<'_>,
    permit: Permit,
    (hook, call): (&Hook, ServedCall),
    exchange: &Exchange,
) -> Result<Served, IssueError> {
    // Written now, since the client's request may be gone when path and body are known.
    let template = Template::write(asked, examined, &permit, hook, exchange)?;
    let telling = Telling {
        worker: asked.worker.clone(),
        request_id: exchange.request_id().to_owned(),
        on_failure: hook.on_failure,
        permit,
        template,
    };
    asked.worker.tellings.run(telling, call).await
}

/// The outcome of a call, and the permit under which it was made.
pub(super) type Served = (Result<Issued, IssueError>, Permit);

/// A call that runs in a task of its own: it is made, then its service is told.
struct Telling {
    worker: Rc<Worker>,
    request_id: String,
    on_failure: OnFailure,
    permit: Permit,
    template: Template,
}

/// The tasks of calls whose service is told. Their worker owns them, and waits for them when it ends.
#[derive(Default)]
pub(super) struct Tellings {
    tasks: RefCell<JoinSet<()>>,
    /// How many tasks run; at most [`MAX_TELLINGS`].
    open: Rc<Cell<usize>>,
}

impl Tellings {
    /// Drops the tasks that have ended.
    pub(super) fn reap(&self) {
        let mut tasks = self.tasks.borrow_mut();
        while tasks.try_join_next().is_some() {}
    }

    /// Waits for all tasks. No new one is started meanwhile: the worker has no connection any more.
    pub(super) async fn settle(&self) {
        let mut tasks = self.tasks.take();
        while tasks.join_next().await.is_some() {}
    }

    async fn run(&self, telling: Telling, call: ServedCall) -> Result<Served, IssueError> {
        if self.open.get() >= MAX_TELLINGS {
            return Err(Denial::Overloaded.into());
        }
        let (tell, told) = oneshot::channel();
        let place = Place::take(&self.open);
        self.tasks.borrow_mut().spawn_local(async move {
            let _place = place;
            let issued = telling.take_step(call).await;
            // If the client is gone, nobody waits for this.
            let _ = tell.send((issued, telling.permit));
        });
        told.await.map_err(|_| Denial::Internal.into())
    }
}

/// One of the [`MAX_TELLINGS`] places; given back when dropped.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(open.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Telling {
    async fn take_step(&self, call: ServedCall) -> Result<Issued, IssueError> {
        let mut issued = self.worker.engine.serve(call).await?;
        let Some(HookNotification { errand, made }) = issued.news.take() else {
            return Ok(issued);
        };
        let told = match errand {
            Some(errand) => self.template.run(&errand, &self.permit, None).await.map(drop),
            None => Err((HookVerdict::Failed(Denial::NotFound), "its path cannot be written")),
        };
        let Err((HookVerdict::No(denial) | HookVerdict::Failed(denial), why)) = told else {
            return Ok(issued);
        };
        note_failure(&self.worker, &self.request_id, (denial, why));
        if self.on_failure == OnFailure::GoOn {
            return Ok(issued);
        }
        if let Err(stop) = self.worker.engine.take_back(made).await {
            tracing::error!(request_id = %self.request_id, done = %issued.done, "what a service was not told of could not be ended");
            return Err(stop);
        }
        Err(denial.into())
    }
}

fn note_failure(worker: &Worker, request_id: &str, (denial, why): (Denial, &str)) {
    worker.telemetry.fail_hook();
    tracing::warn!(%request_id, denial = denial.label(), reason = why, "a hook failed");
}

/// A request to a hook's service with everything but path and body, which the [`HookRequest`] has.
struct Template {
    view: Rc<View>,
    upstream: UpstreamIndex,
    method: Method,
    deadline: Duration,
    fields: Vec<u8>,
    host: Vec<u8>,
    used: Used,
}

/// Whether values of the answer's body are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Used {
    Yes,
    No,
}

/// The answer of a service that agreed.
struct Heard {
    body: Vec<u8>,
    endpoint: usize,
    attempts: u32,
}

/// A service's refusal or failure, and the reason for the log.
type Unheard = (HookVerdict, &'static str);

impl Template {
    /// Writes what a forwarded request of this caller would have: the same identity, request id and origin. None of the
    /// client's own fields is among it.
    ///
    /// # Errors
    /// As [`HeaderPolicy::write_outgoing`](crate::decide::headers::HeaderPolicy::write_outgoing).
    fn write(asked: Asked<'_>, examined: &Examined<'_>, permit: &Permit, hook: &Hook, exchange: &Exchange) -> Result<Self, Denial> {
        let snapshot = &asked.view.snapshot;
        let surface = exchange.surface().and_then(|index| snapshot.surfaces.get(index.0));
        let facts = OutgoingHead {
            principal: permit.principal().zip(surface),
            origin: examined.origin,
            peer: asked.connection.peer.ip(),
            scheme: asked.connection.scheme,
            request_id: exchange.request_id(),
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
            .write_outgoing(asked.head, &Screened::nothing(), &facts, &mut fields)?;
        Ok(Self {
            view: asked.view.clone(),
            upstream: hook.upstream,
            method: hook.method,
            deadline: hook.deadline,
            fields,
            host: examined.target.authority.as_bytes().to_vec(),
            used: if hook.fields == HookFields::Unused { Used::No } else { Used::Yes },
        })
    }

    /// Sends the request and reads the answer, within the hook's deadline.
    async fn run(&self, errand: &HookRequest, permit: &Permit, holder: Option<(Caller, &Rc<dyn Holder>)>) -> Result<Heard, Unheard> {
        let late = (HookVerdict::Failed(Denial::UpstreamTimeout), "it did not answer in time");
        tokio::time::timeout(self.deadline, self.send(errand, permit, holder))
            .await
            .unwrap_or(Err(late))
    }

    async fn send(&self, errand: &HookRequest, permit: &Permit, holder: Option<(Caller, &Rc<dyn Holder>)>) -> Result<Heard, Unheard> {
        let gone = (HookVerdict::Failed(Denial::Internal), "there is no such service");
        let pool = self.view.upstreams.get(self.upstream.0).ok_or(gone)?;
        let body = errand.body.as_deref().unwrap_or_default();
        let outgoing = Outgoing {
            now: instant(),
            holder,
            method: self.method,
            target: errand.target.as_bytes(),
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
        let forwarded =
            answered.map_err(|(none, _)| (HookVerdict::Failed(none.error.denial()), "it could not be reached, or broke off"))?;
        match hook::verdict(forwarded.head.status) {
            HookVerdict::Yes => {}
            no => return Err((no, "its status says so")),
        }
        let (endpoint, attempts) = (forwarded.endpoint, forwarded.attempts);
        let body = match self.used {
            Used::Yes => read_body(forwarded).await?,
            Used::No => {
                // Read all the same, so that the connection can be used again.
                let _ = read_body(forwarded).await;
                Vec::new()
            }
        };
        Ok(Heard { body, endpoint, attempts })
    }
}

async fn read_body(mut forwarded: Forwarded<WholeBody>) -> Result<Vec<u8>, Unheard> {
    let mut read = Vec::new();
    while let Some(chunk) = poll_fn(|cx| forwarded.body.poll_chunk(cx)).await {
        match chunk {
            Ok(Chunk::Data(data)) if data.len() > MAX_ANSWER - read.len() => {
                return Err((HookVerdict::Failed(Denial::UpstreamInvalid), "its answer is larger than 64 KiB"));
            }
            Ok(Chunk::Data(data)) => read.extend_from_slice(&data),
            Ok(Chunk::Trailers(_)) => {}
            Err(_) => return Err((HookVerdict::Failed(Denial::UpstreamInvalid), "its answer broke off")),
        }
    }
    Ok(read)
}

/// A request body that is known as a whole.
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
