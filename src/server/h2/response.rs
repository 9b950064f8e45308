//! Responses in the form that the HTTP/2 library takes: a head, and a body that resets its stream if it breaks off.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::body::Frame;

use super::streams::StreamHandle;
use crate::base::clock;
use crate::gateway::Response;
use crate::server::context::InFlightSlot;
use crate::server::service::ResponseObserver;
use crate::wire::body::{BodyError, BodySource, Chunk};
use crate::wire::fields::Fields;
use crate::wire::framing::Framing;

/// Largest piece that is handed over at a time. The library holds one for each stream until the client's window takes
/// it, so a hundred stalled streams hold 1.6 MB.
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
) -> Result<http::Response<H2ResponseBody<B, O>>, StreamError> {
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
        BodyProgress::Complete
    } else {
        BodyProgress::Streaming
    };
    if progress == BodyProgress::Streaming {
        // The library asks for the body when the client's window has room.
        handle.note_handed_over(0);
    }
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
    let mut message = http::Response::new(body);
    *message.status_mut() = status;
    *message.headers_mut() = headers;
    Ok(message)
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
    Complete,
    Broken,
}

impl<B: BodySource + Unpin, O: ResponseObserver> H2ResponseBody<B, O> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        if !self.remainder.is_empty() {
            let data = std::mem::take(&mut self.remainder);
            return Poll::Ready(Some(Ok(Frame::data(self.split_piece(data)))));
        }
        match std::task::ready!(self.body.poll_chunk(cx)) {
            None if self.left.is_some_and(|left| left > 0) => Poll::Ready(Some(Err(StreamError::Length))),
            None => {
                self.progress = BodyProgress::Complete;
                Poll::Ready(None)
            }
            Some(Err(error)) => Poll::Ready(Some(Err(StreamError::Body(error)))),
            Some(Ok(Chunk::Trailers(trailers))) => {
                self.progress = BodyProgress::Complete;
                Poll::Ready(Some(header_map(&trailers).map(Frame::trailers)))
            }
            Some(Ok(Chunk::Data(data))) => {
                if let Some(left) = &mut self.left {
                    match left.checked_sub(data.len() as u64) {
                        Some(remainder) => *left = remainder,
                        None => return Poll::Ready(Some(Err(StreamError::Length))),
                    }
                }
                Poll::Ready(Some(Ok(Frame::data(self.split_piece(data)))))
            }
        }
    }

    /// Hands over the beginning of a piece and keeps the rest.
    fn split_piece(&mut self, mut data: Bytes) -> Bytes {
        if data.len() > MAX_PIECE {
            self.remainder = data.split_off(MAX_PIECE);
        }
        self.sent += data.len() as u64;
        // With the last declared byte the stream can end in the same frame.
        if self.remainder.is_empty() && self.left == Some(0) && self.body.is_end() {
            self.progress = BodyProgress::Complete;
        }
        data
    }
}

impl<B: BodySource + Unpin + 'static, O: ResponseObserver> hyper::body::Body for H2ResponseBody<B, O> {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let this = self.get_mut();
        this.handle.note_taken();
        if this.progress != BodyProgress::Streaming {
            return Poll::Ready(None);
        }
        let next = this.poll_next(cx);
        match &next {
            Poll::Ready(Some(Ok(frame))) if this.progress == BodyProgress::Streaming => {
                this.handle.note_handed_over(frame.data_ref().map_or(0, Bytes::len));
            }
            Poll::Ready(Some(Err(_))) => this.progress = BodyProgress::Broken,
            Poll::Ready(Some(Ok(_)) | None) | Poll::Pending => {}
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.progress == BodyProgress::Complete
    }
}

impl<B, O: ResponseObserver> Drop for H2ResponseBody<B, O> {
    fn drop(&mut self) {
        self.handle.note_taken();
        let Some(observer) = self.observer.take() else { return };
        if self.progress == BodyProgress::Complete && !self.handle.was_aborted() {
            observer.finish(self.sent, clock::instant());
        } else {
            observer.abort(self.sent, self.handle.reason());
        }
    }
}

#[cfg(test)]
mod tests;
