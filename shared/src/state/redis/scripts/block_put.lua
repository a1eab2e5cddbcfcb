-- Blocks a network, or replaces its block. A full list gives up the automatic block that ends soonest, never a manual one.
-- KEYS     as in block_log.lua
-- ARGV     seed of a new history; channel of the hint; most blocks; network; block; its end in ms or ''; 1 if automatic;
--          term of the leader that sends it, and now in ms or '' (twice '' from anyone else)
-- reply    the new version; to a leader also 0 if a later term has begun, -1 if a block that is not automatic is in force
local network = ARGV[4]
if ARGV[8] ~= '' then
  if tonumber(redis.call('GET', KEYS[6]) or 0) > tonumber(ARGV[8]) then return 0 end
  if redis.call('HEXISTS', KEYS[1], network) == 1 and not redis.call('ZSCORE', KEYS[3], network) then
    local ends = redis.call('ZSCORE', KEYS[2], network)
    if not ends or tonumber(ends) > time(ARGV[9]) then return -1 end
  end
end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) and redis.call('HEXISTS', KEYS[1], network) == 0 then
  local soonest = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
  if soonest then
    remove(soonest)
    log(ARGV[1], soonest)
  end
end
store(network, ARGV[5], ARGV[6], ARGV[7])
local version = log(ARGV[1], network, ARGV[5])
redis.call('PUBLISH', ARGV[2], version)
return version
