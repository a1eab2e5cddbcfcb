-- Put in front of the script that takes and reports shares of a quota. The arithmetic is that of window.rs.
-- KEYS[1]  the counter, as in charge.lua
-- KEYS[2]  the shares that are out: for each its id (8 bytes of the holder, 4 of its number), '<I6I4' the latest time of use in
--          ms, its units. Ids are never looked into, only compared
local SPAN = 4294967296
local FIRST, ENTRY = 17, 8
local ID, HOLDER, SHARE = 12, 8, 22

-- a given clock may stand still while Redis's runs
local function lifetime(life, given) return given ~= '' and math.max(life, 600000) or math.max(life, 1) end

-- the slots from `first` on and their counts, oldest first, and the total. A changed window length keeps what was counted,
-- dated late: each old slot becomes the new slot that holds its end
local function slots_of(packed, slot_ms, first)
  local slots, counts, total = {}, {}, 0
  if not packed then return slots, counts, total end
  local old_ms, newest = struct.unpack('<I6I6', packed)
  for at = FIRST, #packed, ENTRY do
    local low, count = struct.unpack('<I4I4', packed, at)
    local slot = newest - (newest - low) % SPAN
    if old_ms ~= slot_ms then slot = math.floor(((slot + 1) * old_ms - 1) / slot_ms) end
    if slot >= first then
      if slots[#slots] == slot then
        counts[#counts] = counts[#counts] + count
      else
        slots[#slots + 1], counts[#counts + 1] = slot, count
      end
      total = total + count
    end
  end
  return slots, counts, total
end

local function add(slots, counts, slot, count)
  local at = #slots
  while at > 0 and slots[at] > slot do at = at - 1 end
  if slots[at] == slot then
    counts[at] = counts[at] + count
  else
    table.insert(slots, at + 1, slot)
    table.insert(counts, at + 1, count)
  end
end

local function store_slots(slots, counts, total, slot_ms, window, now, given)
  local newest = slots[#slots]
  if not newest then return redis.call('DEL', KEYS[1]) end
  local parts = { struct.pack('<I6I6I4', slot_ms, newest, total) }
  for i, slot in ipairs(slots) do parts[i + 1] = struct.pack('<I4I4', slot % SPAN, counts[i]) end
  local life = math.min((newest + 1) * slot_ms + window - now, 2 * window)
  redis.call('SET', KEYS[1], table.concat(parts), 'PX', lifetime(life, given))
end
