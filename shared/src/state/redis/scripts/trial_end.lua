-- Ends a trial, if it is the one that is under way.
-- KEYS[1]  as in trial_begin.lua
-- ARGV     its id; channel of the hint
-- reply    1 if it ended
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'id', 'until', 'trial')
redis.call('PUBLISH', ARGV[2], ARGV[1])
return 1
