-- Keys, arguments and reply: READ_BUSY in catalogue.rs.
local now, reply = tonumber(redis.call('TIME')[1]), {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local age = now - (tonumber(all[i + 1]) or 0)
  if age <= tonumber(ARGV[1]) then
    reply[#reply + 1] = all[i]
    reply[#reply + 1] = tostring(math.max(age, 0))
  end
end
return reply
