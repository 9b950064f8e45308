-- The store must be ours: every pepper that it was written under (`m[2]`) is one of this gateway's, whose
-- check values are `ARGV[1]`, the first one first. Most often both are the same text. Otherwise each value
-- of the store, with or without the word of whoever drops it, is looked for.
--
-- Whoever makes a fingerprint must do so under a pepper of the list that nobody drops: a gateway that
-- still has an older one first would make what others cannot find.
local function foreign(peppers)
  if peppers and peppers ~= ARGV[1] then
    for check in string.gmatch(peppers, '(%x+)%S*') do
      if not string.find(ARGV[1], check, 1, true) then return redis.error_reply('FOREIGN pepper') end
    end
  end
end
local function dropped(peppers)
  if peppers and not string.find(' ' .. peppers .. ' ', ' ' .. string.match(ARGV[1], '^%x+') .. ' ', 1, true) then
    return redis.error_reply('DROPPED pepper')
  end
end
