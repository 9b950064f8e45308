//! Receipts and the event log in Redis. All times are by the clock of Redis. Calls run on the connection that operators read
//! on, where no change that waits for replicas delays them.

use std::time::Duration;

use redis::{FromRedisValue, RedisError, Script, ScriptInvocation};

use crate::base::clock::UnixMillis;
use crate::base::ids::GatewayId;
use crate::store::events::ReaderState;
use crate::store::receipts::{
    DUPLICATE_AFTER, KEPT_FOR, MAX_EVENTS, MAX_GATEWAYS, MAX_PUBLISHED, PublishedCheckpoint, shown_entry, shown_version,
};
use crate::store::redis::scripts::{ANNOUNCE, EVENTS, EXCHANGE_CHECKPOINTS, RECEIPTS, Scripts, WITHDRAW, script};
use crate::store::redis::stream::AppliedPoint;
use crate::store::redis::topology::{KnownList, RedisConnection, RetryRead, ServerIdentity, StoreFault};
use crate::store::{Announcement, DepartedGateway, EventPage, HistoryPoint, LoggedEvent, Receipt, Receipts, StoreError, codec};

use super::{StoreCall, settle};

/// Most entries that are read: all gateways that there may be, and some that have departed lately.
const MOST_ENTRIES: usize = MAX_GATEWAYS + 200;

/// The reply to an announcement.
pub(crate) struct AnnounceReply {
    pub(crate) now: UnixMillis,
    /// The rank of this gateway by name, for its reconnect slot.
    pub(crate) rank: u32,
    pub(crate) gateways: u32,
    /// The number of the list of gateways.
    pub(crate) number: u64,
    /// Whether the server tells its process (`run_id`).
    pub(crate) server: ServerIdentity,
    /// Why the list was not complete; empty when it was.
    pub(crate) lost: String,
}

/// The reply with all receipts.
pub(crate) struct ReceiptsReply {
    pub(crate) receipts: Receipts,
    /// Why the list was not complete; empty when it was.
    pub(crate) lost: String,
}

/// The scripts about receipts and events, and the keys they work on.
pub(crate) struct ReceiptScripts {
    meta: String,
    gateways: String,
    events: String,
    checkpoints: String,
    peppers: String,
    announce: Script,
    withdraw: Script,
    receipts: Script,
    exchange: Script,
    read_events: Script,
}

impl ReceiptScripts {
    pub(crate) fn new(scripts: &Scripts) -> Self {
        Self {
            meta: scripts.key("meta"),
            gateways: scripts.key("g"),
            events: scripts.events_key().to_owned(),
            checkpoints: scripts.key("k"),
            peppers: scripts.peppers().to_owned(),
            announce: script(ANNOUNCE),
            withdraw: script(WITHDRAW),
            receipts: script(RECEIPTS),
            exchange: script(EXCHANGE_CHECKPOINTS),
            read_events: script(EVENTS),
        }
    }

    /// Writes a receipt with this point of the history.
    pub(crate) async fn announce(
        &self,
        wire: &RedisConnection,
        gateway: &Announcement,
        applied: &AppliedPoint,
        known_list: KnownList,
    ) -> Result<AnnounceReply, StoreFault> {
        let standing = &applied.standing;
        let history = if standing.history.is_empty() { "-" } else { &standing.history };
        let rest = format!(
            "{} {} {} {}",
            gateway.reader.as_str(),
            gateway.max_age.as_millis(),
            gateway.stream_interval.as_millis(),
            shown_version(&gateway.version)
        );
        let mut call = self.announce.key(&self.meta);
        call.key(&self.gateways)
            .key(&self.events)
            .arg(&self.peppers)
            .arg(gateway.id.as_str())
            .arg(format!("{:016x}", gateway.run))
            .arg(format!("{history} {}", standing.count))
            .arg(rest)
            .arg(millis(DUPLICATE_AFTER))
            .arg(millis(KEPT_FOR))
            .arg(MAX_GATEWAYS)
            .arg(known_list.number)
            .arg(known_list.at)
            .arg(u8::from(!known_list.answered))
            .arg(if applied.entry.is_empty() { "0-0" } else { &applied.entry })
            .arg(applied.counter)
            .arg(&applied.link);
        let (now, rank, gateways, number, hidden, lost): (_, _, _, _, u8, _) = run(wire, &call).await?;
        Ok(AnnounceReply {
            now: UnixMillis(now),
            rank,
            gateways,
            number,
            server: if hidden == 0 {
                ServerIdentity::Visible
            } else {
                ServerIdentity::Hidden
            },
            lost,
        })
    }

    /// Takes a receipt away; answers why the list was not complete, or an empty text.
    pub(crate) async fn withdraw(
        &self,
        wire: &RedisConnection,
        id: &GatewayId,
        run_number: u64,
        known_list: KnownList,
    ) -> Result<String, StoreFault> {
        let mut call = self.withdraw.key(&self.meta);
        call.key(&self.gateways)
            .arg(&self.peppers)
            .arg(id.as_str())
            .arg(format!("{run_number:016x}"))
            .arg(known_list.number)
            .arg(known_list.at);
        run(wire, &call).await
    }

    /// All receipts. `own` is the entry of this process, and `known_list` what it knows of the list.
    pub(crate) async fn receipts(&self, wire: &RedisConnection, own: &str, known_list: KnownList) -> Result<ReceiptsReply, StoreFault> {
        let mut call = self.receipts.key(&self.meta);
        call.key(&self.gateways)
            .arg(&self.peppers)
            .arg(millis(KEPT_FOR))
            .arg(MOST_ENTRIES)
            .arg(own)
            .arg(known_list.number)
            .arg(known_list.at);
        let (now, history, count, whole, lost, entries, rows): ListReply = run(wire, &call).await?;
        if entries > rows.len() {
            return Err(StoreFault::kept(StoreError::Corrupt(
                "the list of gateways has more entries than there may be gateways: somebody else writes to it".into(),
            )));
        }
        let (mut gateways, mut departed) = (Vec::new(), Vec::new());
        for (name, text) in rows {
            match parse_entry(&name, &text) {
                GatewayEntry::Gateway(receipt) => gateways.push(receipt),
                GatewayEntry::Departed(one) => departed.push(one),
                // The script has checked the form of each entry. An entry that was left out would look like no gateway.
                GatewayEntry::Neither => return Err(malformed("a receipt")),
            }
        }
        gateways.sort_by(|a: &Receipt, b| (&a.id, a.run).cmp(&(&b.id, b.run)));
        departed.sort_by(|a: &DepartedGateway, b| a.shown.cmp(&b.shown));
        Ok(ReceiptsReply {
            receipts: Receipts {
                now: UnixMillis(now),
                head: HistoryPoint { history, count },
                gateways,
                departed,
                whole_since: (whole > 0).then_some(UnixMillis(whole)),
            },
            lost,
        })
    }

    /// Publishes a checkpoint, where there is one, and reads those of other gateways.
    pub(crate) async fn exchange_checkpoints(
        &self,
        wire: &RedisConnection,
        id: &GatewayId,
        run_number: u64,
        own: Option<&str>,
    ) -> Result<Vec<PublishedCheckpoint>, StoreFault> {
        let mut call = self.exchange.key(&self.meta);
        call.key(&self.gateways)
            .key(&self.checkpoints)
            .arg(&self.peppers)
            .arg(id.as_str())
            .arg(format!("{run_number:016x}"))
            .arg(own.filter(|text| text.len() <= MAX_PUBLISHED).unwrap_or_default())
            .arg(MAX_GATEWAYS)
            .arg(MAX_PUBLISHED);
        let rows: Vec<(Vec<u8>, Vec<u8>)> = run(wire, &call).await?;
        // What is no text is no checkpoint: somebody else wrote it.
        let published = |(id, text): (Vec<u8>, Vec<u8>)| {
            Some(PublishedCheckpoint {
                gateway: GatewayId::parse(str::from_utf8(&id).ok()?).ok()?,
                text: String::from_utf8(text).ok()?,
            })
        };
        Ok(rows.into_iter().filter_map(published).collect())
    }

    pub(crate) async fn events_after(&self, wire: &RedisConnection, after: Option<u64>, limit: usize) -> Result<EventPage, StoreFault> {
        let mut call = self.read_events.key(&self.meta);
        call.key(&self.events)
            .arg(&self.peppers)
            .arg(after.map(|after| after.to_string()).unwrap_or_default())
            .arg(limit.clamp(1, MAX_EVENTS));
        let (history, count, oldest, rows): (String, u64, Option<u64>, Vec<EventRow>) = run(wire, &call).await?;
        // An entry that is no event is left out. The gap in the counts shows it, and the other events stay readable.
        let told = |(count, id, event, gateway): EventRow| {
            Some(LoggedEvent {
                count,
                at: time_of(&id),
                subject: codec::decode_event(&event).ok()?,
                gateway: String::from_utf8(gateway).ok().and_then(|id| GatewayId::parse(&id).ok()),
            })
        };
        Ok(EventPage {
            head: HistoryPoint { history, count },
            oldest,
            events: rows.into_iter().filter_map(told).collect(),
        })
    }
}

/// Time, history, position, since when the list is complete and why it was not, number of entries, name and text of each.
type ListReply = (i64, String, u64, i64, String, usize, Vec<(Vec<u8>, Vec<u8>)>);

/// Count, stream id, event and gateway.
type EventRow = (u64, String, Vec<u8>, Vec<u8>);

/// When an entry was written, by the clock of Redis: stream ids begin with the time.
pub(crate) fn time_of(stream_id: &str) -> Option<UnixMillis> {
    stream_id
        .split_once('-')
        .and_then(|(millis, _)| millis.parse().ok())
        .map(UnixMillis)
}

/// An entry of the list of gateways.
pub(crate) enum GatewayEntry {
    Gateway(Receipt),
    Departed(DepartedGateway),
    Neither,
}

pub(crate) fn parse_entry(name: &[u8], text: &[u8]) -> GatewayEntry {
    let Ok(text) = std::str::from_utf8(text) else {
        return GatewayEntry::Neither;
    };
    let process = std::str::from_utf8(name).ok().and_then(parse_name);
    match (parse_departed(text), process) {
        (Some((stopped_by, heard_at)), process) => GatewayEntry::Departed(DepartedGateway {
            shown: process.map_or_else(|| shown_entry(name), |(id, _)| id.as_str().into()),
            heard_at,
            stopped_by,
        }),
        (None, Some((id, run))) => parse_receipt(id, run, text).map_or(GatewayEntry::Neither, GatewayEntry::Gateway),
        (None, None) => GatewayEntry::Neither,
    }
}

fn parse_name(name: &str) -> Option<(GatewayId, u64)> {
    let (id, run) = name.split_once('/')?;
    Some((GatewayId::parse(id).ok()?, u64::from_str_radix(run, 16).ok()?))
}

/// When the gateway must have stopped, and when it was last heard of.
fn parse_departed(text: &str) -> Option<(UnixMillis, Option<UnixMillis>)> {
    let (stop, heard) = text.strip_prefix("- ")?.split_once(' ')?;
    let heard: i64 = heard.parse().ok()?;
    Some((UnixMillis(stop.parse().ok()?), (heard > 0).then_some(UnixMillis(heard))))
}

fn parse_receipt(id: GatewayId, run: u64, text: &str) -> Option<Receipt> {
    let mut words = text.splitn(9, ' ');
    let mut next = || words.next();
    let _came = next()?;
    let since = next()?.parse().ok()?;
    let heard_at = next()?.parse().ok()?;
    let history = next()?;
    Some(Receipt {
        id,
        run,
        since: UnixMillis(since),
        heard_at: UnixMillis(heard_at),
        applied: HistoryPoint {
            history: if history == "-" { String::new() } else { history.to_owned() },
            count: next()?.parse().ok()?,
        },
        reader: ReaderState::parse(next()?)?,
        max_age: Duration::from_millis(next()?.parse().ok()?),
        stream_interval: Duration::from_millis(next()?.parse().ok()?),
        version: shown_version(next()?),
    })
}

async fn run<T: FromRedisValue>(wire: &RedisConnection, call: &ScriptInvocation<'_>) -> Result<T, StoreFault> {
    let mut connection = wire.connection.clone();
    call.invoke_async(&mut connection).await.map_err(|e| fault_of(&e))
}

fn fault_of(error: &RedisError) -> StoreFault {
    let refused = |why: &str| StoreFault {
        retry: RetryRead::Registered,
        ..StoreFault::kept(StoreError::Unavailable(why.into()))
    };
    match error.code() {
        Some("DUPLICATE") => refused("another gateway goes by the same id: give each an `id` of its own in its configuration"),
        Some("FULL") => refused("1,000 gateways are registered already"),
        _ => StoreFault::of(error),
    }
}

fn malformed(what: &str) -> StoreFault {
    StoreFault::kept(StoreError::Corrupt(format!("{what} has the wrong form")))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl StoreCall {
    pub(crate) async fn announce(&self, gateway: &Announcement) -> Result<UnixMillis, StoreError> {
        let registration = &self.shared.registration;
        let own = registration.is(&gateway.id, gateway.run);
        let announced = self.write_announcement(gateway).await;
        match &announced {
            Ok(announced) if own => registration.note_written(announced.number, announced.now, announced.server),
            Err(fault) if own && fault.retry == RetryRead::Registered => registration.note_refused(&fault.error),
            Err(fault) if own => registration.note_failed(&fault.error),
            _ => {}
        }
        let announced = announced.map_err(|fault| fault.error)?;
        raise_if_lost(&announced.lost);
        self.shared.locator.reconnect_slot.set(announced.rank, announced.gateways);
        Ok(announced.now)
    }

    async fn write_announcement(&self, gateway: &Announcement) -> Result<AnnounceReply, StoreFault> {
        let applied = self.shared.feed.history.claim(gateway.applied);
        let live = self.writer().map_err(StoreFault::kept)?;
        let known_list = self.shared.registration.known_list_of(gateway);
        let written = self.shared.receipts.announce(&live.wire, gateway, &applied, known_list).await;
        settle(&self.shared.writer, &live, written)
    }

    pub(crate) async fn withdraw(&self, id: &GatewayId, run: u64) -> Result<(), StoreError> {
        let live = self.writer()?;
        let registration = &self.shared.registration;
        let known_list = if registration.is(id, run) {
            registration.known_list()
        } else {
            KnownList::default()
        };
        let done = self.shared.receipts.withdraw(&live.wire, id, run, known_list).await;
        raise_if_lost(&self.settle_writer(&live, done)?);
        Ok(())
    }

    pub(crate) async fn receipts(&self) -> Result<Receipts, StoreError> {
        let live = self.writer()?;
        let registration = &self.shared.registration;
        let read = self
            .shared
            .receipts
            .receipts(&live.wire, registration.entry(), registration.known_list())
            .await;
        let read = self.settle_writer(&live, read)?;
        raise_if_lost(&read.lost);
        Ok(read.receipts)
    }

    pub(crate) async fn exchange_checkpoints(
        &self,
        id: &GatewayId,
        run: u64,
        own: Option<&str>,
    ) -> Result<Vec<PublishedCheckpoint>, StoreError> {
        let live = self.writer()?;
        let read = self.shared.receipts.exchange_checkpoints(&live.wire, id, run, own).await;
        self.settle_writer(&live, read)
    }

    pub(crate) async fn events_after(&self, after: Option<u64>, limit: usize) -> Result<EventPage, StoreError> {
        let live = self.writer()?;
        let read = self.shared.receipts.events_after(&live.wire, after, limit).await;
        self.settle_writer(&live, read)
    }
}

/// The script that finds an incomplete list repairs it in the same step, so each loss is reported once.
fn raise_if_lost(why: &str) {
    if !why.is_empty() {
        tracing::error!(
            alarm = "receipts_lost",
            why,
            "the list of gateways may have lost some: for a minute from now, nobody can say who is left that has not confirmed a change"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &[u8] = b"gw-1/00000000000000ff";

    const GOOD: &str = "50 100 200 abc 7 live 30000 15000 0.4.0";

    fn receipt(text: &str) -> Receipt {
        match parse_entry(NAME, text.as_bytes()) {
            GatewayEntry::Gateway(receipt) => receipt,
            _ => panic!("{text}"),
        }
    }

    #[test]
    fn a_receipt_is_read_as_it_was_written() {
        let read = receipt(GOOD);
        assert_eq!((read.id.as_str(), read.run), ("gw-1", 255));
        assert_eq!((read.since, read.heard_at), (UnixMillis(100), UnixMillis(200)));
        assert_eq!((read.applied.history.as_str(), read.applied.count), ("abc", 7));
        assert_eq!((read.reader, read.bound()), (ReaderState::Live, Duration::from_secs(45)));
        assert_eq!(read.version, "0.4.0");
        assert_eq!(receipt(&GOOD.replace("abc", "-")).applied.history, "");
    }

    #[test]
    fn who_has_departed_is_named_whatever_the_name_is() {
        let departed = |name: &[u8], text: &str| match parse_entry(name, text.as_bytes()) {
            GatewayEntry::Departed(departed) => Some((departed.shown, departed.stopped_by.0, departed.heard_at)),
            _ => None,
        };
        assert_eq!(departed(NAME, "- 300 200"), Some(("gw-1".into(), 300, Some(UnixMillis(200)))));
        assert_eq!(departed(b"x\n\xff", "- 300 0"), Some(("x\\n\\xff".into(), 300, None)));
        assert_eq!(departed(&[b'y'; 500], "- 300 0").unwrap().0.len(), 163);
        for bad in ["-", "- 300", "- x 200", "300 200", "- 300 200 1"] {
            assert!(departed(NAME, bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_a_receipt_is_refused() {
        for bad in [
            "",
            "a b",
            "0 x 200 abc 7 live 1 1 v",
            "0 1 2 abc -7 live 1 1 v",
            "0 1 2 abc 7 well 1 1 v",
            "0 1 2 abc 7 live 1",
        ] {
            assert!(matches!(parse_entry(NAME, bad.as_bytes()), GatewayEntry::Neither), "{bad}");
        }
        for name in ["gw-1", "gw 1/ff", "gw-1/x", "/ff"] {
            assert!(
                matches!(parse_entry(name.as_bytes(), GOOD.as_bytes()), GatewayEntry::Neither),
                "{name}"
            );
        }
    }

    #[test]
    fn the_time_of_an_entry_is_the_beginning_of_its_id() {
        assert_eq!(time_of("1795307838042-3"), Some(UnixMillis(1_795_307_838_042)));
        for bad in ["", "12", "x-1"] {
            assert_eq!(time_of(bad), None, "{bad}");
        }
    }
}
