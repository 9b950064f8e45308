-- Keys, arguments and reply: READ in catalogue.rs.
local record = bounded(KEYS[2], ARGV[2])
if not record and redis.call('HLEN', KEYS[2]) < (tonumber(redis.call('HGET', KEYS[1], ARGV[3]) or '0') or 0) then
  return redis.error_reply('DATALOST records')
end
local used = bounded(KEYS[3], ARGV[2], 32)
if large then return redis.error_reply('TOOLARGE ' .. large) end
return {record, used}
