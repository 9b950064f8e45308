//! One connection to an endpoint: its byte stream, the buffers it keeps between requests, its timer.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::client::TlsStream;

/// Room for the first reads, and all that an idle connection keeps. Most answers of an API fit, and 1,000 idle
/// connections cost 8 MiB.
const READ_SMALL: usize = 8 * 1024;
/// Room for the reads of a connection that keeps filling it. Above 64 KiB a larger read saves little, since the
/// kernel's share of the work no longer falls. Below it a download costs more system calls.
const READ_LARGE: usize = 64 * 1024;

/// How bytes travel.
pub(super) enum EndpointStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Whether an idle connection may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Idleness {
    /// Nothing has come from the endpoint.
    Quiet,
    /// The endpoint has closed it, or has sent bytes that belong to no request.
    Dead,
}

pub(super) struct UpstreamConnection {
    transport: EndpointStream,
    /// Bytes received and not yet taken.
    pub(super) input: BytesMut,
    /// The head and the small body of the next request. The buffer is kept for its allocation.
    pub(super) output: Vec<u8>,
    pub(super) timer: ExpiryTimer,
    read_size: usize,
}

impl UpstreamConnection {
    pub(super) fn new(transport: EndpointStream) -> Box<Self> {
        Box::new(Self {
            transport,
            input: BytesMut::new(),
            output: Vec::new(),
            timer: ExpiryTimer::default(),
            read_size: READ_SMALL,
        })
    }

    /// Reads once into [`Self::input`]; 0 is the end. The room doubles with each read that fills it.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // A buffer whose chunks have all been dropped is reclaimed here. An empty buffer is read into from its
        // beginning, which is still in the processor's caches. A new buffer for each small read is not made while its
        // chunks live, since a client that reads slowly would hold a whole buffer for each.
        let reclaimed = self.input.is_empty() && self.input.try_reclaim(self.read_size);
        if !reclaimed && self.input.capacity() - self.input.len() < self.read_size / 2 {
            self.input.reserve(self.read_size);
        }
        let room = self.input.capacity() - self.input.len();
        let polled = match &mut self.transport {
            EndpointStream::Plain(stream) => pin!(stream.read_buf(&mut self.input)).poll(cx),
            EndpointStream::Tls(stream) => pin!(stream.read_buf(&mut self.input)).poll(cx),
        };
        if matches!(polled, Poll::Ready(Ok(n)) if n == room) {
            self.read_size = (self.read_size * 2).min(READ_LARGE);
        }
        polled
    }

    /// Writes once. A single slice is written by a plain write, since a vectored one costs more without a benefit.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        fn write<S: AsyncWrite + Unpin>(stream: &mut S, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
            match parts {
                [one] => Pin::new(stream).poll_write(cx, one),
                parts => Pin::new(stream).poll_write_vectored(cx, parts),
            }
        }
        match &mut self.transport {
            EndpointStream::Plain(stream) => write(stream, cx, parts),
            EndpointStream::Tls(stream) => write(stream.as_mut(), cx, parts),
        }
    }

    /// Flushes what TLS still holds. There is nothing to do on a plain connection.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            EndpointStream::Plain(_) => Poll::Ready(Ok(())),
            EndpointStream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            EndpointStream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            EndpointStream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }

    /// Whether the endpoint has closed the connection or sent bytes, as far as the runtime already knows. A quiet
    /// connection costs no system call.
    pub(super) fn idleness(&mut self) -> Idleness {
        match &mut self.transport {
            EndpointStream::Plain(stream) => match stream.try_read(&mut [0; 1]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Idleness::Quiet,
                _ => Idleness::Dead,
            },
            // Session tickets and key updates are read here as well. The connection stays usable after them.
            EndpointStream::Tls(_) => match self.poll_read(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => Idleness::Quiet,
                Poll::Ready(_) => Idleness::Dead,
            },
        }
    }

    /// Frees the room that a long body needed, before the connection becomes idle.
    pub(super) fn shrink(&mut self) {
        if self.read_size > READ_SMALL {
            self.read_size = READ_SMALL;
            self.input = BytesMut::new();
        }
        if self.output.capacity() > READ_LARGE {
            self.output = Vec::new();
        }
    }
}

/// One timer for the life of the connection. It is moved forward only when it fires too early, so that the deadline of
/// each request costs no work in the timer wheel.
#[derive(Default)]
pub(super) struct ExpiryTimer {
    armed: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl ExpiryTimer {
    /// Ready when `deadline` has passed. Otherwise the task is woken then.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let (armed, sleep) = self.armed.get_or_insert_with(|| {
            let sleep = tokio::time::sleep_until(deadline.into());
            (deadline, Box::pin(sleep))
        });
        if deadline < *armed {
            *armed = deadline;
            sleep.as_mut().reset(deadline.into());
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if *armed >= deadline {
                return Poll::Ready(());
            }
            *armed = deadline;
            sleep.as_mut().reset(deadline.into());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// Small pieces, one after the other, and where each of them was read to; `kept` while later ones come.
    async fn places(kept: bool) -> Vec<usize> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut connection = UpstreamConnection::new(EndpointStream::Plain(listener.accept().await.unwrap().0));
        let (mut places, mut chunks) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            peer.write_all(b"0123456789").await.unwrap();
            assert_eq!(poll_fn(|cx| connection.poll_read(cx)).await.unwrap(), 10);
            let chunk = connection.input.split().freeze();
            places.push(chunk.as_ptr().addr());
            chunks.extend(kept.then_some(chunk));
        }
        places
    }

    #[tokio::test]
    async fn an_empty_buffer_is_read_into_from_its_beginning() {
        let places = places(false).await;
        assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
    }

    #[tokio::test]
    async fn pieces_that_are_kept_share_their_buffer() {
        let places = places(true).await;
        assert!(places.windows(2).all(|pair| pair[1] == pair[0] + 10), "{places:?}");
    }
}
