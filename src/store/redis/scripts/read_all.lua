-- Keys, arguments and reply: READ_ALL in catalogue.rs.
local counters, reply = {[2] = m[6], [3] = m[8], [4] = m[5]}, {string.format('%.0f', time())}
for i = 2, #ARGV, 2 do
  local key = tonumber(ARGV[i])
  local record = bounded(KEYS[key], ARGV[i + 1])
  if not record and redis.call('HLEN', KEYS[key]) < (tonumber(counters[key] or '0') or 0) then
    return redis.error_reply('DATALOST records')
  end
  reply[#reply + 1] = record
end
if large then return redis.error_reply('TOOLARGE ' .. large) end
return reply
