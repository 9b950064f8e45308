//! Receipts and the event log in Redis, all times by Redis' own clock.

use std::time::Duration;

use redis::{FromRedisValue, RedisError, Script, ScriptInvocation};

use crate::base::clock::UnixMillis;
use crate::base::ids::GatewayId;
use crate::store::events::ReaderState;
use crate::store::receipts::{DUPLICATE_AFTER, KEPT_FOR, MAX_EVENTS, MAX_GATEWAYS, shown_version};
use crate::store::{Announcement, EventPage, Receipt, Receipts, Standing, StoreError, ToldEvent, codec};

use super::dial::Wire;
use super::fault::Fault;
use super::lua::ours;
use super::rights;
use super::scripts::Scripts;

/// Begins every script here. The store may be empty, but it must not be another's. `now` is Redis'
/// time in milliseconds.
const BEGIN: &str = concat!(
    "
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper', 'position')",
    ours!(),
    "local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"
);

/// KEYS meta g; ARGV pepper id run standing rest duplicate kept most. A receipt is `run since heard
/// history count reader max-age stream-interval version`; `since` is when this standing was first
/// told. Answers Redis' time, this gateway's place by its id, and how many there are.
const ANNOUNCE: &str = "
local held, since = redis.call('HGET', KEYS[2], ARGV[2]), now
if held then
  local run, first, heard, standing = string.match(held, '^(%S+) (%d+) (%d+) (%S+ %S+) ')
  if run and run ~= ARGV[3] and math.abs(now - tonumber(heard)) < tonumber(ARGV[6]) then
    return redis.error_reply('DUPLICATE gateway')
  end
  if run == ARGV[3] and standing == ARGV[4] then since = tonumber(first) end
elseif redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[8]) then
  local all = redis.call('HGETALL', KEYS[2])
  for i = 1, #all, 2 do
    local heard = string.match(all[i + 1], '^%S+ %d+ (%d+) ')
    if not heard or tonumber(heard) + tonumber(ARGV[7]) < now then redis.call('HDEL', KEYS[2], all[i]) end
  end
  if redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[8]) then return redis.error_reply('FULL gateways') end
end
redis.call('HSET', KEYS[2], ARGV[2], string.format('%s %.0f %.0f %s %s', ARGV[3], since, now, ARGV[4], ARGV[5]))
local before, ids = 0, redis.call('HKEYS', KEYS[2])
for i = 1, #ids do
  if ids[i] < ARGV[2] then before = before + 1 end
end
return {now, before, #ids}
";

/// KEYS meta g; ARGV pepper id run.
const WITHDRAW: &str = "
local held = redis.call('HGET', KEYS[2], ARGV[2])
if held and string.match(held, '^(%S+) ') == ARGV[3] then redis.call('HDEL', KEYS[2], ARGV[2]) end
return now
";

/// KEYS meta g; ARGV pepper kept. Answers time, history, position, and id and receipt of each gateway
/// that is kept.
const RECEIPTS: &str = "
local found, all = {}, redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local heard = string.match(all[i + 1], '^%S+ %d+ (%d+) ')
  if not heard or tonumber(heard) + tonumber(ARGV[2]) < now then
    redis.call('HDEL', KEYS[2], all[i])
  else
    found[#found + 1] = {all[i], all[i + 1]}
  end
end
return {now, m[1] or '', m[3] or '0', found}
";

/// KEYS meta events; ARGV pepper after (empty: the newest) limit. Answers history, position, the
/// oldest count kept (or nothing), and count, stream id and event of each. Counts grow by one along the
/// stream and times never shrink, so the first event after a count is found by halving the time. What has no count,
/// or is larger than any of ours, somebody else wrote, and is not told.
const EVENTS: &str = "
local key, limit, found = KEYS[2], tonumber(ARGV[3]), {}
local function count_of(entry)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'p' and #entry[2][i + 1] < 16 then return tonumber(entry[2][i + 1]) or 0 end
  end
  return 0
end
local function tell(entry)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'e' and #entry[2][i + 1] <= 32768 and count_of(entry) > 0 then found[#found + 1] = {tostring(count_of(entry)), entry[1], entry[2][i + 1]} end
  end
end
local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
if first and ARGV[2] == '' then
  local newest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', limit)
  for i = #newest, 1, -1 do tell(newest[i]) end
elseif first then
  local after = tonumber(ARGV[2])
  local function millis(entry) return tonumber(string.match(entry[1], '^%d+')) end
  local low, high = millis(first), millis(redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1])
  local at, base = low, count_of(first)
  while low <= high do
    local middle = math.floor((low + high) / 2)
    local entry = redis.call('XRANGE', key, string.format('%.0f', middle), '+', 'COUNT', 1)[1]
    if entry and count_of(entry) <= after + 1 then
      at, base, low = middle, count_of(entry), middle + 1
    else
      high = middle - 1
    end
  end
  local skip = math.max(0, after + 1 - base)
  if count_of(redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]) > after then
    for _, entry in ipairs(redis.call('XRANGE', key, string.format('%.0f', at), '+', 'COUNT', limit + skip)) do
      if count_of(entry) > after and #found < limit then tell(entry) end
    end
  end
end
return {m[1] or '', m[3] or '0', first and tostring(count_of(first)) or false, found}
";

/// What an announcement is answered.
pub(super) struct Announced {
    /// Redis' time.
    pub(super) now: UnixMillis,
    /// How many ids come before this gateway's ...
    pub(super) place: u32,
    /// ... of how many.
    pub(super) gateways: u32,
}

/// The scripts about receipts and events, and the keys they work on.
pub(super) struct ReceiptScripts {
    meta: String,
    gateways: String,
    events: String,
    /// As scripts take them.
    peppers: String,
    announce: Script,
    withdraw: Script,
    receipts: Script,
    read_events: Script,
}

impl ReceiptScripts {
    pub(super) fn new(scripts: &Scripts) -> Self {
        let script = |body: &str| rights::script(&format!("{BEGIN}{body}"));
        Self {
            meta: scripts.key("meta"),
            gateways: scripts.key("g"),
            events: scripts.events_key().to_owned(),
            peppers: scripts.peppers().to_owned(),
            announce: script(ANNOUNCE),
            withdraw: script(WITHDRAW),
            receipts: script(RECEIPTS),
            read_events: script(EVENTS),
        }
    }

    /// Writes a receipt with this standing; answers Redis' time, and this gateway's place among how many.
    pub(super) async fn announce(&self, wire: &Wire, gateway: &Announcement, applied: &Standing) -> Result<Announced, Fault> {
        let history = if applied.history.is_empty() { "-" } else { &applied.history };
        let rest = format!(
            "{} {} {} {}",
            gateway.reader.as_str(),
            gateway.max_age.as_millis(),
            gateway.stream_interval.as_millis(),
            shown_version(&gateway.version)
        );
        let mut call = self.announce.key(&self.meta);
        call.key(&self.gateways)
            .arg(&self.peppers)
            .arg(gateway.id.as_str())
            .arg(format!("{:016x}", gateway.run))
            .arg(format!("{history} {}", applied.count))
            .arg(rest)
            .arg(millis(DUPLICATE_AFTER))
            .arg(millis(KEPT_FOR))
            .arg(MAX_GATEWAYS);
        let (now, place, gateways) = run(wire, &call).await?;
        Ok(Announced {
            now: UnixMillis(now),
            place,
            gateways,
        })
    }

    pub(super) async fn withdraw(&self, wire: &Wire, id: &GatewayId, run_number: u64) -> Result<(), Fault> {
        let mut call = self.withdraw.key(&self.meta);
        call.key(&self.gateways)
            .arg(&self.peppers)
            .arg(id.as_str())
            .arg(format!("{run_number:016x}"));
        run::<i64>(wire, &call).await.map(|_| ())
    }

    pub(super) async fn receipts(&self, wire: &Wire) -> Result<Receipts, Fault> {
        let mut call = self.receipts.key(&self.meta);
        call.key(&self.gateways).arg(&self.peppers).arg(millis(KEPT_FOR));
        let (now, history, count, rows): (i64, String, u64, Vec<(String, String)>) = run(wire, &call).await?;
        // A receipt that does not read is left out for nobody: one that cannot be understood is as
        // good as a gateway that cannot be trusted to have confirmed.
        let gateways: Option<Vec<Receipt>> = rows.iter().map(|(id, text)| parse_receipt(id, text)).collect();
        let mut gateways = gateways.ok_or_else(|| malformed("a receipt"))?;
        gateways.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Receipts {
            now: UnixMillis(now),
            head: Standing { history, count },
            gateways,
        })
    }

    pub(super) async fn events_after(&self, wire: &Wire, after: Option<u64>, limit: usize) -> Result<EventPage, Fault> {
        let mut call = self.read_events.key(&self.meta);
        call.key(&self.events)
            .arg(&self.peppers)
            .arg(after.map(|after| after.to_string()).unwrap_or_default())
            .arg(limit.clamp(1, MAX_EVENTS));
        let (history, count, oldest, rows): (String, u64, Option<u64>, Vec<Row>) = run(wire, &call).await?;
        // What is no event is left out: its place in the count shows, and whoever reads the others must.
        let told = |(count, id, event): Row| {
            Some(ToldEvent {
                count,
                at: time_of(&id),
                subject: codec::decode_event(&event).ok()?,
            })
        };
        Ok(EventPage {
            head: Standing { history, count },
            oldest,
            events: rows.into_iter().filter_map(told).collect(),
        })
    }
}

/// Count, stream id and event.
type Row = (u64, String, Vec<u8>);

/// When an entry was written, by Redis' clock: stream ids begin with it.
pub(super) fn time_of(stream_id: &str) -> Option<UnixMillis> {
    stream_id
        .split_once('-')
        .and_then(|(millis, _)| millis.parse().ok())
        .map(UnixMillis)
}

fn parse_receipt(id: &str, text: &str) -> Option<Receipt> {
    let mut words = text.splitn(9, ' ');
    let mut next = || words.next();
    let _run = next()?;
    let since = next()?.parse().ok()?;
    let heard_at = next()?.parse().ok()?;
    let history = next()?;
    Some(Receipt {
        id: GatewayId::parse(id).ok()?,
        since: UnixMillis(since),
        heard_at: UnixMillis(heard_at),
        applied: Standing {
            history: if history == "-" { String::new() } else { history.to_owned() },
            count: next()?.parse().ok()?,
        },
        reader: ReaderState::parse(next()?)?,
        max_age: Duration::from_millis(next()?.parse().ok()?),
        stream_interval: Duration::from_millis(next()?.parse().ok()?),
        version: shown_version(next()?),
    })
}

async fn run<T: FromRedisValue>(wire: &Wire, call: &ScriptInvocation<'_>) -> Result<T, Fault> {
    let mut connection = wire.connection.clone();
    call.invoke_async(&mut connection).await.map_err(|e| fault_of(&e))
}

fn fault_of(error: &RedisError) -> Fault {
    let refused = |why: &str| Fault::kept(StoreError::Unavailable(why.into()));
    match error.code() {
        Some("DUPLICATE") => refused("another gateway goes by the same id: give each an `id` of its own in its configuration"),
        Some("FULL") => refused("1,000 gateways are registered already"),
        _ => Fault::of(error),
    }
}

fn malformed(what: &str) -> Fault {
    Fault::kept(StoreError::Corrupt(format!("{what} has the wrong form")))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00000000000000ff 100 200 abc 7 live 30000 15000 0.4.0";

    #[test]
    fn a_receipt_is_read_as_it_was_written() {
        let receipt = parse_receipt("gw-1", GOOD).unwrap();
        assert_eq!((receipt.since, receipt.heard_at), (UnixMillis(100), UnixMillis(200)));
        assert_eq!((receipt.applied.history.as_str(), receipt.applied.count), ("abc", 7));
        assert_eq!((receipt.reader, receipt.bound()), (ReaderState::Live, Duration::from_secs(45)));
        assert_eq!(receipt.version, "0.4.0");
        assert_eq!(parse_receipt("gw-1", &GOOD.replace("abc", "-")).unwrap().applied.history, "");
    }

    #[test]
    fn what_is_not_a_receipt_is_refused() {
        assert!(parse_receipt("gw 1", GOOD).is_none());
        for bad in [
            "",
            "a b",
            "0 x 200 abc 7 live 1 1 v",
            "0 1 2 abc -7 live 1 1 v",
            "0 1 2 abc 7 well 1 1 v",
            "0 1 2 abc 7 live 1",
        ] {
            assert!(parse_receipt("gw-1", bad).is_none(), "{bad}");
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
