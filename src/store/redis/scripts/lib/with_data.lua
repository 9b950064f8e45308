-- The store must be ours and must hold data. m: history, peppers, position, whether `u` has entries, then the numbers of
-- roles, credentials, fingerprints and tenants, and the last link of the chain of events.
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper', 'position', 'used', 'roles',
  'credentials', 'fingerprints', 'tenants', 'link')
local refused = foreign(m[2])
if refused then return refused end
if not m[1] or not m[2] or not m[3] then return redis.error_reply('NODATA history') end
