-- Writes the next version of a catalogue.
--
-- ARGV  1 instance  2 version it was made from (0: none)  3 blob
--       4 msgpack {line -> expiry_ms or 0}: all reusable lines  8 msgpack {lines whose expiry came nearer}
--       5 msgpack {metered line ids}  6 msgpack {upstreams newly attached}  7 msgpack {upstreams detached}
-- KEYS  1 cat  2 ledger  3 instances, then open and sealed of each upstream detached
-- reply the new version, or -(version found) - 1 when another was written meanwhile, or the name of an
--       upstream that would be detached while usage waits for it; nothing changed in either case
-- An upstream that is attached starts from this moment: its baseline is what was acked before, less
-- what an earlier attachment of it has already accounted for.

local clock_ms = now()
local found = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
if found ~= tonumber(ARGV[2]) then return -found - 1 end

-- A hold lapses no earlier than now: what is past is recorded, and stays so. A cut that is still
-- pending follows the new catalogue, or it would reach holds that were granted under it.
local now_ms = math.max(clock_ms, tonumber(redis.call('HGET', KEYS[2], 'last_ms') or 0))
local expiries, cut = cmsgpack.unpack(ARGV[4]), {}
local function cut_to(line)
  local at_ms = expiries[line] or 0
  if at_ms > 0 then cut[line] = math.max(at_ms, now_ms) end
end
local pending = redis.call('HGET', KEYS[1], 'cut')
if pending then
  for line in pairs(cmsgpack.unpack(pending)) do cut_to(line) end
end
for _, line in ipairs(cmsgpack.unpack(ARGV[8])) do cut_to(line) end

local lines, upstreams = cmsgpack.unpack(ARGV[5]), cmsgpack.unpack(ARGV[6])
for i, upstream in ipairs(cmsgpack.unpack(ARGV[7])) do
  if redis.call('EXISTS', KEYS[2 + 2 * i], KEYS[3 + 2 * i]) > 0 then return upstream end
end
local baselines = {}
for _, upstream in ipairs(upstreams) do
  for _, line in ipairs(lines) do
    local tail = line .. '|' .. upstream
    local values = redis.call('HMGET', KEYS[2], 'acked|' .. line, 'forwarded|' .. tail, 'dead|' .. tail,
      'parked|' .. tail, 'open|' .. tail, 'sealed|' .. tail)
    local base = tonumber(values[1] or 0)
    for i = 2, 6 do base = base - tonumber(values[i] or 0) end
    if base ~= 0 or values[2] then baselines[#baselines + 1] = {'base|' .. tail, base} end
  end
end

redis.call('HSETNX', KEYS[2], 'since_ms', clock_ms)
for _, each in ipairs(baselines) do redis.call('HSET', KEYS[2], each[1], each[2]) end
redis.call('HSET', KEYS[1], 'version', found + 1, 'blob', ARGV[3])
if next(cut) then
  redis.call('HSET', KEYS[1], 'cut', cmsgpack.pack(cut))
else
  redis.call('HDEL', KEYS[1], 'cut')
end
redis.call('SADD', KEYS[3], ARGV[1])
return found + 1
