-- Keys, arguments and reply: SET_PEPPERS in catalogue.rs.
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper', 'dropped')
local refused = foreign(m[2])
if refused then return refused end
if m[2] ~= ARGV[2] or (m[3] or '') ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'pepper', ARGV[4], 'dropped', ARGV[5])
return 1
