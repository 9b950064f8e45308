-- What scripts share that change something.
--
-- change: appends an event and counts it. The event is the first write that leaves anything. Before it, a script calls every
-- command that it is going to call, on each of its keys, so that the call does nothing: counts, HSET of what is there, ZADD ... XX,
-- HDEL of nothing. So a missing right, or a key of another kind, ends the script before anything is changed.
--
-- Events are a chain. The field l holds two links: that of the event before (a dash if there is none) and that of this event, which
-- is made of the time and the count. After data went back, new changes have the same counts as the lost ones, and may have the same
-- stream ids if a clock was behind. Their links differ.
--
-- The argument origin has how many events are kept and, after a space, the id of the gateway that makes this one (field g, empty where
-- no gateway does). Whoever asks for the events learns from it which gateway's audit trail tells who made the change.
local position, link
local function change(events, origin, event, ending)
  local kept, gateway = string.match(origin, '^(%d+) ?(.*)$')
  local p = (position or redis.call('HINCRBY', KEYS[1], 'position', 0)) + 1
  local t, before = redis.call('TIME'), link or redis.call('HGET', KEYS[1], 'link') or '-'
  link = string.format('%s.%s.%.0f', t[1], t[2], p)
  if ending then
    redis.call('XADD', events, 'MAXLEN', '~', kept, '*', 'p', p, 'e', event, 'l', before .. ' ' .. link, 'g', gateway, 'x', ending)
  else
    redis.call('XADD', events, 'MAXLEN', '~', kept, '*', 'p', p, 'e', event, 'l', before .. ' ' .. link, 'g', gateway)
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
