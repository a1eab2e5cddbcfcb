-- Lifts the block of exactly this network, and remembers when.
-- KEYS     as in block_log.lua
-- ARGV     seed of a new history; channel of the hint; network; now in ms or ''; date of the lift in ms; most lifts to remember;
--          ms after the last lift until all are forgotten
-- reply    1 if it was in force, 0 if not
local network = ARGV[3]
local ends = redis.call('ZSCORE', KEYS[2], network)
if remove(network) == 0 then return 0 end
local version = log(ARGV[1], network)
redis.call('PUBLISH', ARGV[2], version)
if ends and tonumber(ends) <= time(ARGV[4]) then return 0 end
-- where the log began anew, what was remembered is of another history
local last = redis.call('XREVRANGE', KEYS[7], '+', '-', 'COUNT', 1)[1]
if last and tonumber(string.match(last[1], '^%d+')) >= version then redis.call('XTRIM', KEYS[7], 'MAXLEN', 0) end
redis.call('XADD', KEYS[7], 'MAXLEN', ARGV[6], string.format('%.0f-%s', version, ARGV[5]), 'network', network)
redis.call('PEXPIRE', KEYS[7], ARGV[7])
return 1
