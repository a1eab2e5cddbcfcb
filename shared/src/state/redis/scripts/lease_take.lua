-- Takes one slot for a generation, if the sum over the generations not known to be dead stays within the cap.
-- Counts are absolute and carry a sequence number, so that a repeated or late command does no harm.
-- KEYS[1]  hash: generation -> 'count:sequence'
-- ARGV     generation; its count with this slot; its sequence number; cap; life of the key in ms; 1 if the generation has
--          said before that it holds some; then the dead generations
-- reply    1 taken, 0 full, -1 nothing was done: what the generation said is lost, and so is what others said
local generation, wanted, sequence, cap = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if ARGV[6] == '1' and not redis.call('HGET', KEYS[1], generation) then return -1 end
local dead = {}
for i = 7, #ARGV do dead[ARGV[i]] = true end

local others, newer = 0, false
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local count, at = string.match(fields[i + 1], '^(%d+):(%d+)$')
  if fields[i] == generation then
    if tonumber(at) > sequence then
      newer = true
      wanted = math.max(wanted, tonumber(count))
    end
  elseif dead[fields[i]] or not count then
    redis.call('HDEL', KEYS[1], fields[i])
  else
    others = others + tonumber(count)
  end
end
if others + wanted > cap then return 0 end
if not newer then
  redis.call('HSET', KEYS[1], generation, ARGV[2] .. ':' .. ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
return 1
