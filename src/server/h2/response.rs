//! Responses in the form that the HTTP/2 library takes: a head, and a body in pieces.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::streams::StreamHandle;
use crate::base::clock;
use crate::gateway::Response;
use crate::server::context::InFlightSlot;
use crate::server::service::ResponseObserver;
use crate::wire::body::{BodyError, BodySource, Chunk};
use crate::wire::fields::Fields;
use crate::wire::framing::Framing;

/// Largest piece that is handed over at a time. The library holds one for each stream until the client's window takes
/// it, so a hundred stalled streams hold 1.6 MB, and as much waits to be handed over.
const MAX_PIECE: usize = 16 * 1024;

/// Why a stream is reset instead of a response, or within one.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// The head of the service's response cannot be sent.
    #[error("the response head cannot be sent")]
    Head,
    #[error("the response body broke off")]
    Body(#[source] BodyError),
    /// The body was longer or shorter than its head declared.
    #[error("the response body is not as long as declared")]
    Length,
}

/// Converts a response for the library.
pub(super) fn respond<B: BodySource + Unpin, O: ResponseObserver>(
    response: Response<B, O>,
    method: &[u8],
    date: &[u8],
    handle: Rc<StreamHandle>,
    in_flight: Option<InFlightSlot>,
) -> Result<(http::Response<()>, H2ResponseBody<B, O>), StreamError> {
    let status = StatusCode::from_u16(response.head.status).map_err(|_| StreamError::Head)?;
    let mut headers = header_map(&response.head.fields)?;
    headers.insert(http::header::DATE, HeaderValue::from_bytes(date).map_err(|_| StreamError::Head)?);
    let bodiless = status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let declared = match response.framing {
        Framing::Length(length) => Some(length),
        Framing::None if method != b"HEAD" && !bodiless => Some(0),
        Framing::None | Framing::Chunked | Framing::UntilClose => None,
    };
    if let Some(length) = declared.filter(|_| !bodiless || status == StatusCode::NOT_MODIFIED) {
        headers.insert(http::header::CONTENT_LENGTH, length.into());
    }
    let left = if method == b"HEAD" || bodiless { Some(0) } else { declared };
    let progress = if left == Some(0) {
        BodyProgress::NoBody
    } else {
        BodyProgress::Streaming
    };
    let body = H2ResponseBody {
        progress,
        body: response.body,
        remainder: Bytes::new(),
        left,
        sent: 0,
        handle,
        observer: Some(response.observer),
        _in_flight: in_flight,
    };
    let mut head = http::Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = headers;
    Ok((head, body))
}

fn header_map(fields: &Fields) -> Result<HeaderMap, StreamError> {
    let mut headers = HeaderMap::with_capacity(fields.len() + 2);
    for field in fields.iter() {
        let name = HeaderName::from_bytes(field.name).map_err(|_| StreamError::Head)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| StreamError::Head)?;
        headers.try_append(name, value).map_err(|_| StreamError::Head)?;
    }
    Ok(headers)
}

/// The body of a response on its way to the library.
pub(super) struct H2ResponseBody<B, O: ResponseObserver> {
    body: B,
    /// The part of the last piece that was beyond [`MAX_PIECE`].
    remainder: Bytes,
    /// Declared bytes that are still to come.
    left: Option<u64>,
    sent: u64,
    progress: BodyProgress,
    handle: Rc<StreamHandle>,
    observer: Option<O>,
    _in_flight: Option<InFlightSlot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyProgress {
    Streaming,
    /// There is no body, and the stream ends with the head.
    NoBody,
    /// The library has all of the response.
    Delivered,
}

/// A part of a body.
#[derive(Debug)]
pub(super) enum BodyPiece {
    Data(Bytes),
    /// The stream ends with this piece, which may be empty.
    Last(Bytes),
    /// The stream ends with these trailers.
    Trailers(HeaderMap),
}

impl BodyPiece {
    /// Whether the client's window must have room for it.
    pub(super) fn needs_window(&self) -> bool {
        match self {
            Self::Data(data) | Self::Last(data) => !data.is_empty(),
            Self::Trailers(_) => false,
        }
    }
}

impl<B: BodySource + Unpin, O: ResponseObserver> H2ResponseBody<B, O> {
    /// Whether the stream ends with the head.
    pub(super) fn is_empty(&self) -> bool {
        self.progress == BodyProgress::NoBody
    }

    /// The next piece, of at most [`MAX_PIECE`] bytes. It must not be called again after the last one or an error.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<BodyPiece, StreamError>> {
        if !self.remainder.is_empty() {
            let data = std::mem::take(&mut self.remainder);
            return Poll::Ready(Ok(self.split_piece(data)));
        }
        match std::task::ready!(self.body.poll_chunk(cx)) {
            None if self.left.is_some_and(|left| left > 0) => Poll::Ready(Err(StreamError::Length)),
            None => Poll::Ready(Ok(BodyPiece::Last(Bytes::new()))),
            Some(Err(error)) => Poll::Ready(Err(StreamError::Body(error))),
            Some(Ok(Chunk::Trailers(_))) if self.left.is_some_and(|left| left > 0) => Poll::Ready(Err(StreamError::Length)),
            Some(Ok(Chunk::Trailers(trailers))) => Poll::Ready(header_map(&trailers).map(BodyPiece::Trailers)),
            Some(Ok(Chunk::Data(data))) => {
                if let Some(left) = &mut self.left {
                    match left.checked_sub(data.len() as u64) {
                        Some(remainder) => *left = remainder,
                        None => return Poll::Ready(Err(StreamError::Length)),
                    }
                }
                Poll::Ready(Ok(self.split_piece(data)))
            }
        }
    }

    /// Hands over the beginning of a piece and keeps the rest.
    fn split_piece(&mut self, mut data: Bytes) -> BodyPiece {
        if data.len() > MAX_PIECE {
            self.remainder = data.split_off(MAX_PIECE);
        }
        self.handle.note_piece(data.len());
        // With the last declared byte the stream can end in the same frame.
        if self.remainder.is_empty() && self.left == Some(0) && self.body.is_end() {
            return BodyPiece::Last(data);
        }
        BodyPiece::Data(data)
    }

    /// So many more bytes were handed to the library.
    pub(super) fn note_sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// The client's window has no room for the next piece.
    pub(super) fn note_wait(&self) {
        self.handle.note_wait();
    }

    /// The client's window has room for the next piece.
    pub(super) fn note_taken(&self) {
        self.handle.note_taken();
    }

    /// The library has all of the response.
    pub(super) fn finish(mut self) {
        self.progress = BodyProgress::Delivered;
    }
}

impl<B, O: ResponseObserver> Drop for H2ResponseBody<B, O> {
    fn drop(&mut self) {
        self.handle.note_taken();
        let Some(observer) = self.observer.take() else { return };
        if self.progress == BodyProgress::Delivered && !self.handle.was_aborted() {
            observer.finish(self.sent, clock::instant());
        } else {
            observer.abort(self.sent, self.handle.reason());
        }
    }
}

#[cfg(test)]
mod tests;
