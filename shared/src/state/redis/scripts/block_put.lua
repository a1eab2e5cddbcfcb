-- Blocks a network, or replaces its block. A full list gives up the automatic block that ends soonest, never a manual one.
-- KEYS     as in block_log.lua
-- ARGV     seed of a new history; channel of the hint; most blocks; network; block; its end in ms or ''; 1 if automatic;
--          term of the leader that sends it, or ''
-- reply    the new version; 0 if a later term has begun
if ARGV[8] ~= '' and tonumber(redis.call('GET', KEYS[6]) or 0) > tonumber(ARGV[8]) then return 0 end
local network = ARGV[4]
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
