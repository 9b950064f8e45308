-- Keys, arguments and reply: CREATE_ROLE in catalogue.rs.
if redis.call('HEXISTS', KEYS[4], ARGV[6]) == 0 then return 'tenant' end
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then return 'id' end
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[7]) then return 'full' end
redis.call('HSET', KEYS[1], 'position', m[3])
redis.call('ZADD', KEYS[3], 'XX', 0, '')
counts(KEYS[1], 'roles')
local p = change(KEYS[5], ARGV[5], ARGV[4])
redis.call('ZADD', KEYS[3], 0, ARGV[2])
redis.call('HINCRBY', KEYS[1], 'roles', 1)
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return p
