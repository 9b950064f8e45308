//! Hands a response to the library as fast as the client takes it, and no faster.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};

use super::response::{BodyPiece, H2ResponseBody, StreamError};
use crate::server::service::ResponseObserver;
use crate::wire::body::BodySource;

/// Why a response does not reach its end.
enum CutOff {
    /// The client reset the stream, or the connection has ended.
    Gone,
    Broken(StreamError),
}

impl From<h2::Error> for CutOff {
    fn from(_: h2::Error) -> Self {
        Self::Gone
    }
}

/// Sends the head and then the body. Returns when the library has all of it or the stream is reset. The library holds at
/// most one piece for which the client has no window, and so does this function.
///
/// Dropping the future resets the stream, unless the library has all of the response (RFC 9113, section 5.4.2).
pub(super) async fn deliver<B: BodySource + Unpin + 'static, O: ResponseObserver>(
    mut respond: SendResponse<Bytes>,
    head: http::Response<()>,
    mut body: H2ResponseBody<B, O>,
) {
    let Ok(mut stream) = respond.send_response(head, body.is_empty()) else {
        // The client has reset the stream, or the head has a field that HTTP/2 forbids.
        respond.send_reset(Reason::INTERNAL_ERROR);
        return;
    };
    if !body.is_empty() {
        let mut waiting = None;
        match poll_fn(|cx| poll_send(&mut body, &mut waiting, &mut stream, cx)).await {
            Ok(()) => {}
            Err(CutOff::Gone) => return,
            Err(CutOff::Broken(error)) => {
                tracing::debug!(%error, "a stream is reset within its response");
                stream.send_reset(Reason::INTERNAL_ERROR);
                return;
            }
        }
    }
    body.finish();
}

/// Ready when the library has the whole body. `waiting` is the piece that the client's window has no room for yet.
fn poll_send<B: BodySource + Unpin + 'static, O: ResponseObserver>(
    body: &mut H2ResponseBody<B, O>,
    waiting: &mut Option<BodyPiece>,
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), CutOff>> {
    loop {
        if waiting.is_none() {
            match body.poll_piece(cx) {
                Poll::Ready(Ok(piece)) => *waiting = Some(piece),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(CutOff::Broken(error))),
                // The service is waited for. The client may reset the stream meanwhile.
                Poll::Pending => return stream.poll_reset(cx).map(|_| Err(CutOff::Gone)),
            }
        }
        if waiting.as_ref().is_some_and(BodyPiece::needs_window) {
            ready!(poll_window(body, stream, cx))?;
        }
        match waiting.take() {
            None => {}
            Some(BodyPiece::Data(data)) => {
                body.note_sent(data.len());
                stream.send_data(data, false)?;
            }
            Some(BodyPiece::Last(data)) => {
                body.note_sent(data.len());
                stream.send_data(data, true)?;
                return Poll::Ready(Ok(()));
            }
            Some(BodyPiece::Trailers(trailers)) => {
                stream.reserve_capacity(0);
                stream.send_trailers(trailers)?;
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Ready when the client's window has room for the beginning of a piece. The time is noted for which it has none.
fn poll_window<B: BodySource + Unpin + 'static, O: ResponseObserver>(
    body: &H2ResponseBody<B, O>,
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), CutOff>> {
    // One byte, and not the whole piece: streams that wait for a part of the connection's window would take it from those
    // that can send. The library asks for the rest when it has the piece.
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        body.note_wait();
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(CutOff::Gone)),
        }
    }
    body.note_taken();
    Poll::Ready(Ok(()))
}
