//! The event stream: the reader hands every change on in order, or says that something may have been missed.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, FromRedisValue};

use crate::base::clock::{BootMillis, Clock};
use crate::store::events::{ReaderState, ReaderStatus};
use crate::store::redis::operations::time_of;
use crate::store::redis::scripts::{Scripts, StreamHead};
use crate::store::redis::topology::{
    Backoff, Endpoint, Link, LinkState, PrimaryLocator, RedisConnection, RetryRead, StoreFault, primary_moved,
};
use crate::store::{Event, EventSink, StoreError, codec};

pub(crate) use confirmations::{Confirmations, Confirmer, confirm_for_ever};
pub(crate) use endings::{Ending, Endings, RecordRef};
pub(crate) use history::{AppliedPoint, History, KnownHistory};

mod confirmations;
mod endings;
mod history;

/// How long a read of the stream waits for an event. After each wait the reader asks where the stream stands, so a flush, a
/// trimmed stream or a silent partition is noticed after this time.
const BLOCK: Duration = Duration::from_secs(1);

/// Deadline of each command of the reader: the wait, and two seconds for a loaded server. With [`BLOCK`], a dead connection is
/// noticed within four seconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Most events of one read: about 100 KiB.
const BATCH: usize = 256;

/// After this number of reads in a row that ended their connection, while the store answers other questions, the reader skips
/// what is there. An entry that is too large for us, or malformed, must not stop the stream for ever (docs/threats.md F16).
/// Two connections can end by chance.
const STUCK: u32 = 3;

/// The stream id before the first entry of any stream.
const BEGINNING: &str = "0-0";

/// The link before the first event.
const NO_LINK: &str = "-";

/// What the reader and the store share.
pub(crate) struct EventFeed {
    pub(crate) history: History,
    pub(crate) endings: Endings,
    pub(crate) status: ReaderStatus,
    sinks: RwLock<Vec<Arc<dyn EventSink>>>,
    clock: Arc<dyn Clock>,
}

impl EventFeed {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            history: History::default(),
            endings: Endings::default(),
            status: ReaderStatus::new(),
            sinks: RwLock::default(),
            clock,
        }
    }

    pub(crate) fn subscribe(&self, sink: Arc<dyn EventSink>) {
        self.sinks.write().unwrap_or_else(PoisonError::into_inner).push(sink);
    }

    /// Waits until the reader has caught up.
    pub(crate) async fn started(&self) {
        let mut state = self.status.watch();
        let _ = state.wait_for(|state| *state == ReaderState::Live).await;
    }

    fn each_sink(&self, tell: impl Fn(&dyn EventSink)) {
        for sink in self.sinks.read().unwrap_or_else(PoisonError::into_inner).iter() {
            tell(sink.as_ref());
        }
    }

    fn note_contact(&self) {
        self.status.set_heard(self.clock.now().boot);
    }
}

/// Follows the stream on connections of its own, at the server of the leader, until the task is aborted.
pub(crate) async fn follow_for_ever(feed: Arc<EventFeed>, locator: Arc<PrimaryLocator>, scripts: Arc<Scripts>, leader: Arc<Link>) {
    let mut reader = StreamReader {
        feed: Arc::clone(&feed),
        scripts,
        cursor: BEGINNING.into(),
        at_cursor: None,
        link: NO_LINK.into(),
        saw_nothing: false,
        broken_reads: 0,
    };
    let mut leader = leader.watch();
    let mut primary = locator.primary();
    let mut backoff = locator.backoff();
    loop {
        if leader.wait_for(|state| *state == LinkState::Up).await.is_err() {
            return;
        }
        let Some(endpoint) = primary.take_latest() else {
            tokio::time::sleep(backoff.next()).await;
            continue;
        };
        let error = match locator.dial(&endpoint, RESPONSE_TIMEOUT).await {
            Ok(wire) => {
                let server = StreamServer {
                    locator: &locator,
                    endpoint: &endpoint,
                };
                tokio::select! {
                    biased;
                    fault = reader.follow(&wire, &server, &mut backoff) => {
                        locator.note(&fault);
                        fault.error
                    }
                    () = primary_moved(&mut primary, &endpoint) => StoreError::Unavailable("the primary is elsewhere now".into()),
                }
            }
            Err(error) => error,
        };
        feed.status.set_state(ReaderState::Lost);
        tracing::debug!(%error, "the event stream is not followed; facts are bounded by age alone");
        tokio::time::sleep(backoff.next()).await;
    }
}

/// The server of the stream, and who knows whether it is the primary.
struct StreamServer<'s> {
    locator: &'s PrimaryLocator,
    endpoint: &'s Endpoint,
}

impl StreamServer<'_> {
    /// From when the age of an answer counts that is asked for at `now`: earlier, if the server was last named the primary before.
    /// `None`: it is not known to be the primary.
    fn counts_from(&self, now: BootMillis) -> Option<BootMillis> {
        let named = self.locator.last_known_primary_at(self.endpoint).ok()?;
        Some(named.map_or(now, |named| named.min(now)))
    }
}

struct StreamReader {
    feed: Arc<EventFeed>,
    scripts: Arc<Scripts>,
    /// The stream id of the last entry read.
    cursor: String,
    /// The count of that entry, if it has one.
    at_cursor: Option<u64>,
    /// The link of that entry in the chain of events.
    link: String,
    /// The last answer was that the store holds no data.
    saw_nothing: bool,
    /// Reads in a row that ended their connection.
    broken_reads: u32,
}

impl StreamReader {
    /// Returns when the connection has failed.
    async fn follow(&mut self, wire: &RedisConnection, server: &StreamServer<'_>, backoff: &mut Backoff) -> StoreFault {
        self.feed.status.set_state(ReaderState::CatchingUp);
        loop {
            let step = match self.scripts.check_primary(wire).await {
                Ok(()) => self.step(wire, server).await,
                Err(fault) => Err(fault),
            };
            match step {
                Ok(()) => backoff.reset(),
                Err(fault) => return fault,
            }
        }
    }

    /// Asks where the stream stands, and reads what is new.
    async fn step(&mut self, wire: &RedisConnection, server: &StreamServer<'_>) -> Result<(), StoreFault> {
        // Before the question: what is known afterwards may be younger than the answer.
        let asked_at = server.counts_from(self.feed.clock.now().boot);
        let head = self.scripts.head(wire, &self.cursor).await?;
        self.feed.note_contact();
        let Some(mut head) = head else {
            return self.wait_for_data(wire).await;
        };
        let known = self.feed.history.known();
        if !known.continues(&head.history) {
            if known.is_anything() {
                // Another store: no ending that was seen is about its records.
                self.feed.endings.forget();
            }
            if std::mem::take(&mut self.saw_nothing) {
                // The store was empty a moment ago, so its first event is the next one here.
                (head.counter, head.last_id, head.at_last) = (0, BEGINNING.into(), None);
                head.link = NO_LINK.into();
            }
            self.restart(&head);
        } else if head.counter < known.applied || self.is_another_branch(&head) {
            tracing::error!(
                alarm = "store_went_back",
                seen = known.applied,
                has = head.counter,
                "the store has lost changes this gateway has seen; what it saw end stays ended here and is written again"
            );
            self.feed.endings.suspect();
            self.restart(&head);
        }
        self.saw_nothing = false;
        if self.broken_reads >= STUCK {
            self.broken_reads = 0;
            self.restart(&head);
        }
        if self.feed.history.known().applied >= head.counter {
            self.feed.status.set_state(ReaderState::Live);
        }
        self.revalidate(&head, asked_at);
        let entries = match self.read(wire, &self.cursor).await {
            // The connection ended before our deadline, perhaps because of the entry that it was about to bring.
            Err(fault) if fault.retry == RetryRead::Elsewhere || matches!(fault.error, StoreError::Corrupt(_)) => {
                self.broken_reads += 1;
                return Err(fault);
            }
            entries => entries?,
        };
        self.broken_reads = 0;
        self.feed.note_contact();
        if entries.is_empty() && self.feed.history.known().applied < head.counter {
            // The store has counted changes that its stream no longer holds.
            self.restart(&head);
        }
        for entry in entries {
            if self.apply(entry).is_none() {
                self.restart(&head);
                break;
            }
        }
        self.revalidate(&head, asked_at);
        Ok(())
    }

    /// Makes all facts of this chain as young as the question to which `head` is the answer, if it says that a read would have
    /// brought nothing else.
    fn revalidate(&self, head: &StreamHead, asked_at: Option<BootMillis>) {
        if let (Some(at), Some(position)) = (asked_at, self.feed.history.revalidated_by(head)) {
            self.feed.each_sink(|sink| sink.revalidate(position, at));
            self.feed.status.set_revalidated(at);
        }
    }

    /// Whether the last entry that was read is not in the stream (any more) as it was read: the primary was promoted from a
    /// replica that had not received it, or the stream was trimmed.
    fn is_another_branch(&self, head: &StreamHead) -> bool {
        let goes_on = head.counter != self.feed.history.known().applied || head.link == self.link;
        self.cursor != BEGINNING && (head.at_cursor != self.at_cursor || !goes_on)
    }

    /// For a store without data, which is new or was flushed. Look-ups fail meanwhile. Facts from before are bounded by their
    /// age, and end when another history begins (docs/threats.md F14).
    async fn wait_for_data(&mut self, wire: &RedisConnection) -> Result<(), StoreFault> {
        self.saw_nothing = true;
        self.feed.status.set_state(ReaderState::Live);
        self.read(wire, BEGINNING).await.map(|_| ())
    }

    async fn read(&self, wire: &RedisConnection, cursor: &str) -> Result<Vec<EventEntry>, StoreFault> {
        let options = StreamReadOptions::default()
            .count(BATCH)
            .block(usize::try_from(BLOCK.as_millis()).unwrap_or(usize::MAX));
        let mut connection = wire.connection.clone();
        let reply: Option<StreamReadReply> = connection
            .xread_options(&[self.scripts.events_key()], &[cursor], &options)
            .await
            .map_err(|e| StoreFault::of(&e))?;
        let streams = reply.map(|r| r.keys).unwrap_or_default();
        let entries = streams.into_iter().flat_map(|stream| stream.ids);
        Ok(entries
            .map(|entry| EventEntry {
                counter: entry.map.get("p").and_then(|p| u64::from_redis_value_ref(p).ok()),
                event: entry.map.get("e").and_then(|e| Vec::<u8>::from_redis_value_ref(e).ok()),
                ending: entry.map.get("x").and_then(|x| String::from_redis_value_ref(x).ok()),
                links: entry.map.get("l").and_then(|l| String::from_redis_value_ref(l).ok()),
                id: entry.id,
            })
            .collect())
    }

    /// Hands one event to the sinks; `None` when it does not follow the last one or does not decode.
    fn apply(&mut self, entry: EventEntry) -> Option<()> {
        let known = self.feed.history.known();
        let counter = entry.counter.filter(|counter| *counter == known.applied + 1)?;
        let event = Event {
            position: known.position(counter)?,
            at: time_of(&entry.id),
            subject: codec::decode_event(&entry.event?).ok()?,
        };
        if let Some(links) = &entry.links {
            // An older gateway writes no links. After its entries, the chain goes on where it was.
            let (before, link) = links.split_once(' ')?;
            if before != self.link {
                return None;
            }
            link.clone_into(&mut self.link);
        }
        if let Some(text) = entry.ending {
            // An ending that cannot be read makes the entry untrusted. It is not a change without an ending.
            self.feed.endings.note(RecordRef::of(&event.subject), Ending::parse(&text)?);
        }
        // Before the sinks: an announcement that this was applied must be able to prove it.
        self.feed.history.note_read(&entry.id, counter, &self.link);
        self.feed.each_sink(|sink| sink.apply(&event));
        // After the sinks: a caller that waits for this counter relies on them.
        self.feed.history.advance(counter);
        self.feed.status.set_applied(event.position);
        self.cursor = entry.id;
        self.at_cursor = Some(counter);
        Some(())
    }

    /// Something was missed, or may have been missed: all facts read so far are forgotten, and reading begins again at a
    /// point that is known for certain.
    fn restart(&mut self, head: &StreamHead) {
        let Some(position) = self.feed.history.restart(head) else {
            return;
        };
        self.link.clone_from(&head.link);
        self.cursor.clone_from(&head.last_id);
        self.at_cursor = head.at_last;
        self.feed.each_sink(|sink| sink.forget_before(position));
        self.feed.status.set_applied(position);
        tracing::info!(
            position = head.counter,
            "the event stream is followed from here; earlier facts are forgotten"
        );
    }
}

/// One entry of the stream, not checked yet.
struct EventEntry {
    id: String,
    counter: Option<u64>,
    event: Option<Vec<u8>>,
    /// The ending that the change left; creations have none.
    ending: Option<String>,
    /// The link of the event before, and that of this one.
    links: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;
    use crate::base::principal::Position;

    #[test]
    fn a_feed_begins_lost_and_at_the_start() {
        let feed = EventFeed::new(Arc::new(SystemClock));
        assert_eq!(feed.status.state(), ReaderState::Lost);
        assert_eq!(feed.status.applied(), Position(0));
    }
}
