-- Forgets a change that was not made, if whoever says so still has it.
-- KEYS     as in answer_begin.lua
-- ARGV     id; fingerprint and claim
-- reply    1 if it is forgotten
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
