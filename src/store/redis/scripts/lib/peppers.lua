-- Checks of peppers. ARGV[1] has the check values of this gateway's peppers, the first one first.
--
-- foreign: the store must be ours. Each pepper that it was written under must be one of this gateway's. Most often both lists
-- are the same text. Otherwise each value of the store is looked for, without the name of a gateway that drops it.
--
-- dropped: a fingerprint may be made only under a pepper of the list that no gateway drops. A gateway whose first pepper is
-- an older one would make fingerprints that the others cannot find.
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
