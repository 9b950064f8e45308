//! The Lua scripts: what belongs together is one atomic step, and fails before it writes.

/// Version of the layout above; that of the records is inside them.
pub(super) const FORMAT: &str = "1";

/// Events kept in the stream, about: 40 MiB, and more than a thousand a second while a gateway
/// restarts. A reader that is further behind forgets everything instead.
pub(super) const EVENTS_KEPT: u32 = 100_000;

/// Begins every script: the store must be ours (`ARGV[1]` is the pepper's check value) and must hold
/// its data. `m` is history, pepper, position.
pub(super) const PROLOGUE: &str = "
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper', 'position')
if m[2] and m[2] ~= ARGV[1] then return redis.error_reply('FOREIGN pepper') end
if not m[1] or not m[2] or not m[3] then return redis.error_reply('NODATA history') end
";

/// Appends an event. The position grows before the event and the event before the record: a failure
/// in between (a key of the wrong type) leaves a gap that readers notice, never a silent change.
pub(super) const RECORD_CHANGE: &str = "
local function change(events, kept, event)
  local p = redis.call('HINCRBY', KEYS[1], 'position', 1)
  redis.call('XADD', events, 'MAXLEN', '~', kept, '*', 'p', p, 'e', event)
  return p
end
";

/// KEYS meta f c t; ARGV pepper fingerprint. One round trip, one moment.
pub(super) const FIND: &str = "
local index = redis.call('HGET', KEYS[2], ARGV[2])
if not index then
  if redis.call('HEXISTS', KEYS[1], 'credentials') == 1 and redis.call('EXISTS', KEYS[2]) == 0 then
    return redis.error_reply('DATALOST fingerprints')
  end
  return {m[1], m[3]}
end
local id, tenant = string.match(index, '^(%S+) (%S+)$')
if not id then return redis.error_reply('WRONGTYPE index') end
return {m[1], m[3], redis.call('HGET', KEYS[3], id), redis.call('HGET', KEYS[4], tenant)}
";

/// KEYS meta hash; ARGV pepper id.
pub(super) const READ: &str = "
local record = redis.call('HGET', KEYS[2], ARGV[2])
if not record and redis.call('EXISTS', KEYS[2]) == 0 and redis.call('HEXISTS', KEYS[1], ARGV[3]) == 1 then
  return redis.error_reply('DATALOST records')
end
return {record}
";

/// KEYS meta index hash; ARGV pepper from limit.
pub(super) const PAGE: &str = "
local ids = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[2], '+', 'LIMIT', 0, ARGV[3])
if #ids == 0 then return {} end
return redis.call('HMGET', KEYS[3], unpack(ids))
";

/// KEYS meta t tids events f c; ARGV pepper id record event kept history format.
/// The first tenant makes the store: before it there is nobody to admit.
pub(super) const CREATE_TENANT: &str = "
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper')
if m[2] and m[2] ~= ARGV[1] then return redis.error_reply('FOREIGN pepper') end
if not m[1] or not m[2] then
  if redis.call('EXISTS', KEYS[2], KEYS[5], KEYS[6]) > 0 then return redis.error_reply('DATALOST meta') end
  redis.call('HSET', KEYS[1], 'format', ARGV[7], 'pepper', ARGV[1], 'history', ARGV[6], 'position', 0)
end
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then return 'id' end
local p = change(KEYS[4], ARGV[5], ARGV[4])
redis.call('HSET', KEYS[1], 'tenants', 1)
redis.call('ZADD', KEYS[3], 0, ARGV[2])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return p
";

/// KEYS meta c f ids `ids:<t>` t events; ARGV pepper id record event kept tenant fingerprint fingerprint.
pub(super) const CREATE_CREDENTIAL: &str = "
if redis.call('HEXISTS', KEYS[6], ARGV[6]) == 0 then return 'tenant' end
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then return 'id' end
if redis.call('HEXISTS', KEYS[3], ARGV[7]) == 1 or redis.call('HEXISTS', KEYS[3], ARGV[8]) == 1 then return 'fingerprint' end
local p = change(KEYS[7], ARGV[5], ARGV[4])
local index = ARGV[2] .. ' ' .. ARGV[6]
redis.call('ZADD', KEYS[4], 0, ARGV[2])
redis.call('ZADD', KEYS[5], 0, ARGV[2])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('HSET', KEYS[3], ARGV[7], index, ARGV[8], index)
redis.call('HINCRBY', KEYS[1], 'credentials', 1)
return p
";

/// KEYS meta hash events; ARGV pepper id record event kept before. Writes only over what was read.
pub(super) const REPLACE: &str = "
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[6] then return 'stale' end
local p = change(KEYS[3], ARGV[5], ARGV[4])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return p
";

/// KEYS meta; ARGV pepper. A write without a change, so that `WAIT` covers what others wrote before.
pub(super) const TOUCH: &str = "
redis.call('HSET', KEYS[1], 'confirmed', m[3])
return m[3]
";

/// KEYS meta; ARGV pepper format. Makes an empty store ours, or says whose it is.
pub(super) const CLAIM: &str = "
local m = redis.call('HMGET', KEYS[1], 'format', 'pepper')
if not m[1] and not m[2] then
  redis.call('HSET', KEYS[1], 'format', ARGV[2], 'pepper', ARGV[1])
  return {ARGV[2], ARGV[1]}
end
return m
";

/// KEYS meta events; ARGV pepper. Where the stream stands; nothing when there is no data.
pub(super) const HEAD: &str = "
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper', 'position')
if m[2] and m[2] ~= ARGV[1] then return redis.error_reply('FOREIGN pepper') end
if not m[1] or not m[3] then return false end
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
return {m[1], m[3], last[1] and last[1][1] or '0-0'}
";
