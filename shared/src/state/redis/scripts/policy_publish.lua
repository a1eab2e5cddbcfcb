-- Puts a policy in force if the version in force is the expected one.
-- KEYS[1]  hash: 'version' -> the version in force; 'document:N' (JSON), 'by:N' and 'at:N' of each version kept
-- ARGV     expected version, or '' for none; document; by; now in ms or ''; versions to keep; channel of the hint
-- reply    {1, the new version} or {0, the version in force or 0}
local current = redis.call('HGET', KEYS[1], 'version')
if (current or '') ~= ARGV[1] then return { 0, tonumber(current or 0) } end
local version = (current or 0) + 1
local old = version - tonumber(ARGV[5])
redis.call('HDEL', KEYS[1], 'document:' .. old, 'by:' .. old, 'at:' .. old)
redis.call('HSET', KEYS[1], 'version', version, 'document:' .. version, ARGV[2], 'by:' .. version, ARGV[3],
  'at:' .. version, time(ARGV[4]))
redis.call('PUBLISH', ARGV[6], version)
return { 1, version }
