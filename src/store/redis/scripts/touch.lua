-- Keys, arguments and reply: TOUCH in catalogue.rs.
redis.call('HSET', KEYS[1], 'confirmed', m[3])
return m[3]
