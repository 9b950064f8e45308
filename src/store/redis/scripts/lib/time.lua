-- time: milliseconds by the clock of Redis, but never earlier than what was made. TIME alone would go back when the clock is set,
-- or when another machine takes over.
local function time()
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  local clock = tonumber(redis.call('HGET', KEYS[1], 'clock') or '0')
  return math.max(now, clock)
end
