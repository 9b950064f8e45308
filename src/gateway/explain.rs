//! Explains what would become of a request, without sending it: a worker of its own runs the very steps of every request and
//! notes them.
//!
//! That worker counts nothing, remembers nothing, notes no use, writes no line and sends nothing ([`Worker::explaining`]), and
//! leaves the path where a request would be forwarded or served. What only the moment decides is not foretold: requests in
//! flight, the caps of the store, whether an endpoint answers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::base::clock::Clock as _;
use crate::decide::authorize::{Check, Permit};
use crate::decide::headers::UriScheme;
use crate::decide::route::{Access, RouteIndex, UpstreamIndex};
use crate::telemetry::StreamKind;
use crate::wire::body::NoBody;
use crate::wire::head::{ParseStatus, RequestHead, origin_of_unread};

use super::open_stream::{AbortReason, StreamControl};
use super::response::{self, ResponseBody};
use super::worker::HeadBuffers;
use super::{
    AccessRecord, ConnectionInfo, Examined, GatewayResponse, RequestContext, Worker, WorkerParts, caller, handle, limits, refuse,
    refuse_on_route, serve,
};

mod answer;
mod mask;
mod trace;

use answer::Ages;
pub use answer::Explanation;
pub(super) use trace::Trace;
use trace::TracedEnd;

/// Explanations that may wait. Operators ask one at a time.
const MAX_QUEUED: usize = 8;

/// Longest time for one: a look-up in the store and a shared rate limit each have a shorter deadline of their own.
const DEADLINE: Duration = Duration::from_secs(5);

/// Most headers of a request that is explained; a head may have no more.
const MAX_HEADERS: usize = 100;

/// The request that is to be explained. It has no `Debug`, since it may hold credentials.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    pub method: String,
    /// `https://host[:port]/path?query`, as the client would send it. Nothing in it is normalised.
    pub url: String,
    #[serde(default)]
    pub headers: Vec<ExplainHeader>,
    /// The address that connects; without it, 127.0.0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainHeader {
    pub name: String,
    pub value: String,
    /// The operator said that the value is secret. Values that look like secrets are treated as such anyway.
    #[serde(default)]
    pub secret: bool,
}

/// A listener, as far as a request depends on it.
#[derive(Debug, Clone, Copy)]
pub struct ExplainListener {
    pub port: u16,
    pub scheme: UriScheme,
}

/// Why nothing was explained. The texts quote nothing of the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    #[error("{0}")]
    Unusable(String),
    #[error("several explanations are under way: try again")]
    Busy,
    #[error("the explanation did not end in time")]
    Late,
    #[error("this gateway explains nothing any more: it is stopping")]
    Ended,
}

struct Job {
    request: ExplainRequest,
    answer: oneshot::Sender<Result<Explanation, ExplainError>>,
}

/// Explains requests, one at a time, on a thread of its own. The thread ends when this is dropped.
#[derive(Debug)]
pub struct Explainer {
    jobs: mpsc::Sender<Job>,
}

impl Explainer {
    /// Starts the thread. The listeners are in the order of the settings.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub fn start(parts: WorkerParts, listeners: Vec<ExplainListener>) -> io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(MAX_QUEUED);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("durward-explain".to_owned()).spawn(move || {
            runtime.block_on(async {
                let worker = Worker::explaining(parts);
                while let Some(Job { request, answer }) = queue.recv().await {
                    let explained = tokio::time::timeout(DEADLINE, explain(&worker, &listeners, &request)).await;
                    // Nobody waits any more if the operator has gone away.
                    let _ = answer.send(explained.unwrap_or(Err(ExplainError::Late)));
                }
            });
        })?;
        Ok(Self { jobs })
    }

    /// Explains one request. Cancel-safe.
    ///
    /// # Errors
    /// [`ExplainError`].
    pub async fn explain(&self, request: ExplainRequest) -> Result<Explanation, ExplainError> {
        let (answer, explained) = oneshot::channel();
        self.jobs.try_send(Job { request, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ExplainError::Busy,
            mpsc::error::TrySendError::Closed(_) => ExplainError::Ended,
        })?;
        explained.await.unwrap_or(Err(ExplainError::Ended))
    }
}

/// Nothing can abort a request that is not sent.
struct Unabortable;

impl StreamControl for Unabortable {
    fn kind(&self) -> StreamKind {
        StreamKind::Http1
    }

    fn stalled_since(&self) -> Option<Instant> {
        None
    }

    fn received(&self) -> u64 {
        0
    }

    fn abort(&self, _: AbortReason) {}
}

async fn explain(worker: &Rc<Worker>, listeners: &[ExplainListener], request: &ExplainRequest) -> Result<Explanation, ExplainError> {
    let Some(trace) = &worker.trace else {
        return Err(ExplainError::Ended);
    };
    let url = SplitUrl::of(&request.url)?;
    let connection = url.connection(listeners, request.client)?;
    let written = write_head(request, &url)?;
    // A request that was given up at the deadline may have left notes.
    drop(trace.take());
    trace.begin(Check::Head);
    let mut head = RequestHead::default();
    let mut response = match head.parse(&written) {
        Ok(ParseStatus::Complete(length)) if length == written.len() => {
            let control: Rc<dyn StreamControl> = Rc::new(Unabortable);
            handle(worker, &connection, &control, &head, NoBody).await
        }
        Ok(_) => return Err(unusable("the method, the URL or a header has an empty line")),
        Err(denial) => {
            head = RequestHead::default();
            if let Some(origin) = origin_of_unread(&written) {
                head.fields.push(b"Origin", origin);
            }
            refuse(worker, &connection, &head, denial)
        }
    };
    response.add_cors_fields(&head);
    let ages = Ages {
        now: worker.clock.now(),
        max_age: worker.resolver.cached().max_age(),
        positions: worker.positions(),
    };
    answer::assemble(request, &worker.view(), &head, &response, &trace.take(), ages)
}

fn unusable(why: &str) -> ExplainError {
    ExplainError::Unusable(why.to_owned())
}

/// The parts of a URL as they were written. A library would normalise the path, and how a path is written may decide.
struct SplitUrl<'u> {
    scheme: UriScheme,
    authority: &'u str,
    /// Path and query.
    target: &'u str,
}

impl<'u> SplitUrl<'u> {
    fn of(url: &'u str) -> Result<Self, ExplainError> {
        let (scheme, rest) = if let Some(rest) = url.strip_prefix("https://") {
            (UriScheme::Https, rest)
        } else if let Some(rest) = url.strip_prefix("http://") {
            (UriScheme::Http, rest)
        } else {
            return Err(unusable(
                "the URL begins with https:// or http://, the way the client reaches the gateway",
            ));
        };
        // `https://host*` is how `OPTIONS *` is written here (RFC 9110, section 9.3.7).
        let end = rest.find(['/', '?', '#', '*']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.is_empty() || authority.contains('@') {
            return Err(unusable("the URL names a host, without user and password"));
        }
        Ok(Self {
            scheme,
            authority,
            target: if target.is_empty() { "/" } else { target },
        })
    }

    /// The connection on which such a request arrives.
    fn connection(&self, listeners: &[ExplainListener], client: Option<IpAddr>) -> Result<ConnectionInfo, ExplainError> {
        let (host, port) = match self.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, port.parse().ok()),
            _ => (self.authority, None),
        };
        let fitting = || listeners.iter().enumerate().filter(|(_, listener)| listener.scheme == self.scheme);
        let listener = fitting()
            .find(|(_, listener)| Some(listener.port) == port)
            .or_else(|| fitting().next());
        let Some((listener, _)) = listener else {
            return Err(unusable(match self.scheme {
                UriScheme::Https => {
                    "no listener of this gateway has TLS: write http:// and, if a proxy ends TLS, what the proxy sends \
                     (-H 'X-Forwarded-Proto: https' --client ITS-ADDRESS)"
                }
                UriScheme::Http => "every listener of this gateway has TLS: write https://",
            }));
        };
        let is_address = host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok();
        let names_host = self.scheme == UriScheme::Https && !is_address;
        Ok(ConnectionInfo {
            peer: SocketAddr::new(client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), 0),
            scheme: self.scheme,
            tls: None,
            sni: names_host.then(|| host.to_ascii_lowercase().into()),
            listener,
        })
    }
}

/// Writes the head as a client would, so that it is read by the same parser.
fn write_head(request: &ExplainRequest, url: &SplitUrl<'_>) -> Result<Vec<u8>, ExplainError> {
    let texts = request.headers.iter().flat_map(|header| [&header.name, &header.value]);
    if texts.chain([&request.method, &request.url]).any(|text| text.contains(['\r', '\n'])) {
        return Err(unusable("the method, the URL and headers have no line breaks"));
    }
    if request.headers.len() > MAX_HEADERS {
        return Err(unusable("at most 100 headers can be given"));
    }
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, url.target);
    if !request.headers.iter().any(|header| header.name.eq_ignore_ascii_case("host")) {
        head.push_str(&format!("Host: {}\r\n", url.authority));
    }
    for header in &request.headers {
        head.push_str(&format!("{}: {}\r\n", header.name, header.value));
    }
    head.push_str("\r\n");
    Ok(head.into_bytes())
}

/// Ends the explanation of a request that would be forwarded.
pub(super) fn would_forward<B>(
    access: AccessRecord,
    context: RequestContext<'_>,
    examined: &Examined<'_>,
    permit: &Permit,
    upstream: UpstreamIndex,
    buffers: HeadBuffers,
) -> GatewayResponse<B> {
    let HeadBuffers { fields, target } = buffers;
    let method = examined.method;
    if let Some(trace) = &context.worker.trace {
        trace.note_end(
            permit.principal(),
            TracedEnd::Upstream {
                upstream,
                method,
                target,
                fields,
            },
        );
    }
    response::no_content(access, crate::wire::fields::Fields::default())
}

/// Explains a request of a served route: its caller is judged, and the step is not run. What a body would prove is not known.
pub(super) async fn served<B>(context: RequestContext<'_>, examined: &Examined<'_>, mut access: AccessRecord) -> GatewayResponse<B> {
    let surfaces = &context.view.snapshot.surfaces;
    let permit = match serve::body_surface(surfaces, examined.route) {
        Some(_) => None,
        None => match caller::permit(context, examined, &mut access).await {
            Ok(permit) => Some(permit),
            Err(denial) => return refuse_on_route(access, context, denial),
        },
    };
    if let Some(permit) = &permit
        && let Err(denial) = limits::admit_caller(context, examined.route, permit, &mut access).await
    {
        return refuse_on_route(access, context, denial);
    }
    if let Some(trace) = &context.worker.trace {
        trace.note_end(permit.as_ref().and_then(Permit::principal), TracedEnd::Served);
    }
    response::no_content(access, crate::wire::fields::Fields::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENERS: [ExplainListener; 3] = [
        ExplainListener {
            port: 8080,
            scheme: UriScheme::Http,
        },
        ExplainListener {
            port: 8443,
            scheme: UriScheme::Https,
        },
        ExplainListener {
            port: 9443,
            scheme: UriScheme::Https,
        },
    ];

    fn split(url: &str) -> Option<(&str, &str)> {
        SplitUrl::of(url).ok().map(|url| (url.authority, url.target))
    }

    #[test]
    fn a_url_is_taken_as_it_is_written() {
        assert_eq!(
            split("https://a.example/v1/../b//c?x=/y#z"),
            Some(("a.example", "/v1/../b//c?x=/y#z"))
        );
        assert_eq!(split("http://a:8080"), Some(("a:8080", "/")));
        assert_eq!(split("http://a?x"), Some(("a", "?x")));
        assert_eq!(split("http://a*"), Some(("a", "*")));
        for url in ["a.example/x", "ftp://a/", "https:///x", "https://user:pw@a/"] {
            assert_eq!(split(url), None, "{url}");
        }
    }

    #[test]
    fn the_scheme_and_the_port_choose_the_listener() {
        let of = |url: &str, listeners: &[ExplainListener]| {
            let connection = SplitUrl::of(url).unwrap().connection(listeners, None).ok()?;
            Some((connection.listener, connection.sni.map(String::from)))
        };
        assert_eq!(of("http://a/", &LISTENERS), Some((0, None)));
        assert_eq!(of("https://A.example/", &LISTENERS), Some((1, Some("a.example".into()))));
        assert_eq!(of("https://a:9443/", &LISTENERS), Some((2, Some("a".into()))));
        assert_eq!(of("https://127.0.0.1:9443/", &LISTENERS), Some((2, None)));
        assert_eq!(of("https://a/", &LISTENERS[..1]), None);
        assert_eq!(of("http://a/", &LISTENERS[1..]), None);
    }

    #[test]
    fn no_header_begins_another_one() {
        let mut request = ExplainRequest {
            method: "GET".into(),
            url: "http://a/".into(),
            headers: vec![ExplainHeader {
                name: "X-A".into(),
                value: "1".into(),
                secret: false,
            }],
            client: None,
        };
        let url = SplitUrl::of("http://a/").unwrap();
        assert_eq!(write_head(&request, &url).unwrap(), b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n");
        request.headers[0].value = "1\r\nX-B: 2".into();
        assert!(write_head(&request, &url).is_err());
        request.headers[0] = ExplainHeader {
            name: "host".into(),
            value: "b".into(),
            secret: false,
        };
        assert_eq!(write_head(&request, &url).unwrap(), b"GET / HTTP/1.1\r\nhost: b\r\n\r\n");
    }
}
