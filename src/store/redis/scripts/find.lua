-- Keys, arguments and reply: FIND in catalogue.rs.
if ARGV[2] ~= '' then
  local entry = redis.call('HGET', KEYS[7], ARGV[2])
  if not entry or string.byte(entry) == 45 then return redis.error_reply('UNLISTED gateway') end
end
local lost, absences
if m[4] and redis.call('EXISTS', KEYS[6]) == 0 then lost = 'DATALOST uses' end
if m[5] and m[5] ~= '0' and redis.call('EXISTS', KEYS[5]) == 0 then lost = 'DATALOST roles' end
-- What all look-ups need is read together, since each call of a command costs more than the field that it reads. A look-up that
-- needs no such field asks for the empty one, and its value is not used.
local index, ids, tenants = redis.call('HMGET', KEYS[2], unpack(ARGV, 3)), {}, {}
for i = 1, #index do
  local entry = index[i]
  local gap = entry and #entry <= 512 and string.find(entry, ' ', 2, true)
  ids[i] = gap and string.sub(entry, 1, gap - 1) or ''
  tenants[i] = gap and string.sub(entry, gap + 1) or ''
end
local records, uses = redis.call('HMGET', KEYS[3], unpack(ids)), redis.call('HMGET', KEYS[6], unpack(ids))
local owners = redis.call('HMGET', KEYS[4], unpack(tenants))
-- What is left for this call: bytes of the reply, and reads of records above others and of roles.
local room, reads = 1000000, 256
local function absent()
  for key, made in pairs({[KEYS[2]] = m[7] or '1', [KEYS[3]] = m[6] or '0', [KEYS[4]] = m[8] or '1'}) do
    if redis.call('HLEN', key) < tonumber(made) then return 'DATALOST entries' end
  end
  return ''
end
local function find(i)
  if not index[i] then
    absences = absences or absent()
    return absences == '' and {ARGV[i + 2]} or redis.error_reply(absences)
  end
  if lost then return redis.error_reply(lost) end
  local id = ids[i]
  if id == '' then return redis.error_reply('BADINDEX fingerprint') end
  if room <= 0 then return redis.error_reply('ALONE fingerprint') end
  large = nil
  local owner, record, used, count, names = fitting(owners[i], tenants[i]), records[i], uses[i], 1, ' ' .. id
  local reply, roles, link
  if id == '=' then
    reply, id = {ARGV[i + 2], owner, '0'}, nil
  else
    record = fitting(record, id)
    reply = {ARGV[i + 2], owner, '1 ' .. id, record, fitting(used, id, 32)}
  end
  while id do
    local dash, ending = string.byte(record or '', 2, 3)
    if dash == 45 and ending == 10 then -- It hangs on nothing and has no roles.
      id, link = link, nil
    else
      ending = string.find(record or '', '\n', 1, true)
      local parent, named = string.match(string.sub(record or '', 1, (ending or 1) - 1), '^.(%S+)(.*)$')
      local own, above = string.match(parent or '', '^([^>]+)>(.+)$')
      roles = roles or {}
      for role in string.gmatch(named or '', '%S+') do roles[#roles + 1] = role end
      -- The link of a record stands above that record's parent.
      id, link = link or own or (parent ~= '-' and parent), above
    end
    if not id or count == 7 then break end
    if reads <= 0 then return redis.error_reply('ALONE fingerprint') end
    reads = reads - 2
    record = bounded(KEYS[3], id)
    reply[#reply + 1] = record
    reply[#reply + 1] = bounded(KEYS[6], id, 32)
    count, names = count + 1, names .. ' ' .. id
    reply[3] = count .. names
  end
  local named = roles and math.min(#roles, 112) or 0
  if named > 0 and reads <= 0 then return redis.error_reply('ALONE fingerprint') end
  reads = reads - named
  for j = 1, named do
    local role = redis.pcall('HGET', KEYS[5], roles[j])
    -- Look-ups without roles do without this hash.
    if type(role) == 'table' then return role end
    reply[#reply + 1] = fitting(role, roles[j])
  end
  local size, before = 0, room
  for j = 2, #reply do size = size + 16 + #(reply[j] or '') end
  room = room - size
  if size > 1000000 then large = large or string.match(index[i], '^%S+') end
  if large then return redis.error_reply('TOOLARGE ' .. large) end
  if size > before then return redis.error_reply('ALONE fingerprint') end
  return reply
end
local replies = {m[1], m[3] .. ' ' .. (m[9] or '-')}
for i = 1, #index do replies[i + 2] = find(i) end
return replies
