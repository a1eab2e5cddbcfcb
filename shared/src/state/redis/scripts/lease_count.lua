-- How many slots are held by generations not known to be dead.
-- KEYS[1]  hash: generation -> 'count:sequence'
-- ARGV     the dead generations
-- reply    the sum
local dead = {}
for _, generation in ipairs(ARGV) do dead[generation] = true end
local sum = 0
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  if not dead[fields[i]] then sum = sum + tonumber(string.match(fields[i + 1], '^%d+') or 0) end
end
return sum
