-- Keys, arguments and reply: PAGE in catalogue.rs.
if ARGV[4] ~= '' then
  local named = redis.call('ZCARD', KEYS[2])
  local made = redis.call('HGET', KEYS[1], ARGV[4]) or '0'
  if named < redis.call('HLEN', KEYS[3]) or named == 0 and made ~= '0' then
    return redis.error_reply('DATALOST index')
  end
end
local ids = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[2], '+', 'LIMIT', 0, ARGV[3])
local reply = {}
for _, id in ipairs(ids) do
  if #id > 512 then return redis.error_reply('BADINDEX ids') end
  reply[#reply + 1] = id
  reply[#reply + 1] = bounded(KEYS[3], id)
  reply[#reply + 1] = bounded(KEYS[4], id, 32)
end
return reply
