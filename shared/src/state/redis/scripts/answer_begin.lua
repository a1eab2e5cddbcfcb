-- Says whether a change is to be made: the first to ask about it makes it. Ended entries go; beyond the bound, the oldest answer.
-- KEYS[1]  hash: id -> fingerprint, claim (both of fixed length), and the answer if there is one
-- KEYS[2]  sorted set, of those under way: id -> when whoever makes it is given up, in ms
-- KEYS[3]  sorted set, of those answered: id -> when the answer ends, in ms
-- ARGV     now in ms or ''; id; fingerprint; claim; how long it may be under way and how long an answer lives, in ms; most entries
-- reply    {'first'}, {'again', answer}, {'under way'}, {'another'} (the id was used for another change), or {'full'}
local ENDED_MAX = 1000
local now, id, fingerprint, claim = time(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local function forget(one, ends)
  redis.call('HDEL', KEYS[1], one)
  redis.call('ZREM', ends, one)
end
for _, ends in ipairs({ KEYS[2], KEYS[3] }) do
  for _, one in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, ENDED_MAX)) do forget(one, ends) end
end

local known = redis.call('HGET', KEYS[1], id)
if known then
  if string.sub(known, 1, #fingerprint) ~= fingerprint then return { 'another' } end
  local head = #fingerprint + #claim
  if #known > head then return { 'again', string.sub(known, head + 1) } end
  return { 'under way' }
end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[7]) then
  local oldest = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
  if not oldest then return { 'full' } end
  forget(oldest, KEYS[3])
end
redis.call('HSET', KEYS[1], id, fingerprint .. claim)
redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[5]), id)
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, string.format('%.0f', ARGV[6] + 60000)) end
return { 'first' }
