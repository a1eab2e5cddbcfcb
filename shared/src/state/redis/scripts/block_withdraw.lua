-- Takes the automatic block of exactly this network away, for a leader.
-- KEYS     as in block_log.lua
-- ARGV     seed of a new history; channel of the hint; network; term of the leader that sends it
-- reply    1 if there is none any more, 0 if a later term has begun, -1 if it is not automatic
local network = ARGV[3]
if tonumber(redis.call('GET', KEYS[6]) or 0) > tonumber(ARGV[4]) then return 0 end
if redis.call('HEXISTS', KEYS[1], network) == 0 then return 1 end
if not redis.call('ZSCORE', KEYS[3], network) then return -1 end
remove(network)
redis.call('PUBLISH', ARGV[2], log(ARGV[1], network))
return 1
