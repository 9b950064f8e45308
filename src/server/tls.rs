//! TLS on public listeners: versions, certificates by name, tickets, and what a handshake may cost; and a client's byte
//! stream, plain or TLS, as one type, so that the request path is compiled once.

mod tickets;

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs;
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use self::tickets::SharedTicketer;
pub use self::tickets::TicketKeySource;
#[cfg(any(test, feature = "internals"))]
pub use self::tickets::only_made_tickets_are_read;
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

/// What the TLS listeners of a server share.
pub(super) struct TlsParts {
    pub(super) certificates: Arc<dyn CertificateSource>,
    /// Without it, tickets are good at this process only.
    pub(super) ticket_keys: Option<TicketKeySource>,
    /// A handshake takes one of these.
    pub(super) slots: Arc<Semaphore>,
}

/// One TLS listener. A reload does not change its ticket keys. Tickets are scoped to the listener, and rustls refuses a ticket
/// for another server name than the one it was made for.
pub(super) struct TlsListener {
    /// Chooses the cipher suite.
    config: Arc<ServerConfig>,
    /// Lets the client choose it.
    client_order: Arc<ServerConfig>,
    slots: Arc<Semaphore>,
}

impl TlsListener {
    /// The listener of this index and name.
    ///
    /// # Errors
    /// Only if the provider lacks TLS 1.2 and 1.3 or randomness, which are defects of the build or the machine.
    pub(super) fn new(parts: &TlsParts, index: usize, name: &str) -> Result<Self, rustls::Error> {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.sort_by_key(|suite| cipher_cost(suite.suite()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByName {
                source: Arc::clone(&parts.certificates),
                listener: index,
            }));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Early data can be replayed, and a payment must not be.
        config.max_early_data_size = 0;
        let private = aws_lc_rs::Ticketer::new()?;
        config.ticketer = match &parts.ticket_keys {
            Some(keys) => Arc::new(SharedTicketer::new(keys.clone(), name, private)),
            None => private,
        };
        // A client needs one ticket to resume. Each further ticket costs a record and an encryption at every handshake.
        config.send_tls13_tickets = 1;
        // Tickets need no memory for sessions.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let client_order = Arc::new(config.clone());
        config.ignore_client_order = true;
        Ok(Self {
            config: Arc::new(config),
            client_order,
            slots: Arc::clone(&parts.slots),
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
        let config = if prefers_chacha(hello.client_hello().cipher_suites()) {
            &self.client_order
        } else {
            &self.config
        };
        let mut finishing = Box::pin(hello.into_stream_with(Arc::clone(config), |tls| tls.set_buffer_limit(Some(BUFFER))));
        if let Ok(done) = tokio::time::timeout(SLOT_TIME, &mut finishing).await {
            return done;
        }
        drop(slot);
        finishing.await
    }
}

/// What a cipher suite costs, the cheapest first. AES-128 with SHA-256 comes first, as in what browsers offer: processors have
/// instructions for SHA-256, and few have some for SHA-384, which took a tenth of a handshake.
const fn cipher_cost(suite: CipherSuite) -> u8 {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 0,
        CipherSuite::TLS13_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => 1,
        _ => 2,
    }
}

/// Whether a client offers ChaCha20-Poly1305 first. Its processor has no instructions for AES then, and it may choose.
fn prefers_chacha(offered: &[CipherSuite]) -> bool {
    // Names without a meaning stand first in what browsers offer (RFC 8701).
    let known = offered.iter().find(|suite| !matches!(suite, CipherSuite::Unknown(_)));
    matches!(
        known,
        Some(
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        )
    )
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
        let cost = |key: &CertifiedKey| signature_cost(key, hello.signature_schemes());
        find_certificate(&set, name.as_deref(), cost).cloned()
    }
}

/// What a signature by this key costs, the cheapest first; `None` if the client can verify none.
///
/// With AWS-LC one signature took 16 us by Ed25519, 31 us by ECDSA P-256, 0.24 ms by P-384, 0.47 ms by P-521 and 0.78 ms by
/// RSA-2048. Ed25519 and P-256 count as equal, so that of two such keys the operator's order decides.
fn signature_cost(key: &CertifiedKey, offered: &[SignatureScheme]) -> Option<u8> {
    let cost = match key.key.choose_scheme(offered)?.scheme() {
        SignatureScheme::ECDSA_NISTP256_SHA256 | SignatureScheme::ED25519 => 0,
        SignatureScheme::ECDSA_NISTP384_SHA384 => 1,
        SignatureScheme::ECDSA_NISTP521_SHA512 => 2,
        _ => 3,
    };
    Some(cost)
}

/// Finds the certificate for a name: an exact name before a wildcard before the first certificate of all. Of several for one
/// name (RSA and ECDSA), the one whose signature costs least among those that the client can verify; of those that cost the
/// same, the first.
///
/// An unknown name gets the default certificate instead of an alert. The gateway then refuses the request with an
/// answer (421) instead of a broken handshake.
fn find_certificate<'a>(
    set: &'a CertificateSet,
    name: Option<&str>,
    cost: impl Fn(&CertifiedKey) -> Option<u8>,
) -> Option<&'a Arc<CertifiedKey>> {
    let wildcard = name.and_then(|name| name.split_once('.')).map(|(_, parent)| format!("*.{parent}"));
    let named = |wanted: Option<&str>| {
        let matching = set
            .entries
            .iter()
            .filter(move |(names, _)| wanted.is_some_and(|w| names.iter().any(|n| n == w)));
        let mut matching = matching.map(|(_, key)| key);
        let usable = matching.clone().filter_map(|key| cost(key).map(|cost| (cost, key)));
        // Of equal ones this is the first.
        let cheapest = usable.min_by_key(|(cost, _)| *cost).map(|(_, key)| key);
        cheapest.or_else(|| matching.next())
    };
    named(name)
        .or_else(|| named(wildcard.as_deref()))
        .or_else(|| set.entries.iter().map(|(_, key)| key).find(|key| cost(key).is_some()))
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
        key_of(&rcgen::PKCS_ECDSA_P256_SHA256)
    }

    fn key_of(algorithm: &'static rcgen::SignatureAlgorithm) -> Arc<CertifiedKey> {
        let made = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let certificate = rcgen::CertificateParams::new(["x.test".to_owned()])
            .unwrap()
            .self_signed(&made)
            .unwrap();
        let der = rustls_pki_types::PrivateKeyDer::try_from(made.serialize_der()).unwrap();
        let signing = aws_lc_rs::sign::any_supported_type(&der).unwrap();
        Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signing))
    }

    fn set(names: &[&[&str]]) -> CertificateSet {
        let entry = |names: &&[&str]| (names.iter().map(|n| (*n).to_owned()).collect(), key());
        CertificateSet {
            entries: names.iter().map(entry).collect(),
        }
    }

    fn found(set: &CertificateSet, name: Option<&str>, cost: impl Fn(&CertifiedKey) -> Option<u8>) -> Option<usize> {
        let key = find_certificate(set, name, cost)?;
        set.entries.iter().position(|(_, k)| Arc::ptr_eq(k, key))
    }

    #[test]
    fn exact_beats_wildcard_beats_default() {
        let set = set(&[&["default.test"], &["*.a.test"], &["x.a.test"]]);
        let any = |_: &CertifiedKey| Some(0);
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
        let only_second = |key: &CertifiedKey| std::ptr::eq(key, &*second).then_some(3);
        assert_eq!(found(&set, Some("a.test"), only_second), Some(1));
        assert_eq!(found(&set, Some("a.test"), |_| None), Some(0));
    }

    #[test]
    fn of_several_for_one_name_the_cheapest_that_the_client_takes_is_shown_whatever_their_order() {
        use SignatureScheme as S;
        let mut algorithms = [
            &rcgen::PKCS_RSA_SHA256,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P256_SHA256,
        ];
        for _ in 0..2 {
            let entry = |algorithm| (vec!["a.test".to_owned()], key_of(algorithm));
            let mut entries = vec![(vec!["default.test".to_owned()], key())];
            entries.extend(algorithms.map(entry));
            let set = CertificateSet { entries };
            let shown = |offered: &[S]| {
                let key = find_certificate(&set, Some("a.test"), |key| signature_cost(key, offered)).unwrap();
                key.key.choose_scheme(offered).map(|signer| signer.scheme())
            };
            let (p256, p384, p521) = (S::ECDSA_NISTP256_SHA256, S::ECDSA_NISTP384_SHA384, S::ECDSA_NISTP521_SHA512);
            assert_eq!(shown(&[S::RSA_PSS_SHA256, p521, p384, p256]), Some(p256));
            assert_eq!(shown(&[S::RSA_PSS_SHA256, p521, p384]), Some(p384));
            assert_eq!(shown(&[p521, S::RSA_PSS_SHA256]), Some(p521));
            assert_eq!(shown(&[S::RSA_PSS_SHA256]), Some(S::RSA_PSS_SHA256));
            assert_eq!(shown(&[S::RSA_PKCS1_SHA256]), Some(S::RSA_PKCS1_SHA256), "TLS 1.2");
            assert_eq!(shown(&[S::ED448]), None, "the first, which the client then refuses");
            algorithms.reverse();
        }
    }

    #[test]
    fn of_two_that_cost_the_same_the_first_is_shown_and_the_default_stays_the_first() {
        let entry = |name: &str, algorithm| (vec![name.to_owned()], key_of(algorithm));
        let offered = [
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::ED25519,
            SignatureScheme::ECDSA_NISTP256_SHA256,
        ];
        let cost = |key: &CertifiedKey| signature_cost(key, &offered);
        let pair = [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256];
        for [first, second] in [pair, [pair[1], pair[0]]] {
            let entries = vec![
                entry("rsa.test", &rcgen::PKCS_RSA_SHA256),
                entry("a.test", first),
                entry("a.test", second),
            ];
            let set = CertificateSet { entries };
            assert_eq!(found(&set, Some("a.test"), cost), Some(1));
            assert_eq!(
                found(&set, None, cost),
                Some(0),
                "clients that name nothing get the first certificate"
            );
        }
    }
}
