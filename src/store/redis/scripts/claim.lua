-- Keys, arguments and reply: CLAIM in catalogue.rs.
local m = redis.call('HMGET', KEYS[1], 'format', 'pepper', 'history', 'dropped')
if not m[3] and redis.call('EXISTS', KEYS[2], KEYS[3], KEYS[4]) > 0 then return redis.error_reply('DATALOST meta') end
if not m[1] and not m[2] then
  local first = string.match(ARGV[1], '^%x+')
  redis.call('HSET', KEYS[1], 'format', ARGV[2], 'pepper', first)
  return {ARGV[2], first, m[4] or ''}
end
return {m[1], m[2], m[4] or ''}
