-- Remembers how a change was answered, if whoever answers still has it.
-- KEYS     as in answer_begin.lua
-- ARGV     now in ms or ''; id; fingerprint and claim; answer; how long it lives, in ms
-- reply    1 if it is remembered
local id, life = ARGV[2], tonumber(ARGV[5])
if redis.call('HGET', KEYS[1], id) ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], id, ARGV[3] .. ARGV[4])
redis.call('ZREM', KEYS[2], id)
redis.call('ZADD', KEYS[3], string.format('%.0f', time(ARGV[1]) + life), id)
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, string.format('%.0f', life + 60000)) end
return 1
