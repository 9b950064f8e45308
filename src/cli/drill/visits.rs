//! The requests of a drill. Each has a connection of its own, so that every gateway behind an address is reached.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::{Request, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::admin::drill::Canary;
use crate::admin::receipts::Confirmation;
use crate::base::clock::{Clock as _, SystemClock, UnixMillis, instant};
use crate::cli::failure::{Exit, Failure};

/// Most addresses of one drill: each has a loop of requests of its own.
pub(crate) const MAX_URLS: usize = 16;

/// The pause between two requests to one address. A hundred requests a second show milliseconds, and are no load.
const PACE: Duration = Duration::from_millis(10);

/// Longest time for one request, from the look-up of the name to the head of the answer.
const VISIT: Duration = Duration::from_secs(5);

/// Longest time until an address admits the canary. A new key works at once; a cold gateway takes a moment.
const ADMISSION: Duration = Duration::from_secs(10);

/// An address has stopped admitting when all its answers are refusals for this long.
const QUIET: Duration = Duration::from_secs(1);

/// The refusals must also be this many in a row, for an address that answers slowly.
const REFUSALS: u32 = 10;

/// The drill does not wait for an address that answers only 503 for this long after the revocation. It is twice the pause
/// after which a gateway looks for its store again.
const UNAVAILABLE: Duration = Duration::from_secs(5);

/// What 503 means, for the reader of a report.
pub(crate) const CANNOT_TELL: &str = "answers 503: it cannot reach its store, or is not registered there";

/// How long addresses are watched after the revocation: longer than the bound, to see that it holds.
const WATCH: Duration = Duration::from_secs(75);

/// An address that a drill calls.
pub(crate) struct DrillTarget {
    url: String,
    host: String,
    port: u16,
    authority: String,
    path: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct UrlReport {
    pub(crate) url: String,
    /// Requests made since the revocation began.
    pub(crate) requests: u64,
    /// How many of these got no answer that admits or refuses.
    pub(crate) failures: u64,
    /// When the last request that was sent after the acknowledgement and admitted was answered, in
    /// milliseconds after it; none when no such request was admitted.
    pub(crate) last_admission_ms: Option<u64>,
    /// When a refusal arrived first, in milliseconds after the acknowledgement.
    pub(crate) first_refusal_ms: Option<u64>,
    /// It answered 503 at the end of the drill. It admits no caller whom it has to look up, and what it answers later is not
    /// known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unavailable: bool,
    /// It went on refusing until the end of the drill.
    #[serde(skip)]
    quiet: bool,
}

impl UrlReport {
    /// Whether it refused, and went on refusing.
    pub(crate) const fn is_refused(&self) -> bool {
        self.first_refusal_ms.is_some() && self.quiet
    }
}

/// What one answer says about the canary. A gateway that cannot know answers 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VisitOutcome {
    Admitted,
    Refused,
    Unavailable,
    Unclear,
}

/// One request and its outcome. Times are of the wall clock of this machine, as is the time of the acknowledgement, since
/// the gateway that revokes runs here.
#[derive(Debug, Clone, Copy)]
struct Visit {
    sent: UnixMillis,
    answered: UnixMillis,
    verdict: VisitOutcome,
}

impl DrillTarget {
    /// Reads `http://` and `https://` addresses; `ca` is trusted besides the system's roots.
    pub(crate) fn parse_all(urls: &[String], ca: Option<&Path>) -> Result<Vec<Self>, Failure> {
        if urls.len() > MAX_URLS {
            return Err(Failure::new(Exit::Usage, format!("a drill takes at most {MAX_URLS} addresses")));
        }
        let secure = urls.iter().any(|url| url.starts_with("https://"));
        let connector = secure.then(|| connector(ca)).transpose()?;
        urls.iter().map(|url| Self::parse(url, connector.as_ref())).collect()
    }

    fn parse(url: &str, connector: Option<&TlsConnector>) -> Result<Self, Failure> {
        let wrong = || {
            Failure::new(
                Exit::Usage,
                format!("`{url}` is not an address like https://api.example.com/v1/orders"),
            )
        };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let (scheme, authority) = (uri.scheme_str().ok_or_else(wrong)?, uri.authority().ok_or_else(wrong)?);
        let secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(wrong()),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = match connector.filter(|_| secure) {
            Some(connector) => {
                let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
                Some((connector.clone(), name))
            }
            None => None,
        };
        Ok(Self {
            url: url.to_owned(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            path: uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned(),
            host,
            tls,
        })
    }

    /// The status of one request that carries this value.
    async fn ask(&self, field: &str, value: &str) -> io::Result<u16> {
        timeout(VISIT, async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            match &self.tls {
                Some((connector, name)) => self.exchange(connector.connect(name.clone(), stream).await?, field, value).await,
                None => self.exchange(stream, field, value).await,
            }
        })
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn exchange(&self, stream: impl AsyncRead + AsyncWrite + Unpin, field: &str, value: &str) -> io::Result<u16> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let request = Request::get(self.path.as_str())
            .header(header::HOST, self.authority.as_str())
            .header(header::CONNECTION, "close")
            .header(field, value)
            .body(Empty::<bytes::Bytes>::new())
            .map_err(io::Error::other)?;
        let mut answer = std::pin::pin!(sender.send_request(request));
        // The head of the answer is enough; the connection is closed without its body.
        tokio::select! {
            answer = answer.as_mut() => answer.map(|a| a.status().as_u16()).map_err(io::Error::other),
            ended = connection => {
                ended.map_err(io::Error::other)?;
                answer.await.map(|a| a.status().as_u16()).map_err(io::Error::other)
            }
        }
    }

    async fn visit(&self, canary: &Canary, decoy: u16) -> Visit {
        let sent = SystemClock.now().wall;
        let status = self.ask(&canary.field, &canary.value).await;
        let verdict = status.map_or(VisitOutcome::Unclear, |status| judge(status, decoy));
        Visit {
            sent,
            answered: SystemClock.now().wall,
            verdict,
        }
    }

    /// Calls the address until it admits the canary, and returns the status that a stranger gets.
    async fn wait_for_admission(&self, canary: &Canary) -> Result<u16, Failure> {
        let failed = |why: String| Failure::new(Exit::Failed, format!("{}: {why}; nothing was measured", self.url));
        let decoy = self.ask(&canary.field, &canary.decoy).await;
        let decoy = decoy.map_err(|error| failed(format!("no answer ({error})")))?;
        if decoy == 503 {
            return Err(unavailable(&self.url));
        }
        if !(400..500).contains(&decoy) {
            return Err(failed(format!("a key that nobody has is answered with {decoy}, not refused")));
        }
        let start = instant();
        loop {
            let status = self.ask(&canary.field, &canary.value).await;
            if status.as_ref().is_ok_and(|status| judge(*status, decoy) == VisitOutcome::Admitted) {
                return Ok(decoy);
            }
            if start.elapsed() >= ADMISSION {
                if status.as_ref().is_ok_and(|status| *status == 503) {
                    return Err(unavailable(&self.url));
                }
                let outcome = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                return Err(failed(format!(
                    "the canary was not admitted ({outcome}); give what the route needs with --scope"
                )));
            }
            sleep(PACE).await;
        }
    }

    /// Calls the address until it has refused for a while after the revocation, or until the longest watch is over.
    async fn watch(&self, canary: &Canary, decoy: u16, revocation: &Revocation) -> VisitLog {
        let start = instant();
        let mut log = VisitLog::default();
        let (mut last_yes, mut refusals, mut last_known) = (instant(), 0, instant());
        while start.elapsed() < WATCH {
            let visit = self.visit(canary, decoy).await;
            log.requests += 1;
            log.failures += u64::from(matches!(visit.verdict, VisitOutcome::Unclear | VisitOutcome::Unavailable));
            refusals += 1;
            if visit.verdict != VisitOutcome::Refused {
                (last_yes, refusals) = (instant(), 0);
            }
            if visit.verdict != VisitOutcome::Unavailable {
                last_known = instant();
            }
            record(&mut log.visits, visit);
            let quiet = refusals >= REFUSALS && last_yes.elapsed() >= QUIET;
            if revocation.over.load(Ordering::Acquire) && (quiet || last_known.elapsed() >= UNAVAILABLE) {
                break;
            }
            sleep(PACE).await;
        }
        log
    }
}

/// What was seen at one address since the revocation began.
#[derive(Default)]
struct VisitLog {
    requests: u64,
    failures: u64,
    visits: Vec<Visit>,
}

/// Stores the visits that decide: where the outcome changes, and the last visit before each change.
fn record(visits: &mut Vec<Visit>, visit: Visit) {
    match visits.as_slice() {
        [.., before, last] if before.verdict == visit.verdict && last.verdict == visit.verdict => {
            if let Some(last) = visits.last_mut() {
                *last = visit;
            }
        }
        _ => visits.push(visit),
    }
}

fn unavailable(url: &str) -> Failure {
    Failure::new(Exit::Unavailable, format!("{url} {CANNOT_TELL}; nothing was measured"))
}

fn judge(status: u16, decoy: u16) -> VisitOutcome {
    match status {
        401 | 403 => VisitOutcome::Refused,
        refused if refused == decoy => VisitOutcome::Refused,
        503 => VisitOutcome::Unavailable,
        // "Too many requests" says nothing about the credential.
        429 | 500.. => VisitOutcome::Unclear,
        _ => VisitOutcome::Admitted,
    }
}

/// How far the revocation is.
struct Revocation {
    over: AtomicBool,
    acknowledged: AtomicI64,
}

/// Lets every address admit the canary, revokes it, and watches what they do.
///
/// # Errors
/// [`Failure`] when an address does not admit it, or as `revoke` fails.
pub(crate) fn watch<T: Send + 'static>(
    targets: &[DrillTarget],
    canary: &Canary,
    revoke: impl FnOnce() -> Result<Confirmation<T>, Failure> + Send + 'static,
) -> Result<(Confirmation<T>, Vec<UrlReport>), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(Exit::Failed, format!("no runtime: {e}")))?;
    runtime.block_on(async {
        let admissions = join_all(targets.iter().map(|target| target.wait_for_admission(canary))).await;
        let decoys: Vec<u16> = admissions.into_iter().collect::<Result<_, _>>()?;
        let revocation = Revocation {
            over: AtomicBool::new(false),
            acknowledged: AtomicI64::new(0),
        };
        let revoking = async {
            let waited = tokio::task::spawn_blocking(revoke).await;
            let waited = waited.unwrap_or_else(|_| Err(Failure::new(Exit::Failed, "the revocation failed inside")));
            let at = waited
                .as_ref()
                .ok()
                .and_then(|waited| waited.acknowledged_at.parse::<jiff::Timestamp>().ok());
            revocation
                .acknowledged
                .store(at.map_or(0, jiff::Timestamp::as_millisecond), Ordering::Release);
            revocation.over.store(true, Ordering::Release);
            waited
        };
        let watching = targets.iter().zip(&decoys);
        let watching = join_all(watching.map(|(target, decoy)| target.watch(canary, *decoy, &revocation)));
        let (waited, visits) = tokio::join!(revoking, watching);
        let acknowledged = UnixMillis(revocation.acknowledged.load(Ordering::Acquire));
        let reports = targets.iter().zip(visits);
        let reports = reports.map(|(target, log)| summarise(&target.url, &log, acknowledged));
        Ok((waited?, reports.collect()))
    })
}

fn summarise(url: &str, log: &VisitLog, acknowledged: UnixMillis) -> UrlReport {
    let visits = log.visits.as_slice();
    let after = |at: UnixMillis| u64::try_from(at.0.saturating_sub(acknowledged.0)).unwrap_or(0);
    let is = |verdict: VisitOutcome| move |visit: &&Visit| visit.verdict == verdict;
    let late = |visit: &&Visit| visit.sent > acknowledged;
    UrlReport {
        url: url.to_owned(),
        requests: log.requests,
        failures: log.failures,
        last_admission_ms: visits
            .iter()
            .filter(is(VisitOutcome::Admitted))
            .filter(late)
            .map(|visit| after(visit.answered))
            .max(),
        first_refusal_ms: visits.iter().find(is(VisitOutcome::Refused)).map(|visit| after(visit.answered)),
        unavailable: visits.last().is_some_and(|visit| visit.verdict == VisitOutcome::Unavailable),
        quiet: visits.last().is_some_and(|visit| visit.verdict == VisitOutcome::Refused),
    }
}

/// TLS with the system's roots and those of a file.
fn connector(ca: Option<&Path>) -> Result<TlsConnector, Failure> {
    let wrong = |why: String| Failure::new(Exit::Usage, why);
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(ca) = ca {
        let unreadable = |error| wrong(format!("{} holds no certificates: {error}", ca.display()));
        for certificate in CertificateDer::pem_file_iter(ca).map_err(unreadable)? {
            roots.add(certificate.map_err(unreadable)?).map_err(|e| wrong(e.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests;
