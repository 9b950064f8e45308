-- Keys, arguments and reply: READ_PEPPERS in catalogue.rs.
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper', 'dropped')
local refused = foreign(m[2])
if refused then return refused end
return {m[2], m[3] or ''}
