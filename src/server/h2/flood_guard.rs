//! Watches the frames of an HTTP/2 connection and detects floods of resets and control frames. They cost the peer
//! nothing, and the library answers them without the layers above noticing.

use std::time::{Duration, Instant};

use super::frame::{CONTINUATION, DATA, END_HEADERS, Frame, FrameEvent, FrameScanner, HEADERS, PREFACE, RST_STREAM};

/// The time over which the budgets count.
const WINDOW: Duration = Duration::from_secs(10);
/// Streams that may be reset in a window, by either side. A browser that leaves a page cancels some dozens; rapid reset
/// needs thousands.
const MAX_RESETS: u32 = 100;
/// Control frames that may come in a window beyond those that the traffic explains.
const MAX_CONTROL: u32 = 1_000;
/// Control frames that one frame of traffic explains. Envoy allows 10 WINDOW_UPDATE for each DATA.
const EXPLAINED: u32 = 10;

/// `NO_ERROR` ends a stream whose request body is not needed, which is no abuse.
const NO_ERROR: u32 = 0;

/// Counts what the frames of a connection cost.
#[derive(Debug)]
pub(super) struct FloodGuard {
    received: FrameScanner,
    sent: FrameScanner,
    window_began: Instant,
    resets: u32,
    control: u32,
    traffic: u32,
    frames: u64,
    last_stream: u32,
    /// Since when a header block has been incomplete.
    block_since: Option<Instant>,
}

/// The client exceeded a budget that no honest client needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer floods the connection")]
pub(super) struct Flood;

impl FloodGuard {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            received: FrameScanner::new(PREFACE),
            sent: FrameScanner::new(0),
            window_began: now,
            resets: 0,
            control: 0,
            traffic: 0,
            frames: 0,
            last_stream: 0,
            block_since: None,
        }
    }

    /// Counts bytes from the client.
    ///
    /// # Errors
    /// [`Flood`] when a budget is spent.
    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), Flood> {
        self.renew(now);
        let mut scanner = std::mem::replace(&mut self.received, FrameScanner::new(0));
        scanner.scan(bytes, |met| match met {
            FrameEvent::Frame(frame) => self.count_received(frame, now),
            FrameEvent::Reset(_) => self.resets += 1,
        });
        self.received = scanner;
        self.check()
    }

    /// Counts bytes to the client.
    ///
    /// # Errors
    /// [`Flood`] when a budget is spent, since the client provoked too many resets.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Flood> {
        let mut scanner = std::mem::replace(&mut self.sent, FrameScanner::new(0));
        scanner.scan(bytes, |met| match met {
            FrameEvent::Frame(frame) if matches!(frame.kind, DATA | HEADERS) => self.traffic += 1,
            FrameEvent::Reset(code) if code != NO_ERROR => self.resets += 1,
            FrameEvent::Frame(_) | FrameEvent::Reset(_) => {}
        });
        self.sent = scanner;
        self.check()
    }

    fn count_received(&mut self, frame: Frame, now: Instant) {
        self.frames += 1;
        match frame.kind {
            HEADERS | CONTINUATION => {
                if frame.kind == HEADERS {
                    self.traffic += 1;
                    self.last_stream = self.last_stream.max(frame.stream);
                } else {
                    self.control += 1;
                }
                if frame.flags & END_HEADERS == 0 {
                    self.block_since.get_or_insert(now);
                } else {
                    self.block_since = None;
                }
            }
            DATA if frame.length > 0 => self.traffic += 1,
            RST_STREAM => {}
            _ => self.control += 1,
        }
    }

    fn renew(&mut self, now: Instant) {
        if now.saturating_duration_since(self.window_began) >= WINDOW {
            self.window_began = now;
            (self.resets, self.control, self.traffic) = (0, 0, 0);
        }
    }

    const fn check(&self) -> Result<(), Flood> {
        let allowed = MAX_CONTROL.saturating_add(self.traffic.saturating_mul(EXPLAINED));
        if self.resets > MAX_RESETS || self.control > allowed {
            return Err(Flood);
        }
        Ok(())
    }

    /// Whether the client has sent its preface and settings.
    pub(super) const fn has_begun(&self) -> bool {
        self.frames > 0
    }

    /// Since when a header block has been incomplete, if one is.
    pub(super) const fn block_since(&self) -> Option<Instant> {
        self.block_since
    }

    /// The GOAWAY with `ENHANCE_YOUR_CALM` that ends the connection with a reason (RFC 9113, section 6.8). `None`
    /// within a frame.
    pub(super) fn goaway_frame(&self) -> Option<[u8; 17]> {
        let [a, b, c, d] = self.last_stream.to_be_bytes();
        self.sent
            .is_between_frames()
            .then_some([0, 0, 8, 7, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0x0b])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn begun(now: Instant) -> FloodGuard {
        let mut flood_guard = FloodGuard::new(now);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        assert_eq!(flood_guard.receive(preface, now), Ok(()));
        assert!(!flood_guard.has_begun());
        assert_eq!(flood_guard.receive(&frame(4, 0, 0, &[]), now), Ok(()));
        assert!(flood_guard.has_begun());
        flood_guard
    }

    /// How many of these frames are taken, up to `most`.
    fn taken(flood_guard: &mut FloodGuard, now: Instant, bytes: &[u8], most: u32) -> u32 {
        (0..most).find(|_| flood_guard.receive(bytes, now).is_err()).unwrap_or(most)
    }

    #[test]
    fn resets_are_counted_in_any_portions_and_forgiven_with_time() {
        let now = clock::instant();
        let reset = frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
        assert_eq!(taken(&mut begun(now), now, &reset, 200), MAX_RESETS);
        let mut flood_guard = begun(now);
        let bytes = reset.repeat(MAX_RESETS as usize);
        for piece in bytes.chunks(5) {
            assert_eq!(flood_guard.receive(piece, now), Ok(()));
        }
        assert_eq!(flood_guard.receive(&reset, now + WINDOW), Ok(()), "a new window");
        assert_eq!(taken(&mut flood_guard, now + WINDOW, &reset, 200), MAX_RESETS - 1);
    }

    #[test]
    fn resets_the_client_provoked_count_and_polite_ones_do_not() {
        let now = clock::instant();
        for (code, limit) in [(1_u32, MAX_RESETS), (0, 500)] {
            let (mut flood_guard, reset) = (begun(now), frame(RST_STREAM, 0, 1, &code.to_be_bytes()));
            let sent = (0..500).find(|_| flood_guard.send(&reset).is_err()).unwrap_or(500);
            assert_eq!(sent, limit, "{code}");
        }
    }

    #[test]
    fn control_frames_without_traffic_are_a_flood_and_with_traffic_are_not() {
        let now = clock::instant();
        for kind in [2, 4, 6, 8, CONTINUATION, 0x55] {
            let bytes = frame(kind, END_HEADERS, 1, &[0; 8]);
            assert!(taken(&mut begun(now), now, &bytes, 2_000) <= MAX_CONTROL, "{kind}");
        }
        let empty = frame(DATA, 0, 1, &[]);
        assert!(taken(&mut begun(now), now, &empty, 2_000) <= MAX_CONTROL);
        let mut flood_guard = begun(now);
        for _ in 0..1_000 {
            assert_eq!(flood_guard.send(&frame(DATA, 0, 1, b"data")), Ok(()));
        }
        assert_eq!(taken(&mut flood_guard, now, &frame(8, 0, 1, &[0; 4]), 5_000), 5_000);
    }

    #[test]
    fn an_incomplete_header_block_is_seen_until_it_ends() {
        let now = clock::instant();
        let mut flood_guard = begun(now);
        flood_guard.receive(&frame(HEADERS, 0, 1, b"x"), now).unwrap();
        flood_guard.receive(&frame(CONTINUATION, 0, 1, b"x"), now + WINDOW).unwrap();
        assert_eq!(flood_guard.block_since(), Some(now));
        flood_guard
            .receive(&frame(CONTINUATION, END_HEADERS, 1, b"x"), now + WINDOW)
            .unwrap();
        assert_eq!(flood_guard.block_since(), None);
    }

    #[test]
    fn last_words_come_between_frames_only_and_name_the_last_stream() {
        let now = clock::instant();
        let mut flood_guard = begun(now);
        flood_guard.receive(&frame(HEADERS, END_HEADERS, 7, b"x"), now).unwrap();
        assert_eq!(flood_guard.goaway_frame().map(|w| w[12]), Some(7));
        let bytes = frame(DATA, 0, 1, b"data");
        flood_guard.send(&bytes[..11]).unwrap();
        assert_eq!(flood_guard.goaway_frame(), None);
        flood_guard.send(&bytes[11..]).unwrap();
        assert!(flood_guard.goaway_frame().is_some());
    }
}
