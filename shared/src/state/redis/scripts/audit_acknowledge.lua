-- Acknowledges entries, and trims the stream below what every group has acknowledged.
-- KEYS[1]  the audit stream
-- ARGV     group; then the entries' ids
-- reply    how many were acknowledged now
local done = 0
for i = 2, #ARGV do done = done + redis.call('XACK', KEYS[1], ARGV[1], ARGV[i]) end
if redis.call('EXISTS', KEYS[1]) == 1 then trim(KEYS[1]) end
return done
