-- Keys, arguments and reply: MOVE_LOGIN in catalogue.rs.
refused = dropped(m[2])
if refused then return refused end
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[7] then return 'stale' end
if redis.call('HEXISTS', KEYS[3], ARGV[8]) == 1 then return 'fingerprint' end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[7])
redis.call('HDEL', KEYS[3], '')
counts(KEYS[1], 'fingerprints')
local p = change(KEYS[4], ARGV[5], ARGV[4], ARGV[6])
local made = redis.call('HSET', KEYS[3], ARGV[8], ARGV[10])
redis.call('HINCRBY', KEYS[1], 'fingerprints', made - redis.call('HDEL', KEYS[3], ARGV[9]))
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return p
