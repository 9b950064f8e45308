-- `bounded` gets a field unless it is longer than any that we write (`codec::MAX_RECORD_BYTES`): whoever wrote it, it must
-- not hold up the server, nor cost the connection that would bring it. The length is looked at here, and not by
-- `HSTRLEN`, so that no gateway needs a right that the user of an older one has not got.
local large
local function bounded(key, field, most)
  local value = redis.call('HGET', key, field)
  if value and #value > (most or 32768) then
    large = large or field
    return 'TOOLARGE'
  end
  return value
end
