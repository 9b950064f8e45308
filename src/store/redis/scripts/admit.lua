-- Keys, arguments and reply: ADMIT in catalogue.rs.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local limit, period, part = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local here, used, first = math.floor(now / part), 0, nil
local groups, own = {}, nil
local stored = redis.call('GET', KEYS[1]) or ''
-- None that we write is a tenth of that; digits without end would be gone over again and again.
if #stored > 4096 then stored = '' end
for p, last, count in string.gmatch(stored, '(%d+):(%d+):(%d+)') do
  p, last, count = tonumber(p), tonumber(last), tonumber(count)
  if last + period > now and last <= now + period then
    local group = {p, last, count}
    groups[#groups + 1] = group
    used = used + count
    if p == here then own = group end
    if not first or last < first then first = last end
  end
end
if used >= limit then return {0, 0, math.min(first + period - now, period)} end
if own then
  own[2], own[3] = math.max(own[2], now), own[3] + 1
else
  groups[#groups + 1] = {here, now, 1}
end
first = now
local texts = {}
for i, group in ipairs(groups) do
  texts[i] = string.format('%.0f:%.0f:%.0f', group[1], group[2], group[3])
  if group[2] < first then first = group[2] end
end
if ARGV[4] ~= 'judge' then redis.call('SET', KEYS[1], table.concat(texts, ';'), 'PX', period) end
return {1, limit - used - 1, first + period - now}
