-- Keys, arguments and reply: DELETE_ROLE in catalogue.rs.
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
