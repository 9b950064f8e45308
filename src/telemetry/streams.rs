//! Streams that stay open: how many are open, and why they ended.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::denial::{DENIALS, Denial};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// A request or an answer over HTTP/1 that takes long: events, a download, an upload.
    Http1,
    /// The same over HTTP/2.
    Http2,
    Websocket,
}

impl StreamKind {
    /// All of them, in the order of their figures.
    pub const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Websocket];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Websocket => "websocket",
        }
    }
}

/// Why a stream ended. Bodies over HTTP that end by themselves are answers like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    Client,
    Upstream,
    /// No byte passed for too long, or one side did not read.
    Idle,
    Drain,
    /// One side sent what the protocol does not allow.
    Protocol,
    Broken,
    /// The client read too slowly, or nothing for too long.
    Slow,
    /// The client read nothing while another request waited for what this stream held.
    Displaced,
    /// The credential is no longer admitted.
    Denied(Denial),
}

impl StreamEnd {
    /// Its word in access lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Idle => "idle",
            Self::Drain => "drain",
            Self::Protocol => "protocol",
            Self::Broken => "broken",
            Self::Slow => "slow",
            Self::Displaced => "displaced",
            Self::Denied(_) => "denied",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Client => 0,
            Self::Upstream => 1,
            Self::Idle => 2,
            Self::Drain => 3,
            Self::Protocol => 4,
            Self::Broken => 5,
            Self::Slow => 6,
            Self::Displaced => 7,
            Self::Denied(denial) => OTHERS.len() + denial as usize,
        }
    }
}

/// Ends that are no denial, in the order of [`StreamEnd::index`].
const OTHERS: [StreamEnd; 8] = [
    StreamEnd::Client,
    StreamEnd::Upstream,
    StreamEnd::Idle,
    StreamEnd::Drain,
    StreamEnd::Protocol,
    StreamEnd::Broken,
    StreamEnd::Slow,
    StreamEnd::Displaced,
];

const ENDS: usize = OTHERS.len() + DENIALS.len();

/// One worker's figures of streams.
#[derive(Debug)]
pub(super) struct StreamCounters {
    open: [AtomicU64; StreamKind::ALL.len()],
    ended: [[AtomicU64; ENDS]; StreamKind::ALL.len()],
}

impl StreamCounters {
    pub(super) const fn new() -> Self {
        Self {
            open: [const { AtomicU64::new(0) }; StreamKind::ALL.len()],
            ended: [const { [const { AtomicU64::new(0) }; ENDS] }; StreamKind::ALL.len()],
        }
    }

    pub(super) fn set_open(&self, counts: [u64; StreamKind::ALL.len()]) {
        for (figure, count) in self.open.iter().zip(counts) {
            figure.store(count, Ordering::Relaxed);
        }
    }

    /// Only the owning worker counts, so no locked instruction is needed.
    pub(super) fn count(&self, kind: StreamKind, end: StreamEnd) {
        if let Some(figure) = self.ended.get(kind as usize).and_then(|ends| ends.get(end.index())) {
            figure.store(figure.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    pub(super) fn open(&self, kind: StreamKind) -> u64 {
        self.open.get(kind as usize).map_or(0, |figure| figure.load(Ordering::Relaxed))
    }

    pub(super) fn ended(&self, kind: StreamKind, index: usize) -> u64 {
        let ends = self.ended.get(kind as usize);
        ends.and_then(|ends| ends.get(index))
            .map_or(0, |figure| figure.load(Ordering::Relaxed))
    }
}

/// The label of each end in the order of [`StreamEnd::index`]; that of a denial is its name.
pub(super) fn labels() -> impl Iterator<Item = &'static str> {
    let others = OTHERS.iter().map(|end| end.as_str());
    others.chain(DENIALS.iter().map(|row| row.label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_counted_under_its_own_label() {
        let denied = DENIALS.iter().map(|row| StreamEnd::Denied(row.denial));
        for (end, label) in OTHERS.into_iter().chain(denied).zip(labels()) {
            let counters = StreamCounters::new();
            counters.count(StreamKind::Websocket, end);
            let found: Vec<_> = labels()
                .enumerate()
                .filter(|(index, _)| counters.ended(StreamKind::Websocket, *index) == 1)
                .map(|(_, label)| label)
                .collect();
            assert_eq!(found, [label]);
            assert_eq!(counters.ended(StreamKind::Http1, end.index()), 0);
        }
    }
}
