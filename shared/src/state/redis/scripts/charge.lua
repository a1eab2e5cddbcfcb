-- Counts one use in a strict sliding window: the arithmetic of window.rs, on one packed value.
-- KEYS[1]  the counter: '<I6I6I4I1' slot length in ms, newest slot, total, number of shares that are out; then for each share
--          its id (8 bytes of the holder, 4 of its number), '<I6I4' the latest time of its use in ms, its units; then for each
--          slot, oldest first, '<I4I4' the low 32 bits of the slot, its count
-- ARGV     now in ms, or '' for Redis's clock; limit; window in ms; slot length in ms
-- reply    counted: the time it is dated at, in ms; refused: minus the ms until one more fits
local SPAN = 4294967296
local HEADER, SHARE, ENTRY = 17, 22, 8

local now = time(ARGV[1])
local limit, window, slot_ms = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

-- a changed window length keeps what was counted, dated late: each old slot becomes the new slot that holds its end
local function fit(packed, entries, old_ms, newest)
  local slots, counts = {}, {}
  for at = entries, #packed, ENTRY do
    local low, count = struct.unpack('<I4I4', packed, at)
    local slot = math.floor(((newest - (newest - low) % SPAN + 1) * old_ms - 1) / slot_ms)
    if slots[#slots] == slot then
      counts[#counts] = counts[#counts] + count
    else
      slots[#slots + 1], counts[#counts + 1] = slot, count
    end
  end
  local fitted = { string.sub(packed, 1, entries - 1) }
  for i, slot in ipairs(slots) do
    fitted[i + 1] = struct.pack('<I4I4', slot % SPAN, counts[i])
  end
  return table.concat(fitted), slots[#slots] or 0
end

local packed = redis.call('GET', KEYS[1])
local old_ms, newest, total, shares = slot_ms, 0, 0, 0
local entries = HEADER + 1
local changed = false
if packed then
  old_ms, newest, total, shares = struct.unpack('<I6I6I4I1', packed)
  entries = entries + shares * SHARE
  if old_ms ~= slot_ms then
    packed, newest = fit(packed, entries, old_ms, newest)
    changed = true
  end
else
  packed = string.rep(' ', HEADER)
end

-- what the window does not touch any more leaves
local first = math.floor(math.max(now - window, 0) / slot_ms)
local oldest = entries
while oldest < #packed do
  local low, count = struct.unpack('<I4I4', packed, oldest)
  if newest - (newest - low) % SPAN >= first then break end
  total = total - count
  oldest = oldest + ENTRY
  changed = true
end

-- shares that are out count while they may have been used
local out, latest = 0, 0
for at = HEADER + 1, entries - 1, SHARE do
  local date, units = struct.unpack('<I6I4', packed, at + 12)
  if math.floor(date / slot_ms) >= first then out, latest = out + units, math.max(latest, date) end
end

local function store(slots)
  local life = math.min((newest + 1) * slot_ms + window - now, 2 * window)
  if latest > 0 then life = math.max(life, latest + slot_ms + window - now) end
  -- a given clock may stand still while Redis's runs
  if ARGV[1] ~= '' then life = math.max(life, 600000) end
  local header = struct.pack('<I6I6I4I1', slot_ms, newest, total, shares)
  redis.call('SET', KEYS[1], header .. string.sub(packed, HEADER + 1, entries - 1) .. slots, 'PX', life)
end

if total + out >= limit then
  if changed then store(string.sub(packed, oldest)) end
  if out > 0 then return now - ((math.floor(latest / slot_ms) + 1) * slot_ms + window) end
  local left = total
  for at = oldest, #packed, ENTRY do
    local low, count = struct.unpack('<I4I4', packed, at)
    left = left - count
    if left < limit then
      return now - ((newest - (newest - low) % SPAN + 1) * slot_ms + window)
    end
  end
  return -window
end

local slot = math.floor(now / slot_ms)
local count, last = 1, #packed
-- a clock that steps back charges the newest slot: late dating only under-admits
if oldest < #packed and newest >= slot then
  count = struct.unpack('<I4', packed, #packed - 3) + 1
  last = #packed - ENTRY
else
  newest = slot
end
total = total + 1
store(string.sub(packed, oldest, last) .. struct.pack('<I4I4', newest % SPAN, count))
return now
