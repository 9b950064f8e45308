-- Keys, arguments and reply: NOTE_USE in catalogue.rs.
for i = 2, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 1 then
    local last = bounded(KEYS[3], ARGV[i], 32)
    if not tonumber(last or '') or tonumber(last) < tonumber(ARGV[i + 1]) then
      redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
      redis.call('HSET', KEYS[1], 'used', 1)
    end
  end
end
return 1
