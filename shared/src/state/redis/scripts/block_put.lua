-- Blocks a network, or replaces its block. A full list gives up the automatic block that ends soonest, never a manual one.
-- KEYS     as in block_log.lua
-- ARGV     seed of a new history; channel of the hint; most blocks; network; block; its end in ms or ''; 1 if automatic;
--          '' from anyone but a leader; from one its term, now in ms or '', the version up to which it has heard of lifts, and
--          most lifts to answer
-- reply    the new version; to a leader also 0 if a later term has begun, {version, network, date in ms, network, ...} if there
--          are lifts that it has not heard of, -1 if a block that is not automatic is in force

-- the lifts after a version of the list, or all if that lies in a history that was lost
local function unheard(heard, most)
  local newest = position()
  local from = tonumber(heard)
  if from > tonumber(newest) then from = 0 end
  local reply = {}
  for _, entry in ipairs(redis.call('XRANGE', KEYS[7], string.format('%.0f-0', from + 1), newest, 'COUNT', most)) do
    local version, at = string.match(entry[1], '^(%d+)-(%d+)$')
    reply[1] = version
    reply[#reply + 1] = entry[2][2]
    reply[#reply + 1] = at
  end
  return reply
end

local network = ARGV[4]
if ARGV[8] ~= '' then
  if tonumber(redis.call('GET', KEYS[6]) or 0) > tonumber(ARGV[8]) then return 0 end
  local lifts = unheard(ARGV[10], ARGV[11])
  if lifts[1] then return lifts end
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
