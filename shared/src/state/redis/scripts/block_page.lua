-- A part of the block list, in no order.
-- KEYS     as in block_log.lua
-- ARGV     cursor, '0' at first; about how many
-- reply    {next cursor, '0' at the end; {network, block, network, ...}}
return redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
