-- A process says that it lives, learns who died, and what key identities are hashed with.
-- KEYS[1]  string: the hash key; made by whoever comes first. When it has to be made again, everything was lost
-- KEYS[2]  sorted set: generation -> when it was last heard of, in ms
-- ARGV     generation; the hash key this process has or would choose; ms after which silence is death; ms after which the
--          dead are forgotten; most dead generations to answer; channel of the heartbeat; life of KEYS[2] in ms
-- reply    the hash key; 'known', 'new' or 'dead': what this generation was before; now in ms; then the dead generations,
--          the latest first
-- message  the generation, or nothing when the hash key was made: then everybody looks
local now = time('')
local made = redis.call('SET', KEYS[1], ARGV[2], 'NX')
local seen = redis.call('ZSCORE', KEYS[2], ARGV[1])
local was = 'known'
if not seen then
  was = 'new'
elseif now - seen > tonumber(ARGV[3]) then
  was = 'dead'
end
-- what was dead stays dead: its slots may have been given to others
if was ~= 'dead' then redis.call('ZADD', KEYS[2], 'GT', now, ARGV[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[4]))
redis.call('PEXPIRE', KEYS[2], ARGV[7])
redis.call('PUBLISH', ARGV[6], made and '' or ARGV[1])
local limit = '(' .. (now - tonumber(ARGV[3]))
local reply = { redis.call('GET', KEYS[1]), was, now }
for _, generation in ipairs(redis.call('ZREVRANGEBYSCORE', KEYS[2], limit, '-inf', 'LIMIT', 0, ARGV[5])) do
  reply[#reply + 1] = generation
end
return reply
