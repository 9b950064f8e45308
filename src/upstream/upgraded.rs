//! A connection that has left HTTP behind: bytes both ways, and never another request.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::lease::Lease;

/// An endpoint's connection after its 101. It goes on counting among its endpoint's connections; dropping
/// it closes it, and nothing brings it back to the pool.
pub struct Upgraded {
    lease: Lease,
}

impl Upgraded {
    pub(super) const fn new(lease: Lease) -> Self {
        Self { lease }
    }

    /// Bytes received and not yet taken; at first what came behind the 101.
    pub const fn input(&mut self) -> &mut BytesMut {
        &mut self.lease.connection.input
    }

    /// Reads once into [`Self::input`]; 0 is the end.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.lease.connection.poll_read(cx)
    }

    /// Writes once.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.lease.connection.poll_write(cx, &[IoSlice::new(bytes)])
    }

    /// Brings out what was written.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lease.connection.poll_flush(cx)
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lease.connection.poll_shutdown(cx)
    }
}
