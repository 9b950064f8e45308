-- The list of gateways, which notices when it loses an entry.
--
-- An entry of the hash g is named id/run, so that every process has its own entry. Its text is one of:
--
-- - came since heard history count reader max-age stream-interval version: a gateway. came: when it was registered. since: when it
--   first announced this point of the history. All times are by the clock of Redis.
-- - "-" stop heard: a process that may not admit requests any more, and uses what it read before until stop.
--
-- An entry is never deleted at once. It is turned into the second form, for as long as its process may use facts. Only a gateway
-- that does not serve any more deletes its own entry.
--
-- The field = of g and the field list of meta have the same text: since server count number history.
-- since: when the list began to be complete; 0 if no gateway can have been registered before it began.
-- server: the process of Redis that has held the list since then (run_id); a dash if it is hidden.
-- count: how many entries there are. number: grows whenever an entry comes or goes, and never falls.
-- Any disagreement means that entries may be lost.
--
-- KEYS meta g.
-- check: why the list is not complete, or an empty text. own is the entry of a gateway that knows the number known of the list
--   since the time at (0 for none). While it has not deleted its entry, the entry stays in a complete list: for six seconds of
--   silence at least, and then for its bound (66,000).
-- write: writes what was found. whole is since when the list is complete.
-- read: the entry of a gateway. An entry that was heard, or began, more than a minute ahead is invalid: between two announcements,
--   two seconds apart, no gateway would be heard for longer than that. 60,000 is the hard bound.
-- depart: turns an entry into the second form.
-- sweep: deletes and turns entries whose time is over; answers at most `most` of those that remain.
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
