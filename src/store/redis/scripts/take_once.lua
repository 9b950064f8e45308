-- Keys, arguments and reply: TAKE_ONCE in catalogue.rs.
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then return {ARGV[2], 'taken'} end
local marks = tonumber(redis.call('HGET', KEYS[1], 'marks') or '0') or 0
if redis.call('HLEN', KEYS[2]) < marks or redis.call('ZCARD', KEYS[3]) < marks then return redis.error_reply('DATALOST marks') end
local now, most, longest, grace = time(), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local over = {}
for _, entry in ipairs(redis.call('ZRANGEBYLEX', KEYS[3], '-', '+', 'LIMIT', 0, 16)) do
  local ends, mark = string.match(entry, '^(%d+):(%x+)$')
  if not ends or tonumber(ends) > now then break end
  over[#over + 1] = {entry, mark}
end
if marks - #over >= most then return {ARGV[2], 'full'} end
redis.call('HSET', KEYS[1], 'position', m[3])
redis.call('HDEL', KEYS[2], '')
redis.call('ZREM', KEYS[3], '')
redis.call('ZADD', KEYS[3], 'XX', 0, '')
counts(KEYS[1], 'marks')
local ends = math.min(math.max(tonumber(ARGV[3]), now), now + longest) + grace
redis.call('HSET', KEYS[2], ARGV[2], string.format('%.0f', ends))
redis.call('ZADD', KEYS[3], 0, string.format('%015.0f', ends) .. ':' .. ARGV[2])
for _, one in ipairs(over) do
  redis.call('ZREM', KEYS[3], one[1])
  redis.call('HDEL', KEYS[2], one[2])
end
redis.call('HINCRBY', KEYS[1], 'marks', 1 - #over)
return {ARGV[2], 'first'}
