-- Keys, arguments and reply: EXCHANGE_CHECKPOINTS in catalogue.rs.
local own, registered, rows = ARGV[2] .. '/' .. ARGV[3], {}, {}
for _, name in ipairs(redis.call('HKEYS', KEYS[2])) do
  local id = string.match(name, '^([%w._:-]+)/%x+$')
  if id then registered[id] = true end
end
local entry = redis.call('HGET', KEYS[2], own)
if ARGV[4] ~= '' and entry and string.sub(entry, 1, 2) ~= '- ' then redis.call('HSET', KEYS[3], ARGV[2], ARGV[4]) end
for _, id in ipairs(redis.call('HKEYS', KEYS[3])) do
  if not registered[id] then
    redis.call('HDEL', KEYS[3], id)
  elseif id ~= ARGV[2] and #rows < tonumber(ARGV[5]) then
    local text = redis.call('HGET', KEYS[3], id)
    if #text <= tonumber(ARGV[6]) then rows[#rows + 1] = {id, text} end
  end
end
return rows
