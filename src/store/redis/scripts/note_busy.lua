-- Keys, arguments and reply: NOTE_BUSY in catalogue.rs.
local now, most = redis.call('TIME')[1], tonumber(ARGV[2])
for i = 3, #ARGV do redis.call('HSET', KEYS[2], ARGV[i], now) end
if redis.call('HLEN', KEYS[2]) > most then
  local all, entries = redis.call('HGETALL', KEYS[2]), {}
  for i = 1, #all, 2 do entries[#entries + 1] = {tonumber(all[i + 1]) or 0, all[i]} end
  table.sort(entries, function(a, b) return a[1] < b[1] end)
  for i = 1, #entries - math.floor(most * 3 / 4) do redis.call('HDEL', KEYS[2], entries[i][2]) end
end
return 1
