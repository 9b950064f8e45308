-- Keys, arguments and reply: RECEIPTS in catalogue.rs.
local why = check(ARGV[4], ARGV[5], ARGV[6])
local rows = sweep(tonumber(ARGV[2]), tonumber(ARGV[3]))
write()
if here == '-' then whole = now end
return {now, m[1] or '', m[3] or '0', string.format('%.0f', whole), why, redis.call('HLEN', KEYS[2]) - 1, rows}
