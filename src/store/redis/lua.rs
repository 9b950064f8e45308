//! The Lua scripts: what belongs together is one atomic step, and fails before it writes.

/// Version of the layout above; that of the records is inside them.
pub(super) const FORMAT: &str = "2";

/// Events kept in the stream, about: 40 MiB, and more than a thousand a second while a gateway
/// restarts. A reader that is further behind forgets everything instead.
pub(super) const EVENTS_KEPT: u32 = 100_000;

/// The store must be ours: every pepper that it was written under (`m[2]`) is one of this gateway's, whose
/// check values are `ARGV[1]`, the first one first. Most often both are the same text. Otherwise each value
/// of the store, with or without the word of whoever drops it, is looked for.
macro_rules! ours {
    () => {
        "
if m[2] and m[2] ~= ARGV[1] then
  for check in string.gmatch(m[2], '(%x+)%S*') do
    if not string.find(ARGV[1], check, 1, true) then return redis.error_reply('FOREIGN pepper') end
  end
end
"
    };
}
pub(super) use ours;

/// Whoever makes a fingerprint must do so under a pepper of the list that nobody drops: a gateway that
/// still has an older one first would make what others cannot find.
macro_rules! may_make {
    () => {
        "
if m[2] and not string.find(' ' .. m[2] .. ' ', ' ' .. string.match(ARGV[1], '^%x+') .. ' ', 1, true) then
  return redis.error_reply('DROPPED pepper')
end
"
    };
}

/// Begins every script: the store must be ours and must hold its data. `m` is history, peppers,
/// position, whether anything was ever used, how many roles, how many credentials.
pub(super) const PROLOGUE: &str = concat!(
    "
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper', 'position', 'used', 'roles',
  'credentials', 'fingerprints', 'tenants')",
    ours!(),
    "if not m[1] or not m[2] or not m[3] then return redis.error_reply('NODATA history') end
"
);

/// What changing scripts share. `change` appends an event and counts it. The event is the first write of a change that
/// leaves anything: before it, scripts call every other command that they are going to call on each of their keys,
/// so that it does nothing (`counts`, `HSET` of what is there, `ZADD … XX` and `HDEL` of nothing). So a right that is
/// missing, or a key of another kind, is an answer that nothing was changed.
///
/// Events are a chain. `l` holds two links: that of the event before (a dash if there is none) and that of this one, which is
/// made of the time and the count. After data went back, new changes have the same counts as those that were lost, and the
/// same ids too if a clock was behind. Their links differ.
pub(super) const RECORD_CHANGE: &str = "
local position, link
local function change(events, kept, event, ending)
  local p = (position or redis.call('HINCRBY', KEYS[1], 'position', 0)) + 1
  local t, before = redis.call('TIME'), link or redis.call('HGET', KEYS[1], 'link') or '-'
  link = string.format('%s.%s.%.0f', t[1], t[2], p)
  if ending then
    redis.call('XADD', events, 'MAXLEN', '~', kept, '*', 'p', p, 'e', event, 'l', before .. ' ' .. link, 'x', ending)
  else
    redis.call('XADD', events, 'MAXLEN', '~', kept, '*', 'p', p, 'e', event, 'l', before .. ' ' .. link)
  end
  redis.call('HSET', KEYS[1], 'position', p, 'link', link)
  position = p
  return p
end
local function counts(key, field)
  if redis.call('HEXISTS', key, field) == 1 then
    redis.call('HINCRBY', key, field, 0)
  end
end
";

/// `bounded` gets a field unless it is longer than any that we write (`codec::MAX_RECORD_BYTES`): whoever wrote it, it must
/// not hold up the server, nor cost the connection that would bring it. The length is looked at here, and not by
/// `HSTRLEN`, so that no gateway needs a right that the user of an older one has not got.
pub(super) const BOUNDED: &str = "
local large
local function bounded(key, field, most)
  local value = redis.call('HGET', key, field)
  if value and #value > (most or 32768) then
    large = large or field
    return 'TOOLARGE'
  end
  return value
end
";

/// KEYS meta f c t r u g; ARGV pepper fingerprint entry. Whoever admits is registered at this moment, as that
/// entry of `g` that has not departed (empty: admits nobody). One round trip, one moment: the credential, what it
/// hangs on (one more than a chain may have, so that a longer one is seen) and the roles of all of them, which
/// the first line of a record names. An absence is proven: no hash has fewer entries than were made. Answers
/// the fingerprint (or an absence would be about anybody), history, position, tenant, how many
/// records and their ids in one text, each record with its last use, roles. Together they stay below what the gateway takes (`guard`). No
/// pattern is matched against more than a first line, nor so that it goes back: one record without lines would
/// hold up the server.
pub(super) const FIND: &str = "
if ARGV[3] ~= '' then
  local entry = redis.call('HGET', KEYS[7], ARGV[3])
  if not entry or string.byte(entry) == 45 then return redis.error_reply('UNLISTED gateway') end
end
local index = bounded(KEYS[2], ARGV[2], 512)
if not index then
  for key, made in pairs({[KEYS[2]] = m[7] or '1', [KEYS[3]] = m[6] or '0', [KEYS[4]] = m[8] or '1'}) do
    if redis.call('HLEN', key) < tonumber(made) then return redis.error_reply('DATALOST entries') end
  end
  return {ARGV[2], m[1], m[3]}
end
if m[4] and redis.call('EXISTS', KEYS[6]) == 0 then return redis.error_reply('DATALOST uses') end
if m[5] and m[5] ~= '0' and redis.call('EXISTS', KEYS[5]) == 0 then return redis.error_reply('DATALOST roles') end
local id, tenant = string.match(index, '^(%S+) (%S+)$')
if not id then return redis.error_reply('BADINDEX fingerprint') end
local reply = {ARGV[2], m[1], m[3], bounded(KEYS[4], tenant), '0'}
local count, ids, roles, size = 0, '', {}, 0
if id == '=' then id = nil end
while id and count < 5 do
  local record = bounded(KEYS[3], id)
  reply[#reply + 1] = record
  reply[#reply + 1] = bounded(KEYS[6], id, 32)
  ids = ids .. ' ' .. id
  local ending = string.find(record or '', '\\n', 1, true)
  local parent, named = string.match(string.sub(record or '', 1, (ending or 1) - 1), '^.(%S+)(.*)$')
  for role in string.gmatch(named or '', '%S+') do roles[#roles + 1] = role end
  count = count + 1
  id = parent ~= '-' and parent
end
reply[5] = count .. ids
for i = 1, math.min(#roles, 100) do reply[#reply + 1] = bounded(KEYS[5], roles[i]) end
for i = 4, #reply do size = size + 16 + #(reply[i] or '') end
if size > 1000000 then large = large or string.match(index, '^%S+') end
if large then return redis.error_reply('TOOLARGE ' .. large) end
return reply
";

/// KEYS meta hash u; ARGV pepper id counter. The record and its last use. An absence is proven.
pub(super) const READ: &str = "
local record = bounded(KEYS[2], ARGV[2])
if not record and redis.call('HLEN', KEYS[2]) < (tonumber(redis.call('HGET', KEYS[1], ARGV[3]) or '0') or 0) then
  return redis.error_reply('DATALOST records')
end
local used = bounded(KEYS[3], ARGV[2], 32)
if large then return redis.error_reply('TOOLARGE ' .. large) end
return {record, used}
";

/// Milliseconds by Redis' clock, and never earlier than what was made. `TIME` alone would go back when the clock
/// is set, or when another machine takes over.
pub(super) const NOW: &str = "
local function time()
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  local clock = tonumber(redis.call('HGET', KEYS[1], 'clock') or '0')
  return math.max(now, clock)
end
";

/// KEYS meta; ARGV pepper. The time, also of a store that is empty.
pub(super) const TIME: &str = concat!(
    "
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper')",
    ours!(),
    "return string.format('%.0f', time())
"
);

/// KEYS meta c t r; ARGV pepper, then number of the hash among the keys and id of each record. The time, then the
/// records as they stand at this one moment. Of one that is not there the hash must be whole.
pub(super) const READ_ALL: &str = "
local counters, reply = {[2] = m[6], [3] = m[8], [4] = m[5]}, {string.format('%.0f', time())}
for i = 2, #ARGV, 2 do
  local key = tonumber(ARGV[i])
  local record = bounded(KEYS[key], ARGV[i + 1])
  if not record and redis.call('HLEN', KEYS[key]) < (tonumber(counters[key] or '0') or 0) then
    return redis.error_reply('DATALOST records')
  end
  reply[#reply + 1] = record
end
if large then return redis.error_reply('TOOLARGE ' .. large) end
return reply
";

/// KEYS meta index hash u; ARGV pepper from limit counter. Ids, records and their last uses, in turn; an
/// index of everything is as large as the hash, or it was lost. Of what is too large only the id is told.
pub(super) const PAGE: &str = "
if ARGV[4] ~= '' then
  local named = redis.call('ZCARD', KEYS[2])
  local made = redis.call('HGET', KEYS[1], ARGV[4]) or '0'
  if named < redis.call('HLEN', KEYS[3]) or named == 0 and made ~= '0' then
    return redis.error_reply('DATALOST index')
  end
end
local ids = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[2], '+', 'LIMIT', 0, ARGV[3])
local reply = {}
for _, id in ipairs(ids) do
  if #id > 512 then return redis.error_reply('BADINDEX ids') end
  reply[#reply + 1] = id
  reply[#reply + 1] = bounded(KEYS[3], id)
  reply[#reply + 1] = bounded(KEYS[4], id, 32)
end
return reply
";

/// KEYS meta c f ids `ids:<t>` t tids events r n; ARGV pepper kept history format, tenant record event
/// fingerprint (the record is empty for a tenant that is there already), the watermark of this change (empty for
/// none) and the time of what is made, most children and most credentials (empty for no bound), how many records
/// that must still be what was read with number of the hash among the keys, id and record each, how many that
/// change with id record event ending each, then id record event fingerprint fingerprint parent of each new
/// credential (the parent is empty for none).
/// A watermark is later than everything that was made, or is read anew.
/// A tenant made alone, an operator's first step, makes the store: before it there is nobody to
/// admit. A sign-up makes none: after a flush it would turn "not known" into "unknown" for everybody.
pub(super) const CREATE: &str = concat!(
    "
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper', 'position')",
    ours!(),
    "local tenant, fresh = ARGV[5], ARGV[6] ~= ''
local empty = not m[1] or not m[2]
if empty and redis.call('EXISTS', KEYS[2], KEYS[3], KEYS[6]) > 0 then return redis.error_reply('DATALOST meta') end
if not empty and not m[3] then return redis.error_reply('NODATA position') end
local changed = 14 + 3 * tonumber(ARGV[13])
local first = changed + 1 + 4 * tonumber(ARGV[changed])
-- What only changes or ends records makes no fingerprint.
if fresh or #ARGV >= first then",
    may_make!(),
    "end
if empty and (not fresh or #ARGV >= first) then return redis.error_reply('NODATA history') end
local there = redis.call('HEXISTS', KEYS[6], tenant) == 1
if fresh and there then return 'owned' end
if not fresh and not there then return 'tenant' end
for i = 14, changed - 1, 3 do
  if redis.call('HGET', KEYS[tonumber(ARGV[i])], ARGV[i + 1]) ~= ARGV[i + 2] then return 'stale' end
end
local clock, watermark = tonumber(redis.call('HGET', KEYS[1], 'clock') or '0'), tonumber(ARGV[9])
if watermark and clock >= watermark then return 'stale' end
local children, most = {}, tonumber(ARGV[11])
if ARGV[12] ~= '' and redis.call('ZCARD', KEYS[5]) + (#ARGV - first + 1) / 6 > tonumber(ARGV[12]) then return 'credentials' end
for i = first, #ARGV, 6 do
  local parent = ARGV[i + 5]
  if parent ~= '' then
    children[parent] = (children[parent] or tonumber(redis.call('HGET', KEYS[10], parent) or '0')) + 1
    if most and children[parent] > most then return 'children' end
  end
  if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 1 then return 'id' end
  if redis.call('HEXISTS', KEYS[3], ARGV[i + 3]) == 1 or redis.call('HEXISTS', KEYS[3], ARGV[i + 4]) == 1 then return 'fingerprint' end
end
if empty then
  redis.call('HSET', KEYS[1], 'format', ARGV[4], 'pepper', m[2] or string.match(ARGV[1], '^%x+'))
  redis.call('HINCRBY', KEYS[1], 'format', 0)
  position = 0
else
  redis.call('HSET', KEYS[1], 'position', m[3])
end
if fresh then
  redis.call('HEXISTS', KEYS[3], ARGV[8])
  redis.call('ZADD', KEYS[7], 'XX', 0, '')
  counts(KEYS[1], 'tenants')
end
if #ARGV >= first then
  redis.call('ZADD', KEYS[4], 'XX', 0, '')
  redis.call('ZADD', KEYS[5], 'XX', 0, '')
  counts(KEYS[1], 'credentials')
end
counts(KEYS[1], 'fingerprints')
for parent in pairs(children) do counts(KEYS[10], parent) end
local p
if fresh then
  p = change(KEYS[8], ARGV[2], ARGV[7])
  if empty then redis.call('HSET', KEYS[1], 'history', ARGV[3]) end
  redis.call('HINCRBY', KEYS[1], 'tenants', 1)
  redis.call('ZADD', KEYS[7], 0, tenant)
  redis.call('HINCRBY', KEYS[1], 'fingerprints', redis.call('HSET', KEYS[3], ARGV[8], '= ' .. tenant))
  redis.call('HSET', KEYS[6], tenant, ARGV[6])
end
for i = first, #ARGV, 6 do
  p = change(KEYS[8], ARGV[2], ARGV[i + 2])
  local index = ARGV[i] .. ' ' .. tenant
  redis.call('ZADD', KEYS[4], 0, ARGV[i])
  redis.call('ZADD', KEYS[5], 0, ARGV[i])
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  redis.call('HINCRBY', KEYS[1], 'fingerprints', redis.call('HSET', KEYS[3], ARGV[i + 3], index, ARGV[i + 4], index))
  redis.call('HINCRBY', KEYS[1], 'credentials', 1)
  if ARGV[i + 5] ~= '' then redis.call('HINCRBY', KEYS[10], ARGV[i + 5], 1) end
end
local latest = math.max(first <= #ARGV and tonumber(ARGV[10]) or 0, watermark or 0)
if latest > clock then redis.call('HSET', KEYS[1], 'clock', string.format('%.0f', latest)) end
for i = changed + 1, first - 1, 4 do
  p = change(KEYS[8], ARGV[2], ARGV[i + 2], ARGV[i + 3])
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
return p
"
);

/// KEYS meta c u; ARGV pepper, then id and time of each use. Later uses win; no change, no event.
pub(super) const USE: &str = "
for i = 2, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 1 then
    local held = bounded(KEYS[3], ARGV[i], 32)
    if not tonumber(held or '') or tonumber(held) < tonumber(ARGV[i + 1]) then
      redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
      redis.call('HSET', KEYS[1], 'used', 1)
    end
  end
end
return 1
";

/// KEYS meta r `rids:<t>` t events; ARGV pepper id record event kept tenant most.
pub(super) const CREATE_ROLE: &str = "
if redis.call('HEXISTS', KEYS[4], ARGV[6]) == 0 then return 'tenant' end
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then return 'id' end
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[7]) then return 'full' end
redis.call('HSET', KEYS[1], 'position', m[3])
redis.call('ZADD', KEYS[3], 'XX', 0, '')
counts(KEYS[1], 'roles')
local p = change(KEYS[5], ARGV[5], ARGV[4])
redis.call('ZADD', KEYS[3], 0, ARGV[2])
redis.call('HINCRBY', KEYS[1], 'roles', 1)
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return p
";

/// KEYS meta r `rids:<t>` events; ARGV pepper id record event kept ending. Deletes only what was read.
pub(super) const DELETE_ROLE: &str = "
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then return 'stale' end
redis.call('ZREM', KEYS[3], '')
redis.call('HDEL', KEYS[2], '')
redis.call('HSET', KEYS[1], 'position', m[3])
counts(KEYS[1], 'roles')
local p = change(KEYS[4], ARGV[5], ARGV[4], ARGV[6])
redis.call('HINCRBY', KEYS[1], 'roles', -1)
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('HDEL', KEYS[2], ARGV[2])
return p
";

/// KEYS meta hash events; ARGV pepper id record event kept ending before. Writes only over what was read.
pub(super) const REPLACE: &str = "
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[7] then return 'stale' end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[7])
local p = change(KEYS[3], ARGV[5], ARGV[4], ARGV[6])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return p
";

/// KEYS meta c f ids `ids:<t>` u events n; ARGV pepper id record event kept used fingerprint fingerprint parent.
/// Forgets a credential if neither it nor its last use (empty for none) has changed since they were
/// read. A hash that loses its last entry is gone, which must not look like a loss.
pub(super) const FORGET: &str = "
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then return 'stale' end
if (redis.call('HGET', KEYS[6], ARGV[2]) or '') ~= ARGV[6] then return 'stale' end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
for _, key in ipairs({KEYS[1], KEYS[3], KEYS[6], KEYS[8]}) do redis.call('HDEL', key, '') end
redis.call('ZREM', KEYS[4], '')
redis.call('ZREM', KEYS[5], '')
counts(KEYS[1], 'credentials')
counts(KEYS[1], 'fingerprints')
if ARGV[9] ~= '' then counts(KEYS[8], ARGV[9]) end
redis.call('EXISTS', KEYS[6])
local p = change(KEYS[7], ARGV[5], ARGV[4])
redis.call('HINCRBY', KEYS[1], 'credentials', -1)
redis.call('HINCRBY', KEYS[1], 'fingerprints', -redis.call('HDEL', KEYS[3], ARGV[7], ARGV[8]))
redis.call('ZREM', KEYS[4], ARGV[2])
redis.call('ZREM', KEYS[5], ARGV[2])
if ARGV[9] ~= '' and redis.call('HINCRBY', KEYS[8], ARGV[9], -1) <= 0 then
  redis.call('HDEL', KEYS[8], ARGV[9])
end
redis.call('HDEL', KEYS[6], ARGV[2])
if redis.call('EXISTS', KEYS[6]) == 0 then
  redis.call('HDEL', KEYS[1], 'used')
end
redis.call('HDEL', KEYS[2], ARGV[2])
return p
";

/// KEYS meta; ARGV pepper. A write without a change, so that `WAIT` covers what others wrote before.
pub(super) const TOUCH: &str = "
redis.call('HSET', KEYS[1], 'confirmed', m[3])
return m[3]
";

/// KEYS meta c f t; ARGV pepper format. Makes an empty store ours, or says whose it is.
pub(super) const CLAIM: &str = "
local m = redis.call('HMGET', KEYS[1], 'format', 'pepper', 'history', 'dropped')
if not m[3] and redis.call('EXISTS', KEYS[2], KEYS[3], KEYS[4]) > 0 then return redis.error_reply('DATALOST meta') end
if not m[1] and not m[2] then
  local first = string.match(ARGV[1], '^%x+')
  redis.call('HSET', KEYS[1], 'format', ARGV[2], 'pepper', first)
  return {ARGV[2], first, m[4] or ''}
end
return {m[1], m[2], m[4] or ''}
";

/// KEYS meta; ARGV pepper. The peppers it was written under, and those dropped since.
pub(super) const PEPPERS: &str = concat!(
    "
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper', 'dropped')",
    ours!(),
    "return {m[2], m[3] or ''}
"
);

/// KEYS meta; ARGV pepper, then the lists as they were read and as they are to be. Answers whether they
/// were still so.
pub(super) const SET_PEPPERS: &str = concat!(
    "
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper', 'dropped')",
    ours!(),
    "if m[2] ~= ARGV[2] or (m[3] or '') ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'pepper', ARGV[4], 'dropped', ARGV[5])
return 1
"
);

/// KEYS meta c f events; ARGV pepper id record event kept ending before, then the new fingerprint, the old
/// one, and what the index says of both. Writes only over what was read.
pub(super) const MOVE: &str = concat!(
    may_make!(),
    "if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[7] then return 'stale' end
if redis.call('HEXISTS', KEYS[3], ARGV[8]) == 1 then return 'fingerprint' end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[7])
redis.call('HDEL', KEYS[3], '')
counts(KEYS[1], 'fingerprints')
local p = change(KEYS[4], ARGV[5], ARGV[4], ARGV[6])
local made = redis.call('HSET', KEYS[3], ARGV[8], ARGV[10])
redis.call('HINCRBY', KEYS[1], 'fingerprints', made - redis.call('HDEL', KEYS[3], ARGV[9]))
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return p
"
);

/// KEYS meta events; ARGV pepper cursor. Where the stream stands, the count of its last entry and that of the
/// entry at the cursor, if they are there and have one, and the last link of the chain; nothing when there is no data.
pub(super) const HEAD: &str = concat!(
    "
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper', 'position', 'link')",
    ours!(),
    "if not m[1] or not m[3] then return false end
local function count_of(entry)
  for i = 1, entry and #entry[2] or 0, 2 do
    local count = entry[2][i + 1]
    if entry[2][i] == 'p' then return #count < 16 and string.match(count, '^%d+$') or false end
  end
  return false
end
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local entry = redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2])[1]
return {m[1], m[3], last and last[1] or '0-0', count_of(last), count_of(entry), m[4] or '-'}
"
);
