-- The newest versions of the policy, newest first.
-- KEYS[1]  as in policy_publish.lua
-- ARGV     most versions; how far back to look
-- reply    version, at in ms, by, document; and so on
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
local reply, wanted = {}, tonumber(ARGV[1])
for back = 0, tonumber(ARGV[2]) - 1 do
  local v = version - back
  if v < 1 or #reply >= wanted * 4 then break end
  local found = redis.call('HMGET', KEYS[1], 'at:' .. v, 'by:' .. v, 'document:' .. v)
  if found[3] then
    reply[#reply + 1] = v
    reply[#reply + 1] = tonumber(found[1] or 0)
    reply[#reply + 1] = found[2] or ''
    reply[#reply + 1] = found[3]
  end
end
return reply
