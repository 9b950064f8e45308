-- Keys, arguments and reply: ANNOUNCE in catalogue.rs.
local id, own, kept, most = ARGV[2] .. '/', ARGV[2] .. '/' .. ARGV[3], tonumber(ARGV[7]), tonumber(ARGV[8])
local why = check(own, ARGV[9], ARGV[10])
local text = redis.call('HGET', KEYS[2], own)
local registered = read(own, text)
local names = redis.call('HKEYS', KEYS[2])
local since, came, before, count, same, others = now, now, 0, 1, {}, {}
local standing, proof, counter, link = ARGV[4], redis.call('XRANGE', KEYS[3], ARGV[12], ARGV[12])[1], nil, nil
for i = 1, proof and #proof[2] or 0, 2 do
  if proof[2][i] == 'p' then counter = proof[2][i + 1] end
  if proof[2][i] == 'l' then link = string.match(proof[2][i + 1], ' (%S+)$') end
end
if ARGV[13] ~= '0' and (counter ~= ARGV[13] or link and link ~= ARGV[14]) then standing = '- 0' end
if registered then
  came = registered.came
  if registered.standing == standing then since = registered.since end
end
local find = string.find
for i = 1, #names do
  local name = names[i]
  if name ~= own and name ~= '=' then
    count = count + 1
    if name < own then before = before + 1 end
    if find(name, id, 1, true) == 1 then same[#same + 1] = name end
  end
end
for _, name in ipairs(same) do
  local other = read(name, redis.call('HGET', KEYS[2], name))
  if other and (other.heard + tonumber(ARGV[6]) <= now or other.heard > now + 1000) then
    others[#others + 1] = {name, other}
  elseif other and (registered and (other.came < came or other.came == came and name < own) and other.heard > came
    or not registered and ARGV[11] == '0') then
    if registered then depart(own, registered) end
    write()
    return redis.error_reply('DUPLICATE gateway')
  end
end
if not text and #names > most then
  sweep(kept, 0)
  if redis.call('HLEN', KEYS[2]) > most then
    write()
    return redis.error_reply('FULL gateways')
  end
end
for _, other in ipairs(others) do depart(other[1], other[2]) end
if redis.call('HSET', KEYS[2], own, string.format('%.0f %.0f %.0f %s %s', came, since, now, standing, ARGV[5])) == 1 then
  moved = true
end
write()
return {now, before, count, number, here == '-' and 1 or 0, why}
