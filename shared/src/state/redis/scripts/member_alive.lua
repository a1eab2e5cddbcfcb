-- A member says that it lives, and how it is.
-- KEYS[1]  sorted set: id -> when it was last heard of, in ms
-- KEYS[2]  hash: id -> status (msgpack)
-- ARGV     now in ms or ''; id; status; life of both keys in ms; most members
-- reply    1 told, 0 there are too many members
if redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[5]) and redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0 then return 0 end
redis.call('ZADD', KEYS[1], time(ARGV[1]), ARGV[2])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
