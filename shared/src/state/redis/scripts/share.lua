-- Reports what was used of a share, and takes the next one, in a strict sliding window: the arithmetic of shares_model.rs.
-- KEYS[1]  the counter, as in charge.lua; ids are never looked into, only compared
-- ARGV     now in ms or ''; limit; window in ms; slot length in ms; id of the share to take or ''; its life in ms; id of the
--          share that is reported or ''; then for each moment of use: ms, uses
-- reply    {units taken, now}, or {0, ms until enough will be free}; then how many of the reported uses nobody had charged and
--          are beyond the limit
local SPAN = 4294967296
local HEADER, SHARE, ENTRY = 17, 22, 8
local ID, HOLDER, SHARES_MAX = 12, 8, 64

local now = time(ARGV[1])
local limit, window, slot_ms = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local id, reported = ARGV[5], ARGV[7]
local first = math.floor(math.max(now - window, 0) / slot_ms)

-- the slots that the window touches, oldest first; the shares that are out, and those of others by holder
local slots, counts, total = {}, {}, 0
local shares, dates, units, out, latest = {}, {}, {}, 0, 0
local holders, others = {}, 0
-- units of the share that is reported
local charged = 0

local function read(packed)
  local old_ms, newest, _, number = struct.unpack('<I6I6I4I1', packed)
  local entries = HEADER + 1 + number * SHARE
  for at = HEADER + 1, entries - 1, SHARE do
    local one = string.sub(packed, at, at + SHARE - 1)
    local date, count = struct.unpack('<I6I4', one, ID + 1)
    local counts_still = math.floor(date / slot_ms) >= first
    if counts_still and string.sub(one, 1, ID) == reported then
      charged = count
    elseif counts_still then
      shares[#shares + 1], dates[#dates + 1], units[#units + 1] = one, date, count
      out, latest = out + count, math.max(latest, date)
      local holder = string.sub(one, 1, HOLDER)
      if not holders[holder] and holder ~= string.sub(id, 1, HOLDER) then
        holders[holder], others = true, others + 1
      end
    end
  end
  for at = entries, #packed, ENTRY do
    local low, count = struct.unpack('<I4I4', packed, at)
    local slot = newest - (newest - low) % SPAN
    -- a changed window length keeps what was counted, dated late: each old slot becomes the new slot that holds its end
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
end

local function add(slot, count)
  local at = #slots
  while at > 0 and slots[at] > slot do at = at - 1 end
  if slots[at] == slot then
    counts[at] = counts[at] + count
  else
    table.insert(slots, at + 1, slot)
    table.insert(counts, at + 1, count)
  end
  total = total + count
end

local function store()
  if #slots == 0 and #shares == 0 then return redis.call('DEL', KEYS[1]) end
  local newest = slots[#slots] or 0
  local life = math.max((newest + 1) * slot_ms, latest + slot_ms) + window - now
  -- a given clock may stand still while Redis's runs
  if ARGV[1] ~= '' then life = math.max(life, 600000) end
  local parts = { struct.pack('<I6I6I4I1', slot_ms, newest, total, #shares), table.concat(shares) }
  for i, slot in ipairs(slots) do parts[i + 2] = struct.pack('<I4I4', slot % SPAN, counts[i]) end
  redis.call('SET', KEYS[1], table.concat(parts), 'PX', math.max(life, 1))
end

local packed = redis.call('GET', KEYS[1])
if packed then read(packed) end
for at = 8, #ARGV, 2 do
  local slot = math.floor(tonumber(ARGV[at]) / slot_ms)
  if slot >= first then
    local count = tonumber(ARGV[at + 1])
    add(slot, count)
    charged = charged - count
  end
end
local excess = math.max(0, math.min(-charged, total - limit))
if id == '' then
  store()
  return { 0, 0, excess }
end

local free = limit - total - out
local least = math.max(1, math.floor(limit / 10 / (others + 1)))
local enough = math.max(1, math.floor(least * 7 / 10))
local taken = math.min(free, math.max(least, math.floor(free / 10)))
if taken >= enough and #shares < SHARES_MAX then
  local date = now + tonumber(ARGV[6])
  shares[#shares + 1] = id .. struct.pack('<I6I4', date, taken)
  latest = math.max(latest, date)
  store()
  return { taken, now, excess }
end

store()
local aging = {}
for i, date in ipairs(dates) do aging[i] = { math.floor(date / slot_ms), units[i] } end
for i, slot in ipairs(slots) do aging[#aging + 1] = { slot, counts[i] } end
table.sort(aging, function(a, b) return a[1] < b[1] end)
local missing = enough - free
for _, part in ipairs(aging) do
  missing = missing - part[2]
  if missing <= 0 then return { 0, (part[1] + 1) * slot_ms + window - now, excess } end
end
return { 0, slot_ms, excess }
