-- The last trial of a policy that began; whoever asks looks whether it is over.
-- KEYS[1]  as in trial_begin.lua
-- reply    {trial or false}
return { redis.call('HGET', KEYS[1], 'trial') }
