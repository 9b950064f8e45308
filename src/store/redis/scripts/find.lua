-- Keys, arguments and reply: FIND in catalogue.rs.
if ARGV[3] ~= '' then
  local entry = redis.call('HGET', KEYS[7], ARGV[3])
  if not entry or string.byte(entry) == 45 then return redis.error_reply('UNLISTED gateway') end
end
local index = bounded(KEYS[2], ARGV[2], 512)
if not index then
  for key, made in pairs({[KEYS[2]] = m[7] or '1', [KEYS[3]] = m[6] or '0', [KEYS[4]] = m[8] or '1'}) do
    if redis.call('HLEN', key) < tonumber(made) then return redis.error_reply('DATALOST entries') end
  end
  return {ARGV[2], m[1], m[3] .. ' ' .. (m[9] or '-')}
end
if m[4] and redis.call('EXISTS', KEYS[6]) == 0 then return redis.error_reply('DATALOST uses') end
if m[5] and m[5] ~= '0' and redis.call('EXISTS', KEYS[5]) == 0 then return redis.error_reply('DATALOST roles') end
local id, tenant = string.match(index, '^(%S+) (%S+)$')
if not id then return redis.error_reply('BADINDEX fingerprint') end
local reply = {ARGV[2], m[1], m[3] .. ' ' .. (m[9] or '-'), bounded(KEYS[4], tenant), '0'}
local count, ids, roles, size, link = 0, '', {}, 0, nil
if id == '=' then id = nil end
while id and count < 7 do
  local record = bounded(KEYS[3], id)
  reply[#reply + 1] = record
  reply[#reply + 1] = bounded(KEYS[6], id, 32)
  ids = ids .. ' ' .. id
  local ending = string.find(record or '', '\n', 1, true)
  local parent, named = string.match(string.sub(record or '', 1, (ending or 1) - 1), '^.(%S+)(.*)$')
  local own, above = string.match(parent or '', '^([^>]+)>(.+)$')
  for role in string.gmatch(named or '', '%S+') do roles[#roles + 1] = role end
  count = count + 1
  -- The link of a record stands above that record's parent.
  id, link = link or own or (parent ~= '-' and parent), above
end
reply[5] = count .. ids
for i = 1, math.min(#roles, 112) do reply[#reply + 1] = bounded(KEYS[5], roles[i]) end
for i = 4, #reply do size = size + 16 + #(reply[i] or '') end
if size > 1000000 then large = large or string.match(index, '^%S+') end
if large then return redis.error_reply('TOOLARGE ' .. large) end
return reply
