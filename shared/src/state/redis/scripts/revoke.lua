-- Adds revoked tokens to a list that only grows until its entries end; one that is there stays as it is. Ended ones make room.
-- KEYS[1]  hash: id -> revocation (msgpack)
-- KEYS[2]  sorted set, the log: id -> version. A version is never below the time, so that two lists never look alike
-- KEYS[3]  sorted set: id -> when it ends, in ms
-- ARGV     now in ms or ''; channel of the hint; most entries; then id, revocation and end of each
-- reply    how many were added; -1 if there is no room for all of them
local ENDED_MAX = 1000
local now = time(ARGV[1])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, ENDED_MAX)) do
  redis.call('HDEL', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
  redis.call('ZREM', KEYS[3], id)
end
if redis.call('HLEN', KEYS[1]) + (#ARGV - 3) / 3 > tonumber(ARGV[3]) then return -1 end
local version = tonumber(redis.call('ZREVRANGEBYSCORE', KEYS[2], '+inf', '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] or 0)
local added = 0
for i = 4, #ARGV, 3 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 0 then
    version = math.max(version + 1, now)
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    redis.call('ZADD', KEYS[2], string.format('%.0f', version), ARGV[i])
    redis.call('ZADD', KEYS[3], ARGV[i + 2], ARGV[i])
    added = added + 1
  end
end
local last = redis.call('ZREVRANGEBYSCORE', KEYS[3], '+inf', '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
if last then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, string.format('%.0f', math.max(last - now, 0) + 60000)) end
end
redis.call('PUBLISH', ARGV[2], added)
return added
