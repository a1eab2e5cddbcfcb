-- Put in front of the scripts that finish entries.
-- Trims a stream below what every group of readers has acknowledged.
local function trim(stream)
  local function before(a, b)
    local am, as = string.match(a, '^(%d+)-(%d+)$')
    local bm, bs = string.match(b, '^(%d+)-(%d+)$')
    am, as, bm, bs = tonumber(am), tonumber(as), tonumber(bm), tonumber(bs)
    return am < bm or (am == bm and as < bs)
  end
  local keep
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local info = {}
    for i = 1, #group, 2 do info[group[i]] = group[i + 1] end
    local oldest = redis.call('XPENDING', stream, info['name'])[2]
    if not oldest then
      local millis, sequence = string.match(info['last-delivered-id'], '^(%d+)-(%d+)$')
      oldest = millis .. '-' .. string.format('%.0f', sequence + 1)
    end
    if not keep or before(oldest, keep) then keep = oldest end
  end
  if keep then redis.call('XTRIM', stream, 'MINID', '=', keep) end
end
