-- Begins the term of a new leader, after which blocks of earlier terms are refused.
-- KEYS     as in block_log.lua
-- reply    the term
local term = (tonumber(redis.call('GET', KEYS[6]) or 0)) + 1
redis.call('SET', KEYS[6], string.format('%.0f', term))
return term
