-- Removes blocks that have ended, the earliest first.
-- KEYS     as in block_log.lua
-- ARGV     seed of a new history; channel of the hint; now in ms or ''; most to remove
-- reply    how many were removed; version and mark of the log
local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', time(ARGV[3]), 'LIMIT', 0, ARGV[4])
local version
for _, network in ipairs(ended) do
  remove(network)
  version = log(ARGV[1], network)
end
if version then redis.call('PUBLISH', ARGV[2], version) end
local newest, mark = position()
return { #ended, newest, mark }
