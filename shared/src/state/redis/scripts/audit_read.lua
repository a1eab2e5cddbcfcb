-- The next entries for a reader: its own unacknowledged ones, those that another reader left too long, then new ones. Who reads on
-- while it still works on some takes nothing over: these could be its own.
-- Without blocking: a blocking read would hold up a shared connection, and is where CVE-2026-23479 sits.
-- KEYS[1]  the audit stream
-- ARGV     group; reader; most entries; ms after which a reader's entries may be taken over; ms after which an idle reader
--          without entries is forgotten, or '' to forget none; the entry after which the reader's own come again, 0-0 for all
-- reply    id, record or false; and so on
local stream, group, reader, most = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])

local function next_entries(from, count)
  local reply = redis.pcall('XREADGROUP', 'GROUP', group, reader, 'COUNT', count, 'STREAMS', stream, from)
  if reply and reply.err then
    if string.sub(reply.err, 1, 7) ~= 'NOGROUP' then return reply end
    redis.call('XGROUP', 'CREATE', stream, group, 0, 'MKSTREAM')
    return next_entries(from, count)
  end
  return reply and reply[1] and reply[1][2] or {}
end

local reply = {}
local function give(entries)
  for _, entry in ipairs(entries) do
    reply[#reply + 1] = entry[1]
    reply[#reply + 1] = entry[2] and entry[2][2] or false
  end
end

local own = next_entries(ARGV[6], most)
if own.err then return own end
give(own)
if ARGV[6] == '0-0' and #reply < most * 2 then
  local left = redis.call('XAUTOCLAIM', stream, group, reader, ARGV[4], '0-0', 'COUNT', most - #reply / 2)[2]
  -- what was just given is idle no longer, so nothing comes twice
  give(left)
end
if #reply < most * 2 then
  local new = next_entries('>', most - #reply / 2)
  if new.err then return new end
  give(new)
end
if ARGV[5] ~= '' then
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local name, pending, idle = consumer[2], consumer[4], consumer[6]
    if pending == 0 and idle > tonumber(ARGV[5]) and name ~= reader then
      redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
    end
  end
end
return reply
