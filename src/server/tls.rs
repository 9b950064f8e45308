//! TLS on public listeners: versions, certificates by name, tickets, and what a handshake may cost; and a client's byte
//! stream, plain or TLS, as one type, so that the request path is compiled once.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::snapshot::{CertificateSet, SharedSnapshot};

/// Plain text that waits to be encrypted, for each connection: as much as the response writer buffers.
const BUFFER: usize = 64 * 1024;
/// A handshake holds its slot for at most this long after the `ClientHello`. The gateway's part is done by then. A
/// client that answers slowly, or never, goes on without a slot, so that silent clients cannot keep all others from
/// shaking hands.
const SLOT_TIME: Duration = Duration::from_secs(1);

/// Where a listener's certificates come from. It is asked at each handshake, so a reload needs nothing else.
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
    /// The client went away, or sent something that is not acceptable.
    #[error("the handshake failed")]
    Failed(#[from] io::Error),
}

/// One TLS listener. Its ticket keys live as long as the process, across reloads. Tickets are scoped to the listener,
/// and a ticket is refused for another server name than the one it was made for.
pub(super) struct TlsListener {
    config: Arc<ServerConfig>,
    slots: Arc<Semaphore>,
}

impl TlsListener {
    /// All TLS listeners share `slots`.
    ///
    /// # Errors
    /// Only if the provider lacks TLS 1.2 and 1.3 or randomness, which are defects of the build or the machine.
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
        // A client needs one ticket to resume. Each further ticket costs a record and an encryption at every handshake.
        config.send_tls13_tickets = 1;
        // Tickets need no memory for sessions.
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
        // Reading the ClientHello costs next to nothing, so it needs no slot: thousands of connections that never send
        // one block no other client.
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

/// Finds the certificate for a name: an exact name before a wildcard before the first certificate of all. Of several
/// that are equally good, the first one that the client can verify (RSA and ECDSA for the same name).
///
/// An unknown name gets the default certificate instead of an alert. The gateway then refuses the request with an
/// answer (421) instead of a broken handshake.
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

/// A client's byte stream.
pub(super) enum ClientStream {
    Plain(TcpStream),
    /// Boxed, since the TLS stream is large and the plain one is small.
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            ClientStream::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            ClientStream::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Arc<CertifiedKey> {
        let made = rcgen::generate_simple_self_signed(["x.test".to_owned()]).unwrap();
        let der = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let signing = aws_lc_rs::sign::any_supported_type(&der).unwrap();
        Arc::new(CertifiedKey::new(vec![made.cert.der().clone()], signing))
    }

    fn set(names: &[&[&str]]) -> CertificateSet {
        let entry = |names: &&[&str]| (names.iter().map(|n| (*n).to_owned()).collect(), key());
        CertificateSet {
            entries: names.iter().map(entry).collect(),
        }
    }

    fn found(set: &CertificateSet, name: Option<&str>, usable: impl Fn(&CertifiedKey) -> bool) -> Option<usize> {
        let key = find_certificate(set, name, usable)?;
        set.entries.iter().position(|(_, k)| Arc::ptr_eq(k, key))
    }

    #[test]
    fn exact_beats_wildcard_beats_default() {
        let set = set(&[&["default.test"], &["*.a.test"], &["x.a.test"]]);
        let any = |_: &CertifiedKey| true;
        assert_eq!(found(&set, Some("x.a.test"), any), Some(2));
        assert_eq!(found(&set, Some("y.a.test"), any), Some(1));
        assert_eq!(found(&set, Some("z.y.a.test"), any), Some(0), "a wildcard is for one label");
        assert_eq!(found(&set, Some("a.test"), any), Some(0));
        assert_eq!(found(&set, Some("unknown.test"), any), Some(0));
        assert_eq!(found(&set, None, any), Some(0));
        assert_eq!(found(&CertificateSet { entries: Vec::new() }, None, any), None);
    }

    #[test]
    fn of_two_for_one_name_the_usable_one_is_taken() {
        let set = set(&[&["a.test"], &["a.test"]]);
        let second = Arc::clone(&set.entries[1].1);
        assert_eq!(found(&set, Some("a.test"), |key| std::ptr::eq(key, &*second)), Some(1));
        assert_eq!(found(&set, Some("a.test"), |_| false), Some(0));
    }
}
