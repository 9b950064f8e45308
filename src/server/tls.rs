//! TLS on public listeners: versions, certificates by name, tickets, and what a handshake may cost.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::snapshot::{CertificateSet, SharedSnapshot};

/// Plain text waiting to be encrypted, for each connection: what the answer writer holds at most anyway.
const BUFFER: usize = 64 * 1024;
/// A handshake keeps its slot from the end of the `ClientHello` for at most this long. Our part is
/// done by then; a client that answers slowly, or never, goes on without one, so that silent
/// clients cannot keep everybody else from shaking hands.
const SLOT_TIME: Duration = Duration::from_secs(1);

/// Where a listener's certificates come from: asked at each handshake, so a reload needs nothing else.
pub trait CertificateSource: Send + Sync + 'static {
    /// The certificates of the listener with this index, if it has any.
    fn certificates(&self, listener: usize) -> Option<Arc<CertificateSet>>;
}

impl CertificateSource for SharedSnapshot {
    fn certificates(&self, listener: usize) -> Option<Arc<CertificateSet>> {
        self.load().certificates.get(listener).cloned().flatten()
    }
}

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// It took longer than allowed.
    #[error("the handshake was not finished in time")]
    Timeout,
    /// The client went away, or what it sent is not acceptable.
    #[error("the handshake failed")]
    Failed(#[from] io::Error),
}

/// One TLS listener. Its tickets live as long as the process, across reloads: they are scoped to
/// the listener, and a ticket is refused for another server name than it was made for.
pub(super) struct TlsListener {
    config: Arc<ServerConfig>,
    slots: Arc<Semaphore>,
}

impl TlsListener {
    /// `slots` is shared by everything that shakes hands.
    ///
    /// # Errors
    /// Only if the provider lacks TLS 1.2 and 1.3 or randomness: defects of the build or the machine.
    pub(super) fn new(source: Arc<dyn CertificateSource>, listener: usize, slots: Arc<Semaphore>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByName { source, listener }));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Early data can be replayed, and a payment must not be.
        config.max_early_data_size = 0;
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        // One is what a client needs to come back; each more is a record and a seal at every handshake.
        config.send_tls13_tickets = 1;
        // With tickets nobody needs the memory.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            config: Arc::new(config),
            slots,
        })
    }

    /// Shakes hands, until `deadline`. Dropping the future closes the connection.
    pub(super) async fn accept(&self, tcp: TcpStream, deadline: Instant) -> Result<TlsStream<TcpStream>, HandshakeError> {
        tokio::time::timeout_at(deadline.into(), self.shake_hands(tcp))
            .await
            .map_err(|_| HandshakeError::Timeout)?
            .map_err(HandshakeError::Failed)
    }

    async fn shake_hands(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        // Reading the ClientHello costs next to nothing, so it needs no slot: thousands of
        // connections that never send one block nobody.
        let hello = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
        let slot = self.slots.acquire().await.map_err(io::Error::other)?;
        let mut finishing = Box::pin(hello.into_stream_with(Arc::clone(&self.config), |tls| tls.set_buffer_limit(Some(BUFFER))));
        if let Ok(done) = tokio::time::timeout(SLOT_TIME, &mut finishing).await {
            return done;
        }
        drop(slot);
        finishing.await
    }
}

/// Finds a certificate by server name.
struct ByName {
    source: Arc<dyn CertificateSource>,
    listener: usize,
}

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByName").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let set = self.source.certificates(self.listener)?;
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let usable = |key: &CertifiedKey| key.key.choose_scheme(hello.signature_schemes()).is_some();
        find_certificate(&set, name.as_deref(), usable).cloned()
    }
}

/// The certificate for a name: exact before wildcard before the first of all; of several that are
/// equally good, the first that the client can verify (RSA and ECDSA for the same name).
///
/// An unknown name is given the default rather than an alert: whether that name is served is the
/// gateway's to say, with an answer (421) instead of a broken handshake.
fn find_certificate<'a>(
    set: &'a CertificateSet,
    name: Option<&str>,
    usable: impl Fn(&CertifiedKey) -> bool,
) -> Option<&'a Arc<CertifiedKey>> {
    let wildcard = name.and_then(|name| name.split_once('.')).map(|(_, parent)| format!("*.{parent}"));
    let named = |wanted: Option<&str>| {
        let matching = set
            .entries
            .iter()
            .filter(move |(names, _)| wanted.is_some_and(|w| names.iter().any(|n| n == w)));
        let mut matching = matching.map(|(_, key)| key);
        let first = matching.clone().next();
        matching.find(|key| usable(key)).or(first)
    };
    named(name)
        .or_else(|| named(wildcard.as_deref()))
        .or_else(|| set.entries.iter().map(|(_, key)| key).find(|key| usable(key)))
        .or_else(|| set.entries.first().map(|(_, key)| key))
}

#[cfg(test)]
mod tests;
