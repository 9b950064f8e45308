-- The store must be ours and must hold its data. `m` is history, peppers,
-- position, whether anything was ever used, how many roles, how many credentials.
local m = redis.call('HMGET', KEYS[1], 'history', 'pepper', 'position', 'used', 'roles',
  'credentials', 'fingerprints', 'tenants')
local refused = foreign(m[2])
if refused then return refused end
if not m[1] or not m[2] or not m[3] then return redis.error_reply('NODATA history') end
