-- Keys, arguments and reply: FORGET in catalogue.rs.
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
