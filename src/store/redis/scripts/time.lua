-- Keys, arguments and reply: TIME in catalogue.rs.
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper')
local refused = foreign(m[2])
if refused then return refused end
return string.format('%.0f', time())
