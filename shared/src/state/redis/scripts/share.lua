-- Reports what was used of a share, and takes the next one.
-- KEYS     as in window.lua
-- ARGV     now in ms or ''; limit; window in ms; slot length in ms; id of the share to take or ''; its life in ms; id of the
--          share that is reported or ''; then for each moment of use: ms, uses
-- reply    {units taken, now}, or {0, ms until enough will be free}
local SHARES_MAX = 64

local now = time(ARGV[1])
local limit, window, slot_ms = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local id, reported = ARGV[5], ARGV[7]
local first = math.floor(math.max(now - window, 0) / slot_ms)
local slots, counts, total = slots_of(redis.call('GET', KEYS[1]), slot_ms, first)

for at = 8, #ARGV, 2 do
  local slot, uses = math.floor(tonumber(ARGV[at]) / slot_ms), tonumber(ARGV[at + 1])
  if slot >= first then
    add(slots, counts, slot, uses)
    total = total + uses
  end
end
if reported ~= '' then store_slots(slots, counts, total, slot_ms, window, now, ARGV[1]) end

local shares = redis.call('GET', KEYS[2]) or ''
local kept, aging, out, latest = {}, {}, 0, 0
local holders, others = {}, 0
for at = 1, #shares, SHARE do
  local one = string.sub(shares, at, at + SHARE - 1)
  local date, units = struct.unpack('<I6I4', one, ID + 1)
  if string.sub(one, 1, ID) ~= reported and math.floor(date / slot_ms) >= first then
    kept[#kept + 1] = one
    aging[#aging + 1] = { math.floor(date / slot_ms), units }
    out, latest = out + units, math.max(latest, date)
    local holder = string.sub(one, 1, HOLDER)
    if not holders[holder] and holder ~= string.sub(id, 1, HOLDER) then
      holders[holder], others = true, others + 1
    end
  end
end

local function store_shares()
  if #kept == 0 then return redis.call('DEL', KEYS[2]) end
  redis.call('SET', KEYS[2], table.concat(kept), 'PX', lifetime(latest + slot_ms + window - now, ARGV[1]))
end

if id == '' then
  store_shares()
  return { 0, 0 }
end

local free = limit - total - out
local least = math.max(1, math.floor(limit / 10 / (others + 1)))
local enough = math.max(1, math.floor(least * 7 / 10))
local units = math.min(free, math.max(least, math.floor(free / 10)))
if units >= enough and #kept < SHARES_MAX then
  local date = now + tonumber(ARGV[6])
  kept[#kept + 1] = id .. struct.pack('<I6I4', date, units)
  latest = math.max(latest, date)
  store_shares()
  return { units, now }
end

store_shares()
for i, slot in ipairs(slots) do aging[#aging + 1] = { slot, counts[i] } end
table.sort(aging, function(a, b) return a[1] < b[1] end)
local missing = enough - free
for _, part in ipairs(aging) do
  missing = missing - part[2]
  if missing <= 0 then return { 0, (part[1] + 1) * slot_ms + window - now } end
end
return { 0, slot_ms }
