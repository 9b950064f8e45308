-- Keys, arguments and reply: HEAD in catalogue.rs.
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper', 'position', 'link', 'fingerprints', 'credentials', 'tenants')
local refused = foreign(m[2])
if refused then return refused end
if not m[1] or not m[3] then return false end
local function count_of(entry)
  for i = 1, entry and #entry[2] or 0, 2 do
    local count = entry[2][i + 1]
    if entry[2][i] == 'p' then return #count < 16 and string.match(count, '^%d+$') or false end
  end
  return false
end
local readable = 1
if ARGV[3] ~= '' then
  local own = redis.call('HGET', KEYS[3], ARGV[3])
  if not own or string.byte(own) == 45 then readable = 0 end
end
for i = 4, 6 do
  if redis.call('HLEN', KEYS[i]) < tonumber(m[i + 1] or (i == 5 and '0' or '1')) then readable = 0 end
end
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local entry = redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2])[1]
return {m[1], m[3], last and last[1] or '0-0', count_of(last), count_of(entry), m[4] or '-', readable}
