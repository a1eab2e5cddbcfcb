-- Put in front of the scripts that change or read the block list. In all of them:
-- KEYS[1]  hash: network -> block (msgpack)
-- KEYS[2]  sorted set: network -> when its block ends, in ms; blocks without an end are not in it
-- KEYS[3]  sorted set: network of an automatic block -> when it ends
-- KEYS[4]  stream, the log: id 'version-mark'; fields 'network', and 'block' where one was put. The mark is a hash of the
--          whole history, so that lists with different histories never look alike
-- KEYS[5]  string: exists when the list is whole
-- KEYS[6]  string: the term of the leading coordinator
-- KEYS[7]  stream: what administrators lifted; id 'version-date in ms', field 'network'. Bounded, and
--          forgotten a day after the last
local LOG_CHANGES_MAX = 10000

-- version and mark of the newest change, as texts
local function position()
  local newest = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)[1]
  if not newest then return '0', '0' end
  return string.match(newest[1], '^(%d+)-(%d+)$')
end

-- adds a change to the log; a new history begins with `seed`
local function log(seed, network, block)
  local version, mark = position()
  if version == '0' then mark = seed end
  local digest = redis.sha1hex(mark .. ' ' .. network .. ' ' .. (block or ''))
  local id = string.format('%.0f-%.0f', version + 1, tonumber(string.sub(digest, 1, 12), 16))
  if block then
    redis.call('XADD', KEYS[4], 'MAXLEN', LOG_CHANGES_MAX, id, 'network', network, 'block', block)
  else
    redis.call('XADD', KEYS[4], 'MAXLEN', LOG_CHANGES_MAX, id, 'network', network)
  end
  return version + 1
end

local function store(network, block, ends, automatic)
  redis.call('HSET', KEYS[1], network, block)
  redis.call('ZREM', KEYS[2], network)
  redis.call('ZREM', KEYS[3], network)
  if ends ~= '' then redis.call('ZADD', KEYS[2], ends, network) end
  if automatic == '1' then redis.call('ZADD', KEYS[3], ends == '' and '+inf' or ends, network) end
end

local function remove(network)
  redis.call('ZREM', KEYS[2], network)
  redis.call('ZREM', KEYS[3], network)
  return redis.call('HDEL', KEYS[1], network)
end
