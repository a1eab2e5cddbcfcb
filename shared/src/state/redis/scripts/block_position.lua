-- Where the log is.
-- KEYS     as in block_log.lua
-- reply    {version; mark} of the newest change
local newest, mark = position()
return { newest, mark }
