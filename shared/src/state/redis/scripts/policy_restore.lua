-- Puts a policy back that was lost, under its version.
-- KEYS[1]  as in policy_publish.lua
-- ARGV     version; document; by; now in ms or ''; channel of the hint
-- reply    1 if it was put back, 0 if this version or a newer one is there
local current = redis.call('HGET', KEYS[1], 'version')
if current and tonumber(current) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'document:' .. ARGV[1], ARGV[2], 'by:' .. ARGV[1], ARGV[3],
  'at:' .. ARGV[1], time(ARGV[4]))
redis.call('PUBLISH', ARGV[5], ARGV[1])
return 1
