-- Adds records to the audit stream, all or none.
-- KEYS[1]  stream: field 'record' (msgpack)
-- ARGV     most entries that the stream holds; then the records
-- reply    how many entries the stream holds; minus that when it is full
local held = redis.call('XLEN', KEYS[1])
if held + #ARGV - 1 > tonumber(ARGV[1]) then return -held end
for i = 2, #ARGV do redis.call('XADD', KEYS[1], '*', 'record', ARGV[i]) end
return held + #ARGV - 1
