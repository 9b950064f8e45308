//! Answers as the HTTP/2 library wants them: a head, and a body that breaks off where it broke off.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::Frame;

use super::streams::Offer;
use crate::base::clock;
use crate::server::context::InFlight;
use crate::server::service::{Answer, Outcome};
use crate::wire::body::{BodyError, BodySource, Chunk};
use crate::wire::fields::Fields;
use crate::wire::framing::Framing;

/// Largest piece handed over at a time. The library holds one for each stream until the client's
/// window takes it: a hundred stalled streams then hold 1.6 MB.
const PIECE: usize = 16 * 1024;

/// Why a stream is reset in place of an answer, or within one.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The service's head cannot be sent.
    #[error("the answer's head is not one")]
    Head,
    /// The body broke off.
    #[error("the answer's body broke off")]
    Body(#[source] BodyError),
    /// The body was longer or shorter than its head declared.
    #[error("the answer's body is not as long as declared")]
    Length,
}

/// What is given to the library.
pub(super) fn respond<B: BodySource + Unpin, O: Outcome>(
    answer: Answer<B, O>,
    method: &[u8],
    date: &[u8],
    offer: Rc<Offer>,
    in_flight: Option<InFlight>,
) -> Result<Response<AnswerBody<B, O>>, Broken> {
    let status = StatusCode::from_u16(answer.head.status).map_err(|_| Broken::Head)?;
    let mut headers = header_map(&answer.head.fields)?;
    headers.insert(http::header::DATE, HeaderValue::from_bytes(date).map_err(|_| Broken::Head)?);
    let bodiless = status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let declared = match answer.framing {
        Framing::Length(length) => Some(length),
        Framing::None if method != b"HEAD" && !bodiless => Some(0),
        Framing::None | Framing::Chunked | Framing::UntilClose => None,
    };
    if let Some(length) = declared.filter(|_| !bodiless || status == StatusCode::NOT_MODIFIED) {
        headers.insert(http::header::CONTENT_LENGTH, length.into());
    }
    let left = if method == b"HEAD" || bodiless { Some(0) } else { declared };
    let progress = if left == Some(0) { Progress::Complete } else { Progress::Streaming };
    if progress == Progress::Streaming {
        // The library asks for the body when the client's window has room.
        offer.open(0);
    }
    let body = AnswerBody {
        progress,
        body: answer.body,
        rest: Bytes::new(),
        left,
        sent: 0,
        offer,
        outcome: Some(answer.outcome),
        _in_flight: in_flight,
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn header_map(fields: &Fields) -> Result<HeaderMap, Broken> {
    let mut headers = HeaderMap::with_capacity(fields.len() + 2);
    for field in fields.iter() {
        let name = HeaderName::from_bytes(field.name).map_err(|_| Broken::Head)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Broken::Head)?;
        headers.try_append(name, value).map_err(|_| Broken::Head)?;
    }
    Ok(headers)
}

/// An answer's body on its way to the library.
pub(super) struct AnswerBody<B, O: Outcome> {
    body: B,
    /// Of the last piece, what was too much at a time.
    rest: Bytes,
    /// Declared bytes that are still to come.
    left: Option<u64>,
    sent: u64,
    progress: Progress,
    offer: Rc<Offer>,
    outcome: Option<O>,
    _in_flight: Option<InFlight>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Streaming,
    /// Everything was handed over.
    Complete,
    Broken,
}

impl<B: BodySource + Unpin, O: Outcome> AnswerBody<B, O> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if !self.rest.is_empty() {
            let data = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(Frame::data(self.piece(data)))));
        }
        match std::task::ready!(self.body.poll_chunk(cx)) {
            None if self.left.is_some_and(|left| left > 0) => Poll::Ready(Some(Err(Broken::Length))),
            None => {
                self.progress = Progress::Complete;
                Poll::Ready(None)
            }
            Some(Err(error)) => Poll::Ready(Some(Err(Broken::Body(error)))),
            Some(Ok(Chunk::Trailers(trailers))) => {
                self.progress = Progress::Complete;
                Poll::Ready(Some(header_map(&trailers).map(Frame::trailers)))
            }
            Some(Ok(Chunk::Data(data))) => {
                if let Some(left) = &mut self.left {
                    match left.checked_sub(data.len() as u64) {
                        Some(rest) => *left = rest,
                        None => return Poll::Ready(Some(Err(Broken::Length))),
                    }
                }
                Poll::Ready(Some(Ok(Frame::data(self.piece(data)))))
            }
        }
    }

    /// Hands over the beginning and keeps the rest.
    fn piece(&mut self, mut data: Bytes) -> Bytes {
        if data.len() > PIECE {
            self.rest = data.split_off(PIECE);
        }
        self.sent += data.len() as u64;
        // With the last declared byte the stream can end in the same frame.
        if self.rest.is_empty() && self.left == Some(0) && self.body.is_end() {
            self.progress = Progress::Complete;
        }
        data
    }
}

impl<B: BodySource + Unpin + 'static, O: Outcome> hyper::body::Body for AnswerBody<B, O> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        this.offer.close();
        if this.progress != Progress::Streaming {
            return Poll::Ready(None);
        }
        let next = this.poll_next(cx);
        match &next {
            Poll::Ready(Some(Ok(frame))) if this.progress == Progress::Streaming => {
                this.offer.open(frame.data_ref().map_or(0, Bytes::len));
            }
            Poll::Ready(Some(Err(_))) => this.progress = Progress::Broken,
            Poll::Ready(Some(Ok(_)) | None) | Poll::Pending => {}
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.progress == Progress::Complete
    }
}

impl<B, O: Outcome> Drop for AnswerBody<B, O> {
    fn drop(&mut self) {
        self.offer.close();
        let Some(outcome) = self.outcome.take() else { return };
        if self.progress == Progress::Complete && !self.offer.was_cut_off() {
            outcome.finish(self.sent, clock::instant());
        } else {
            outcome.abort(self.sent, self.offer.reason());
        }
    }
}

#[cfg(test)]
mod tests;
