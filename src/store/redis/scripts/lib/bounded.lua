-- bounded: a field of a hash, unless it is longer than any that we write (codec::MAX_RECORD_BYTES). Others may have written it. It
-- must not hold up the server, nor cost the connection that would bring it. The length is checked here and not by HSTRLEN, so
-- that a gateway needs no right that the user of an older gateway lacks.
local large
local function bounded(key, field, most)
  local value = redis.call('HGET', key, field)
  if value and #value > (most or 32768) then
    large = large or field
    return 'TOOLARGE'
  end
  return value
end
