//! The scripts about receipts: one list of gateways, which notices when it loses one.
//!
//! An entry of the hash `g` is named `id/run`, so that every process has its own, and is either
//!
//! - `came since heard history count reader max-age stream-interval version`: a gateway. `came` is when it
//!   was registered, `since` when it first told this standing, all by Redis' clock; or
//! - `- stop heard`: who may not admit any more, and acts on what it read before until `stop`.
//!
//! An entry never goes at once: it is turned into the second form, for as long as whoever it stood for may
//! act on facts. Only a gateway that serves nobody any more takes its own away.
//!
//! The field `=` of `g` and the field `list` of `meta` say the same: `since server count number history`.
//! `since` is when the list began to be whole, nought if nobody can have been admitted before it began;
//! `server` the process of Redis that has held it since (`run_id`; a dash if it is not told); `count` the
//! entries; `number` grows whenever one comes or goes, and never falls. Whatever does not agree means that
//! entries may be lost.

use crate::store::redis::lua::ours;

/// Begins every script here. The store may be empty, but it must not be another's. `now` is Redis'
/// time in milliseconds.
pub(super) const BEGIN: &str = concat!(
    "
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper', 'position')",
    ours!(),
    "local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"
);

/// KEYS meta g. What is told of the list, and whether it is whole. `check` answers why not, or an empty
/// text, to a gateway that was told `known` as the list's number at `at` (nought for none) and has not
/// taken its entry away: silent for six seconds at least, and then for its bound, its entry stays
/// (66,000) in a list that is whole. `write` keeps what was found; `whole` is since when. `read` answers a gateway's entry, `depart`
/// turns one into the other form. An entry heard, or begun, more than a minute ahead is none: nobody would have
/// been heard so for longer than the two seconds between two announcements. 60,000 is the hard bound.
pub(super) const LIST: &str = "
local told = redis.pcall('INFO', 'server')
local here = type(told) == 'string' and string.match(told, 'run_id:(%x+)') or '-'
local whole, number, head, copy, moved = now, 0, nil, nil, false
local function check(own, known, at)
  known, at = tonumber(known), tonumber(at)
  head, copy = redis.call('HGET', KEYS[2], '='), redis.call('HGET', KEYS[1], 'list')
  local size = redis.call('HLEN', KEYS[2])
  local since, on, count, last, past = string.match(head or '', '^(%d+) (%S+) (%d+) (%d+) (%S+)$')
  if not head and not copy and size == 0 and known == 0 then
    if not m[1] then whole = 0 end
    return ''
  end
  if not head and not copy and known == 0 then return '' end
  number = known
  if not head or head ~= copy then return 'it and its copy differ' end
  if not since or #last > 15 then return 'its first entry cannot be read' end
  number = math.max(known, tonumber(last))
  if on ~= here then return 'another process of Redis holds it' end
  if tonumber(count) ~= size - 1 then return 'somebody else added or removed entries' end
  if past ~= '-' and past ~= (m[1] or '-') then return 'the history of the store is another one' end
  if known > tonumber(last) then return 'it is older than what this gateway has seen' end
  if known > 0 and tonumber(since) <= at and now - at < 66000 and redis.call('HEXISTS', KEYS[2], own) == 0 then
    return 'the entry of this gateway is gone'
  end
  if tonumber(since) > now then return 'the clock of Redis went back' end
  whole = tonumber(since)
  return ''
end
local function write()
  if moved or not head or whole == now then number = math.max(now, number + 1) end
  local count = redis.call('HLEN', KEYS[2]) - (head and 1 or 0)
  local text = string.format('%.0f %s %.0f %.0f %s', whole, here, count, number, m[1] or '-')
  if text ~= head then redis.call('HSET', KEYS[2], '=', text) end
  if text ~= copy then redis.call('HSET', KEYS[1], 'list', text) end
end
local function read(name, text)
  local came, since, heard, standing, oldest, look = string.match(text or '',
    '^(%d+) (%d+) (%d+) (%S+ %d+) [%l_]+ (%d+) (%d+) %S*$')
  if not came or not string.match(name, '^[%w._:-]+/%x+$') or #name > 145 or #text > 400 then return nil end
  local entry = {came = tonumber(came), since = tonumber(since), heard = tonumber(heard), standing = standing,
    bound = tonumber(oldest) + tonumber(look)}
  if entry.bound > 60000 or entry.heard > now + 60000 or entry.came > now + 60000 or entry.since > now + 60000 then
    return nil
  end
  return entry
end
local function depart(name, entry)
  local text = string.format('- %.0f %.0f', now + (entry and entry.bound or 60000), entry and entry.heard or 0)
  redis.call('HSET', KEYS[2], name, text)
  return text
end
local function sweep(kept, most)
  local rows, all = {}, redis.call('HGETALL', KEYS[2])
  for i = 1, #all, 2 do
    local name, text = all[i], all[i + 1]
    if name ~= '=' then
      local stop, entry = tonumber(string.match(text, '^%- (%d+) %d+$') or ''), read(name, text)
      if stop and stop <= now then
        redis.call('HDEL', KEYS[2], name)
        moved = true
      else
        if not (stop and stop <= now + 60000) and not (entry and entry.heard + kept >= now) then
          text = depart(name, entry)
        end
        if #rows < most then rows[#rows + 1] = {string.sub(name, 1, 200), text} end
      end
    end
  end
  return rows
end
";

/// KEYS meta g events; ARGV pepper id run standing rest silent kept most number-known known-at fresh entry counter link. The
/// standing is kept only if the stream has that entry with that count and link. Otherwise data went back: another branch of the
/// same history counts on from there, and what was applied of the lost branch says nothing about this one. `fresh` (1 or 0) is
/// whether this process was never answered yet: such a one is registered beside another of its id until
/// that one speaks, or is silent and gives way. Answers Redis' time, this gateway's place by name and how
/// many there are, the number of the list, whether the server hides which process it is, and why the list was
/// not whole.
pub(super) const ANNOUNCE: &str = "
local id, own, kept, most = ARGV[2] .. '/', ARGV[2] .. '/' .. ARGV[3], tonumber(ARGV[7]), tonumber(ARGV[8])
local why = check(own, ARGV[9], ARGV[10])
local held = redis.call('HGET', KEYS[2], own)
local mine = read(own, held)
local names = redis.call('HKEYS', KEYS[2])
local since, came, before, count, same, others = now, now, 0, 1, {}, {}
local standing, proof, counter, link = ARGV[4], redis.call('XRANGE', KEYS[3], ARGV[12], ARGV[12])[1], nil, nil
for i = 1, proof and #proof[2] or 0, 2 do
  if proof[2][i] == 'p' then counter = proof[2][i + 1] end
  if proof[2][i] == 'l' then link = string.match(proof[2][i + 1], ' (%S+)$') end
end
if ARGV[13] ~= '0' and (counter ~= ARGV[13] or link and link ~= ARGV[14]) then standing = '- 0' end
if mine then
  came = mine.came
  if mine.standing == standing then since = mine.since end
end
local find = string.find
for i = 1, #names do
  local name = names[i]
  if name ~= own and name ~= '=' then
    count = count + 1
    if name < own then before = before + 1 end
    if find(name, id, 1, true) == 1 then same[#same + 1] = name end
  end
end
for _, name in ipairs(same) do
  local other = read(name, redis.call('HGET', KEYS[2], name))
  if other and (other.heard + tonumber(ARGV[6]) <= now or other.heard > now + 1000) then
    others[#others + 1] = {name, other}
  elseif other and (mine and (other.came < came or other.came == came and name < own) and other.heard > came
    or not mine and ARGV[11] == '0') then
    if mine then depart(own, mine) end
    write()
    return redis.error_reply('DUPLICATE gateway')
  end
end
if not held and #names > most then
  sweep(kept, 0)
  if redis.call('HLEN', KEYS[2]) > most then
    write()
    return redis.error_reply('FULL gateways')
  end
end
for _, other in ipairs(others) do depart(other[1], other[2]) end
if redis.call('HSET', KEYS[2], own, string.format('%.0f %.0f %.0f %s %s', came, since, now, standing, ARGV[5])) == 1 then
  moved = true
end
write()
return {now, before, count, number, here == '-' and 1 or 0, why}
";

/// KEYS meta g; ARGV pepper id run number-known known-at. Answers why the list was not whole.
pub(super) const WITHDRAW: &str = "
local own = ARGV[2] .. '/' .. ARGV[3]
local why = check(own, ARGV[4], ARGV[5])
if redis.call('HDEL', KEYS[2], own) == 1 then moved = true end
write()
return why
";

/// KEYS meta g; ARGV pepper kept most entry number-known known-at. Answers time, history, position, since when the list is whole, why it
/// was not, how many entries it has, and name and text of each.
pub(super) const RECEIPTS: &str = "
local why = check(ARGV[4], ARGV[5], ARGV[6])
local rows = sweep(tonumber(ARGV[2]), tonumber(ARGV[3]))
write()
if here == '-' then whole = now end
return {now, m[1] or '', m[3] or '0', string.format('%.0f', whole), why, redis.call('HLEN', KEYS[2]) - 1, rows}
";
