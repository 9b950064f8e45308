//! The sample upstream: an escrow service that answers with what it was sent.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::admin::http::{AdminReply, AdminService, Bounds, Listener, serve};
use crate::cli::failure::{Exit, Failure};

/// Every worker of a gateway may hold a few hundred connections.
const BOUNDS: Bounds = Bounds {
    connections: 1_024,
    age: Duration::from_secs(3_600),
};

/// A running sample upstream; ends when dropped.
#[derive(Debug)]
pub(crate) struct SampleUpstream {
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SampleUpstream {
    /// Starts it on a socket that listens already, on a thread of its own as a service behind would be.
    pub(crate) fn start(listener: TcpListener) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        listener.set_nonblocking(true)?;
        let listener = {
            let _context = runtime.enter();
            Listener::Tcp(tokio::net::TcpListener::from_std(listener)?)
        };
        let thread = std::thread::Builder::new()
            .name("sample-upstream".into())
            .spawn(move || runtime.block_on(serve(listener, BOUNDS, Arc::new(Echo), stopped)))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for SampleUpstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by its hook.
            let _ = thread.join();
        }
    }
}

/// `durward sample-upstream`: serves until SIGINT or SIGTERM.
pub(crate) fn run(listen: SocketAddr) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Failed, format!("the sample upstream on {listen}: {error}"));
    let listener = TcpListener::bind(listen).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let escrow = SampleUpstream::start(listener).map_err(failed)?;
    // A closed standard error is no reason to stop.
    let _ = writeln!(io::stderr(), "sample upstream on http://{address}");
    let waited = wait_for_signal().map_err(failed);
    drop(escrow);
    waited
}

fn wait_for_signal() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    })
}

/// Answers with the request it was sent.
#[derive(Debug)]
struct Echo;

impl AdminService for Echo {
    async fn answer(&self, request: Request<Incoming>) -> AdminReply {
        let (head, mut body) = request.into_parts();
        let mut length: u64 = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return AdminReply::json(400, &json!({ "error": "the body broke off" }));
            };
            length += frame.data_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(0));
        }
        let headers: Vec<Value> = head
            .headers
            .iter()
            .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
            .collect();
        AdminReply::json(
            200,
            &json!({
                "service": "escrow",
                "method": head.method.as_str(),
                "path": head.uri.path(),
                "query": head.uri.query(),
                "headers": headers,
                "body_length": length,
            }),
        )
    }
}
