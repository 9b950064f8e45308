//! What the library is given, and what is told about it afterwards.

use std::cell::Cell;
use std::collections::VecDeque;

use super::*;
use crate::gateway::Persistence;
use crate::snapshot::Limits;
use crate::wire::head::ResponseHead;

struct Pieces(VecDeque<Result<Chunk, BodyError>>);

impl BodySource for Pieces {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        Poll::Ready(self.0.pop_front())
    }

    fn is_end(&self) -> bool {
        self.0.is_empty()
    }
}

/// `Some(true)`: finished, with so many bytes.
struct Went(Rc<Cell<Option<(bool, u64)>>>);

impl ResponseObserver for Went {
    fn recycle(&self, _: ResponseHead) {}

    fn began(&self) -> std::time::Instant {
        crate::base::clock::instant()
    }

    fn finish(self, bytes: u64, _: std::time::Instant) {
        self.0.set(Some((true, bytes)));
    }

    fn abort(self, bytes: u64, _: Option<crate::telemetry::StreamEnd>) {
        self.0.set(Some((false, bytes)));
    }

    fn end_tunnel(self, _: crate::telemetry::StreamEnd, _: u64, _: u64) {}
}

fn data(len: usize) -> Result<Chunk, BodyError> {
    Ok(Chunk::Data(Bytes::from(vec![b'x'; len])))
}

/// Frames' sizes until the end or an error, with how the answer went.
fn run(status: u16, method: &str, framing: Framing, pieces: Vec<Result<Chunk, BodyError>>) -> (HeaderMap, Vec<usize>, bool, (bool, u64)) {
    let went = Rc::default();
    let response = Response {
        head: ResponseHead {
            status,
            ..ResponseHead::default()
        },
        framing,
        body: Pieces(pieces.into()),
        persistence: Persistence::KeepAlive,
        frees_slot: false,
        tunnel: None,
        observer: Went(Rc::clone(&went)),
    };
    let response = respond(response, method.as_bytes(), b"now", StreamHandle::new(&Limits::default()), None).unwrap();
    let (head, mut body) = response;
    let (mut sizes, mut broken) = (Vec::new(), false);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut open = !body.is_empty();
    while open {
        let (size, last) = match body.poll_piece(&mut cx) {
            Poll::Ready(Ok(BodyPiece::Data(data))) => (data.len(), false),
            Poll::Ready(Ok(BodyPiece::Last(data))) => (data.len(), true),
            Poll::Ready(Ok(BodyPiece::Trailers(_))) => (0, true),
            Poll::Ready(Err(_)) | Poll::Pending => {
                broken = true;
                break;
            }
        };
        body.note_sent(size);
        sizes.push(size);
        open = !last;
    }
    if broken {
        drop(body)
    } else {
        body.finish()
    }
    (head.headers().clone(), sizes, broken, went.get().unwrap())
}

#[test]
fn large_pieces_are_cut_and_the_stream_ends_with_the_last_byte() {
    let (headers, sizes, broken, went) = run(200, "GET", Framing::Length(40_000), vec![data(40_000)]);
    assert_eq!(
        (sizes, broken, went),
        (vec![MAX_PIECE, MAX_PIECE, 40_000 - 2 * MAX_PIECE], false, (true, 40_000))
    );
    assert_eq!(
        (&headers["content-length"], &headers["date"]),
        (&"40000".parse().unwrap(), &"now".parse().unwrap())
    );
}

#[test]
fn an_answer_that_is_not_as_long_as_declared_breaks() {
    for pieces in [vec![data(9)], vec![data(11)], vec![data(5), Err(BodyError::Aborted)]] {
        let (_, _, broken, (finished, _)) = run(200, "GET", Framing::Length(10), pieces);
        assert!(broken && !finished);
    }
    let (_, _, broken, went) = run(200, "GET", Framing::Length(10), vec![data(5), data(5)]);
    assert_eq!((broken, went), (false, (true, 10)));
}

#[test]
fn head_and_bodiless_answers_end_with_their_head() {
    for (status, method, declared) in [(200, "HEAD", true), (204, "GET", false), (304, "GET", true)] {
        let (headers, sizes, _, went) = run(status, method, Framing::Length(10), vec![data(10)]);
        assert_eq!(
            (headers.contains_key("content-length"), sizes.len(), went),
            (declared, 0, (true, 0)),
            "{status}"
        );
    }
}

#[test]
fn trailers_follow_the_data() {
    let mut fields = Fields::default();
    fields.push(b"x-sum", b"7");
    let pieces = vec![data(1), Ok(Chunk::Trailers(Box::new(fields)))];
    let (headers, sizes, _, went) = run(200, "GET", Framing::Chunked, pieces);
    assert_eq!(
        (headers.contains_key("content-length"), sizes, went),
        (false, vec![1, 0], (true, 1))
    );
}

#[test]
fn a_head_that_is_none_resets_the_stream() {
    let mut head = ResponseHead {
        status: 200,
        ..ResponseHead::default()
    };
    head.fields.push(b"x", b"a\r\nb");
    let went = Rc::default();
    let response = Response {
        head,
        framing: Framing::None,
        body: Pieces(VecDeque::new()),
        persistence: Persistence::KeepAlive,
        frees_slot: false,
        tunnel: None,
        observer: Went(Rc::clone(&went)),
    };
    assert!(respond(response, b"GET", b"now", StreamHandle::new(&Limits::default()), None).is_err());
    assert_eq!(went.get(), None, "dropped unused it counts as aborted");
}
