-- Begins the trial of a policy, unless one is under way.
-- KEYS[1]  hash: 'id', 'until' (ms) and 'trial' (JSON) of the last trial that began
-- ARGV     now in ms or ''; id; end in ms; trial; channel of the hint
-- reply    1 if it began
local now = time(ARGV[1])
local ends = redis.call('HGET', KEYS[1], 'until')
if ends and tonumber(ends) > now then return 0 end
redis.call('HSET', KEYS[1], 'id', ARGV[2], 'until', ARGV[3], 'trial', ARGV[4])
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(ARGV[3] - now, 0) + 60000))
redis.call('PUBLISH', ARGV[5], ARGV[2])
return 1
