-- bounded: a field of a hash, unless it is longer than any that we write (codec::MAX_RECORD_BYTES). Others may have written it. It
-- must not hold up the server, nor cost the connection that would bring it. The length is checked here and not by HSTRLEN, so
-- that a gateway needs no right that the user of an older gateway lacks.
-- fitting: the same for a value that was read.
local large
local function fitting(value, field, most)
  if value and #value > (most or 32768) then
    large = large or field
    return 'TOOLARGE'
  end
  return value
end
local function bounded(key, field, most)
  return fitting(redis.call('HGET', key, field), field, most)
end
