//! The request body as the gateway reads it.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::socket::{Socket, Stream};
use crate::wire::body::{BodyError, BodySource, Chunk, RequestBody};

/// The body of one HTTP/1 request. It reads from the connection it came on, and only while that
/// request is the connection's current one.
pub(in crate::server) struct H1Body<Io> {
    socket: Rc<RefCell<Socket<Io>>>,
    number: u64,
}

impl<Io> H1Body<Io> {
    pub(super) const fn new(socket: Rc<RefCell<Socket<Io>>>, number: u64) -> Self {
        Self { socket, number }
    }
}

impl<Io: Stream> BodySource for H1Body<Io> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        match self.socket.try_borrow_mut() {
            Ok(mut socket) if socket.incoming.is_current(self.number) => socket.poll_body(cx),
            _ => Poll::Ready(Some(Err(BodyError::Aborted))),
        }
    }

    fn is_end(&self) -> bool {
        self.socket
            .try_borrow()
            .is_ok_and(|socket| socket.incoming.is_current(self.number) && socket.incoming.is_complete())
    }
}

impl<Io: Stream> RequestBody for H1Body<Io> {
    fn limit(&mut self, max: u64) {
        if let Ok(mut socket) = self.socket.try_borrow_mut()
            && socket.incoming.is_current(self.number)
        {
            socket.incoming.limit(max);
        }
    }
}
