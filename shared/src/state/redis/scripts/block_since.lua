-- The changes after a position.
-- KEYS     as in block_log.lua
-- ARGV     version and mark of the position; most changes
-- reply    {'lost'}, {'gap'}, or {'changes', version, mark, network, block or false, network, ...} with the position they lead to
if redis.call('EXISTS', KEYS[5]) == 0 then return { 'lost' } end
local from = ARGV[1] .. '-' .. ARGV[2]
local entries = redis.call('XRANGE', KEYS[4], ARGV[1] .. '-0', '+', 'COUNT', ARGV[3] + 1)
if not entries[1] or entries[1][1] ~= from then return { 'gap' } end
local version, mark = string.match(entries[#entries][1], '^(%d+)-(%d+)$')
local reply = { 'changes', version, mark }
for i = 2, #entries do
  local fields = entries[i][2]
  reply[#reply + 1] = fields[2]
  reply[#reply + 1] = fields[4] or false
end
return reply
