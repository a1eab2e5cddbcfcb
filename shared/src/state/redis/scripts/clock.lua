-- Put in front of every script that needs the time.
-- The cluster has one clock, Redis's own; a `given` time (of tests) is used instead. In ms.
local function time(given)
  if given ~= '' then return tonumber(given) end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
