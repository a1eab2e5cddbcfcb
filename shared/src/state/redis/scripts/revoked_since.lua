-- The revoked tokens after a position, in the order in which they were added.
-- KEYS     as in revoke.lua
-- ARGV     version and id of the last one that is known; most entries
-- reply    {1 if the position is not known and these are the first of all, else 0; version, id, revocation or false, ...}
local known = redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[1], ARGV[1])[1] == ARGV[2]
local from = known and '(' .. ARGV[1] or '-inf'
local log = redis.call('ZRANGEBYSCORE', KEYS[2], from, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local reply = { known and 0 or 1 }
for i = 1, #log, 2 do
  reply[#reply + 1] = log[i + 1]
  reply[#reply + 1] = log[i]
  reply[#reply + 1] = redis.call('HGET', KEYS[1], log[i])
end
return reply
