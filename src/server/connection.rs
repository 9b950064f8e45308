//! One accepted connection: TLS if its listener has it, then the protocol that the client chose.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use rustls::ProtocolVersion;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::context::WorkerContext;
use super::counters::WorkerCounters;
use super::listener::AcceptedConnection;
use super::service::Service;
use super::tls::{ClientStream, HandshakeError, TlsListener};
use super::{h1, h2};
use crate::decide::headers::UriScheme;
use crate::gateway::ConnectionInfo;

/// Serves an accepted connection to its end. `tls` belongs to its listener, if that has TLS.
///
/// Each part is boxed, so that a connection holds the room of the part that it has reached and of no other.
pub(super) async fn serve<S: Service>(arrival: AcceptedConnection, tls: Option<Arc<TlsListener>>, context: Rc<WorkerContext<S>>) {
    let AcceptedConnection {
        stream,
        peer,
        listener,
        accepted_at,
        permit,
    } = arrival;
    let _permit = permit;
    let _open = OpenGauge::enter(&context.counters);
    let Ok(tcp) = TcpStream::from_std(stream) else { return };
    let mut connection = ConnectionInfo {
        peer,
        scheme: UriScheme::Http,
        tls: None,
        sni: None,
        listener,
    };
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let Some(tls) = tls else {
        return Box::pin(h1::serve(ClientStream::Plain(tcp), context, connection, accepted_at, waker)).await;
    };
    let deadline = accepted_at + context.limits.handshake_timeout;
    let Some(stream) = Box::pin(shake_hands(&tls, tcp, deadline, &context.counters, peer)).await else {
        return;
    };
    connection.scheme = UriScheme::Https;
    let (_, session) = stream.get_ref();
    connection.tls = session.protocol_version().and_then(tls_version);
    connection.sni = session.server_name().map(|name| name.to_ascii_lowercase().into());
    let protocol = session.alpn_protocol().map(<[u8]>::to_vec);
    // The deadline of the first request counts from here, so a slow handshake does not shorten it.
    let shaken_at = crate::base::clock::instant();
    let stream = ClientStream::Tls(stream);
    match protocol.as_deref() {
        Some(b"h2") => Box::pin(h2::serve(stream, context, connection, shaken_at)).await,
        _ => Box::pin(h1::serve(stream, context, connection, shaken_at, waker)).await,
    }
}

/// Makes the TLS handshake, and counts it. `None` if it failed.
async fn shake_hands(
    tls: &TlsListener,
    tcp: TcpStream,
    deadline: Instant,
    counters: &WorkerCounters,
    peer: SocketAddr,
) -> Option<Box<TlsStream<TcpStream>>> {
    match tls.accept(tcp, deadline).await {
        Ok(stream) => {
            counters.handshakes.add_one();
            return Some(Box::new(stream));
        }
        Err(HandshakeError::Timeout) => counters.handshakes_timed_out.add_one(),
        Err(HandshakeError::Failed(error)) => {
            counters.handshakes_failed.add_one();
            tracing::debug!(%peer, %error, "the TLS handshake failed");
        }
    }
    None
}

/// The version of TLS as entries of the audit trail show it.
const fn tls_version(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("1.2"),
        ProtocolVersion::TLSv1_3 => Some("1.3"),
        _ => None,
    }
}

/// Counts a connection as open while it exists.
struct OpenGauge(Arc<WorkerCounters>);

impl OpenGauge {
    fn enter(counters: &Arc<WorkerCounters>) -> Self {
        counters.connections.add_one();
        counters.open.add_one();
        Self(Arc::clone(counters))
    }
}

impl Drop for OpenGauge {
    fn drop(&mut self) {
        self.0.open.take_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Worker;

    /// The size of the future that a function of three arguments makes, in bytes.
    const fn future_size<A, B, C, F>(_: &impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_holds_no_more_than_the_part_that_it_has_reached() {
        let size = future_size(&serve::<Rc<Worker>>);
        assert!(size <= 768, "{size} bytes for each connection before its protocol begins");
    }
}
