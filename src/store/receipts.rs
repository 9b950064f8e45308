//! Receipts: which changes each gateway has applied, by its own announcement, and the log of changes for operators.

use std::time::Duration;

use crate::base::clock::UnixMillis;
use crate::base::ids::GatewayId;
use crate::base::principal::Position;

use super::events::ReaderState;
use super::{EventSubject, StoreError};

/// How often a gateway announces itself without news. A gateway that was killed looks alive for two or three of these.
pub const HEARTBEAT: Duration = Duration::from_secs(2);

/// How long after its last announcement another process may take the id of a gateway: three heartbeats, so that a restarted
/// gateway soon has its id back, and two gateways that share an id by mistake are refused.
pub const DUPLICATE_AFTER: Duration = Duration::from_secs(6);

/// How long the receipt of a silent gateway is kept. It is longer than any bound, so that a gateway that may still serve from
/// old facts is always listed. It is short enough that a destroyed machine does not stay in the list for ever.
pub const KEPT_FOR: Duration = Duration::from_secs(3_600);

/// The longest time for which any configuration lets a gateway use facts from before a change. It is used for gateways that are
/// not in the list, whose configuration is not known.
pub const HARD_BOUND: Duration = Duration::from_secs(60);

/// How far a receipt may be ahead of the store's clock. That happens when another machine takes the store over whose clock is
/// behind. A receipt that is further ahead does not count as heard.
pub const HEARD_AHEAD: Duration = Duration::from_secs(1);

/// Most gateways of one store. Each costs a write every [`HEARTBEAT`].
pub const MAX_GATEWAYS: usize = 1_000;

/// Most events of one page: about 200 KiB.
pub const MAX_EVENTS: usize = 1_000;

/// Longest version text in a receipt. Others may have written it, so it is cut when it is read.
const MAX_VERSION: usize = 64;

/// Longest checkpoint with its verifier key that a gateway publishes: two names of 142 bytes, a root, a signature and a key.
pub const MAX_PUBLISHED: usize = 2_048;

/// What a gateway published of its audit trail. Others may have written it: nothing in it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedCheckpoint {
    pub gateway: GatewayId,
    pub text: String,
}

/// The announcement of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    pub id: GatewayId,
    /// A random number, which tells two processes of one name apart.
    pub run: u64,
    pub version: String,
    /// The position up to which all of its sinks have every event.
    pub applied: Position,
    /// How well it hears of events.
    pub reader: ReaderState,
    pub max_age: Duration,
    /// How often it looks at live streams.
    pub stream_interval: Duration,
}

/// A point in the history of a store. It is not a [`Position`], which is valid only within one process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryPoint {
    /// The random id of the history. Another history begins when the store has lost its data. Empty when it is not known.
    pub history: String,
    /// Number of changes since its beginning.
    pub count: u64,
}

impl HistoryPoint {
    /// Whether this point is at or after `other`. Points of two histories cannot be compared.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        !self.history.is_empty() && self.history == other.history && self.count >= other.count
    }
}

/// The last announcement of a gateway, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub id: GatewayId,
    /// Tells processes of one name apart.
    pub run: u64,
    pub version: String,
    pub applied: HistoryPoint,
    /// When it first announced that it had applied this, by the store's clock.
    pub since: UnixMillis,
    /// When it last announced itself, by the store's clock.
    pub heard_at: UnixMillis,
    /// How well it hears of events.
    pub reader: ReaderState,
    pub max_age: Duration,
    /// How often it looks at live streams.
    pub stream_interval: Duration,
}

impl Receipt {
    /// How long after a change this gateway may use facts from before it, even if it hears of no event.
    #[must_use]
    pub const fn bound(&self) -> Duration {
        self.max_age.saturating_add(self.stream_interval)
    }

    /// Whether it has announced itself lately.
    #[must_use]
    pub fn is_heard(&self, now: UnixMillis) -> bool {
        now <= self.heard_at.plus(DUPLICATE_AFTER) && self.heard_at <= now.plus(HEARD_AHEAD)
    }
}

/// A gateway that is no longer registered, and may use what it read before until `stopped_by`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepartedGateway {
    /// The name of its entry, made printable and cut, because others may have written it.
    pub shown: String,
    /// When it was last heard of, by the store's clock, if its entry says so.
    pub heard_at: Option<UnixMillis>,
    /// When it must have stopped, by the store's clock.
    pub stopped_by: UnixMillis,
}

/// All gateways, read in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipts {
    pub now: UnixMillis,
    pub head: HistoryPoint,
    /// In order of id.
    pub gateways: Vec<Receipt>,
    /// Processes whose id another one has taken, gateways that were silent for [`KEPT_FOR`], and entries that cannot be read.
    /// None of them is registered any more. In order of `shown`.
    pub departed: Vec<DepartedGateway>,
    /// Since when no gateway can have been lost from the list, by the store's clock; `None` when none can ever have been lost.
    pub whole_since: Option<UnixMillis>,
}

impl Receipts {
    /// Two moments: a gateway that is not in the list may have been in it before the first one, and stops using what it read
    /// then by the second one. `None` when the list has every gateway that may use what it read before now.
    #[must_use]
    pub fn not_ruled_out(&self) -> Option<(UnixMillis, UnixMillis)> {
        let since = self.whole_since?;
        let stopped = since.plus(HARD_BOUND);
        (self.now < stopped).then_some((since, stopped))
    }

    /// Whether the gateway of this receipt has applied everything up to `target`. A receipt that was sent to another server, or
    /// that names changes which the store does not have, proves nothing.
    #[must_use]
    pub fn confirms(&self, receipt: &Receipt, target: &HistoryPoint) -> bool {
        receipt.applied.contains(target)
            && receipt.applied.count <= self.head.count
            && self.whole_since.is_none_or(|since| receipt.heard_at >= since)
    }
}

/// One event of the log, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Its count within the history.
    pub count: u64,
    /// When the change was made, by the store's clock, if the store knows.
    pub at: Option<UnixMillis>,
    pub subject: EventSubject,
    /// The gateway through which it was made, if the store knows.
    pub gateway: Option<GatewayId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    pub head: HistoryPoint,
    /// The count of the oldest event that is still kept; `None` when there is none.
    pub oldest: Option<u64>,
    /// Oldest first, without a gap.
    pub events: Vec<LoggedEvent>,
}

impl EventPage {
    /// The first and the last count of the events after `after` that are no longer kept.
    #[must_use]
    pub fn trimmed(&self, after: u64) -> Option<(u64, u64)> {
        let first_kept = self.oldest.unwrap_or(self.head.count.saturating_add(1));
        (after.saturating_add(1) < first_kept).then(|| (after.saturating_add(1), first_kept.saturating_sub(1)))
    }
}

/// The error of a store that keeps no receipts.
pub(super) fn no_receipts() -> StoreError {
    StoreError::Unavailable("it keeps no receipts".into())
}

/// Longest shown name of an entry, in characters.
const MAX_SHOWN: usize = 160;

/// The name of an entry, printable on one line and cut.
pub(super) fn shown_entry(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// A version text without unprintable characters, cut.
pub(super) fn shown_version(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic()).take(MAX_VERSION).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(history: &str, count: u64) -> HistoryPoint {
        HistoryPoint {
            history: history.into(),
            count,
        }
    }

    #[test]
    fn a_standing_contains_what_is_before_it_in_its_own_history_only() {
        assert!(at("a", 7).contains(&at("a", 7)));
        assert!(at("a", 8).contains(&at("a", 7)));
        assert!(!at("a", 6).contains(&at("a", 7)));
        assert!(!at("b", 9).contains(&at("a", 7)));
        assert!(!at("", 9).contains(&at("", 7)), "nothing known contains nothing");
    }

    fn receipt(count: u64, heard_at: i64) -> Receipt {
        Receipt {
            id: GatewayId::parse("gw-1").unwrap(),
            run: 1,
            version: String::new(),
            applied: at("a", count),
            since: UnixMillis(0),
            heard_at: UnixMillis(heard_at),
            reader: ReaderState::Live,
            max_age: Duration::from_secs(30),
            stream_interval: Duration::from_secs(15),
        }
    }

    fn list(whole_since: Option<i64>) -> Receipts {
        Receipts {
            now: UnixMillis(100_000),
            head: at("a", 8),
            gateways: Vec::new(),
            departed: Vec::new(),
            whole_since: whole_since.map(UnixMillis),
        }
    }

    #[test]
    fn a_receipt_from_before_a_loss_or_beyond_the_store_confirms_nothing() {
        let confirms = |whole_since, count, heard_at| list(whole_since).confirms(&receipt(count, heard_at), &at("a", 7));
        assert!(confirms(None, 7, 99_000));
        assert!(confirms(Some(99_000), 8, 99_000));
        assert!(!confirms(Some(99_001), 8, 99_000), "it told another server");
        assert!(!confirms(None, 9, 99_000), "the store has only eight changes");
        assert!(!confirms(None, 6, 99_000), "whatever `since` says");
    }

    #[test]
    fn nobody_is_ruled_out_until_a_minute_after_a_list_lost_something() {
        assert_eq!(list(None).not_ruled_out(), None);
        let unknown = Some((UnixMillis(40_001), UnixMillis(100_001)));
        assert_eq!(list(Some(40_001)).not_ruled_out(), unknown);
        assert_eq!(list(Some(40_000)).not_ruled_out(), None);
    }

    #[test]
    fn who_is_heard_in_the_future_is_not_heard() {
        let now = UnixMillis(100_000);
        for (heard_at, heard) in [(100_000, true), (94_000, true), (93_999, false), (101_000, true), (101_001, false)] {
            assert_eq!(receipt(0, heard_at).is_heard(now), heard, "{heard_at}");
        }
    }

    #[test]
    fn a_page_says_which_events_are_gone() {
        let page = EventPage {
            head: at("a", 9),
            oldest: Some(5),
            events: Vec::new(),
        };
        assert_eq!(page.trimmed(4), None);
        assert_eq!(page.trimmed(3), Some((4, 4)));
        assert_eq!(page.trimmed(0), Some((1, 4)));
        let empty = EventPage { oldest: None, ..page };
        assert_eq!(empty.trimmed(9), None);
        assert_eq!(empty.trimmed(0), Some((1, 9)));
    }
}
