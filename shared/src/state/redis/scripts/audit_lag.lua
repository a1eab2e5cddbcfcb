-- How many entries a group has not acknowledged.
-- KEYS[1]  the audit stream
-- ARGV     group
-- reply    the number
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local info = {}
  for i = 1, #group, 2 do info[group[i]] = group[i + 1] end
  if info['name'] == ARGV[1] and info['lag'] then return info['pending'] + info['lag'] end
end
return redis.call('XLEN', KEYS[1])
