-- Keys, arguments and reply: WITHDRAW in catalogue.rs.
local own = ARGV[2] .. '/' .. ARGV[3]
local why = check(own, ARGV[4], ARGV[5])
if redis.call('HDEL', KEYS[2], own) == 1 then moved = true end
write()
return why
