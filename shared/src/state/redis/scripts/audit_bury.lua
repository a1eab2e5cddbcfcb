-- Puts entries that cannot be read aside, once they were delivered often enough.
-- KEYS[1]  the audit stream
-- KEYS[2]  stream of dead letters: field 'id' of the entry, and 'record'
-- ARGV     group; deliveries that are enough; most dead letters; then the entries' ids
-- reply    how many were put aside
local buried = 0
for i = 4, #ARGV do
  local id = ARGV[i]
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1]
  if pending and pending[4] >= tonumber(ARGV[2]) then
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    local record = entry and entry[2] and entry[2][2] or ''
    redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[3], '*', 'id', id, 'record', record)
    redis.call('XACK', KEYS[1], ARGV[1], id)
    buried = buried + 1
  end
end
if buried > 0 then trim(KEYS[1]) end
return buried
