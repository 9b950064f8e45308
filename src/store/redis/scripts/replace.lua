-- Keys, arguments and reply: REPLACE in catalogue.rs.
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[7] then return 'stale' end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[7])
local p = change(KEYS[3], ARGV[5], ARGV[4], ARGV[6])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return p
