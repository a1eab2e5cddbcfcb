-- Gives a list that was lost its blocks back, in parts; the last part declares it whole. A list that is whole stays as it is.
-- KEYS     as in block_log.lua
-- ARGV     seed of a new history; channel of the hint; 1 for the last part; then for each block: network, block, its end in
--          ms or '', 1 if automatic
-- reply    1 if it was added, 0 if the list is whole already
if redis.call('EXISTS', KEYS[5]) == 1 then return 0 end
for i = 4, #ARGV, 4 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 0 then store(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) end
end
if ARGV[3] == '1' then
  redis.call('SET', KEYS[5], 1)
  redis.call('PUBLISH', ARGV[2], log(ARGV[1], ''))
end
return 1
