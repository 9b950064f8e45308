-- The list of gateways, which notices when it loses one.
--
-- An entry of the hash `g` is named `id/run`, so that every process has its own, and is either
--
-- - `came since heard history count reader max-age stream-interval version`: a gateway. `came` is when it
--   was registered, `since` when it first told this standing, all by Redis' clock; or
-- - `- stop heard`: who may not admit any more, and acts on what it read before until `stop`.
--
-- An entry never goes at once: it is turned into the second form, for as long as whoever it stood for may
-- act on facts. Only a gateway that serves nobody any more takes its own away.
--
-- The field `=` of `g` and the field `list` of `meta` say the same: `since server count number history`.
-- `since` is when the list began to be whole, nought if nobody can have been admitted before it began;
-- `server` the process of Redis that has held it since (`run_id`; a dash if it is not told); `count` the
-- entries; `number` grows whenever one comes or goes, and never falls. Whatever does not agree means that
-- entries may be lost.
--
-- KEYS meta g. What is told of the list, and whether it is whole. `check` answers why not, or an empty
-- text, to a gateway that was told `known` as the list's number at `at` (nought for none) and has not
-- taken its entry away: silent for six seconds at least, and then for its bound, its entry stays
-- (66,000) in a list that is whole. `write` keeps what was found; `whole` is since when. `read` answers a gateway's entry, `depart`
-- turns one into the other form. An entry heard, or begun, more than a minute ahead is none: nobody would have
-- been heard so for longer than the two seconds between two announcements. 60,000 is the hard bound.
local info = redis.pcall('INFO', 'server')
local here = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or '-'
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
