-- Keys, arguments and reply: EVENTS in catalogue.rs.
local key, limit, found = KEYS[2], tonumber(ARGV[3]), {}
local function count_of(entry)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'p' and #entry[2][i + 1] < 16 then return tonumber(entry[2][i + 1]) or 0 end
  end
  return 0
end
local function tell(entry)
  local event, gateway
  for i = 1, #entry[2], 2 do
    local name, value = entry[2][i], entry[2][i + 1]
    if name == 'e' and #value <= 32768 then event = value end
    if name == 'g' and #value <= 256 then gateway = value end
  end
  if event and count_of(entry) > 0 then found[#found + 1] = {tostring(count_of(entry)), entry[1], event, gateway or ''} end
end
local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
if first and ARGV[2] == '' then
  local newest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', limit)
  for i = #newest, 1, -1 do tell(newest[i]) end
elseif first then
  local after = tonumber(ARGV[2])
  local function millis(entry) return tonumber(string.match(entry[1], '^%d+')) end
  local low, high = millis(first), millis(redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1])
  local at, base = low, count_of(first)
  while low <= high do
    local middle = math.floor((low + high) / 2)
    local entry = redis.call('XRANGE', key, string.format('%.0f', middle), '+', 'COUNT', 1)[1]
    if entry and count_of(entry) <= after + 1 then
      at, base, low = middle, count_of(entry), middle + 1
    else
      high = middle - 1
    end
  end
  local skip = math.max(0, after + 1 - base)
  if count_of(redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]) > after then
    for _, entry in ipairs(redis.call('XRANGE', key, string.format('%.0f', at), '+', 'COUNT', limit + skip)) do
      if count_of(entry) > after and #found < limit then tell(entry) end
    end
  end
end
return {m[1] or '', m[3] or '0', first and tostring(count_of(first)) or false, found}
