-- The members that live; the silent ones are forgotten.
-- KEYS     as in member_alive.lua
-- ARGV     now in ms or ''; ms after which silence is death
-- reply    when it was last heard of, in ms, and status; and so on
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', time(ARGV[1]) - tonumber(ARGV[2]))
for _, id in ipairs(dead) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
end
local reply = {}
local seen = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #seen, 2 do
  local status = redis.call('HGET', KEYS[2], seen[i])
  if status then
    reply[#reply + 1] = tonumber(seen[i + 1])
    reply[#reply + 1] = status
  end
end
return reply
