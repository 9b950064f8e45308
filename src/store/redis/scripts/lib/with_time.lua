-- The store may be empty, but it must not be another's. now: the time of Redis in milliseconds.
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper', 'position')
local refused = foreign(m[2])
if refused then return refused end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
