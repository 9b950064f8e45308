-- Keys, arguments and reply: CREATE in catalogue.rs.
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper', 'position')
local refused = foreign(m[2])
if refused then return refused end
local tenant, fresh = ARGV[5], ARGV[6] ~= ''
local empty = not m[1] or not m[2]
if empty and redis.call('EXISTS', KEYS[2], KEYS[3], KEYS[6]) > 0 then return redis.error_reply('DATALOST meta') end
if not empty and not m[3] then return redis.error_reply('NODATA position') end
local changed = 14 + 3 * tonumber(ARGV[13])
local first = changed + 1 + 4 * tonumber(ARGV[changed])
-- What only changes or ends records makes no fingerprint.
if fresh or #ARGV >= first then
  refused = dropped(m[2])
  if refused then return refused end
end
if empty and (not fresh or #ARGV >= first) then return redis.error_reply('NODATA history') end
local there = redis.call('HEXISTS', KEYS[6], tenant) == 1
if fresh and there then return 'owned' end
if not fresh and not there then return 'tenant' end
for i = 14, changed - 1, 3 do
  if redis.call('HGET', KEYS[tonumber(ARGV[i])], ARGV[i + 1]) ~= ARGV[i + 2] then return 'stale' end
end
local clock, watermark = tonumber(redis.call('HGET', KEYS[1], 'clock') or '0'), tonumber(ARGV[9])
if watermark and clock >= watermark then return 'stale' end
local children, most = {}, tonumber(ARGV[11])
if ARGV[12] ~= '' and redis.call('ZCARD', KEYS[5]) + (#ARGV - first + 1) / 6 > tonumber(ARGV[12]) then return 'credentials' end
for i = first, #ARGV, 6 do
  local parent = ARGV[i + 5]
  if parent ~= '' then
    children[parent] = (children[parent] or tonumber(redis.call('HGET', KEYS[10], parent) or '0')) + 1
    if most and children[parent] > most then return 'children' end
  end
  if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 1 then return 'id' end
  if redis.call('HEXISTS', KEYS[3], ARGV[i + 3]) == 1 or redis.call('HEXISTS', KEYS[3], ARGV[i + 4]) == 1 then return 'fingerprint' end
end
if empty then
  redis.call('HSET', KEYS[1], 'format', ARGV[4], 'pepper', m[2] or string.match(ARGV[1], '^%x+'))
  redis.call('HINCRBY', KEYS[1], 'format', 0)
  position = 0
else
  redis.call('HSET', KEYS[1], 'position', m[3])
end
if fresh then
  redis.call('HEXISTS', KEYS[3], ARGV[8])
  redis.call('ZADD', KEYS[7], 'XX', 0, '')
  counts(KEYS[1], 'tenants')
end
if #ARGV >= first then
  redis.call('ZADD', KEYS[4], 'XX', 0, '')
  redis.call('ZADD', KEYS[5], 'XX', 0, '')
  counts(KEYS[1], 'credentials')
end
counts(KEYS[1], 'fingerprints')
for parent in pairs(children) do counts(KEYS[10], parent) end
local p
if fresh then
  p = change(KEYS[8], ARGV[2], ARGV[7])
  if empty then redis.call('HSET', KEYS[1], 'history', ARGV[3]) end
  redis.call('HINCRBY', KEYS[1], 'tenants', 1)
  redis.call('ZADD', KEYS[7], 0, tenant)
  redis.call('HINCRBY', KEYS[1], 'fingerprints', redis.call('HSET', KEYS[3], ARGV[8], '= ' .. tenant))
  redis.call('HSET', KEYS[6], tenant, ARGV[6])
end
for i = first, #ARGV, 6 do
  p = change(KEYS[8], ARGV[2], ARGV[i + 2])
  local index = ARGV[i] .. ' ' .. tenant
  redis.call('ZADD', KEYS[4], 0, ARGV[i])
  redis.call('ZADD', KEYS[5], 0, ARGV[i])
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  redis.call('HINCRBY', KEYS[1], 'fingerprints', redis.call('HSET', KEYS[3], ARGV[i + 3], index, ARGV[i + 4], index))
  redis.call('HINCRBY', KEYS[1], 'credentials', 1)
  if ARGV[i + 5] ~= '' then redis.call('HINCRBY', KEYS[10], ARGV[i + 5], 1) end
end
local latest = math.max(first <= #ARGV and tonumber(ARGV[10]) or 0, watermark or 0)
if latest > clock then redis.call('HSET', KEYS[1], 'clock', string.format('%.0f', latest)) end
for i = changed + 1, first - 1, 4 do
  p = change(KEYS[8], ARGV[2], ARGV[i + 2], ARGV[i + 3])
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
return p
