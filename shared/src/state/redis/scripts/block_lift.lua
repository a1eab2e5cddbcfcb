-- Lifts the block of exactly this network.
-- KEYS     as in block_log.lua
-- ARGV     seed of a new history; channel of the hint; network; now in ms or ''
-- reply    1 if it was in force, 0 if not
local network = ARGV[3]
local ends = redis.call('ZSCORE', KEYS[2], network)
if remove(network) == 0 then return 0 end
redis.call('PUBLISH', ARGV[2], log(ARGV[1], network))
if ends and tonumber(ends) <= time(ARGV[4]) then return 0 end
return 1
