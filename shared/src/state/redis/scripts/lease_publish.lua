-- Says how many slots a generation holds, and forgets the dead ones.
-- KEYS[1]  hash: generation -> 'count:sequence'
-- ARGV     generation; its count; its sequence number; life of the key in ms; 1 if the generation has said before that it holds
--          some; then the dead generations
-- reply    1 said, 0 something newer was said already, -1 said, but what was said before is lost, and so is what others said
for i = 6, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
local said = redis.call('HGET', KEYS[1], ARGV[1])
local lost = ARGV[5] == '1' and not said
if said and tonumber(string.match(said, ':(%d+)$') or 0) > tonumber(ARGV[3]) then return 0 end
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ':' .. ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return lost and -1 or 1
