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
use crate::issue::call::{Call, Issued, News, Stop};
use crate::issue::hook::{self, Errand, MAX_ANSWER, Verdict};
use crate::issue::spec::hook::{Hook, HookFields, OnFailure};
use crate::upstream::holders::{Caller, Holder};
use crate::upstream::{Forwarded, Outgoing};
use crate::wire::body::{BodyError, BodySource, Chunk};
use crate::wire::framing::Framing;

use super::worker::{View, Worker};
use super::{Asked, Examined, Exchange};

/// Calls of one worker whose service is to be told, at a time: as many as the process runs calls of issuers.
const MAX_TELLINGS: usize = 256;

/// Asks the service of a hook before anything is made: what its answer lets the template use.
///
/// # Errors
/// What the service's no means, or its failure where that refuses.
pub(super) async fn ask(
    asked: Asked<'_>,
    examined: &Examined<'_>,
    permit: &Permit,
    (hook, call): (&Hook, &Call),
    exchange: &mut Exchange,
) -> Result<Json, Denial> {
    let sent = match hook::question(hook, call) {
        Ok(errand) => Sent::write(asked, examined, permit, (hook, errand), exchange)?,
        // A path that cannot be written names nothing.
        Err(Denial::NotFound) if hook.on_failure == OnFailure::GoOn => return Ok(hook::nothing(&hook.fields)),
        Err(denial) => return Err(denial),
    };
    exchange.note_upstream(hook.upstream);
    let heard = sent.run(permit, exchange.holder()).await;
    if let Ok(heard) = &heard {
        exchange.note_forwarded(hook.upstream, heard.endpoint, heard.attempts);
    }
    let read = |heard: Heard| {
        hook::read(&hook.fields, &heard.body).map_err(|denial| (Verdict::Failed(denial), "what it answered is no JSON object"))
    };
    match heard.and_then(read) {
        Ok(told) => Ok(told),
        Err((Verdict::Failed(denial), why)) => {
            note_failure(asked.worker, exchange.request_id(), (denial, why));
            match hook.on_failure {
                OnFailure::Refuse => Err(denial),
                OnFailure::GoOn => Ok(hook::nothing(&hook.fields)),
            }
        }
        Err((Verdict::No(denial), _)) => Err(denial),
        Err((Verdict::Yes, _)) => Err(Denial::Internal),
    }
}

/// Takes the step, then tells the service. Both are done to their end, also when the client leaves meanwhile.
///
/// # Errors
/// As [`Engine::serve`](crate::issue::engine::Engine::serve); and what the service's no or its failure means where
/// that refuses: what was made is ended again then.
pub(super) async fn serve_and_tell(
    asked: Asked<'_>,
    examined: &Examined<'_>,
    permit: Permit,
    (hook, call): (&Hook, Call),
    exchange: &Exchange,
) -> Result<Served, Stop> {
    let blank = Errand {
        target: String::new(),
        body: None,
    };
    // Everything but path and body is written now: the request may be gone when they are known.
    let sent = Sent::write(asked, examined, &permit, (hook, blank), exchange)?;
    let telling = Telling {
        worker: asked.worker.clone(),
        request_id: exchange.request_id().to_owned(),
        on_failure: hook.on_failure,
        permit,
        sent,
    };
    asked.worker.tellings.run(telling, call).await
}

/// What became of a call, and the permit that it was made by.
pub(super) type Served = (Result<Issued, Stop>, Permit);

/// A call that is made, and told, by itself.
struct Telling {
    worker: Rc<Worker>,
    request_id: String,
    on_failure: OnFailure,
    permit: Permit,
    sent: Sent,
}

/// Calls whose service is told, and what becomes of them; owned by their worker, which waits for them when it ends.
#[derive(Default)]
pub(super) struct Tellings {
    tasks: RefCell<JoinSet<()>>,
    /// How many there are.
    open: Rc<Cell<usize>>,
}

impl Tellings {
    /// Forgets those that are over.
    pub(super) fn reap(&self) {
        let mut tasks = self.tasks.borrow_mut();
        while tasks.try_join_next().is_some() {}
    }

    /// Waits for all of them. No new one comes while it waits: the worker has no connection any more.
    pub(super) async fn settle(&self) {
        let mut tasks = self.tasks.take();
        while tasks.join_next().await.is_some() {}
    }

    async fn run(&self, telling: Telling, call: Call) -> Result<Served, Stop> {
        if self.open.get() >= MAX_TELLINGS {
            return Err(Denial::Overloaded.into());
        }
        let (tell, told) = oneshot::channel();
        let place = Place::take(&self.open);
        self.tasks.borrow_mut().spawn_local(async move {
            let _place = place;
            let issued = telling.take_step(call).await;
            // Nobody waits any more if the client is gone.
            let _ = tell.send((issued, telling.permit));
        });
        told.await.map_err(|_| Denial::Internal.into())
    }
}

/// One of [`MAX_TELLINGS`].
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
    async fn take_step(&self, call: Call) -> Result<Issued, Stop> {
        let mut issued = self.worker.engine.serve(call).await?;
        let Some(News { errand, made }) = issued.news.take() else {
            return Ok(issued);
        };
        let told = match errand {
            Some(errand) => self.sent.with(errand).run(&self.permit, None).await.map(drop),
            None => Err((Verdict::Failed(Denial::NotFound), "its path cannot be written")),
        };
        let Err((Verdict::No(denial) | Verdict::Failed(denial), why)) = told else {
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

/// A request of a hook, with everything that it says of its caller.
#[derive(Clone)]
struct Sent {
    view: Rc<View>,
    upstream: UpstreamIndex,
    method: Method,
    deadline: Duration,
    fields: Vec<u8>,
    host: Vec<u8>,
    used: Used,
    errand: Errand,
}

/// Whether the body of the answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Used {
    Yes,
    No,
}

/// A service's yes.
struct Heard {
    body: Vec<u8>,
    endpoint: usize,
    attempts: u32,
}

/// A service's no, or its failure, with its reason in words.
type Unheard = (Verdict, &'static str);

impl Sent {
    /// The request as this caller's forwarded ones would be: the same identity, id and origin, and none of the
    /// client's own fields.
    ///
    /// # Errors
    /// As [`HeaderPolicy::write_outgoing`](crate::decide::headers::HeaderPolicy::write_outgoing).
    fn write(
        asked: Asked<'_>,
        examined: &Examined<'_>,
        permit: &Permit,
        (hook, errand): (&Hook, Errand),
        exchange: &Exchange,
    ) -> Result<Self, Denial> {
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
            errand,
        })
    }

    fn with(&self, errand: Errand) -> Self {
        Self { errand, ..self.clone() }
    }

    /// Sends it and reads the answer.
    async fn run(&self, permit: &Permit, holder: Option<(Caller, &Rc<dyn Holder>)>) -> Result<Heard, Unheard> {
        let late = (Verdict::Failed(Denial::UpstreamTimeout), "it did not answer in time");
        tokio::time::timeout(self.deadline, self.send(permit, holder))
            .await
            .unwrap_or(Err(late))
    }

    async fn send(&self, permit: &Permit, holder: Option<(Caller, &Rc<dyn Holder>)>) -> Result<Heard, Unheard> {
        let gone = (Verdict::Failed(Denial::Internal), "there is no such service");
        let pool = self.view.upstreams.get(self.upstream.0).ok_or(gone)?;
        let body = self.errand.body.as_deref().unwrap_or_default();
        let outgoing = Outgoing {
            now: instant(),
            holder,
            method: self.method,
            target: self.errand.target.as_bytes(),
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
        let forwarded = answered.map_err(|(error, _)| (Verdict::Failed(error.error.denial()), "it could not be reached, or broke off"))?;
        match hook::verdict(forwarded.head.status) {
            Verdict::Yes => {}
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
                return Err((Verdict::Failed(Denial::UpstreamInvalid), "its answer is larger than 64 KiB"));
            }
            Ok(Chunk::Data(data)) => read.extend_from_slice(&data),
            Ok(Chunk::Trailers(_)) => {}
            Err(_) => return Err((Verdict::Failed(Denial::UpstreamInvalid), "its answer broke off")),
        }
    }
    Ok(read)
}

/// A body that is there as a whole.
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
