-- How many entries could not be read and were put aside.
-- KEYS[2]  stream of dead letters
-- reply    the number
return redis.call('XLEN', KEYS[2])
