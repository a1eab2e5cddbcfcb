-- Takes back one use that was counted, if it still is.
-- KEYS[1]  the counter, as in charge.lua
-- ARGV     the time the use was dated at, in ms
-- reply    1 if it was taken back
local SPAN = 4294967296
local HEADER, SHARE, ENTRY = 17, 22, 8

local packed = redis.call('GET', KEYS[1])
if not packed then return 0 end
local slot_ms, newest, total, shares = struct.unpack('<I6I6I4I1', packed)
local entries = HEADER + 1 + shares * SHARE
local slot = math.floor(tonumber(ARGV[1]) / slot_ms)

local function slot_at(at)
  local low = struct.unpack('<I4', packed, at)
  return newest - (newest - low) % SPAN
end

local at = #packed - ENTRY + 1
while at >= entries and slot_at(at) > slot do at = at - ENTRY end
if at < entries then return 0 end
if total == 1 and shares == 0 then return redis.call('DEL', KEYS[1]) end

local low, count = struct.unpack('<I4I4', packed, at)
local kept = ''
if count > 1 then
  kept = struct.pack('<I4I4', low, count - 1)
elseif at == #packed - ENTRY + 1 then
  newest = at > entries and slot_at(at - ENTRY) or 0
end
local header = struct.pack('<I6I6I4I1', slot_ms, newest, total - 1, shares)
redis.call('SET', KEYS[1], header .. string.sub(packed, HEADER + 1, at - 1) .. kept .. string.sub(packed, at + ENTRY), 'KEEPTTL')
return 1
